//! A random walk over the calls of a pool, beside a model of what it should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use volumed::bulk::Layout;
use volumed::pool::{Pool, PoolError, Slice, SliceId, ZeroEnd};
use volumed::random::Random;
use volumed::volume::{SnapshotId, VolumeId};

/// Bytes of a write.
const BLOCK: usize = 4096;
/// Volumes and captures that there are at most.
const SLICES_MAX: usize = 8;

/// Ids from a seed.
#[derive(Debug)]
struct Ids(Mutex<ChaCha8Rng>);

impl Random for Ids {
    fn fill(&self, out: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(out);
    }
}

/// A slice as it should be.
#[derive(Debug, Clone)]
struct Known {
    slice: Slice,
    /// What a capture is of.
    of: Option<SliceId>,
    /// The stamps of its blocks by offset; what is absent reads as zeros.
    content: BTreeMap<u64, u64>,
}

/// The walker.
#[derive(Debug)]
pub struct Walk {
    rng: ChaCha8Rng,
    ids: Ids,
    unit_bytes: u64,
    /// In the order in which they were made.
    known: Vec<Known>,
    stamp: u64,
    /// What was done, the newest last.
    trace: Vec<String>,
}

impl Walk {
    /// Begins on an empty pool.
    ///
    /// * `unit_bytes`: size of a new volume, and by how much one grows.
    #[must_use]
    pub fn new(seed: u64, unit_bytes: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            ids: Ids(Mutex::new(ChaCha8Rng::seed_from_u64(rng.random()))),
            rng,
            unit_bytes,
            known: Vec::new(),
            stamp: 0,
            trace: Vec::new(),
        }
    }

    /// Takes a number of steps, opening the pool anew now and then, and compares everything in the end.
    ///
    /// # Errors
    /// What does not agree, with the newest steps before it.
    pub async fn walk(&mut self, steps: u32, open: impl AsyncFn() -> Arc<dyn Pool>) -> Result<(), String> {
        let mut pool = open().await;
        for step in 0..steps {
            if self.rng.random_ratio(1, 30) {
                self.trace.push("reopen".to_owned());
                pool = open().await;
            }
            self.step(&*pool).await.map_err(|why| self.told(step, &why))?;
        }
        self.compare(&*pool).await.map_err(|why| self.told(steps, &why))
    }

    fn told(&self, step: u32, why: &str) -> String {
        let newest = &self.trace[self.trace.len().saturating_sub(30)..];
        format!("step {step}: {why}\n  {}", newest.join("\n  "))
    }

    async fn step(&mut self, pool: &dyn Pool) -> Result<(), String> {
        let full = self.known.len() >= SLICES_MAX;
        let volumes = self.volumes().len();
        match self.rng.random_range(0..100) {
            _ if volumes == 0 => self.create(pool).await,
            0..10 if !full => self.create(pool).await,
            10..45 => self.write(pool).await,
            45..55 => self.grow(pool).await,
            55..70 if !full => self.copy(pool, true).await,
            70..76 if !full => self.copy(pool, false).await,
            76..86 => self.compare_changes(pool).await,
            86..96 => {
                let index = self.rng.random_range(0..self.known.len());
                self.compare_one(pool, index).await
            }
            _ => self.delete(pool).await,
        }
    }

    fn volumes(&self) -> Vec<usize> {
        let is_volume = |index: &usize| self.known[*index].of.is_none();
        (0..self.known.len()).filter(is_volume).collect()
    }

    fn any_volume(&mut self) -> usize {
        let volumes = self.volumes();
        volumes[self.rng.random_range(0..volumes.len())]
    }

    fn did(&mut self, what: &str, slice: &Slice) {
        self.trace.push(format!(
            "{what} {} of {} bytes",
            slice.id.name(),
            slice.size_bytes
        ));
    }

    async fn create(&mut self, pool: &dyn Pool) -> Result<(), String> {
        let slice = Slice {
            id: SliceId::Volume(VolumeId::generate(&self.ids)),
            size_bytes: self.unit_bytes,
            layout: Layout::Raw,
        };
        self.did("create", &slice);
        for _ in 0..self.rng.random_range(1..3) {
            pool.create(&slice).await.map_err(chain)?;
        }
        self.known.push(Known {
            slice,
            of: None,
            content: BTreeMap::new(),
        });
        Ok(())
    }

    /// Offsets that are written and looked at: both ends, and both sides of the edges of chunks and backup blocks.
    fn offsets(&self, size_bytes: u64) -> Vec<u64> {
        let (block, mib) = (BLOCK as u64, 1 << 20);
        let mut offsets = vec![
            0,
            block,
            (64 << 10) - block,
            64 << 10,
            mib - block,
            mib,
            (4 * mib) - block,
            4 * mib,
        ];
        for end in (1..=size_bytes / self.unit_bytes).map(|units| units * self.unit_bytes) {
            offsets.extend([end - mib, end - block, end]);
        }
        offsets.retain(|offset| offset + block <= size_bytes);
        offsets
    }

    async fn write(&mut self, pool: &dyn Pool) -> Result<(), String> {
        let index = self.any_volume();
        let slice = self.known[index].slice.clone();
        let offsets = self.offsets(slice.size_bytes);
        self.did("write", &slice);
        let sink = pool.open_sink(&slice).await.map_err(chain)?;
        for _ in 0..self.rng.random_range(1..4) {
            let offset = offsets[self.rng.random_range(0..offsets.len())];
            self.stamp += 1;
            let bytes = Bytes::from(self.stamp.to_le_bytes().repeat(BLOCK / 8));
            sink.write_at(offset, bytes).await.map_err(|e| e.to_string())?;
            self.known[index].content.insert(offset, self.stamp);
        }
        sink.sync().await.map_err(|e| e.to_string())
    }

    async fn grow(&mut self, pool: &dyn Pool) -> Result<(), String> {
        let index = self.any_volume();
        let before = self.known[index].slice.clone();
        if before.size_bytes >= 4 * self.unit_bytes {
            return self.shrink(pool, &before).await;
        }
        let larger = Slice {
            size_bytes: before.size_bytes + self.unit_bytes,
            ..before.clone()
        };
        self.did("grow", &larger);
        let zero_end = [ZeroEnd::Never, ZeroEnd::IfGrownNow, ZeroEnd::Always][self.rng.random_range(0..3)];
        for _ in 0..self.rng.random_range(1..3) {
            // Again as after a crash that came before the record.
            pool.grow(&larger, before.size_bytes, zero_end)
                .await
                .map_err(chain)?;
        }
        self.known[index].slice = larger;
        Ok(())
    }

    async fn shrink(&mut self, pool: &dyn Pool, slice: &Slice) -> Result<(), String> {
        self.did("shrink", slice);
        let smaller = Slice {
            size_bytes: self.unit_bytes,
            ..slice.clone()
        };
        match pool.grow(&smaller, self.unit_bytes, ZeroEnd::Never).await {
            Err(PoolError::WrongSize { .. }) => Ok(()),
            other => Err(format!("a shrink came to {other:?}")),
        }
    }

    async fn copy(&mut self, pool: &dyn Pool, capture: bool) -> Result<(), String> {
        let index = self.any_volume();
        let source = self.known[index].clone();
        let id = if capture {
            SliceId::Capture(SnapshotId::generate(&self.ids))
        } else {
            SliceId::Volume(VolumeId::generate(&self.ids))
        };
        let slice = Slice {
            id,
            ..source.slice.clone()
        };
        self.did("copy into", &slice);
        for _ in 0..self.rng.random_range(1..3) {
            pool.copy(&source.slice, &slice).await.map_err(chain)?;
        }
        self.known.push(Known {
            slice,
            of: capture.then_some(source.slice.id),
            content: source.content,
        });
        Ok(())
    }

    async fn delete(&mut self, pool: &dyn Pool) -> Result<(), String> {
        let gone = self.known.remove(self.rng.random_range(0..self.known.len()));
        self.did("delete", &gone.slice);
        for _ in 0..2 {
            pool.delete(&gone.slice.id).await.map_err(chain)?;
        }
        if pool.exists(&gone.slice.id).await.map_err(chain)? {
            return Err(format!("{} is still there", gone.slice.id.name()));
        }
        Ok(())
    }

    /// Of two captures of one volume whatever differs must be told, or nothing be claimed.
    async fn compare_changes(&mut self, pool: &dyn Pool) -> Result<(), String> {
        let newer = self.rng.random_range(0..self.known.len());
        let Some(of) = self.known[newer].of.clone() else {
            return Ok(());
        };
        let older = (0..newer)
            .rev()
            .find(|index| self.known[*index].of.as_ref() == Some(&of));
        let Some(older) = older else { return Ok(()) };
        let (base, next) = (self.known[older].clone(), self.known[newer].clone());
        self.did("compare", &next.slice);
        let Some(changed) = pool.changed(&base.slice, &next.slice).await else {
            return Ok(());
        };
        for (offset, stamp) in &next.content {
            let told = changed.iter().any(|range| range.contains(offset));
            if base.content.get(offset) != Some(stamp) && !told {
                return Err(format!(
                    "offset {offset} of {} differs from {} and is not among {changed:?}",
                    next.slice.id.name(),
                    base.slice.id.name()
                ));
            }
        }
        Ok(())
    }

    async fn compare_one(&mut self, pool: &dyn Pool, index: usize) -> Result<(), String> {
        let known = self.known[index].clone();
        self.did("read", &known.slice);
        let source = pool.open_source(&known.slice).await.map_err(chain)?;
        for offset in self.offsets(known.slice.size_bytes) {
            let found = source.read_at(offset, BLOCK).await.map_err(|e| e.to_string())?;
            let stamp = known.content.get(&offset).copied().unwrap_or_default();
            if found != stamp.to_le_bytes().repeat(BLOCK / 8) {
                let head = &found[..8];
                return Err(format!(
                    "{} at {offset}: stamp {stamp} expected, found {head:?}",
                    known.slice.id.name()
                ));
            }
        }
        Ok(())
    }

    /// Compares the list of slices, and the content of each.
    async fn compare(&mut self, pool: &dyn Pool) -> Result<(), String> {
        let listed = pool.list().await.map_err(chain)?;
        if let Some(unfinished) = listed.iter().find(|found| !found.complete) {
            return Err(format!("{} is unfinished", unfinished.id.name()));
        }
        let found: BTreeSet<SliceId> = listed.into_iter().map(|found| found.id).collect();
        let known: BTreeSet<SliceId> = self.known.iter().map(|known| known.slice.id.clone()).collect();
        if found != known {
            return Err(format!("there are {found:?}, not {known:?}"));
        }
        for index in 0..self.known.len() {
            self.compare_one(pool, index).await?;
        }
        Ok(())
    }
}

fn chain(error: PoolError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
