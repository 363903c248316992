//! A disk and its forks, and theirs: made, deleted in any order, each with a life of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use log_disk::{
    BucketAnswer, BucketAsk, BucketStep, DiskId, ForkError, ForkOptions, Forking, GotHead, Head, Mutant,
    ReapOptions, Reaping, Salt, Sealer, Viewing, head_key,
};
use objstore::ObjectStore as _;
use rand::RngExt as _;
use sim::{Rng, StoreFaults, World};
use tokio::time::Instant;

use crate::driver::Pages;
use crate::faults::{FaultRates, Faults};
use crate::game::{Common, Game, SIZE_BLOCKS, draw_config, draw_rates};
use crate::guest::{Guest, Loss};
use crate::io::{Bucket, PURPOSE, key};

/// Most disks that a world begins.
const DISKS_MAX: usize = 4;
const NAMES: [&str; DISKS_MAX] = ["game", "first fork", "second fork", "third fork"];

/// All disks of a world.
pub(crate) struct Family {
    common: Common,
    rng: Rng,
    mutant: Option<Mutant>,
    alive: Vec<Game>,
    /// Deleted disks, and owners who have not noticed.
    deleted: Vec<DiskId>,
    ghosts: Vec<Game>,
    /// Names of forks that could not be made, and of what.
    unmade: Vec<(DiskId, DiskId, String)>,
    made: usize,
}

/// Whether a mistake shows only where disks are forked.
fn is_of_families(mutant: Mutant) -> bool {
    matches!(
        mutant,
        Mutant::OldPins | Mutant::ForkWithoutPin | Mutant::ForkOfWhatWas | Mutant::PinGoesFirst
    )
}

fn disk(number: usize) -> DiskId {
    DiskId([0x42 + u8::try_from(number).expect("few"); 16])
}

impl Family {
    pub(crate) async fn new(world: World, mutant: Option<Mutant>) -> Self {
        let mut rng = world.rng("family");
        let store = world.store();
        let first = disk(0);
        let sealer = Arc::new(Sealer::new(&[1; 32], first));
        let head = Head::new(first, SIZE_BLOCKS, vec![7; 85]);
        let body = head.encode(&sealer, Salt([0; 8])).into();
        let made = store
            .objects()
            .put_if_absent(&key(head_key(first)), body, PURPOSE)
            .await;
        made.expect("an empty store takes a HEAD");
        let common = Common {
            config: draw_config(&mut rng, mutant),
            rates: draw_rates(&mut rng, mutant),
            keys: Arc::new(Mutex::new(BTreeMap::from([(first, sealer)]))),
            world,
            store,
            began: Instant::now(),
        };
        let guest = Guest::new(SIZE_BLOCKS, common.rates != FaultRates::NONE);
        let game = Game::new(&common, NAMES[0], first, guest);
        Self {
            common,
            rng,
            mutant,
            alive: vec![game],
            deleted: Vec::new(),
            ghosts: Vec::new(),
            unmade: Vec::new(),
            // Most mistakes need no family, and are found sooner without.
            made: if mutant.is_none_or(is_of_families) {
                1
            } else {
                DISKS_MAX
            },
        }
    }

    pub(crate) async fn play(&mut self, steps: u32) -> Result<(), String> {
        self.alive[0].reopen(Loss::Process).await?;
        for step in 0..steps {
            let at = self.rng.random_range(0..self.alive.len());
            let name = self.alive[at].disk;
            self.common
                .world
                .trace()
                .event(format_args!("step {step} of {name}"));
            self.alive[at].step().await?;
            match self.rng.random_range(0..100) {
                0..8 if self.made < DISKS_MAX => self.fork().await?,
                8..14 if self.alive.len() > 1 => self.delete().await?,
                14..17 => self.view().await?,
                _ => {}
            }
            for game in &mut self.alive {
                game.guest.check()?;
                game.audit().await?;
            }
        }
        self.finale().await
    }

