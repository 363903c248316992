//! Random requests, crashes, takeovers and weather.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crashsafe::Disk as _;
use log_disk::{
    Config, DiskId, Durability, Engine, GcLimits, Head, Input, JournalId, Lba, Mutant, ObjectName, OnOutage,
    OpenError, OpenOptions, Request, Salt, Sealer, head_key,
};
use objstore::ObjectStore as _;
use rand::RngExt as _;
use sim::{Rng, SimDisk, SimStore, StoreFaults, World};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::driver::{Ground, Order, Pages, View, open, serve};
use crate::guest::{Guest, Image, Loss};
use crate::image::Bare;
use crate::io::{Bucket, PURPOSE, SLICE, Slice, key};
use crate::stamp;

const DISK: DiskId = DiskId([0x42; 16]);
/// Where the guest writes: at the disk's begin, and around the edge between two leaves of its map.
const REGIONS: [std::ops::Range<u64>; 2] = [0..40, 16_384 - 20..16_384 + 20];
const SIZE_BLOCKS: u64 = 16_384 + 64;
/// How long anything may take once all is calm.
const CALM_DOWN: Duration = Duration::from_secs(1800);

/// A host that has, or had, the disk.
struct Host {
    name: &'static str,
    disk: SimDisk,
    process: Option<Process>,
    /// Another host has written since: its journal must be refused.
    stale: bool,
}

/// A running process; dropping it kills it, and what it asked the store for still happens.
struct Process {
    name: String,
    orders: mpsc::Sender<Order>,
    paused: watch::Sender<bool>,
    view: watch::Receiver<View>,
    tasks: JoinSet<()>,
}

impl Process {
    fn request(&self, request: log_disk::RequestId, what: Request) {
        // A process that has stopped listens no more.
        let _unheard = self.orders.try_send(Order::Request(request, what));
    }
}

/// One run.
pub(crate) struct Game {
    world: World,
    rng: Rng,
    store: SimStore,
    sealer: Arc<Sealer>,
    config: Config,
    ring_pages: u64,
    /// Blocks of the longest write.
    blocks_max: u64,
    hosts: [Host; 2],
    /// Which host has the disk.
    owner: usize,
    guest: Guest,
    processes: u32,
    began: Instant,
}

fn draw_config(rng: &mut Rng, mutant: Option<Mutant>) -> Config {
    let any = |rng: &mut Rng, from: u64, to: u64| rng.random_range(from..=to);
    let record_blocks = 32;
    Config {
        durability: draw_durability(rng),
        on_outage: if rng.random_bool(0.5) {
            OnOutage::Stop
        } else {
            OnOutage::Ride
        },
        authority_us: any(rng, 5, 15) * 1_000_000,
        lag_bytes_max: any(rng, 200, 4000) << 12,
        lag_us_max: any(rng, 5, 60) * 1_000_000,
        object_blocks: any(rng, 8, 64),
        batch_us: any(rng, 100, 2_000) * 1_000,
        uploads_max: usize::try_from(any(rng, 1, 5)).expect("small"),
        appends_max: usize::try_from(any(rng, 1, 5)).expect("small"),
        record_blocks,
        checkpoint_objects: any(rng, 2, 12),
        gc: GcLimits {
            garbage_permille: any(rng, 0, 300),
            live_permille_max: any(rng, 500, 900),
            blocks_max: any(rng, 16, 64),
        },
        compression: log_disk::Compression::Lz4,
        retry_us: (50_000, 5_000_000),
        map_runs_max: usize::try_from(any(rng, 0, 200)).expect("small"),
        mutant,
    }
}

fn draw_durability(rng: &mut Rng) -> Durability {
    match rng.random_range(0..10) {
        0..5 => Durability::Local,
        5..9 => Durability::Remote,
        _ => Durability::None,
    }
}

