//! Plaintext views of slices' devices.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

use crate::bulk::{Content, Image, ImageSink, ImageSource, is_zero};
use crate::lvm::crypt;

const SECTOR_LEN: usize = 512;
/// Zeros that are written at a time.
const ZEROS_LEN: usize = 4 << 20;

/// A slice to be read.
#[derive(Debug)]
pub(super) struct Source {
    /// The guest's bytes.
    pub(super) plain: Image,
    /// The logical volume below, when it is encrypted: what was never written is all zero there.
    pub(super) encrypted: Option<Image>,
}

#[async_trait]
impl ImageSource for Source {
    fn size_bytes(&self) -> u64 {
        ImageSource::size_bytes(&self.plain)
    }

    async fn read_content(&self, offset: u64, len: usize) -> io::Result<Content> {
        let Some(below) = &self.encrypted else {
            return self.plain.read_content(offset, len).await;
        };
        let sealed = match below.read_content(crypt::HEADER_BYTES + offset, len).await? {
            Content::Undefined | Content::Zero => return Ok(Content::Undefined),
            Content::Data(sealed) => sealed,
        };
        let mut plain = Vec::from(self.plain.read_at(offset, len).await?);
        // Sectors that were never written decrypt to noise, which nobody may rely on: zeros compress better.
        for (sector, below) in plain
            .chunks_exact_mut(SECTOR_LEN)
            .zip(sealed.chunks_exact(SECTOR_LEN))
        {
            if is_zero(below) {
                sector.fill(0);
            }
        }
        Ok(Content::Data(Bytes::from(plain)))
    }
}

/// A slice to be filled.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) image: Image,
    /// Whether what was never written reads as zeros.
    pub(super) blank: bool,
}

#[async_trait]
impl ImageSink for Sink {
    fn size_bytes(&self) -> u64 {
        ImageSink::size_bytes(&self.image)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        self.image.write_at(offset, data).await
    }

    async fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.blank {
            return Ok(());
        }
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(ZEROS_LEN).min(ZEROS_LEN);
            self.image.write_at(at, Bytes::from(vec![0; part])).await?;
            at += part as u64;
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.image.sync().await
    }
}