    fn sealer(&self, disk: DiskId) -> Arc<Sealer> {
        self.common.sealer(disk)
    }

    /// A client of the bucket that works on disks that are not open.
    fn bucket(&mut self, disk: DiskId) -> Bucket {
        let number: u32 = self.rng.random();
        let rates = FaultRates {
            wire: self.common.rates.wire,
            ..FaultRates::NONE
        };
        Bucket {
            store: self.common.store.client(&format!("work {number}")),
            disk,
            faults: Faults::new(self.rng.fork(&number.to_string()), rates),
        }
    }

    fn weather(&mut self) {
        let faults = if self.rng.random_bool(0.5) {
            StoreFaults::CALM
        } else {
            StoreFaults::ROUGH
        };
        self.common.store.set_faults(faults);
    }

    /// After how many steps the next attempt dies.
    fn fuse(&mut self) -> u32 {
        if self.rng.random_bool(0.4) {
            self.rng.random_range(1..10)
        } else {
            u32::MAX
        }
    }

    /// Forks a disk at one of its snapshots, which somebody may be removing.
    async fn fork(&mut self) -> Result<(), String> {
        let at = self.rng.random_range(0..self.alive.len());
        let parent = self.alive[at].disk;
        let names = self.alive[at].guest.snapshot_names();
        if names.is_empty() {
            self.alive[at].snapshots();
            return Ok(());
        }
        let snapshot = names[self.rng.random_range(0..names.len())].clone();
        let Some(base) = self.alive[at].guest.snapshot_image(&snapshot) else {
            return Ok(());
        };
        let number = self.made;
        self.made += 1;
        let fork = disk(number);
        let sealer = Arc::new(Sealer::new(&[u8::try_from(number).expect("few") + 1; 32], fork));
        self.common
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(fork, sealer);
        self.weather();
        if self.rng.random_bool(0.3) {
            self.alive[at].snapshots();
        }
        let removed_at = if self.rng.random_bool(0.4) {
            self.rng.random_range(1..8)
        } else {
            0
        };
        let name = snapshot.clone();
        let head = self.make(parent, &snapshot, fork, |family, step| {
            if step == removed_at {
                family.alive[at].remove_snapshot(&name);
            }
        });
        let Some(head) = Box::pin(head).await? else {
            self.unmade.push((parent, fork, snapshot));
            return Ok(());
        };
        let faulty = self.common.rates != FaultRates::NONE;
        let guest = Guest::of_fork(number as u64, head.size_blocks, base, faulty);
        let mut game = Game::new(&self.common, NAMES[number], fork, guest);
        game.reopen(Loss::Process).await?;
        self.alive.push(game);
        Ok(())
    }

    /// Makes a fork, after any number of crashes; `None` when it cannot be.
    async fn make(
        &mut self,
        parent: DiskId,
        snapshot: &str,
        fork: DiskId,
        mut before: impl FnMut(&mut Self, u32),
    ) -> Result<Option<Head>, String> {
        let mut step = 0;
        loop {
            let mut fuse = self.fuse();
            let bucket = self.bucket(fork);
            let options = ForkOptions {
                parent: self.sealer(parent),
                snapshot: snapshot.to_owned(),
                fork: self.sealer(fork),
                wrapped_key: vec![8; 85],
                salt: Salt(self.rng.random()),
                mutant: self.mutant,
            };
            let (mut forking, mut ask) = Forking::new(options);
            while fuse > 0 {
                fuse -= 1;
                step += 1;
                before(self, step);
                match forking.answer(perform(&bucket, ask).await) {
                    Ok(BucketStep::Ask(next)) => ask = next,
                    Ok(BucketStep::Over(head)) => return Ok(Some(head)),
                    Err(
                        ForkError::NoSnapshot { .. } | ForkError::Taken { .. } | ForkError::Deleted { .. },
                    ) => {
                        return Ok(None);
                    }
                    Err(why) => return Err(format!("no fork: {why}")),
                }
            }
        }
    }