impl Game {
    pub(crate) async fn new(world: World, mutant: Option<Mutant>) -> Self {
        let mut rng = world.rng("game");
        let config = draw_config(&mut rng, mutant);
        let ring_pages = rng.random_range(160..500);
        // Where all records are alike, what one left behind fits behind another.
        let blocks_max = if rng.random_bool(0.3) { 1 } else { 24 };
        let host = |name| Host {
            name,
            disk: world.disk(name, 64 << 20),
            process: None,
            stale: false,
        };
        let sealer = Arc::new(Sealer::new(&[1; 32], DISK));
        let head = Head::new(DISK, SIZE_BLOCKS, vec![7; 85]);
        let store = world.store();
        let body = head.encode(&sealer, Salt([0; 8])).into();
        let made = store
            .objects()
            .put_if_absent(&key(head_key(DISK)), body, PURPOSE)
            .await;
        made.expect("an empty store takes a HEAD");
        Self {
            hosts: [host("host a"), host("host b")],
            rng,
            store,
            sealer,
            config,
            ring_pages,
            blocks_max,
            owner: 0,
            guest: Guest::new(SIZE_BLOCKS),
            processes: 0,
            began: Instant::now(),
            world,
        }
    }

    pub(crate) async fn play(&mut self, steps: u32) -> Result<(), String> {
        self.reopen(Loss::Process).await?;
        for step in 0..steps {
            self.world.trace().event(format_args!("step {step}"));
            self.step().await?;
            self.guest.check()?;
            self.audit().await?;
        }
        self.finale().await
    }

    fn owner(&self) -> &Process {
        self.hosts[self.owner]
            .process
            .as_ref()
            .expect("the owner runs between steps")
    }

    fn bare(&self) -> Bare<'_> {
        Bare {
            store: self.store.objects(),
            disk: DISK,
            sealer: &self.sealer,
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        let weather = match self.rng.random_range(0..10) {
            0..5 => StoreFaults::CALM,
            5..9 => StoreFaults::ROUGH,
            _ => StoreFaults::OUTAGE,
        };
        self.store.set_faults(weather);
        self.traffic().await;
        self.pause().await;
        self.traffic().await;
        if self.rng.random_bool(0.5) {
            self.pause().await;
        }
        match self.rng.random_range(0..100) {
            0..12 => self.crash(Loss::Process).await,
            12..24 => self.crash(Loss::Power).await,
            24..29 => self.crash(Loss::Slice).await,
            29..39 => self.take_over().await,
            39..44 => {
                self.snapshots();
                Ok(())
            }
            44..47 => {
                let more = self.rng.random_range(1..20);
                let (request, size_blocks) = self.guest.grow(more);
                self.owner().request(request, Request::Grow { size_blocks });
                Ok(())
            }
            47..52 => {
                self.config.durability = draw_durability(&mut self.rng);
                let order = Order::Input(Input::SetDurability(self.config.durability));
                let _unheard = self.owner().orders.try_send(order);
                Ok(())
            }
            52..57 => {
                self.pause_owner().await;
                Ok(())
            }
            57..60 => self.sweep().await,
            _ => {
                let longer = self.rng.random_range(0..60);
                tokio::time::sleep(Duration::from_secs(longer)).await;
                Ok(())
            }
        }
    }

