//! A transaction of the primary's goes into our own log: who reads keeps what he sees, and is not waited for.
//!
//! What SQLite does when it commits is done here in its order: frames, tables of the index, then the header of the index, its second
//! copy first. The index is memory that applications share; so this works only where it is our own file's.

use std::io;

use ltx::{PageSize, Pgno};

use super::{ApplyError, Changed, Incoming, open};
use crate::db::{
    files::{FileKind, Files as _},
    handle::Database,
    locks::{Conflict, LockByte, Mode, Owner, Request},
    page::{DatabaseHeader, JournalMode},
    shm::{self, WalIndexHeader},
    wal::{self, ByteOrder, FRAME_HEADER_BYTES, WalHeader, WalPlace},
    wal_index,
};

/// Bytes of frames that are written in one go.
const WRITE_BYTES: usize = 1 << 20;

impl Database {
    /// Tells whether a transaction can go into the log while others read.
    #[must_use]
    pub fn takes_in_log(&self, incoming: &Incoming) -> bool {
        let header = incoming.header();
        let follows = !header.is_snapshot()
            && header.commit_pages > 0
            && self.history.page_size() == Some(header.page_size)
            && incoming.journal_mode.is_none_or(|mode| mode == JournalMode::Wal);
        // A writer's log is not gone on with: at start it would not be taken for ours.
        let ours = self
            .capture
            .log()
            .is_none_or(|(log, _)| log.sequence == wal::REPLICAS);
        follows
            && ours
            && matches!(DatabaseHeader::read(&self.files), Ok(Some(now)) if now.journal_mode == JournalMode::Wal)
            && self.files.exists(FileKind::Wal)
            && self
                .index()
                .is_ok_and(|index| index.is_some_and(|index| self.is_of(&index)))
    }

