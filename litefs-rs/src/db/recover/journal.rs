//! A rollback journal that is live at start.

use std::collections::BTreeSet;

use ltx::{PageSize, Pgno};

use super::error::RecoverError;
use crate::db::{
    database_files::DatabaseFiles,
    files::{FileKind, Files as _},
    rollback_journal::{self, Playback},
};

/// What a journal had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Undone {
    /// No transaction was under way.
    Nothing,
    /// A transaction over several databases was committed, and only its journal was left.
    Committed,
    /// A transaction was taken back.
    TakenBack(TakenBack),
}

/// A transaction that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TakenBack {
    /// The pages that are again as they were. Others may not be: SQLite keeps no copy of pages that nobody uses.
    pub(super) restored: BTreeSet<Pgno>,
    /// How many pages the database has again.
    pub(super) pages: u32,
    /// Their size.
    pub(super) page_size: PageSize,
    /// Whether the transaction would have been committed in other databases too.
    pub(super) across_databases: bool,
}

/// Plays a live journal back, durably. The journal stays until everything else is done.
pub(super) fn undo(
    files: &mut DatabaseFiles,
    super_journal_exists: &dyn Fn(&[u8]) -> bool,
) -> Result<Undone, RecoverError> {
    // Beside an empty database a journal has nothing to bring back.
    if !rollback_journal::is_live(files)? || files.len(FileKind::Database)? == 0 {
        return Ok(Undone::Nothing);
    }
    let super_journal = rollback_journal::super_journal(files)?;
    if super_journal
        .as_ref()
        .is_some_and(|name| !super_journal_exists(name))
    {
        return Ok(Undone::Committed);
    }
    let Some(mut playback) = Playback::new(files)? else {
        return Ok(Undone::Nothing);
    };
    let page_size = playback.page_size();
    let page_bytes = u64::from(page_size.bytes());
    let pages = playback.pages();
    // What the transaction cut off is in the journal; more there cannot have been.
    let room = files.len(FileKind::Database)? + files.len(FileKind::RollbackJournal)?;
    if u64::from(pages) * page_bytes > room {
        return Err(RecoverError::Journal { pages, page_size });
    }
    let (mut page, mut restored) = (Vec::new(), BTreeSet::new());
    files.set_len(FileKind::Database, u64::from(pages) * page_bytes)?;
    while let Some(pgno) = playback.next_page(&mut page)? {
        if restored.insert(pgno) {
            files.write(FileKind::Database, &page, u64::from(pgno.get() - 1) * page_bytes)?;
        }
    }
    files.sync(FileKind::Database)?;
    Ok(Undone::TakenBack(TakenBack {
        restored,
        pages,
        page_size,
        across_databases: super_journal.is_some(),
    }))
}
