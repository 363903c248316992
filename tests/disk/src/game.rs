//! One disk's life: random requests, crashes, takeovers and weather.

mod finale;
mod hosts;
mod rollback;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crashsafe::Disk as _;
use log_disk::{
    Config, DiskId, Durability, Engine, GcLimits, Input, JournalId, Lba, Mutant, ObjectName, OnOutage,
    OpenError, OpenOptions, Request, Salt, Sealer, SnapshotView, Stopped,
};
use rand::RngExt as _;
use sim::{Rng, SimDisk, SimStore, StoreFaults, World};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::driver::{Ground, Order, Pages, View, open, serve};
use crate::faults::{FaultRates, Faults};
use crate::guest::{Guest, Image, Loss};
use crate::image::Bare;
use crate::io::{Bucket, SLICE, Slice};
use crate::reader::Reader;
use crate::stamp;

/// Where the guest writes: at the disk's begin, and around the edge between two leaves of its map.
pub(crate) const REGIONS: [std::ops::Range<u64>; 2] = [0..40, 16_384 - 20..16_384 + 20];
pub(crate) const SIZE_BLOCKS: u64 = 16_384 + 64;
/// How long anything may take once all is calm.
const CALM_DOWN: Duration = Duration::from_secs(1800);

/// A host that has, or had, the disk.
struct Host {
    name: &'static str,
    disk: SimDisk,
    process: Option<Process>,
    faults: Faults,
    /// Another host has written since: its journal must be refused.
    stale: bool,
    /// Its journal was struck at least once.
    hurt: bool,
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

/// The keys of all disks that there ever were.
pub(crate) type Keys = Arc<Mutex<BTreeMap<DiskId, Arc<Sealer>>>>;

/// What all disks of a world share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) world: World,
    pub(crate) store: SimStore,
    pub(crate) keys: Keys,
    pub(crate) config: Config,
    pub(crate) rates: FaultRates,
    pub(crate) began: Instant,
}

impl Common {
    pub(crate) fn sealer(&self, disk: DiskId) -> Arc<Sealer> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&keys[&disk])
    }

    pub(crate) fn bare(&self, disk: DiskId) -> Bare<'_> {
        Bare {
            store: self.store.objects(),
            disk,
            common: self,
        }
    }
}

/// One disk's life.
pub(crate) struct Game {
    common: Common,
    pub(crate) disk: DiskId,
    rng: Rng,
    sealer: Arc<Sealer>,
    config: Config,
    ring_pages: u64,
    /// Blocks of the longest write.
    blocks_max: u64,
    hosts: [Host; 2],
    /// Which host has the disk.
    owner: usize,
    pub(crate) guest: Guest,
    processes: u32,
}

