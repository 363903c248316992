//! Plaintext views of pool files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crashsafe::Disk;
use futures_util::{StreamExt, TryStreamExt, stream};
use objstore::Remedy;
use zeroize::Zeroizing;

use super::file::{Access, PoolFile};
use super::{Bulk, Content, ImageSink, ImageSource, Workers};
use crate::luks::{self, Cipher, LuksError, SECTOR_BYTES};

const SECTOR_LEN: usize = 512;
/// Bytes that a copy or a fill moves at a time.
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks of a copy under way at once.
const COPY_CONCURRENCY: usize = 4;

/// How the guest's bytes lie in a pool file.
#[derive(Clone)]
pub enum Layout {
    /// As they are, from the file's first byte on.
    Raw,
    /// Behind a LUKS header that this passphrase opens.
    Luks {
        /// The passphrase.
        passphrase: Zeroizing<String>,
    },
}

/// Why an image could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file.
    #[error("image {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its LUKS header.
    #[error("image {}", path.display())]
    Luks {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: LuksError,
    },
    /// The file ends before the volume does.
    #[error("image {}: {file_bytes} bytes long, the volume needs {needed_bytes}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Its length.
        file_bytes: u64,
        /// Header and volume.
        needed_bytes: u64,
    },
}

impl ImageError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Remedy::FixData,
            Self::Io { .. } => Remedy::Retry,
            Self::Luks { source, .. } => source.remedy(),
            Self::Short { .. } => Remedy::FixData,
        }
    }
}

/// Opens images.
#[derive(Debug, Clone)]
pub struct Images {
    disk: Arc<dyn Disk>,
    bulk: Option<Bulk>,
    workers: Workers,
}

/// The plaintext view of one pool file.
#[derive(Debug)]
pub struct Image {
    file: PoolFile,
    cipher: Option<Arc<Cipher>>,
    workers: Workers,
    size_bytes: u64,
}

impl Images {
    /// Reads and writes files of `disk`: through `bulk` if there is one, and the file has a descriptor.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, bulk: Option<Bulk>, workers: Workers) -> Self {
        Self { disk, bulk, workers }
    }

    /// Opens an existing file to be read.
    ///
    /// * `size_bytes`: size of the volume, without the header; a multiple of 512.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn open_source(
        &self,
        path: &Path,
        size_bytes: u64,
        layout: &Layout,
    ) -> Result<Image, ImageError> {
        self.open(path, size_bytes, layout, Access::Read).await
    }

    /// Opens an existing file of its full length to be filled; its LUKS header is there already.
    ///
    /// * `size_bytes`: size of the volume, without the header; a multiple of 512.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn open_sink(
        &self,
        path: &Path,
        size_bytes: u64,
        layout: &Layout,
    ) -> Result<Image, ImageError> {
        self.open(path, size_bytes, layout, Access::Write).await
    }

    async fn open(
        &self,
        path: &Path,
        size_bytes: u64,
        layout: &Layout,
        access: Access,
    ) -> Result<Image, ImageError> {
        assert!(
            size_bytes.is_multiple_of(SECTOR_BYTES),
            "a volume of {size_bytes} bytes has no whole sectors"
        );
        let io = |source| ImageError::Io {
            path: path.to_owned(),
            source,
        };
        let file = PoolFile::open(&*self.disk, self.bulk.as_ref(), path, access)
            .await
            .map_err(io)?;
        let file_bytes = file.len().map_err(io)?;
        let short = |needed_bytes| ImageError::Short {
            path: path.to_owned(),
            file_bytes,
            needed_bytes,
        };
        let cipher = match layout {
            Layout::Raw => None,
            Layout::Luks { passphrase } => {
                if file_bytes < luks::HEADER_BYTES {
                    return Err(short(luks::HEADER_BYTES + size_bytes));
                }
                let header_len = usize::try_from(luks::HEADER_BYTES).unwrap_or(usize::MAX);
                let header = file.read_at(0, header_len).await.map_err(io)?;
                let passphrase = passphrase.clone();
                let opened = self.workers.run(move || Cipher::open(&header, &passphrase)).await;
                Some(opened.map_err(|source| ImageError::Luks {
                    path: path.to_owned(),
                    source,
                })?)
            }
        };
        let needed_bytes = size_bytes + cipher.as_ref().map_or(0, Cipher::payload_offset_bytes);
        if file_bytes < needed_bytes {
            return Err(short(needed_bytes));
        }
        Ok(Image {
            file,
            cipher: cipher.map(Arc::new),
            workers: self.workers.clone(),
            size_bytes,
        })
    }
}

impl Image {
    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.size_bytes);
        if inside && offset.is_multiple_of(SECTOR_BYTES) && len.is_multiple_of(SECTOR_BYTES) {
            return Ok(());
        }
        let message = format!("{len} bytes at {offset} of an image of {} bytes", self.size_bytes);
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    fn payload_offset_bytes(&self) -> u64 {
        self.cipher
            .as_ref()
            .map_or(0, |cipher| cipher.payload_offset_bytes())
    }
}

