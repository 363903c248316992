//! Hosts that die and come back, and what is found then.

use super::*;

/// How a disk is opened.
#[derive(Debug, Clone)]
pub(super) struct How {
    pub(super) discard_damaged: bool,
    pub(super) roll_back_to: Option<String>,
}

impl How {
    pub(super) const AS_IT_IS: Self = Self {
        discard_damaged: false,
        roll_back_to: None,
    };
}

/// What came of an opening.
pub(super) enum Tried {
    Opened(Box<(Ground, Engine<Pages>)>),
    /// The process died on the way.
    Died,
    /// The journal is damaged.
    Damaged,
}

impl Game {
    pub(super) async fn crash(&mut self, loss: Loss) -> Result<(), String> {
        self.guest.check()?;
        self.audit().await?;
        self.die(loss).await?;
        if self.rng.random_bool(0.4) {
            // Not much is written before the next one: what an earlier life left behind in the journal still lies there.
            let (lba, _) = self.spot();
            let (request, data) = self.guest.write(lba, 1, None);
            let (lba, fua) = (Lba(lba), false);
            self.owner().request(request, Request::Write { lba, data, fua });
            tokio::time::sleep(Duration::from_millis(3)).await;
            let again = if self.rng.random_bool(0.5) {
                Loss::Process
            } else {
                Loss::Power
            };
            self.die(again).await?;
        }
        Ok(())
    }

    /// Kills the owner's process, or its host, and opens the disk there again.
    async fn die(&mut self, loss: Loss) -> Result<(), String> {
        self.guest.check()?;
        let lag = self.owner().view.borrow().lag;
        self.hosts[self.owner].process = None;
        self.lose(self.owner, loss);
        self.guest.give_up();
        let lost_bytes = self.reopen(loss).await?;
        if loss == Loss::Slice && lost_bytes > lag.bytes {
            return Err(format!(
                "{lost_bytes} bytes are lost, {} were said to be missing in the bucket",
                lag.bytes
            ));
        }
        Ok(())
    }

    /// A process that met an error of its slice, or of the way from the store, has stopped: its successor goes on.
    pub(super) async fn revive(&mut self) -> Result<(), String> {
        let stopped = self.owner().view.borrow().stopped;
        let excusable = matches!(
            stopped,
            Some(Stopped::Journal | Stopped::Unreadable { .. } | Stopped::Map { .. } | Stopped::Head)
        );
        if self.is_faulty() && excusable {
            self.guest.check()?;
            self.hosts[self.owner].process = None;
            self.guest.give_up();
            self.reopen(Loss::Process).await?;
        }
        Ok(())
    }

    pub(super) fn lose(&mut self, host: usize, loss: Loss) {
        match loss {
            Loss::Process => {}
            Loss::Power => self.hosts[host].disk.reboot(),
            Loss::Slice => {
                let disk = &self.hosts[host].disk;
                // A process that never came so far has made none.
                let _missing = disk.remove_file("world", std::path::Path::new(SLICE));
                disk.sync_dir("world", std::path::Path::new("/"))
                    .expect("the power is on");
                self.hosts[host].stale = false;
            }
        }
    }

    /// Opens the disk on its owner, perhaps after more crashes on the way, and judges what is there. Returns how many bytes of
    /// answered writes are lost.
    pub(crate) async fn reopen(&mut self, mut loss: Loss) -> Result<u64, String> {
        let remote = self.guest.remote_floor();
        if self.rng.random_bool(0.8) {
            self.common.store.set_faults(StoreFaults::CALM);
        } else {
            self.common.store.set_faults(StoreFaults::ROUGH);
        }
        let mut how = How::AS_IT_IS;
        loop {
            let hits = self.hosts[self.owner].faults.journal_hits();
            self.hosts[self.owner].hurt |= hits > 0;
            match self.try_open(self.owner, true, &how).await? {
                Tried::Opened(opened) => {
                    let floor = match hits {
                        0 => self.guest.floor(loss, remote),
                        // What was durable when something was written that is durable itself.
                        1 if loss != Loss::Slice => self.guest.evident_floor().max(remote),
                        _ => remote,
                    };
                    let floor = if how.discard_damaged { remote } else { floor };
                    self.begin(self.owner, *opened);
                    return self.judge(loss, floor).await;
                }
                Tried::Damaged if self.hosts[self.owner].hurt => how.discard_damaged = true,
                Tried::Damaged => {
                    return Err("the journal is called damaged, and nothing was done to it".to_owned());
                }
                Tried::Died => {
                    let again = if self.rng.random_bool(0.5) {
                        Loss::Process
                    } else {
                        Loss::Power
                    };
                    self.lose(self.owner, again);
                    if loss == Loss::Process {
                        loss = again;
                    }
                }
            }
        }
    }

