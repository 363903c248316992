//! The log that SQLite, or a replica, left beside a database.

use std::{collections::BTreeMap, io};

use super::{error::RecoverError, newest::Newest};
use crate::db::{
    database_files::DatabaseFiles,
    page::{DatabaseHeader, JournalMode, ReadHeaderError},
    wal::{self, WalChecksum, WalHeader, WalPlace, WalTransactions},
};

/// A log that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeftLog {
    pub(super) header: WalHeader,
    checksum: WalChecksum,
}

impl LeftLog {
    /// Reads it. A log beside a database that has none is left from before, and was copied then.
    pub(super) fn read(files: &DatabaseFiles) -> Result<Option<Self>, RecoverError> {
        let database = match DatabaseHeader::read(files) {
            Ok(Some(database)) if database.journal_mode == JournalMode::Wal => database,
            // What stands there is still to be taken back.
            Ok(_) | Err(ReadHeaderError::Header(_)) => return Ok(None),
            Err(error @ ReadHeaderError::Read(_)) => return Err(error.into()),
        };
        let found = WalHeader::read(files)?;
        let found = found.filter(|(header, _)| header.page_size == database.page_size);
        Ok(found.map(|(header, checksum)| Self { header, checksum }))
    }

    /// Tells whether a replica wrote it: all of it has LTX files, which say nothing of where it stands.
    pub(super) fn is_replicas(&self) -> bool {
        self.header.sequence == wal::REPLICAS
    }

    /// Before its first transaction.
    pub(super) fn first(&self) -> WalPlace {
        WalPlace::first(self.checksum)
    }

    /// Where the last transaction ends that has an LTX file.
    pub(super) fn covered_end(&self, newest: Option<&Newest>) -> u64 {
        let covered = newest.and_then(|newest| newest.decoded.header.wal);
        let covered = covered.filter(|span| (span.salt1, span.salt2) == self.header.salts);
        covered.map_or(wal::HEADER_BYTES as u64, |span| {
            span.offset_bytes + span.size_bytes
        })
    }

    /// Returns what it holds, and where it ends, up to `limit` bytes; nothing when that is no transaction.
    pub(super) fn up_to(&self, files: &DatabaseFiles, limit: u64) -> io::Result<Option<WalTransactions>> {
        wal::transactions(files, &self.header, self.first(), limit)
    }

    /// Returns the transaction that begins at `from`.
    pub(super) fn next(&self, files: &DatabaseFiles, from: WalPlace) -> io::Result<Option<WalTransactions>> {
        wal::transaction(files, &self.header, from)
    }
}

/// Where pages stand in a log.
pub(super) type Offsets = BTreeMap<ltx::Pgno, u64>;