#[async_trait]
impl ImageSource for Image {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read_content(&self, offset: u64, len: usize) -> io::Result<Content> {
        self.check(offset, len as u64)?;
        let at = self.payload_offset_bytes() + offset;
        let blank = if self.cipher.is_some() {
            Content::Undefined
        } else {
            Content::Zero
        };
        if self
            .file
            .next_data(at)?
            .is_none_or(|data| data.start >= at + len as u64)
        {
            // Behind the end of a file that was cut there are no zeros.
            let needed_bytes = self.payload_offset_bytes() + self.size_bytes;
            if self.file.len()? < needed_bytes {
                let cut = "the image was cut while it was read";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut));
            }
            return Ok(blank);
        }
        let bytes = self.file.read_at(at, len).await?;
        if is_zero(&bytes) {
            return Ok(blank);
        }
        let Some(cipher) = self.cipher.clone() else {
            return Ok(Content::Data(bytes));
        };
        let first_sector = offset / SECTOR_BYTES;
        Ok(Content::Data(
            self.workers
                .run(move || decrypt(&cipher, first_sector, bytes))
                .await,
        ))
    }
}

#[async_trait]
impl ImageSink for Image {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        self.check(offset, data.len() as u64)?;
        let data = match self.cipher.clone() {
            None => data,
            Some(cipher) => {
                let encrypt = move || {
                    let mut sectors = Vec::from(data);
                    cipher.encrypt(offset / SECTOR_BYTES, &mut sectors);
                    Bytes::from(sectors)
                };
                self.workers.run(encrypt).await
            }
        };
        self.file
            .write_at(self.payload_offset_bytes() + offset, data)
            .await
    }

    async fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        if self.cipher.is_none() {
            return Ok(());
        }
        let mut at = offset;
        while at < offset + len {
            let part = usize::try_from(offset + len - at)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            self.write_at(at, Bytes::from(vec![0; part])).await?;
            at += part as u64;
        }
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.sync().await
    }
}

/// Decrypts sectors. One that is all zero was never written (no plaintext of any key is likely to encrypt to that), and
/// becomes zeros instead of noise, so that it compresses to nothing.
fn decrypt(cipher: &Cipher, first_sector: u64, encrypted: Bytes) -> Bytes {
    let blank: Vec<bool> = encrypted.chunks_exact(SECTOR_LEN).map(is_zero).collect();
    let mut sectors = Vec::from(encrypted);
    cipher.decrypt(first_sector, &mut sectors);
    for (sector, blank) in sectors.chunks_exact_mut(SECTOR_LEN).zip(blank) {
        if blank {
            sector.fill(0);
        }
    }
    Bytes::from(sectors)
}

/// Tells whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}

/// What a [`copy`] moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyReport {
    /// Bytes read and written.
    pub data_bytes: u64,
    /// Bytes that were zero in the source.
    pub zero_bytes: u64,
    /// Bytes that the source never wrote.
    pub undefined_bytes: u64,
}

/// Copies a volume's plaintext into a fresh one of at least its size, and syncs it.
///
/// Several chunks of 4 MiB are under way at once. What the source never wrote stays unwritten.
///
/// # Errors
/// What the system says; `InvalidInput` when the sink is smaller. The sink must then be filled again from the start.
pub async fn copy(source: &dyn ImageSource, sink: &dyn ImageSink) -> io::Result<CopyReport> {
    let size_bytes = source.size_bytes();
    if sink.size_bytes() < size_bytes {
        let message = format!(
            "a volume of {size_bytes} bytes does not fit into {}",
            sink.size_bytes()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let start = CopyReport {
        data_bytes: 0,
        zero_bytes: 0,
        undefined_bytes: 0,
    };
    let report = stream::iter((0..size_bytes).step_by(CHUNK_BYTES))
        .map(|offset| copy_chunk(source, sink, offset))
        .buffer_unordered(COPY_CONCURRENCY)
        .try_fold(start, |sum, part| async move {
            Ok(CopyReport {
                data_bytes: sum.data_bytes + part.data_bytes,
                zero_bytes: sum.zero_bytes + part.zero_bytes,
                undefined_bytes: sum.undefined_bytes + part.undefined_bytes,
            })
        })
        .await?;
    sink.sync().await?;
    Ok(report)
}

async fn copy_chunk(source: &dyn ImageSource, sink: &dyn ImageSink, offset: u64) -> io::Result<CopyReport> {
    let len_bytes = (source.size_bytes() - offset).min(CHUNK_BYTES as u64);
    let mut report = CopyReport {
        data_bytes: 0,
        zero_bytes: 0,
        undefined_bytes: 0,
    };
    let len = usize::try_from(len_bytes).unwrap_or(CHUNK_BYTES);
    match source.read_content(offset, len).await? {
        Content::Undefined => report.undefined_bytes = len_bytes,
        Content::Zero => {
            sink.zero(offset, len_bytes).await?;
            report.zero_bytes = len_bytes;
        }
        Content::Data(bytes) => {
            sink.write_at(offset, bytes).await?;
            report.data_bytes = len_bytes;
        }
    }
    Ok(report)
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raw => f.write_str("Raw"),
            Self::Luks { .. } => f.write_str("Luks"),
        }
    }
}
