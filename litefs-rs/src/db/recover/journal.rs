//! A rollback journal that is live at start.

use std::collections::BTreeSet;

use super::{error::RecoverError, newest::Newest};
use crate::db::{
    database_files::DatabaseFiles,
    files::{FileKind, Files as _},
    rollback_journal::{self, Playback},
};

/// What a journal had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undone {
    /// No transaction was under way.
    Nothing,
    /// A transaction over several databases was committed, and only its journal was left.
    Committed,
    /// The newest LTX file is its transaction's: that is committed. The database was durable before the file was.
    HasFile,
    /// A transaction was taken back. Pages that nobody uses may be as it left them: SQLite keeps no copy of those.
    TakenBack,
    /// A transaction over several databases was taken back, and the newest LTX file is its.
    TakenBackWithFile,
}

/// Plays a live journal back, durably, unless its transaction was committed. The journal stays until everything else is done.
pub(super) fn undo(
    files: &mut DatabaseFiles,
    newest: Option<&Newest>,
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
    let Some(playback) = Playback::new(files)? else {
        return Ok(Undone::Nothing);
    };
    let has_file = match newest {
        Some(newest) => newest.is_of(files, playback)?,
        None => false,
    };
    if has_file && super_journal.is_none() {
        return Ok(Undone::HasFile);
    }
    play_back(files)?;
    Ok(if has_file {
        Undone::TakenBackWithFile
    } else {
        Undone::TakenBack
    })
}

fn play_back(files: &mut DatabaseFiles) -> Result<(), RecoverError> {
    let Some(mut playback) = Playback::new(files)? else {
        return Ok(());
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
    Ok(())
}
