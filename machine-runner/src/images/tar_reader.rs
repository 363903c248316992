//! Reads the headers of a tar archive without unpacking anything: what each entry is, and where its bytes lie.
//!
//! Header fields are decoded by the `tar` crate. Walking and extended headers are ours, because that crate splits PAX
//! records at line feeds (binary attributes such as `security.capability` contain them) and reads extended headers of
//! any size into memory.

mod pax;
mod sparse;

use std::collections::BTreeMap;
use std::io;

use crashsafe::DiskFile;
use tar::{EntryType, Header};

use crate::erofs::FileTime;

const BLOCK_BYTES: u64 = 512;
/// The largest extended header: long names, attributes.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarEntry {
    /// As written in the archive; nothing about it is checked.
    pub(super) path: Vec<u8>,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: FileTime,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) kind: TarKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TarKind {
    File(Extents),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

/// Where the bytes of a file lie in the archive; what no run covers reads as zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extents {
    pub(super) size_bytes: u64,
    /// Ascending, without overlap.
    pub(super) runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Offset within the file.
    pub(super) at: u64,
    /// Offset within the archive.
    pub(super) source: u64,
    pub(super) len: u64,
}

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The archive's file could not be read.
    #[error("read at byte {at}")]
    Io {
        at: u64,
        #[source]
        source: io::Error,
    },
    /// Something else than a header stands where one must.
    #[error("the header at byte {at} has a wrong checksum")]
    Checksum { at: u64 },
    /// A number that is none, or out of range.
    #[error("the header at byte {at} has no valid {field}")]
    Field { at: u64, field: &'static str },
    /// An extended header is malformed, or larger than 1 MiB.
    #[error("the extended header at byte {at} is malformed or longer than 1 MiB")]
    Extended { at: u64 },
    /// The archive ends within an entry.
    #[error("the archive ends inside the entry at byte {at}")]
    Truncated { at: u64 },
    /// More entries than the limit.
    #[error("the archive has more than {entries_max} entries")]
    TooMany { entries_max: usize },
    /// A kind of entry that no root file system holds.
    #[error("entry {path:?} has the unknown type {entry_type:?}")]
    Type { path: String, entry_type: char },
    /// A sparse file whose map contradicts itself.
    #[error("the sparse file {path:?} has a contradictory map")]
    Sparse { path: String },
}

/// Walks over the entries of an archive.
#[derive(Debug)]
pub(super) struct TarReader<'f> {
    file: &'f dyn DiskFile,
    next_header: u64,
    end: u64,
}

/// Extended headers that apply to the entry after them.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: pax::Records,
}

impl<'f> TarReader<'f> {
    pub(super) fn new(file: &'f dyn DiskFile) -> Result<Self, TarError> {
        let end = file.len().map_err(|source| TarError::Io { at: 0, source })?;
        Ok(Self {
            file,
            next_header: 0,
            end,
        })
    }