    /// Deletes a disk, whoever was forked from it.
    async fn delete(&mut self) -> Result<(), String> {
        let at = self.rng.random_range(0..self.alive.len());
        self.alive[at].guest.check()?;
        let disk = self.alive[at].disk;
        self.common.world.trace().event(format_args!("delete {disk}"));
        self.alive[at].orphan();
        self.weather();
        if self.rng.random_bool(0.5) {
            self.alive[at].leave();
        }
        let fuse = if self.rng.random_bool(0.5) {
            self.rng.random_range(1..4)
        } else {
            self.fuse()
        };
        let begun = self.reap_once(disk, fuse).await?;
        if begun.is_none() && self.rng.random_bool(0.7) {
            // It died before anything was said in HEAD, and somebody thought better of it.
            return self.alive[at].come_back().await;
        }
        let game = self.alive.remove(at);
        self.ghosts.push(game);
        self.deleted.push(disk);
        self.reap(disk).await
    }

    /// Deletes what is left of a disk, and of those before it that only it still kept.
    async fn reap(&mut self, disk: DiskId) -> Result<(), String> {
        let mut doomed = vec![disk];
        while let Some(disk) = doomed.pop() {
            let bases = self.reap_one(disk).await?;
            doomed.extend(bases.into_iter().filter(|base| self.deleted.contains(base)));
        }
        Ok(())
    }

    async fn reap_one(&mut self, disk: DiskId) -> Result<Vec<DiskId>, String> {
        loop {
            let fuse = self.fuse();
            if let Some(Some(bases)) = self.reap_once(disk, fuse).await? {
                return Ok(bases);
            }
        }
    }

    /// Tries to delete a disk: `None` when that ended before HEAD could learn of it, nothing in it when it ended later.
    async fn reap_once(
        &mut self,
        disk: DiskId,
        mut fuse: u32,
    ) -> Result<Option<Option<Vec<DiskId>>>, String> {
        let mut begun = None;
        let bucket = self.bucket(disk);
        let options = ReapOptions {
            sealer: self.sealer(disk),
            salt: Salt(self.rng.random()),
            mutant: self.mutant,
        };
        let (mut reaping, mut ask) = Reaping::new(options);
        while fuse > 0 {
            fuse -= 1;
            if matches!(ask, BucketAsk::PutHead { .. }) {
                begun = Some(None);
            }
            match reaping.answer(perform(&bucket, ask).await) {
                Ok(BucketStep::Ask(next)) => ask = next,
                Ok(BucketStep::Over(reaped)) => return Ok(Some(Some(reaped.bases))),
                Err(why) => return Err(format!("{disk} is not deleted: {why}")),
            }
        }
        Ok(begun)
    }

    /// Opens a snapshot read-only, beside whatever the owner does.
    async fn view(&mut self) -> Result<(), String> {
        let at = self.rng.random_range(0..self.alive.len());
        let disk = self.alive[at].disk;
        let head = self.common.bare(disk).head().await?;
        if head.snapshots.is_empty() {
            return Ok(());
        }
        let snapshot = head.snapshots[self.rng.random_range(0..head.snapshots.len())].clone();
        self.common.store.set_faults(StoreFaults::CALM);
        let bucket = self.bucket(disk);
        let lineage = self.common.bare(disk).lineage().await?;
        let pages = Pages::new(Faults::new(self.rng.fork("view"), FaultRates::NONE));
        let salt = Salt(self.rng.random());
        let (mut viewing, mut ask) = Viewing::new(lineage, snapshot.clone(), salt, pages, 10);
        let mut view = loop {
            match viewing.answer(perform(&bucket, ask).await) {
                Ok(BucketStep::Ask(next)) => ask = next,
                Ok(BucketStep::Over(view)) => break view,
                // It may be removed meanwhile, and the way from the store fails in some worlds.
                Err(_)
                    if self.alive[at].guest.is_doubtful(&snapshot.name) || self.common.rates.wire > 0.0 =>
                {
                    return Ok(());
                }
                Err(why) => return Err(format!("snapshot {}: {why}", snapshot.name)),
            }
        };
        self.alive[at].check_view(&snapshot, &mut view).await
    }