    fn ground(&mut self, host: usize) -> Ground {
        self.processes += 1;
        let (here, world) = (&self.hosts[host], &self.common.world);
        let name = format!("{}#{}", here.name, self.processes);
        let slice = Slice::open(&here.disk, self.ring_pages, here.faults.clone());
        let bucket = Bucket {
            store: self.common.store.client(&name),
            disk: self.disk,
            faults: here.faults.clone(),
        };
        Ground {
            reader: Reader::new(slice.clone(), bucket.clone()),
            slice,
            bucket,
            sealer: Arc::clone(&self.sealer),
            rng: world.rng(&name),
            trace: world.trace().clone(),
            began: self.common.began,
            name,
        }
    }

    /// Opens the disk on a host.
    pub(super) async fn try_open(&mut self, host: usize, force: bool, how: &How) -> Result<Tried, String> {
        let mut odd = 0;
        loop {
            let ground = self.ground(host);
            let options = OpenOptions {
                config: self.config.clone(),
                sealer: Arc::clone(&self.sealer),
                bases: self.bare().bases().await?,
                salt: Salt(self.rng.random()),
                new_journal: JournalId(self.rng.random()),
                ring_pages: self.ring_pages,
                discard_stale_journal: self.hosts[host].stale,
                discard_damaged_journal: how.discard_damaged,
                roll_back_to: how.roll_back_to.clone(),
                force,
                pages: Some(Pages::new(self.hosts[host].faults.clone())),
            };
            let patience = if self.rng.random_bool(0.25) {
                Duration::from_millis(self.rng.random_range(0..400))
            } else {
                CALM_DOWN
            };
            match tokio::time::timeout(patience, open(&ground, options)).await {
                Err(_) if patience == CALM_DOWN => return Err("the disk does not open".to_owned()),
                Err(_) => return Ok(Tried::Died),
                Ok(Ok(engine)) => return Ok(Tried::Opened(Box::new((ground, engine)))),
                // A late claim of a process that died.
                Ok(Err(OpenError::Claimed { .. })) => {}
                Ok(Err(OpenError::JournalDamaged { .. } | OpenError::SuperblockDamaged)) => {
                    return Ok(Tried::Damaged);
                }
                // The way from the store damages what it likes, the slice of the map, too.
                Ok(Err(
                    OpenError::ObjectDamaged { .. } | OpenError::HeadDamaged { .. } | OpenError::Map { .. },
                )) if self.is_faulty() && odd < 20 => odd += 1,
                Ok(Err(why)) => return Err(format!("{} cannot open the disk: {why}", ground.name)),
            }
        }
    }

    pub(super) fn begin(&mut self, host: usize, (ground, engine): (Ground, Engine<Pages>)) {
        let (orders, inbox) = mpsc::channel(1 << 14);
        let (paused, is_paused) = watch::channel(false);
        let (view, seen) = watch::channel(View::default());
        let mut tasks = JoinSet::new();
        let name = ground.name.clone();
        tasks.spawn(serve(ground, engine, inbox, is_paused, view, self.guest.clone()));
        self.hosts[host].stale = false;
        self.hosts[host].process = Some(Process {
            name,
            orders,
            paused,
            view: seen,
            tasks,
        });
    }