pub(crate) fn draw_config(rng: &mut Rng, mutant: Option<Mutant>) -> Config {
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
        gc_bytes_per_s: if rng.random_bool(0.5) {
            0
        } else {
            any(rng, 10, 1000) << 10
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

/// One seed in five has hosts whose slices fail, and a way from the store that does.
pub(crate) fn draw_rates(rng: &mut Rng, mutant: Option<Mutant>) -> FaultRates {
    if mutant.is_some() || rng.random_bool(0.8) {
        return FaultRates::NONE;
    }
    let chance = |rng: &mut Rng, most: f64| {
        if rng.random_bool(0.5) {
            rng.random_range(0.0..most)
        } else {
            0.0
        }
    };
    FaultRates {
        read_error: chance(rng, 0.02),
        write_error: chance(rng, 0.002),
        spoil: chance(rng, 0.03),
        page: chance(rng, 0.01),
        wire: chance(rng, 0.004),
    }
}

impl Game {
    /// The life of a disk whose HEAD was just made.
    pub(crate) fn new(common: &Common, name: &'static str, disk: DiskId, guest: Guest) -> Self {
        let mut rng = common.world.rng(name);
        let ring_pages = rng.random_range(160..500);
        // Where all records are alike, what one left behind fits behind another.
        let blocks_max = if rng.random_bool(0.3) { 1 } else { 24 };
        let host = |place: &str| {
            let name: &'static str = format!("{name} on {place}").leak();
            Host {
                name,
                disk: common.world.disk(name, 64 << 20),
                faults: Faults::new(common.world.rng(&format!("faults of {name}")), common.rates),
                process: None,
                stale: false,
                hurt: false,
            }
        };
        Self {
            hosts: [host("host a"), host("host b")],
            sealer: common.sealer(disk),
            config: common.config.clone(),
            common: common.clone(),
            disk,
            rng,
            ring_pages,
            blocks_max,
            owner: 0,
            guest,
            processes: 0,
        }
    }

    fn owner(&self) -> &Process {
        self.hosts[self.owner]
            .process
            .as_ref()
            .expect("the owner runs between steps")
    }

    fn bare(&self) -> Bare<'_> {
        self.common.bare(self.disk)
    }

    /// Whether hosts and wires fail in this world.
    fn is_faulty(&self) -> bool {
        self.common.rates != FaultRates::NONE
    }

    pub(crate) async fn step(&mut self) -> Result<(), String> {
        self.revive().await?;
        self.act().await?;
        self.revive().await?;
        self.guest.check()?;
        self.check_lag()?;
        self.audit().await
    }

    /// With `stop` no more is written than the lag may hold, what was accepted at once excepted.
    fn check_lag(&self) -> Result<(), String> {
        let lag = self.owner().view.borrow().lag;
        let at_once = (self.config.appends_max as u64 + 2) * 2 * (self.config.record_blocks + 1);
        let bound = self.config.lag_bytes_max + at_once * log_disk::PAGE_BYTES as u64;
        if self.config.on_outage == OnOutage::Stop && lag.bytes > bound {
            return Err(format!(
                "the bucket is {} bytes behind, {bound} are the bound",
                lag.bytes
            ));
        }
        Ok(())
    }

    async fn act(&mut self) -> Result<(), String> {
        let weather = match self.rng.random_range(0..10) {
            0..5 => StoreFaults::CALM,
            5..9 => StoreFaults::ROUGH,
            _ => StoreFaults::OUTAGE,
        };
        self.common.store.set_faults(weather);
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
            60..63 if self.config.mutant.is_none() => self.roll_back().await,
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

    pub(crate) fn snapshots(&mut self) {
        let names = self.guest.snapshot_names();
        if !names.is_empty() && self.rng.random_bool(0.4) {
            let name = names[self.rng.random_range(0..names.len())].clone();
            let request = self.guest.remove_snapshot(&name);
            self.owner().request(request, Request::RemoveSnapshot { name });
        } else {
            // Names never come back: which of two was meant nobody could say.
            let name = format!("s{}-{}", self.processes, self.rng.random_range(0..1_000_000_000));
            let request = self.guest.snapshot(&name);
            self.owner().request(request, Request::Snapshot { name });
        }
    }

    pub(crate) async fn sweep(&mut self) -> Result<(), String> {
        let names = self.bare().names().await?.into_iter().collect();
        let _unheard = self.owner().orders.try_send(Order::Input(Input::Sweep { names }));
        Ok(())
    }

    pub(crate) fn remove_snapshot(&mut self, name: &str) {
        let (request, name) = (self.guest.remove_snapshot(name), name.to_owned());
        self.owner().request(request, Request::RemoveSnapshot { name });
    }

    /// What a snapshot that was opened read-only says about where its blocks lie is what the bucket says.
    pub(crate) async fn check_view(
        &self,
        snapshot: &log_disk::Snapshot,
        view: &mut SnapshotView<Pages>,
    ) -> Result<(), String> {
        let mut image = Image::new();
        for region in REGIONS {
            let parts = view.parts(Lba(region.start), region.end - region.start);
            for part in parts.map_err(|error| error.to_string())? {
                for block in 0..part.blocks {
                    image.insert(part.lba.0 + block, u64::from(part.source.is_some()));
                }
            }
        }
        let wanted: Vec<u64> = REGIONS.into_iter().flatten().collect();
        let Ok(known) = self.bare().read(&snapshot.checkpoint, &wanted).await else {
            // It is being removed.
            return Ok(());
        };
        let missing = known
            .iter()
            .find(|(lba, stamp)| **stamp != 0 && image.get(lba) != Some(&1));
        missing.map_or(Ok(()), |(lba, _)| {
            Err(format!("block {lba} of the open snapshot is not there"))
        })
    }

    /// What needs no calm: references, and snapshots.
    pub(crate) async fn audit(&mut self) -> Result<(), String> {
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
}