    async fn finale(&mut self) -> Result<(), String> {
        self.common.store.set_faults(StoreFaults::CALM);
        for ghost in &mut self.ghosts {
            ghost.leave();
        }
        self.common.store.settle().await;
        // What the dead had under way has arrived: what they gave up is given up once more.
        for (parent, fork, snapshot) in std::mem::take(&mut self.unmade) {
            if self.make(parent, &snapshot, fork, |_, _| {}).await?.is_some() {
                return Err(format!("{fork} is made after all"));
            }
        }
        for disk in self.deleted.clone() {
            self.reap(disk).await?;
        }
        for game in &mut self.alive {
            game.finale().await?;
        }
        for game in &mut self.alive {
            game.audit().await?;
        }
        self.check_pins().await
    }

    /// Pins are those of the forks that there are, and deleted disks without pins are gone.
    async fn check_pins(&self) -> Result<(), String> {
        let mut wanted = Vec::new();
        for game in &self.alive {
            let head = self.common.bare(game.disk).head().await?;
            wanted.extend(head.bases.iter().map(|base| (base.disk, base.number, game.disk)));
        }
        for number in 0..self.made {
            let disk = disk(number);
            let bare = self.common.bare(disk);
            let pins = bare.pins().await?;
            if let Some(pin) = pins
                .iter()
                .find(|pin| !wanted.contains(&(disk, pin.number, pin.fork)))
            {
                return Err(format!("{pin:?} with {disk} is nobody's"));
            }
            if self.deleted.contains(&disk)
                && pins.is_empty()
                && let Some(name) = bare.names().await?.first()
            {
                return Err(format!("{name:?} is left of {disk}, which is deleted"));
            }
        }
        for (disk, number, fork) in wanted {
            let pins = self.common.bare(disk).pins().await?;
            if !pins.iter().any(|pin| (pin.number, pin.fork) == (number, fork)) {
                return Err(format!("{fork} has no pin with {disk}"));
            }
        }
        Ok(())
    }
}

async fn perform(bucket: &Bucket, ask: BucketAsk) -> BucketAnswer {
    match ask {
        BucketAsk::GetHead { disk } => BucketAnswer::Head(match bucket.of(disk).get_head().await {
            GotHead::Unknown => {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                GotHead::Unknown
            }
            got => got,
        }),
        BucketAsk::PutHead {
            disk,
            expected: Some(expected),
            body,
        } => BucketAnswer::HeadPut(bucket.of(disk).put_head(&expected, body, false).await),
        BucketAsk::PutHead {
            disk,
            expected: None,
            body,
        } => BucketAnswer::HeadPut(bucket.of(disk).make_head(body).await),
        BucketAsk::ListPins { disk } => loop {
            if let Some(pins) = bucket.of(disk).pins().await {
                break BucketAnswer::Pins(pins);
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        },
        BucketAsk::PutPin { disk, pin } => {
            bucket.of(disk).put_pin(pin).await;
            BucketAnswer::Done
        }
        BucketAsk::DeletePin { disk, pin } => {
            bucket.of(disk).delete_pin(pin).await;
            BucketAnswer::Done
        }
        BucketAsk::Get(wanted) => {
            let mut got = Vec::with_capacity(wanted.parts.len());
            for part in wanted.parts {
                got.push(bucket.of(part.disk).get(part.name, part.range).await);
            }
            BucketAnswer::Got(got)
        }
        BucketAsk::List { disk, role } => BucketAnswer::Listed(bucket.of(disk).list(role).await),
        BucketAsk::Delete { disk, names } => {
            for name in names {
                while !bucket.of(disk).delete(name).await {
                    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                }
            }
            BucketAnswer::Done
        }
    }
}
