//! Decompresses a layer to disk, checking its digests and the limits on the way.

use std::io::{self, Read};
use std::path::Path;

use crashsafe::{Disk, DiskFile, OpenOptions};

use super::ImportError;
use super::digest::{Digest, DigestReader};
use super::source::Blob;

const STEP_BYTES: usize = 1 << 20;
const MAGIC_GZIP: [u8; 2] = [0x1f, 0x8b];
const MAGIC_ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a layer must turn out to be.
#[derive(Debug)]
pub(super) struct Expected {
    /// Digest of the blob as stored.
    pub(super) blob: Digest,
    /// Digest of the archive within, where the configuration states it.
    pub(super) diff_id: Option<Digest>,
}

/// A number of bytes that an image may use up.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    left_bytes: u64,
}

impl Budget {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            left_bytes: limit_bytes,
        }
    }

    /// Takes `bytes` off.
    ///
    /// # Errors
    /// `TooLarge` when fewer are left.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), ImportError> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or(ImportError::TooLarge {
            limit_bytes: self.limit_bytes,
        })?;
        Ok(())
    }
}

/// Writes the archive within `blob` to `path`, and returns the open file.
///
/// * `budget`: what all layers together may unpack to; shrinks by this one.
/// * `on_bytes`: called now and then with the bytes unpacked so far.
///
/// # Errors
/// `Corrupt` when a digest does not match, `TooLarge` past the limit, `Decompress` for damaged streams.
pub(super) fn spool(
    disk: &dyn Disk,
    path: &Path,
    blob: &Blob,
    expected: &Expected,
    budget: &mut Budget,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Box<dyn DiskFile>, ImportError> {
    let digest = expected.blob;
    let decompress = |source| ImportError::Decompress { digest, source };
    let write = |source| ImportError::Write {
        path: path.to_owned(),
        source,
    };

    let mut magic = [0; 4];
    let mut head = blob.reader().take(4);
    let magic_len = read_full(&mut head, &mut magic).map_err(decompress)?;
    let mut stored = DigestReader::new(blob.reader());
    let file = disk
        .open("images:spool", path, OpenOptions::CREATE_NEW)
        .map_err(write)?;
    let archive_digest = {
        let reader: Box<dyn Read + '_> = if magic.starts_with(&MAGIC_GZIP) {
            Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(&mut stored)))
        } else if magic_len == 4 && magic == MAGIC_ZSTD {
            Box::new(zstd::stream::read::Decoder::new(&mut stored).map_err(decompress)?)
        } else {
            Box::new(&mut stored)
        };
        copy(reader, &*file, budget, on_bytes, decompress, write)
    };
    // A damaged blob is reported as such, not as what its decompression stumbled over.
    let (actual, _) = stored.finish().map_err(decompress)?;
    if actual != digest && !matches!(archive_digest, Err(ImportError::TooLarge { .. })) {
        return Err(ImportError::Corrupt { digest, actual });
    }
    let archive_digest = archive_digest?;
    match expected.diff_id {
        Some(diff_id) if diff_id != archive_digest => Err(ImportError::Corrupt {
            digest: diff_id,
            actual: archive_digest,
        }),
        Some(_) | None => Ok(file),
    }
}

fn copy(
    reader: impl Read,
    file: &dyn DiskFile,
    budget: &mut Budget,
    on_bytes: &mut dyn FnMut(u64),
    decompress: impl Fn(io::Error) -> ImportError,
    write: impl Fn(io::Error) -> ImportError,
) -> Result<Digest, ImportError> {
    let mut reader = DigestReader::new(reader);
    let mut buffer = vec![0; STEP_BYTES];
    let mut at = 0;
    loop {
        let read = read_full(&mut reader, &mut buffer).map_err(&decompress)?;
        budget.spend(read as u64)?;
        // Runs of zeros stay holes; the length is set at the end.
        if buffer[..read].iter().any(|byte| *byte != 0) {
            file.write_at(&buffer[..read], at).map_err(&write)?;
        }
        at += read as u64;
        on_bytes(at);
        if read < buffer.len() {
            break;
        }
    }
    file.set_len(at).map_err(&write)?;
    reader.finish().map(|(digest, _)| digest).map_err(decompress)
}

/// Reads until the buffer is full or the stream ends.
fn read_full(reader: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match reader.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
