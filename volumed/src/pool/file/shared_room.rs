//! The room that captures share with their volumes: each block that a volume overwrites under a capture is there twice.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crashsafe::OpenOptions;

use super::{FilePool, header_bytes, place};
use crate::pool::{PoolError, PoolUsage, Reading, Shed, Slice, SliceId, behind_header};

/// Between two looks at the room while captures take some of it: what is written meanwhile must fit into half the reserve.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// How the room is that captures and volumes share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Whether there is a capture.
    captures: bool,
    /// Whether captures that only speed up the next backup are in somebody's way.
    is_tight: bool,
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
        let (mut unwritten_bytes, mut allocated_bytes, mut captures) = (0, 0, false);
        for entry in self.disk.list(&self.config.path)? {
            match place::slice_of(&entry.name) {
                Some((SliceId::Volume(_), true)) => {
                    if let Some(stat) = self.disk.stat(&self.config.path.join(&entry.name))? {
                        unwritten_bytes += stat.len.saturating_sub(stat.allocated_bytes);
                        allocated_bytes += stat.allocated_bytes;
                    }
                }
                Some((SliceId::Capture(_), true)) => captures = true,
                Some(_) | None => {}
            }
        }
        let space = self.disk.space(&self.config.path)?;
        let (free_bytes, capacity) = (space.free_bytes, &self.config.capacity);
        let mut seen = self.seen();
        let before = std::mem::replace(&mut seen.free_beside_captures, captures.then_some(free_bytes));
        let fell = before.unwrap_or(free_bytes).saturating_sub(free_bytes);
        let soon_bytes = free_bytes.saturating_sub(2 * fell);
        let usage = PoolUsage {
            total_bytes: space.total_bytes,
            free_bytes: soon_bytes,
            allocated_bytes: allocated_bytes.min(space.total_bytes.saturating_sub(free_bytes)),
        };
        let warns = |percent| percent >= u32::from(self.config.pressure.warn_percent);
        let mut gauges = Reading::of_data(&usage, capacity).gauges.into_iter();
        seen.tight =
            capacity.is_tight(soon_bytes, unwritten_bytes) || gauges.any(|gauge| warns(gauge.percent()));
        Ok(Room {
            captures,
            is_tight: seen.tight,
            is_short: capacity.is_short(soon_bytes, unwritten_bytes),
        })
    }

    /// Returns what two captures do not share any more, in bytes of the guest.
    pub(super) async fn shared_no_more(&self, base: &Slice, slice: &Slice) -> Option<Vec<Range<u64>>> {
        if !self.seen().tells_shared || header_bytes(&base.layout) != header_bytes(&slice.layout) {
            return None;
        }
        let (older, newer) = (self.path(&base.id), self.path(&slice.id));
        let compared = self.blocking("compare", slice.id.name(), move |pool| {
            if pool.disk.stat(&older)?.is_none() {
                return Ok(None);
            }
            pool.disk.differences(&older, &newer)
        });
        match compared.await {
            Ok(differing) => {
                let header = header_bytes(&slice.layout);
                Some(behind_header(&differing?, header, slice.size_bytes))
            }
            Err(error) => {
                tracing::warn!(pool = self.config.name, %error, "captures not compared; all is read");
                None
            }
        }
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
                ..
            }) => vec![Shed::Captures],
            Ok(Room {
                captures: true,
                is_tight: true,
                ..
            }) => vec![Shed::Bases],
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