    /// Reads everything and asks the guest whether that can be.
    pub(super) async fn judge(&mut self, loss: Loss, floor: usize) -> Result<u64, String> {
        let (image, gave_up) = self.look().await?;
        let floor = if gave_up {
            floor.min(self.guest.remote_floor())
        } else {
            floor
        };
        let (prefix, lost_bytes) = self.guest.recover(loss, floor, &image)?;
        self.common
            .world
            .trace()
            .event(format_args!("after {loss:?} there are {prefix} changes"));
        self.check_head().await?;
        Ok(lost_bytes)
    }

    /// Size and snapshots are as they should be.
    pub(super) async fn check_head(&mut self) -> Result<(), String> {
        let head = self.bare().head().await?;
        self.guest.check_size(head.size_blocks)?;
        let names: Vec<String> = head
            .snapshots
            .iter()
            .map(|snapshot| snapshot.name.clone())
            .collect();
        self.guest.check_snapshot_list(&names)?;
        for snapshot in &head.snapshots {
            self.check_snapshot(snapshot).await?;
        }
        Ok(())
    }

    /// Reads everything. Says, too, whether what only the journal had was given up on the way.
    pub(super) async fn look(&mut self) -> Result<(Image, bool), String> {
        let mut gave_up = false;
        for _ in 0..50 {
            for region in REGIONS {
                let request = self.guest.look(region.start);
                let (lba, blocks) = (Lba(region.start), region.end - region.start);
                self.owner().request(request, Request::Read { lba, blocks });
            }
            self.until("the disk is not read", |game| !game.guest.waits())
                .await?;
            if let Some(image) = self.looked()? {
                return Ok((image, gave_up));
            }
            if !self.is_faulty() {
                break;
            }
            gave_up |= self.successor().await?;
        }
        Err("the disk cannot be looked at".to_owned())
    }

    /// What was read; nothing when a read failed.
    fn looked(&mut self) -> Result<Option<Image>, String> {
        let mut image = Image::new();
        let looks = REGIONS.map(|region| (self.guest.take_look(region.start), region));
        for (bytes, region) in looks {
            let Some(bytes) = bytes else {
                return Ok(None);
            };
            for (lba, block) in region.zip(bytes.chunks(log_disk::BLOCK_BYTES)) {
                image.insert(lba, stamp::read(lba, block)?);
            }
        }
        Ok(Some(image))
    }

    /// A process that an error stopped while it was being looked at is followed by another; nothing was asked of it yet. Says
    /// whether what only the journal had was given up on the way: openings write to the journal, too, and that can be struck.
    async fn successor(&mut self) -> Result<bool, String> {
        let mut how = How::AS_IT_IS;
        while self.owner().view.borrow().stopped.is_some() {
            self.hosts[self.owner].process = None;
            self.guest.give_up();
            let opened = loop {
                let host = &mut self.hosts[self.owner];
                host.hurt |= host.faults.journal_hits() > 0;
                match self.try_open(self.owner, true, &how).await? {
                    Tried::Opened(opened) => break opened,
                    Tried::Died => self.lose(self.owner, Loss::Process),
                    Tried::Damaged if self.hosts[self.owner].hurt => how.discard_damaged = true,
                    Tried::Damaged => return Err("damaged while nothing was written".to_owned()),
                }
            };
            self.begin(self.owner, *opened);
        }
        Ok(how.discard_damaged)
    }

    /// Waits until something holds, but not for ever.
    pub(super) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = Instant::now() + CALM_DOWN;
        while !holds(self) {
            self.guest.check()?;
            let process = self.hosts[self.owner].process.as_mut();
            if let Some(Err(error)) = process.and_then(|process| process.tasks.try_join_next()) {
                std::panic::resume_unwind(error.into_panic());
            }
            if let Some(why) = self.owner().view.borrow().stopped {
                if self.is_faulty() {
                    return Ok(());
                }
                return Err(format!("{} stopped: {why:?}", self.owner().name));
            }
            if Instant::now() > end {
                return Err(what.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