    /// Long enough for a record, or for an object.
    async fn pause(&mut self) {
        let micros = if self.rng.random_bool(0.5) {
            self.rng.random_range(0..5_000)
        } else {
            self.rng.random_range(0..3_000_u64).pow(2)
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }

    /// Some requests at once, over each other.
    async fn traffic(&mut self) {
        for _ in 0..self.rng.random_range(1..14) {
            if self.rng.random_bool(0.4) {
                // What comes meanwhile goes into the next record.
                let pause = self.rng.random_range(0..1_500);
                tokio::time::sleep(Duration::from_micros(pause)).await;
            }
            let (lba, most) = self.spot();
            let blocks = self.rng.random_range(1..=most.min(self.blocks_max));
            let class = self.config.durability;
            let fua = self.rng.random_bool(0.15).then_some(class);
            match self.rng.random_range(0..100) {
                0..50 => {
                    let (request, data) = self.guest.write(lba, blocks, fua);
                    let lba = Lba(lba);
                    let fua = fua.is_some();
                    self.owner().request(request, Request::Write { lba, data, fua });
                }
                50..62 => {
                    let (request, lba, fua) = (self.guest.zero(lba, blocks, fua), Lba(lba), fua.is_some());
                    self.owner().request(request, Request::Zero { lba, blocks, fua });
                }
                62..82 => {
                    let request = self.guest.read(lba, blocks);
                    let lba = Lba(lba);
                    self.owner().request(request, Request::Read { lba, blocks });
                }
                82..84 => {
                    // All of it, as a file system that is made does.
                    let (request, blocks) = (self.guest.zero(0, SIZE_BLOCKS, None), SIZE_BLOCKS);
                    let lba = Lba(0);
                    self.owner().request(
                        request,
                        Request::Zero {
                            lba,
                            blocks,
                            fua: false,
                        },
                    );
                }
                _ => {
                    let request = self.guest.flush(class);
                    self.owner().request(request, Request::Flush);
                }
            }
        }
    }

    /// A block, and how many there are from it to the end of what is looked at.
    fn spot(&mut self) -> (u64, u64) {
        let region = REGIONS[self.rng.random_range(0..REGIONS.len())].clone();
        let lba = self.rng.random_range(region.clone());
        (lba, region.end - lba)
    }

    fn snapshots(&mut self) {
        let names = self.guest.snapshot_names();
        if !names.is_empty() && self.rng.random_bool(0.4) {
            let name = names[self.rng.random_range(0..names.len())].clone();
            let request = self.guest.remove_snapshot(&name);
            self.owner().request(request, Request::RemoveSnapshot { name });
        } else {
            let name = format!("s{}", self.rng.random_range(0..1_000_000));
            let request = self.guest.snapshot(&name);
            self.owner().request(request, Request::Snapshot { name });
        }
    }

    async fn pause_owner(&mut self) {
        let pause = self.rng.random_range(1..40);
        self.owner().paused.send_replace(true);
        tokio::time::sleep(Duration::from_secs(pause)).await;
        self.owner().paused.send_replace(false);
    }

    async fn sweep(&mut self) -> Result<(), String> {
        let names = self.bare().names().await?.into_iter().collect();
        let _unheard = self.owner().orders.try_send(Order::Input(Input::Sweep { names }));
        Ok(())
    }

    /// What needs no calm: references, and snapshots.
    async fn audit(&mut self) -> Result<(), String> {
        let head = self.bare().head().await?;
        if let Some(reference) = &head.checkpoint {
            self.bare().check_references(reference).await?;
        }
        for snapshot in &head.snapshots {
            self.bare().check_references(&snapshot.checkpoint).await?;
        }
        let new = self.guest.new_snapshots();
        for snapshot in head
            .snapshots
            .iter()
            .filter(|snapshot| new.contains(&snapshot.name))
        {
            self.check_snapshot(snapshot).await?;
        }
        Ok(())
    }

    async fn check_snapshot(&self, snapshot: &log_disk::Snapshot) -> Result<(), String> {
        let wanted: Vec<u64> = REGIONS.into_iter().flatten().collect();
        let image = self.bare().read(&snapshot.checkpoint, &wanted).await?;
        self.guest.check_snapshot(&snapshot.name, &image)
    }

    async fn crash(&mut self, loss: Loss) -> Result<(), String> {
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
        self.hosts[self.owner].process = None;
        self.lose(self.owner, loss);
        self.guest.give_up();
        self.reopen(loss).await
    }

    fn lose(&mut self, host: usize, loss: Loss) {
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

    /// Opens the disk on its owner, perhaps after more crashes on the way, and judges what is there.
    async fn reopen(&mut self, mut loss: Loss) -> Result<(), String> {
        let floor = self.guest.remote_floor();
        if self.rng.random_bool(0.8) {
            self.store.set_faults(StoreFaults::CALM);
        } else {
            self.store.set_faults(StoreFaults::ROUGH);
        }
        loop {
            match self.try_open(self.owner, true).await? {
                Some(engine) => {
                    self.begin(self.owner, engine);
                    return self.judge(loss, floor).await;
                }
                None => {
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
        let name = format!("{}#{}", self.hosts[host].name, self.processes);
        Ground {
            slice: Slice::open(&self.hosts[host].disk, self.ring_pages),
            bucket: Bucket {
                store: self.store.client(&name),
                disk: DISK,
            },
            sealer: Arc::clone(&self.sealer),
            rng: self.world.rng(&name),
            trace: self.world.trace().clone(),
            began: self.began,
            name,
        }
    }

    /// Opens the disk on a host; `None` when the process died on the way.
    async fn try_open(
        &mut self,
        host: usize,
        force: bool,
    ) -> Result<Option<(Ground, Engine<Pages>)>, String> {
        loop {
            let ground = self.ground(host);
            let options = OpenOptions {
                config: self.config.clone(),
                sealer: Arc::clone(&self.sealer),
                salt: Salt(self.rng.random()),
                new_journal: JournalId(self.rng.random()),
                ring_pages: self.ring_pages,
                discard_stale_journal: self.hosts[host].stale,
                force,
                pages: Some(Pages::default()),
            };
            let patience = if self.rng.random_bool(0.25) {
                Duration::from_millis(self.rng.random_range(0..400))
            } else {
                CALM_DOWN
            };
            match tokio::time::timeout(patience, open(&ground, options)).await {
                Err(_) if patience == CALM_DOWN => return Err("the disk does not open".to_owned()),
                Err(_) => return Ok(None),
                Ok(Ok(engine)) => return Ok(Some((ground, engine))),
                // A late claim of a process that died.
                Ok(Err(OpenError::Claimed { .. })) => {}
                Ok(Err(why)) => return Err(format!("{} cannot open the disk: {why}", ground.name)),
            }
        }
    }

    fn begin(&mut self, host: usize, (ground, engine): (Ground, Engine<Pages>)) {
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
    async fn judge(&mut self, loss: Loss, floor: usize) -> Result<(), String> {
        let image = self.look().await?;
        let prefix = self.guest.recover(loss, floor, &image)?;
        self.world
            .trace()
            .event(format_args!("after {loss:?} there are {prefix} changes"));
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

    async fn look(&mut self) -> Result<Image, String> {
        for region in REGIONS {
            let request = self.guest.look(region.start);
            let (lba, blocks) = (Lba(region.start), region.end - region.start);
            self.owner().request(request, Request::Read { lba, blocks });
        }
        self.until("the disk is not read", |game| !game.guest.waits())
            .await?;
        let mut image = Image::new();
        for region in REGIONS {
            let bytes = self.guest.take_look(region.start).ok_or("a look at nothing")?;
            for (lba, block) in region.zip(bytes.chunks(log_disk::BLOCK_BYTES)) {
                image.insert(lba, stamp::read(lba, block)?);
            }
        }
        Ok(image)
    }

    /// Waits until something holds, but not for ever.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = Instant::now() + CALM_DOWN;
        while !holds(self) {
            self.guest.check()?;
            if let Some(why) = self.owner().view.borrow().stopped {
                return Err(format!("{} stopped: {why:?}", self.owner().name));
            }
            if Instant::now() > end {
                return Err(what.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The other host takes the disk over, while this one runs, sleeps or is dead.
    async fn take_over(&mut self) -> Result<(), String> {
        let (old, new) = (self.owner, 1 - self.owner);
        self.guest.check()?;
        self.audit().await?;
        self.hosts[new].process = None;
        if self.rng.random_bool(0.3) {
            self.lose(new, Loss::Power);
        }
        let force = self.config.on_outage == OnOutage::Ride || self.rng.random_bool(0.2);
        let strict = !force && self.config.on_outage == OnOutage::Stop;
        self.store.set_faults(if self.rng.random_bool(0.5) {
            StoreFaults::CALM
        } else {
            StoreFaults::ROUGH
        });
        let first = self.owner().name.clone();
        self.guest.may_stop(&first);
        match self.rng.random_range(0..3) {
            0 => self.hosts[old].process = None,
            1 => drop(self.owner().paused.send_replace(true)),
            _ => {}
        }
        let before = self.guest.remote_floor();
        let opened = loop {
            if let Some(opened) = self.try_open_beside(new, force).await? {
                break opened;
            }
            let again = if self.rng.random_bool(0.5) {
                Loss::Process
            } else {
                Loss::Power
            };
            self.lose(new, again);
        };
        let floor = if strict { self.guest.remote_floor() } else { before };
        self.guest.retire(&first, strict);
        self.guest.give_up();
        self.hosts[old].stale = true;
        self.owner = new;
        self.begin(new, opened);
        self.judge(Loss::Slice, floor).await?;
        self.haunt(old).await;
        self.guest.check()
    }

    /// Opens on another host while the owner goes on, with a guest that goes on, too.
    async fn try_open_beside(
        &mut self,
        host: usize,
        force: bool,
    ) -> Result<Option<(Ground, Engine<Pages>)>, String> {
        if self.hosts[self.owner].process.is_some() {
            self.traffic().await;
        }
        self.try_open(host, force).await
    }

    /// The former owner wakes up, if it slept, and a guest that has not noticed goes on with it.
    async fn haunt(&mut self, old: usize) {
        let Some(process) = self.hosts[old].process.as_mut() else {
            return;
        };
        process.paused.send_replace(false);
        for round in 0..self.rng.random_range(1..20_u64) {
            let (lba, data) = (Lba(round % 40), stamp::run(round % 40, 1, 1 << 40));
            let fua = round % 3 == 0;
            process.request(self.guest.untracked(), Request::Write { lba, data, fua });
            process.request(self.guest.untracked(), Request::Flush);
        }
        let linger = self.rng.random_range(0..60);
        tokio::time::sleep(Duration::from_secs(linger)).await;
        if self.rng.random_bool(0.7) {
            process.tasks.abort_all();
            self.hosts[old].process = None;
        }
    }

    /// All is calm: everything arrives, nothing is left over, and the bucket alone is enough.
    async fn finale(&mut self) -> Result<(), String> {
        let old = 1 - self.owner;
        self.hosts[old].process = None;
        self.store.set_faults(StoreFaults::CALM);
        self.until("not everything arrived in the bucket", |game| {
            game.owner().view.borrow().quiet && !game.guest.waits()
        })
        .await?;
        self.store.settle().await;
        self.sweep().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.until("the sweep does not end", |game| game.owner().view.borrow().quiet)
            .await?;
        self.audit().await?;
        let known: BTreeSet<ObjectName> = self.owner().view.borrow().objects.iter().copied().collect();
        let there = self.bare().names().await?;
        if let Some(name) = there.difference(&known).next() {
            return Err(format!("{name:?} is in the bucket and nobody needs it"));
        }
        if let Some(name) = known.difference(&there).next() {
            return Err(format!("{name:?} is known and not in the bucket"));
        }
        let view = self.owner().view.borrow().clone();
        let garbage = view.stored_blocks - view.live_blocks;
        let bound = view.stored_blocks * self.config.gc.garbage_permille / 1000;
        let stubborn = view.stored_blocks * (1000 - self.config.gc.live_permille_max) / 1000;
        if garbage > bound.max(stubborn) + self.config.gc.blocks_max {
            return Err(format!("{garbage} of {} blocks are garbage", view.stored_blocks));
        }
        self.hosts[self.owner].process = None;
        let arrived = self.guest.arrived();
        self.lose(self.owner, Loss::Slice);
        let opened = loop {
            if let Some(opened) = self.try_open(self.owner, true).await? {
                break opened;
            }
        };
        self.begin(self.owner, opened);
        self.judge(Loss::Slice, arrived).await
    }
}
