use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::bulk::ImageSink;

/// A volume that swallows a test restore, no faster than it is allowed to.
#[derive(Debug)]
pub struct Nowhere {
    size_bytes: u64,
    bytes_per_s: u64,
    /// One writer at a time rests, so that many together are as slow as one.
    turn: Mutex<()>,
}

impl Nowhere {
    /// Makes one of `size_bytes`; `bytes_per_s` of 0 sets no limit.
    pub fn new(size_bytes: u64, bytes_per_s: u64) -> Self {
        Self {
            size_bytes,
            bytes_per_s,
            turn: Mutex::default(),
        }
    }

    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes => Ok(()),
            Some(_) | None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{len} bytes at {offset} of {}", self.size_bytes),
            )),
        }
    }
}

/// Returns the rest that `bytes` cost at `bytes_per_s`; none at 0.
pub(crate) fn rest(bytes: u64, bytes_per_s: u64) -> Duration {
    match bytes_per_s {
        0 => Duration::ZERO,
        rate => Duration::from_millis(bytes.saturating_mul(1000) / rate),
    }
}

#[async_trait]
impl ImageSink for Nowhere {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        self.check(offset, data.len() as u64)?;
        let _turn = self.turn.lock().await;
        tokio::time::sleep(rest(data.len() as u64, self.bytes_per_s)).await;
        Ok(())
    }

    async fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
