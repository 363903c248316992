//! Opening a disk: performs what an [`Opening`] asks for, one thing after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use log_disk::{
    Answer, Ask, Base, DiskId, Engine, Epoch, Flaw, GotHead, Head, JournalId, JournalState, OpenError,
    OpenOptions, Opening, PAGE_BYTES, Role, Salt, Sealer, Superblock, WantedPart, judge_journal,
    newest_superblock,
};
use objstore::{GetError, ListError, Remedy};
use tracing::{info, warn};

use super::clock;
use super::map_pages::MapPages;
use super::settings::{OutageRule, Settings, volume_id};
use super::slice::{Slice, SliceError};
use super::store::{Bucket, chain, purpose};
use super::sys::Pages;
use crate::keys::{ClusterKey, UnwrapError, WrappedKey, WrappedKeyError};

/// From one look at a store that does not answer to the next.
const AGAIN: Duration = Duration::from_millis(500);
/// Objects' fronts fetched at once.
const AT_ONCE: usize = 16;
/// How much of the ring is read at once for a scan.
const SCAN_PAGES: u64 = 256;

/// Why a disk did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The engine's own reasons.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The slice.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// The store refuses, or gives what makes no sense.
    #[error("object store")]
    Get(#[from] GetError),
    /// The store does not list.
    #[error("object store")]
    List(#[from] ListError),
    /// The key of a disk that this one was forked from.
    #[error("key of a disk that this one was forked from")]
    Wrapped(#[from] WrappedKeyError),
    /// The key of a disk that this one was forked from.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// This disk was forked from one whose name is no volume's.
    #[error("disk {disk}, which this one was forked from, is no volume's")]
    Foreign {
        /// Which.
        disk: DiskId,
    },
    /// Another host may still be answering for the disk, and does not know of an end to its right.
    #[error(
        "the disk is owned by journal {owner}, epoch {epoch}, which has not released it and rides outages out: \
         claiming it needs force, and loses what that host has not uploaded"
    )]
    Owned {
        /// Whose it is.
        owner: JournalId,
        /// Since which epoch.
        epoch: Epoch,
    },
}

/// What an operator insists on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insist {
    /// Give a damaged journal up, with all that only it has.
    pub discard_damaged_journal: bool,
    /// Claim the disk from whoever has it, without waiting, whatever that may lose.
    pub force: bool,
    /// The same, as long as this epoch is the last one that wrote: once the claim is made it means nothing any more.
    pub force_over: Option<Epoch>,
    /// Throw a journal away that must not be replayed.
    pub discard_stale_journal: bool,
}

/// What an opening needs.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) settings: Settings,
    pub(super) slice: Slice,
    pub(super) bucket: Bucket,
    pub(super) sealer: Arc<Sealer>,
    pub(super) insist: Insist,
    pub(super) cluster_key: ClusterKey,
}

/// What is known before anything is claimed.
#[derive(Debug, Clone)]
struct Judged {
    /// The epoch that HEAD was of.
    epoch: Epoch,
    /// Whether nobody's time is waited for: who wrote last has given the disk up for good, or an operator insists.
    at_once: bool,
    discard: bool,
    /// The keys of the disks that this one was forked from.
    bases: Vec<Arc<Sealer>>,
}

impl Ground {
    /// Opens the disk. Goes on trying for as long as the store does not answer; everything else ends it. Blocks its thread for
    /// reads of the slice.
    ///
    /// # Errors
    /// [`StartError`].
    pub(super) async fn open(&self) -> Result<Engine<MapPages>, StartError> {
        loop {
            let judged = self.judge().await?;
            if let Some(engine) = self.open_as(judged).await? {
                info!(epoch = engine.epoch().0, "opened");
                return Ok(engine);
            }
            // Somebody changed HEAD in between: what was judged does not hold any more.
        }
    }

