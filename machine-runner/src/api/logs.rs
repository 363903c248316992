//! Logs as JSON lines, from the files that the shim writes.

use std::collections::VecDeque;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use daemon::{ApiError, ApiQuery};

use super::requests::Pairs;
use super::{Shared, find};
use crate::shim::logs::{FILES_MAX, LOGS_DIR, file};

/// Lines that a call without `tail` gets.
const TAIL_DEFAULT: usize = 1000;
const TAIL_MAX: usize = 100_000;
const POLL: Duration = Duration::from_millis(150);

pub(super) async fn logs(
    State(runner): Shared,
    Path((app, id)): Path<(String, String)>,
    ApiQuery(pairs): ApiQuery<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let handle = find(&runner, &app, &id)?;
    let pairs = Pairs(pairs);
    let tail = match pairs.get("tail").filter(|text| !text.is_empty()) {
        None => TAIL_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|tail| *tail <= TAIL_MAX)
            .ok_or_else(|| ApiError::bad_request(format!("tail must be 0 to {TAIL_MAX}, got {text:?}")))?,
    };
    let dir = runner.config.machine_dir(&handle.view().record.id).join(LOGS_DIR);
    let (lines, follower) =
        tail_of(&dir, tail).map_err(|error| ApiError::internal(format!("read logs: {error}")))?;
    let body = if pairs.flag("follow") {
        let first = futures_util::stream::once(async move { Ok(lines) });
        use futures_util::StreamExt as _;
        Body::from_stream(first.chain(follow(follower)))
    } else {
        Body::from(lines)
    };
    Ok(([(http::header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Where a reader of the newest file is.
#[derive(Debug)]
struct Follower {
    dir: PathBuf,
    inode: Option<u64>,
    offset: u64,
}

/// The last `tail` lines of all files, and a reader that stands behind them.
fn tail_of(dir: &FsPath, tail: usize) -> std::io::Result<(Bytes, Follower)> {
    let mut lines: VecDeque<String> = VecDeque::new();
    let mut follower = Follower {
        dir: dir.to_path_buf(),
        inode: None,
        offset: 0,
    };
    for age in (0..FILES_MAX).rev() {
        let mut open = match std::fs::File::open(file(dir, age)) {
            Ok(open) => open,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        open.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            lines.push_back(line.to_owned());
            if lines.len() > tail {
                lines.pop_front();
            }
        }
        if age == 0 {
            follower.inode = Some(open.metadata()?.ino());
            follower.offset = whole as u64;
        }
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    Ok((Bytes::from(text), follower))
}

impl Follower {
    /// What was written since the last look; whole lines only.
    fn look(&mut self) -> std::io::Result<Bytes> {
        let mut text = Vec::new();
        let newest = match std::fs::File::open(file(&self.dir, 0)) {
            Ok(newest) => newest,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Bytes::new()),
            Err(error) => return Err(error),
        };
        let inode = newest.metadata()?.ino();
        if self.inode.is_some_and(|inode_before| inode_before != inode) {
            // Put away meanwhile: first the rest of the former newest file.
            if let Ok(mut former) = std::fs::File::open(file(&self.dir, 1)) {
                former.seek(SeekFrom::Start(self.offset))?;
                former.read_to_end(&mut text)?;
            }
            self.offset = 0;
        }
        self.inode = Some(inode);
        let mut newest = newest;
        newest.seek(SeekFrom::Start(self.offset))?;
        let mut fresh = Vec::new();
        newest.read_to_end(&mut fresh)?;
        fresh.truncate(
            fresh
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1),
        );
        self.offset += fresh.len() as u64;
        text.extend(fresh);
        Ok(Bytes::from(text))
    }
}

fn follow(follower: Follower) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::unfold(follower, |mut follower| async move {
        loop {
            match follower.look() {
                Ok(fresh) if fresh.is_empty() => tokio::time::sleep(POLL).await,
                result => return Some((result, follower)),
            }
        }
    })
}

#[cfg(test)]
mod tests;