    /// Returns the next entry; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut extended = Extended::default();
        loop {
            let at = self.next_header;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size_bytes = or_blank(&header.as_old().size, header.entry_size())
                .map_err(|_| TarError::Field { at, field: "size" })?;
            match header.entry_type() {
                EntryType::XGlobalHeader => self.skip(at, size_bytes)?,
                EntryType::XHeader => {
                    let bytes = self.extended(at, size_bytes)?;
                    extended.pax = pax::parse(&bytes).ok_or(TarError::Extended { at })?;
                }
                EntryType::GNULongName => extended.path = Some(until_nul(self.extended(at, size_bytes)?)),
                EntryType::GNULongLink => extended.link = Some(until_nul(self.extended(at, size_bytes)?)),
                _ => return self.entry(at, &header, size_bytes, extended).map(Some),
            }
        }
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let at = self.next_header;
        if at == self.end {
            return Ok(None);
        }
        if self.end - at < BLOCK_BYTES {
            return Err(TarError::Truncated { at });
        }
        let mut header = Header::new_old();
        self.read(at, header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = bytes[..148]
            .iter()
            .chain(&[b' '; 8])
            .chain(&bytes[156..])
            .map(|byte| u32::from(*byte))
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(TarError::Checksum { at });
        }
        self.next_header = at + BLOCK_BYTES;
        Ok(Some(header))
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), TarError> {
        self.file
            .read_exact_at(buf, at)
            .map_err(|source| TarError::Io { at, source })
    }

    /// Moves on behind the data of the entry whose header is at `at`.
    fn skip(&mut self, at: u64, size_bytes: u64) -> Result<(), TarError> {
        let padded = size_bytes
            .checked_next_multiple_of(BLOCK_BYTES)
            .ok_or(TarError::Truncated { at })?;
        let data_end = self
            .next_header
            .checked_add(size_bytes)
            .filter(|end| *end <= self.end);
        if data_end.is_none() {
            return Err(TarError::Truncated { at });
        }
        // Writers exist that leave out the padding of the last entry.
        self.next_header = (self.next_header + padded).min(self.end);
        Ok(())
    }

    fn extended(&mut self, at: u64, size_bytes: u64) -> Result<Vec<u8>, TarError> {
        if size_bytes > EXTENDED_BYTES_MAX {
            return Err(TarError::Extended { at });
        }
        let start = self.next_header;
        self.skip(at, size_bytes)?;
        let mut bytes = vec![0; usize::try_from(size_bytes).expect("bounded by EXTENDED_BYTES_MAX")];
        self.read(start, &mut bytes)?;
        Ok(bytes)
    }

    fn entry(
        &mut self,
        at: u64,
        header: &Header,
        header_size: u64,
        extended: Extended,
    ) -> Result<TarEntry, TarError> {
        let field = |field| TarError::Field { at, field };
        let Extended { path, link, pax } = extended;
        let stored_bytes = pax.number("size").map_err(field)?.unwrap_or(header_size);
        let old = header.as_old();
        let uid = number(pax.number("uid"), or_blank(&old.uid, header.uid()), "uid").map_err(field)?;
        let gid = number(pax.number("gid"), or_blank(&old.gid, header.gid()), "gid").map_err(field)?;
        let mtime = match pax.time("mtime").map_err(field)? {
            Some(time) => time,
            None => FileTime {
                seconds: header_mtime(header).ok_or_else(|| field("mtime"))?,
                nanoseconds: 0,
            },
        };
        let mode = or_blank(&old.mode, header.mode()).map_err(|_| field("mode"))? & 0o7777;
        let path = pax
            .get("GNU.sparse.name")
            .or_else(|| pax.get("path"))
            .map(<[u8]>::to_vec)
            .or(path)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax
            .get("linkpath")
            .map(<[u8]>::to_vec)
            .or(link)
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let device = || device_number(header).ok_or_else(|| field("device number"));
        let kind = match header.entry_type() {
            // Before POSIX a directory was a file whose name ends with a slash.
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => TarKind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                TarKind::File(self.extents(at, header, &path, &pax, stored_bytes)?)
            }
            EntryType::Directory => TarKind::Directory,
            EntryType::Symlink => TarKind::Symlink(link.ok_or_else(|| field("link target"))?),
            EntryType::Link => TarKind::HardLink(link.ok_or_else(|| field("link target"))?),
            EntryType::Char => device().map(|(major, minor)| TarKind::CharacterDevice { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| TarKind::BlockDevice { major, minor })?,
            EntryType::Fifo => TarKind::Fifo,
            other => {
                let path = String::from_utf8_lossy(&path).into_owned();
                return Err(TarError::Type {
                    path,
                    entry_type: char::from(other.as_byte()),
                });
            }
        };
        self.skip(at, stored_bytes)?;
        let mode = u16::try_from(mode).expect("masked to 12 bits");
        Ok(TarEntry {
            path,
            mode,
            uid,
            gid,
            mtime,
            xattrs: pax.xattrs(),
            kind,
        })
    }

    fn extents(
        &mut self,
        at: u64,
        header: &Header,
        path: &[u8],
        pax: &pax::Records,
        stored_bytes: u64,
    ) -> Result<Extents, TarError> {
        let bad_map = || TarError::Sparse {
            path: String::from_utf8_lossy(path).into_owned(),
        };
        if header.entry_type() == EntryType::GNUSparse {
            let gnu = header.as_gnu().ok_or_else(bad_map)?;
            let mut map: Vec<(u64, u64)> = sparse::pairs(&gnu.sparse).ok_or_else(bad_map)?;
            let mut more = gnu.is_extended();
            while more {
                let mut block = tar::GnuExtSparseHeader::new();
                if self.end - self.next_header < BLOCK_BYTES {
                    return Err(TarError::Truncated { at });
                }
                self.read(self.next_header, block.as_mut_bytes())?;
                self.next_header += BLOCK_BYTES;
                map.extend(sparse::pairs(block.sparse()).ok_or_else(bad_map)?);
                more = block.is_extended();
            }
            let size_bytes = gnu.real_size().map_err(|_| bad_map())?;
            return sparse::extents(&map, size_bytes, self.next_header, stored_bytes).ok_or_else(bad_map);
        }
        if let Some(size_bytes) = pax.sparse_size() {
            let mut data = self.next_header;
            let mut data_bytes = stored_bytes;
            let map = match pax.get("GNU.sparse.map") {
                Some(map) => sparse::parse_list(map).ok_or_else(bad_map)?,
                None => {
                    let mut head =
                        vec![0; usize::try_from(stored_bytes.min(EXTENDED_BYTES_MAX)).expect("bounded")];
                    if self.end - self.next_header < stored_bytes {
                        return Err(TarError::Truncated { at });
                    }
                    self.read(self.next_header, &mut head)?;
                    let (map, map_bytes) = sparse::parse_head(&head).ok_or_else(bad_map)?;
                    data += map_bytes;
                    data_bytes = stored_bytes.checked_sub(map_bytes).ok_or_else(bad_map)?;
                    map
                }
            };
            return sparse::extents(&map, size_bytes, data, data_bytes).ok_or_else(bad_map);
        }
        let whole = Run {
            at: 0,
            source: self.next_header,
            len: stored_bytes,
        };
        let runs = if stored_bytes == 0 {
            Vec::new()
        } else {
            vec![whole]
        };
        Ok(Extents {
            size_bytes: stored_bytes,
            runs,
        })
    }
}

/// A user or group number, from the extended header if it is there.
fn number(
    extended: Result<Option<u64>, &'static str>,
    header: io::Result<u64>,
    field: &'static str,
) -> Result<u32, &'static str> {
    let wide = match extended? {
        Some(value) => value,
        None => header.map_err(|_| field)?,
    };
    u32::try_from(wide).map_err(|_| field)
}

/// The modification time of the header; times before 1970, which only base-256 numbers can express, become 1970.
fn header_mtime(header: &Header) -> Option<u64> {
    let field = &header.as_old().mtime;
    if field[0] == 0xff {
        Some(0)
    } else {
        or_blank(field, header.mtime()).ok()
    }
}

fn device_number(header: &Header) -> Option<(u32, u32)> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        (None, None) => return None,
    };
    let major = or_blank(major, header.device_major().map(Option::unwrap_or_default)).ok()?;
    let minor = or_blank(minor, header.device_minor().map(Option::unwrap_or_default)).ok()?;
    Some((major, minor))
}

/// A field of nothing but blanks is 0, as other readers take it.
fn or_blank<T: Default>(field: &[u8], parsed: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        Ok(T::default())
    } else {
        parsed
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests;