    /// Finds out whether the disk may be claimed, and how.
    async fn judge(&self) -> Result<Judged, StartError> {
        let superblock = self.superblock()?;
        let head = self.look().await?;
        let state = superblock.as_ref().map(|found| judge_journal(found, &head));
        let ours = matches!(state, Some(JournalState::Continues));
        let released = match head.stream() {
            // A claim that was never completed wrote nothing: what counts is who wrote last.
            Some(stream) if !ours => self.is_released(stream.epoch).await?,
            Some(_) | None => false,
        };
        let mut discard = self.insist.discard_stale_journal;
        if let Some(JournalState::Stale { journal, .. }) = state {
            // A journal whose epoch gave the disk up holds nothing that the bucket does not have.
            discard = discard || self.is_released(journal).await?;
        }
        let last = head.stream().map(|stream| stream.epoch);
        let force = self.insist.force || (last.is_some() && last == self.insist.force_over);
        let free = ours || released || last.is_none() || force;
        if !free && self.settings.on_outage == OutageRule::Ride {
            let (owner, epoch) = (head.owner, head.epoch);
            return Err(StartError::Owned { owner, epoch });
        }
        Ok(Judged {
            epoch: head.epoch,
            at_once: force || released,
            discard,
            bases: self.bases(&head)?,
        })
    }

    /// Opens the keys of the disks that this one was forked from.
    fn bases(&self, head: &Head) -> Result<Vec<Arc<Sealer>>, StartError> {
        let sealer = |base: &Base| {
            let wrapped = WrappedKey::from_bytes(&base.wrapped_key)?;
            let volume = volume_id(base.disk).ok_or(StartError::Foreign { disk: base.disk })?;
            let key = self.cluster_key.unwrap(volume.as_str(), &wrapped)?;
            Ok(Arc::new(key.disk_sealer(base.disk)))
        };
        head.bases.iter().map(sealer).collect()
    }

    /// Opens it as judged; `None` when HEAD is of another epoch by now.
    async fn open_as(&self, judged: Judged) -> Result<Option<Engine<MapPages>>, StartError> {
        let options = OpenOptions {
            config: self.settings.engine(),
            sealer: Arc::clone(&self.sealer),
            salt: Salt(daemon::random::bytes()),
            new_journal: JournalId(daemon::random::bytes()),
            ring_pages: self.slice.settings().ring_pages(),
            discard_stale_journal: judged.discard,
            discard_damaged_journal: self.insist.discard_damaged_journal,
            roll_back_to: None,
            bases: judged.bases,
            force: judged.at_once,
            pages: Some(MapPages::new(self.slice.clone())),
        };
        let mut ring = RingReader::new(self.slice.clone());
        let mut claimed = false;
        let (mut opening, mut ask) = Opening::new(options);
        loop {
            let answer = match ask {
                Ask::ReadSuperblocks => Answer::Superblocks(self.slice.superblocks().ok()),
                Ask::GetHead => {
                    let got = self.head().await;
                    if !claimed && self.epoch_of(&got).is_some_and(|epoch| epoch != judged.epoch) {
                        return Ok(None);
                    }
                    Answer::Head(got)
                }
                Ask::PutHead { expected, body } => {
                    claimed = true;
                    Answer::HeadPut(self.bucket.put_head(&expected, body).await)
                }
                Ask::WaitUntil(time) => {
                    let micros = time.since(clock::now());
                    info!(ms = micros / 1000, "waits for the former owner's time to end");
                    tokio::time::sleep(Duration::from_micros(micros)).await;
                    Answer::Done
                }
                Ask::Get(wanted) => {
                    let got = stream::iter(wanted.parts.into_iter().map(|part| {
                        let WantedPart { disk, name, range } = part;
                        let home = self.bucket.of(disk);
                        async move {
                            again(|| home.get(name, range.clone(), purpose::OPEN), GetError::remedy).await
                        }
                    }))
                    .buffered(AT_ONCE);
                    Answer::Got(got.try_collect::<Vec<Option<Bytes>>>().await?)
                }
                Ask::Put { name, body } => Answer::Put(self.bucket.put(name, body).await),
                Ask::ListData { after } => {
                    let list = || self.bucket.list(Role::Data, purpose::OPEN);
                    let mut names = again(list, ListError::remedy).await?;
                    names.retain(|name| name.seq > after);
                    Answer::Listed(names)
                }
                Ask::ReadRing { position, pages } => Answer::Ring(ring.read(position, pages)),
                Ask::SyncRing => {
                    let synced = self.slice.sync();
                    synced.map_err(|error| self.slice.failed("sync", error))?;
                    Answer::Done
                }
                Ask::WriteSuperblock(superblock) => {
                    let written = self.slice.write_superblock(&superblock);
                    written.map_err(|error| self.slice.failed("write the superblock", error))?;
                    Answer::Done
                }
                Ask::Ready(engine) => return Ok(Some(*engine)),
                Ask::Failed(why) => return Err(why.into()),
            };
            ask = opening.answer(clock::now(), answer);
        }
    }

