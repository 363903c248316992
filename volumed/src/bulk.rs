//! Bulk reads and writes of pool files: what backups, restores and copies are made of.
//!
//! [`Images`] opens the file of a volume or snapshot as an [`Image`], its plaintext view: byte 0 is the guest's byte 0,
//! whether the file is raw or LUKS. On a real disk the bytes move through io_uring on one thread ([`Bulk`]); where a
//! file has no descriptor (a recorder, a simulation), through [`crashsafe::Disk`]. Ciphers and codecs run on
//! [`Workers`]. Nothing here is on the path of a guest's write.

mod aligned;
mod file;
mod image;
mod uring;
mod workers;

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

pub(crate) use image::is_zero;
pub use image::{CopyReport, Image, ImageError, Images, Layout, copy};
pub use uring::{Bulk, UringError};
pub use workers::Workers;

/// Niceness of the threads here: where processors are short, guests get three times as much of them.
const NICENESS: i32 = 5;

/// Lets guests go before the calling thread.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "bulk threads run as urgently as guests do");
    }
}

/// What a range of an image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Sectors of an encrypted volume that were never written: the guest may read anything there, and so may anyone.
    Undefined,
    /// Zeros, which the guest may rely on.
    Zero,
    /// Bytes, as many as were asked for. They may all be zero; sectors never written are zero in them.
    Data(Bytes),
}

/// The bytes of a volume at one point in time, as its guest would read them.
#[async_trait]
pub trait ImageSource: Send + Sync + std::fmt::Debug {
    /// Size of the volume as the guest sees it.
    fn size_bytes(&self) -> u64;

    /// Reads `len` bytes from `offset`, both multiples of 512 and within the size.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a range that is not as above.
    async fn read_content(&self, offset: u64, len: usize) -> io::Result<Content>;

    /// Reads `len` bytes from `offset`, zeros where the content is undefined or zero.
    ///
    /// # Errors
    /// As [`read_content`](Self::read_content).
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        match self.read_content(offset, len).await? {
            Content::Undefined | Content::Zero => Ok(Bytes::from(vec![0; len])),
            Content::Data(bytes) => Ok(bytes),
        }
    }
}

/// A volume to be filled, which nobody else uses meanwhile.
#[async_trait]
pub trait ImageSink: Send + Sync + std::fmt::Debug {
    /// Size of the volume as the guest will see it.
    fn size_bytes(&self) -> u64;

    /// Writes `data` at `offset`; offset and length are multiples of 512 and within the size.
    ///
    /// # Errors
    /// What the system says; some of `data` may then be written.
    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()>;

    /// Makes a range that was never written read as zeros: nothing to do on a raw file, encrypted zeros on LUKS.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    async fn zero(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// What the system says; the volume must then be filled again from the start.
    async fn sync(&self) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
