//! Writing a file of version 1, page by page.

use std::{
    fmt,
    io::{self, Write},
};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use crate::{
    Checksum, Flags, Header, HeaderError, PageOrderError, Pgno, Pos, PostApplyError, Trailer, Version,
    checksum::Running, page_order::PageOrder, part::Part, trailer::check_post_apply,
};

/// Writes one file of version 1: its header, then its pages, then its trailer.
///
/// Memory does not depend on the file's size. Pages are written as they come, with a small write before each: an output
/// whose calls are dear belongs into a [`std::io::BufWriter`]. Nothing is flushed or synced.
///
/// What the format demands is demanded here, so that no file comes to be that a reader would refuse. A refused page
/// leaves the file as it was. After a failed write the file is lost, and every later call says so.
#[derive(Debug)]
pub struct Encoder<W: Write> {
    header: Header,
    body: Body<W>,
    order: PageOrder,
    file: Running,
    /// The checksum of the database that the pages so far make up; of interest for snapshots alone.
    pages: Checksum,
    uncompressed_bytes: u64,
    broken: bool,
}

/// Where the page block goes.
enum Body<W: Write> {
    Plain(W),
    Lz4(Box<FrameEncoder<W>>),
}

/// A file that was written to its end.
#[derive(Debug)]
#[must_use]
pub struct Encoded<W> {
    /// What it was written to.
    pub output: W,
    /// Its trailer.
    pub trailer: Trailer,
    /// The database's position after it.
    pub pos: Pos,
    /// The bytes that it would have uncompressed.
    pub uncompressed_bytes: u64,
}

impl<W: Write> Encoder<W> {
    /// Begins a file with `header`.
    ///
    /// # Errors
    /// The header breaks a rule, or cannot be written.
    pub fn new(mut output: W, header: Header) -> Result<Self, EncodeError> {
        header.check(Version::V1).map_err(EncodeError::Header)?;
        let bytes = header.encode();
        output.write_all(&bytes).map_err(|source| EncodeError::Write {
            part: Part::Header,
            source,
        })?;
        let mut file = Running::new();
        file.update(&bytes);
        let body = if header.flags.contains(Flags::LZ4) {
            Body::Lz4(Box::new(FrameEncoder::with_frame_info(frame_info(), output)))
        } else {
            Body::Plain(output)
        };
        Ok(Self {
            body,
            order: PageOrder::new(&header),
            file,
            pages: Checksum::EMPTY_DATABASE,
            uncompressed_bytes: bytes.len() as u64,
            broken: false,
            header,
        })
    }

    /// Returns the header that the file began with.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Writes a page.
    ///
    /// * `pgno`: higher than the page before; for a snapshot the very next one, the lock page left out.
    /// * `data`: exactly a page.
    ///
    /// # Errors
    /// The page may not stand here, is not a page long, or cannot be written.
    pub fn page(&mut self, pgno: Pgno, data: &[u8]) -> Result<(), EncodeError> {
        self.refuse_if_broken()?;
        if data.len() != self.header.page_size.as_usize() {
            return Err(EncodeError::PageBytes {
                pgno,
                bytes: data.len(),
                page_bytes: self.header.page_size.bytes(),
            });
        }
        self.order.admit(pgno).map_err(EncodeError::Page)?;
        self.write(Part::Page(pgno), &pgno.get().to_be_bytes())?;
        self.write(Part::Page(pgno), data)?;
        if self.header.is_snapshot() {
            self.pages = self.pages.toggle(Checksum::of_page(pgno, data));
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// * `post_apply`: the database's checksum after the file; for a snapshot that of its pages, for a deletion
    ///   [`Checksum::EMPTY_DATABASE`].
    ///
    /// # Errors
    /// A snapshot lacks pages, the checksum is not what the pages say, or the end cannot be written.
    pub fn finish(mut self, post_apply: Checksum) -> Result<Encoded<W>, EncodeError> {
        self.refuse_if_broken()?;
        self.order.end().map_err(EncodeError::Page)?;
        check_post_apply(&self.header, post_apply, self.pages).map_err(EncodeError::PostApply)?;
        self.write(Part::PageEnd, &[0; 4])?;
        self.file.update(&post_apply.bits().to_be_bytes());
        let trailer = Trailer {
            post_apply,
            file: self.file.checksum(),
        };
        let bytes = trailer.encode();
        let end = |part| move |source| EncodeError::Write { part, source };
        let mut output = match self.body {
            Body::Plain(output) => output,
            Body::Lz4(frame) => frame
                .finish()
                .map_err(io::Error::from)
                .map_err(end(Part::PageEnd))?,
        };
        output.write_all(&bytes).map_err(end(Part::Trailer))?;
        Ok(Encoded {
            output,
            trailer,
            pos: Pos {
                txid: self.header.max_txid,
                checksum: post_apply,
            },
            uncompressed_bytes: self.uncompressed_bytes + bytes.len() as u64,
        })
    }

    fn refuse_if_broken(&self) -> Result<(), EncodeError> {
        if self.broken {
            return Err(EncodeError::Broken);
        }
        Ok(())
    }

    fn write(&mut self, part: Part, bytes: &[u8]) -> Result<(), EncodeError> {
        let written = match &mut self.body {
            Body::Plain(output) => output.write_all(bytes),
            Body::Lz4(frame) => frame.write_all(bytes),
        };
        written.map_err(|source| {
            self.broken = true;
            EncodeError::Write { part, source }
        })?;
        self.file.update(bytes);
        self.uncompressed_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// The frame as LiteFS writes it; its first seven bytes are always the same.
fn frame_info() -> FrameInfo {
    FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB)
        .content_checksum(true)
}

impl<W: Write> fmt::Debug for Body<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Lz4(_) => "Lz4",
        })
    }
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The header breaks a rule.
    #[error("the header of an ltx file")]
    Header(#[source] HeaderError),
    /// A page may not stand here, or some are missing at the end.
    #[error("the pages of an ltx file")]
    Page(#[source] PageOrderError),
    /// The data is not a page.
    #[error("page {pgno} of {bytes} bytes, a page has {page_bytes}")]
    PageBytes {
        /// The page.
        pgno: Pgno,
        /// What was given.
        bytes: usize,
        /// What the header says.
        page_bytes: u32,
    },
    /// The database's checksum cannot be right.
    #[error("the end of an ltx file")]
    PostApply(#[source] PostApplyError),
    /// The output took less than the file.
    #[error("write {part} of an ltx file")]
    Write {
        /// What was being written.
        part: Part,
        /// What the output said.
        #[source]
        source: io::Error,
    },
    /// A write failed before.
    #[error("the ltx file was given up after a failed write")]
    Broken,
}

#[cfg(test)]
mod tests;