    /// Returns the bytes of the log that holds what is not in the database yet.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.capture.log().map_or(0, |(_, place)| place.offset)
    }

    /// Lets no new reader of the log in until [`unlock_whole`](Self::unlock_whole), for one of our own.
    pub fn drain(&mut self, owner: Owner) {
        self.locks.drain(owner);
    }

    /// Lets readers of the log in again.
    pub fn stop_draining(&mut self, owner: Owner) {
        self.locks.stop_draining(owner);
    }

    /// Keeps other writers out of the log, for one of our own.
    ///
    /// # Errors
    /// There is one.
    pub fn lock_log(&mut self, owner: Owner) -> Result<(), Conflict> {
        let at = LockByte::WalWrite.offset();
        self.locks.request(&Request {
            owner,
            file: FileKind::Shm,
            range: at..at + 1,
            mode: Some(Mode::Exclusive),
        })
    }

    /// Applies a transaction by appending it to the log. The caller holds the [log](Self::lock_log), and `forget` has the kernel
    /// forget what changed, before readers are told of it.
    ///
    /// # Errors
    /// It does not follow, and nothing has changed; or the disk fails, and the database is to be opened anew.
    pub fn append(&mut self, incoming: &Incoming, forget: &dyn Fn(&Changed)) -> Result<(), ApplyError> {
        self.check_follows(incoming)?;
        let index = self.index()?.ok_or(ApplyError::NotServed)?;
        self.make_durable().map_err(ApplyError::Log)?;
        self.publish_incoming(&incoming.path, incoming.header())?;
        let header = incoming.header();
        let (log, mut place) = match self.capture.log() {
            Some(found) => found,
            None => self.begin_log(header.page_size, &index)?,
        };
        let before = place.offset;
        let last = frames(before, log.page_size);
        let pages = self.append_frames(incoming, &log, &mut place)?;
        let blocks = wal_index::with_frames(&self.files, last, &pages)?;
        for block in &blocks {
            // The header of the first one is written last, and the locks' bytes are nobody's to write.
            let from = if block.number == 0 { shm::TABLES_OFFSET } else { 0 };
            let at = u64::from(block.number) * shm::BLOCK_BYTES as u64 + from as u64;
            self.files.write(FileKind::Shm, &block.bytes[from..], at)?;
        }
        let (pos, commit_pages) = (incoming.pos(), header.commit_pages);
        self.history
            .applied(pos, header.page_size, commit_pages, false, &incoming.changed);
        let offsets = (0..).map(|frame: u64| before + frame * log.frame_bytes() + FRAME_HEADER_BYTES as u64);
        let appended = pages.into_iter().zip(offsets).collect();
        self.capture.appended(log, place, appended, commit_pages);
        forget(&Changed {
            ranges: vec![
                (FileKind::Wal, (if last == 0 { 0 } else { before })..u64::MAX),
                (FileKind::Shm, 0..0),
            ],
            dropped: false,
        });
        let header = WalIndexHeader {
            change: index.change.wrapping_add(1),
            order: log.order,
            page_size: log.page_size,
            last_frame: frames(place.offset, log.page_size),
            pages: commit_pages,
            frame_checksum: place.checksum,
            salts: log.salts,
        };
        let bytes = header.encode();
        for copy in [bytes.len() as u64, 0] {
            self.files.write(FileKind::Shm, &bytes, copy)?;
        }
        Ok(())
    }

    fn index(&self) -> io::Result<Option<WalIndexHeader>> {
        let mut bytes = [0; 2 * shm::HEADER_BYTES];
        let read = self.files.read_at(FileKind::Shm, &mut bytes, 0)?;
        Ok((read == bytes.len())
            .then(|| WalIndexHeader::decode_of(&bytes, self.history.page_size()))
            .flatten())
    }

    /// Tells whether an index says what the log holds.
    fn is_of(&self, index: &WalIndexHeader) -> bool {
        match self.capture.log() {
            Some((log, place)) => {
                index.salts == log.salts && index.last_frame == frames(place.offset, log.page_size)
            }
            None => index.last_frame == 0,
        }
    }

    fn begin_log(
        &mut self,
        page_size: PageSize,
        index: &WalIndexHeader,
    ) -> Result<(WalHeader, WalPlace), ApplyError> {
        let pos = self.history.pos();
        // Another than that of every log before: positions do not come back.
        let (first, second) = (pos.txid.get(), pos.checksum.bits());
        let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        let header = WalHeader {
            order: ByteOrder::Little,
            page_size,
            sequence: wal::REPLICAS,
            salts: (index.salts.0.wrapping_add(low(first)), low(second)),
        };
        let (bytes, checksum) = header.encode();
        self.files.set_len(FileKind::Wal, 0)?;
        self.files.write(FileKind::Wal, &bytes, 0)?;
        Ok((header, WalPlace::first(checksum)))
    }

    /// Appends the pages and returns their numbers in order.
    fn append_frames(
        &mut self,
        incoming: &Incoming,
        log: &WalHeader,
        place: &mut WalPlace,
    ) -> Result<Vec<Pgno>, ApplyError> {
        let header = incoming.header();
        let path = self.history.directory().join(header.file_name().to_string());
        let mut decoder = open(&*self.node.disk, &path)?;
        let (mut page, mut next_page, mut frames, mut pages) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut at = place.offset;
        let mut current = decoder.next_page(&mut page)?;
        while let Some(pgno) = current {
            let next = decoder.next_page(&mut next_page)?;
            let commit_pages = if next.is_none() { header.commit_pages } else { 0 };
            place.checksum = log.encode_frame(&mut frames, place.checksum, pgno, commit_pages, &page);
            place.offset += log.frame_bytes();
            pages.push(pgno);
            if frames.len() >= WRITE_BYTES || next.is_none() {
                self.files.write(FileKind::Wal, &frames, at)?;
                at += frames.len() as u64;
                frames.clear();
            }
            std::mem::swap(&mut page, &mut next_page);
            current = next;
        }
        Ok(pages)
    }
}

/// How many frames there are before an offset.
fn frames(offset: u64, page_size: PageSize) -> u32 {
    let frame_bytes = FRAME_HEADER_BYTES as u64 + u64::from(page_size.bytes());
    let frames = (offset - wal::HEADER_BYTES as u64) / frame_bytes;
    u32::try_from(frames).expect("a log has fewer than 2^32 frames")
}