    /// The superblock, if there is one of this disk.
    fn superblock(&self) -> Result<Option<Superblock>, StartError> {
        let read = self.slice.superblocks();
        let [first, second] = read.map_err(|error| self.slice.failed("read the superblocks", error))?;
        let superblock = match newest_superblock([&first, &second]) {
            Ok(superblock) => superblock,
            Err(flaw @ Flaw::Version { .. }) => return Err(OpenError::Journal { flaw }.into()),
            Err(_) => return Ok(None),
        };
        let wanted = self.slice.settings().ring_pages();
        if superblock.disk == self.sealer.disk() && superblock.ring_pages != wanted {
            let path = self.slice.settings().path.clone();
            let found = superblock.ring_pages;
            return Err(SliceError::Ring { path, found, wanted }.into());
        }
        Ok(Some(superblock))
    }

    /// HEAD, whenever the store answers.
    async fn head(&self) -> GotHead {
        loop {
            match self.bucket.head().await {
                GotHead::Unknown => tokio::time::sleep(AGAIN).await,
                got => return got,
            }
        }
    }

    async fn look(&self) -> Result<Head, StartError> {
        match self.head().await {
            GotHead::Found { bytes, .. } => Head::decode(&self.sealer, &bytes)
                .map_err(|flaw| StartError::Open(OpenError::HeadDamaged { flaw })),
            GotHead::Missing | GotHead::Unknown => Err(OpenError::HeadMissing.into()),
        }
    }

    fn epoch_of(&self, got: &GotHead) -> Option<Epoch> {
        match got {
            GotHead::Found { bytes, .. } => Head::decode(&self.sealer, bytes).ok().map(|head| head.epoch),
            GotHead::Missing | GotHead::Unknown => None,
        }
    }

    async fn is_released(&self, epoch: Epoch) -> Result<bool, StartError> {
        Ok(again(|| self.bucket.is_released(epoch), GetError::remedy).await?)
    }
}

/// Asks until there is an answer, or an error that asking again does not mend.
async fn again<T, E, F>(mut ask: impl FnMut() -> F, remedy: impl Fn(&E) -> Remedy) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: std::error::Error,
{
    loop {
        match ask().await {
            Err(error) if remedy(&error) == Remedy::Retry => {
                warn!(error = %chain(&error), "the store is asked again");
                tokio::time::sleep(AGAIN).await;
            }
            ended => return ended,
        }
    }
}

/// Reads the ring a good piece at a time: a scan asks for a page here and two there.
#[derive(Debug)]
struct RingReader {
    slice: Slice,
    pages: Pages,
    /// The position that `pages` begins with, and how many of them are read.
    read: (u64, u64),
}

impl RingReader {
    fn new(slice: Slice) -> Self {
        Self {
            slice,
            pages: Pages::new(0),
            read: (0, 0),
        }
    }

    fn read(&mut self, position: u64, count: u64) -> Option<Vec<u8>> {
        let (first, read) = self.read;
        if position < first || position + count > first + read {
            self.fill(position, count)?;
        }
        let skip = usize::try_from(position - self.read.0).ok()? * PAGE_BYTES;
        let len = usize::try_from(count).ok()? * PAGE_BYTES;
        Some(self.pages.as_bytes().get(skip..skip + len)?.to_vec())
    }

    fn fill(&mut self, position: u64, count: u64) -> Option<()> {
        let ring_pages = self.slice.settings().ring_pages();
        let to_end = ring_pages - position % ring_pages;
        let ahead = SCAN_PAGES.max(count).min(to_end);
        // A bad page that was only read ahead must not hide the good ones before it.
        for pages in [ahead, count] {
            self.pages = Pages::new(usize::try_from(pages).ok()?);
            match self.slice.read_ring(position, &mut self.pages) {
                Ok(()) => {
                    self.read = (position, pages);
                    return Some(());
                }
                Err(error) => {
                    self.read = (0, 0);
                    warn!(position, pages, error = %error, "pages of the ring were not read");
                }
            }
        }
        None
    }
}
