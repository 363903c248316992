//! The room that captures share with their volumes: each block that a volume overwrites under a capture is there twice.

use std::io;
use std::path::Path;
use std::time::Duration;

use crashsafe::OpenOptions;

use super::{FilePool, place};
use crate::pool::{PoolError, Shed, SliceId};

/// Between two looks at the room while captures take some of it: what is written meanwhile must fit into half the reserve.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// How the room is that captures and volumes share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Whether there is a capture.
    captures: bool,
    /// Whether volumes need the room that captures have.
    pub(super) is_short: bool,
}

impl FilePool {
    /// Cuts a capture to nothing: whoever still reads it keeps no room then, and notices.
    pub(super) fn cut_if_there(&self, path: &Path) -> io::Result<()> {
        match self.disk.open("pool:delete:cut", path, OpenOptions::READ_WRITE) {
            Ok(file) => file.set_len(0),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(other) => Err(other),
        }
    }

    pub(super) async fn blocking_room(&self, doing: &'static str) -> Result<Room, PoolError> {
        self.blocking(doing, "folder", Self::room).await
    }

    /// Measures whether volumes can be written as far as they were promised, at the pace of the last look too.
    fn room(&self) -> io::Result<Room> {
        let (mut unwritten_bytes, mut captures) = (0, false);
        for entry in self.disk.list(&self.config.path)? {
            match place::slice_of(&entry.name) {
                Some((SliceId::Volume(_), true)) => {
                    let stat = self.disk.stat(&self.config.path.join(&entry.name))?;
                    unwritten_bytes += stat.map_or(0, |stat| stat.len.saturating_sub(stat.allocated_bytes));
                }
                Some((SliceId::Capture(_), true)) => captures = true,
                Some(_) | None => {}
            }
        }
        let free_bytes = self.disk.space(&self.config.path)?.free_bytes;
        let before = std::mem::replace(
            &mut self.seen().free_beside_captures,
            captures.then_some(free_bytes),
        );
        let fell = before.unwrap_or(free_bytes).saturating_sub(free_bytes);
        let soon_bytes = free_bytes.saturating_sub(2 * fell);
        Ok(Room {
            captures,
            is_short: self.config.capacity.is_short(soon_bytes, unwritten_bytes),
        })
    }

    /// Says whether captures have to go so that volumes can be written.
    pub(super) async fn shed_for_volumes(&self) -> Vec<Shed> {
        if !self.seen().reflink || !self.door.is_open() {
            return Vec::new();
        }
        match self.blocking_room("measure").await {
            Ok(Room {
                captures: true,
                is_short: true,
            }) => vec![Shed::Captures],
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(pool = self.config.name, %error, "room not measured");
                Vec::new()
            }
        }
    }

    /// How long after a look the next is due.
    pub(super) fn watch_every(&self) -> Duration {
        match self.seen().free_beside_captures {
            Some(_) => WATCH_EVERY,
            None => Duration::from_secs(1),
        }
    }
}
