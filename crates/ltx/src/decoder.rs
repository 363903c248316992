//! Reading a file of any version, page by page.

mod error;

pub use error::DecodeError;

use std::{
    fmt,
    io::{self, Read},
};

use lz4_flex::frame::FrameDecoder;

use crate::{
    Checksum, Flags, HEADER_BYTES, Header, Pgno, Pos, TRAILER_BYTES, Trailer, Version, checksum::Running,
    fields::Fields, index::ExpectedIndex, page_order::PageOrder, part::Part, source::Source,
    trailer::check_post_apply,
};

/// Bytes of the page index that are looked at in one go.
const INDEX_CHUNK_BYTES: usize = 4096;

/// Bytes of a page's header in version 3.
const FRAME_HEADER_BYTES: usize = 6;
/// Page flag of version 3: how many bytes the page has in the file stands before them.
const COUNTED: u16 = 1;

/// Reads one file: its header, then its pages, then its trailer.
///
/// Pages are handed out before the file's checksum was seen: nothing may rest on them until [`Decoder::finish`] has
/// returned. Memory does not depend on the file, but for its page size and at most 17 MiB for LZ4 frames of a maker that
/// chose the largest blocks.
///
/// Nothing is read beyond the file, apart from the look whether anything follows. An input whose calls are dear belongs
/// into a [`std::io::BufReader`].
#[derive(Debug)]
pub struct Decoder<R: Read> {
    header: Header,
    body: Body<R>,
    order: PageOrder,
    file: Running,
    /// The checksum of the database that the pages so far make up; of interest for snapshots alone.
    pages: Checksum,
    page_count: u64,
    state: State,
}

/// The form of the page block.
enum Body<R: Read> {
    /// Version 1, not compressed.
    Plain(Source<R>),
    /// Version 1, compressed.
    Lz4(Box<FrameDecoder<Source<R>>>),
    /// Version 3.
    Frames(Box<Frames<R>>),
}

/// Pages of version 3, each compressed on its own.
struct Frames<R> {
    source: Source<R>,
    index: ExpectedIndex,
    compressed: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pages,
    Ended,
    Broken,
}

/// A file that was read to its end and is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Decoded {
    /// Its header.
    pub header: Header,
    /// Its trailer.
    pub trailer: Trailer,
    /// The database's position after it.
    pub pos: Pos,
    /// How many pages it has.
    pub page_count: u64,
}

/// Reads a file to its end and drops its pages.
///
/// # Errors
/// It cannot be read, or breaks a rule of its version.
pub fn verify<R: Read>(input: R, version: Version) -> Result<Decoded, DecodeError> {
    Decoder::new(input, version)?.finish()
}

impl<R: Read> Decoder<R> {
    /// Begins with a file's header.
    ///
    /// # Errors
    /// It cannot be read, or breaks a rule of its version.
    pub fn new(input: R, version: Version) -> Result<Self, DecodeError> {
        let mut source = Source::new(input);
        let mut bytes = [0; HEADER_BYTES];
        source
            .read_exact(&mut bytes)
            .map_err(|error| DecodeError::read(Part::Header, source.offset(), error))?;
        let header = Header::decode(&bytes, version).map_err(DecodeError::Header)?;
        let mut file = Running::new();
        file.update(&bytes);
        let body = match version {
            Version::V1 if header.flags.contains(Flags::LZ4) => {
                Body::Lz4(Box::new(FrameDecoder::new(source)))
            }
            Version::V1 => Body::Plain(source),
            Version::V3 => Body::Frames(Box::new(Frames {
                source,
                index: ExpectedIndex::new(),
                compressed: Vec::new(),
            })),
        };
        Ok(Self {
            body,
            order: PageOrder::new(&header),
            file,
            pages: Checksum::EMPTY_DATABASE,
            page_count: 0,
            state: State::Pages,
            header,
        })
    }

    /// Returns the file's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next page into `data`, which then has its length, and returns its number; nothing after the last.
    ///
    /// # Errors
    /// The input fails or ends, or the page breaks a rule. The decoder is of no use then.
    pub fn next_page(&mut self, data: &mut Vec<u8>) -> Result<Option<Pgno>, DecodeError> {
        match self.state {
            State::Pages => {}
            State::Ended => return Ok(None),
            State::Broken => return Err(DecodeError::Broken),
        }
        self.state = State::Broken;
        data.resize(self.header.page_size.as_usize(), 0);
        let page = self.read_page(data)?;
        let Some(pgno) = page else {
            self.state = State::Ended;
            return Ok(None);
        };
        if self.header.is_snapshot() && self.header.has_checksums() {
            self.pages = self.pages.toggle(Checksum::of_page(pgno, data));
        }
        self.page_count += 1;
        self.state = State::Pages;
        Ok(Some(pgno))
    }

    /// Reads what is left of the file and checks it as a whole. The input must end with it.
    ///
    /// # Errors
    /// The input fails, or the file breaks a rule: pages out of order or missing, a checksum that differs, bytes behind it.
    pub fn finish(mut self) -> Result<Decoded, DecodeError> {
        let mut data = Vec::new();
        while self.next_page(&mut data)?.is_some() {}
        let (source, index) = match &mut self.body {
            Body::Plain(source) => (source, None),
            Body::Lz4(frame) => (frame.get_mut(), None),
            Body::Frames(frames) => (&mut frames.source, Some(frames.index.clone())),
        };
        if let Some(index) = index {
            read_index(source, index, &mut self.file)?;
        }
        let mut bytes = [0; TRAILER_BYTES];
        read(source, Part::Trailer, &mut bytes)?;
        let trailer = Trailer::decode(&bytes);
        self.file.update(&trailer.post_apply.bits().to_be_bytes());
        let computed = self.file.checksum();
        if computed != trailer.file {
            let stored = trailer.file;
            return Err(DecodeError::FileChecksum { stored, computed });
        }
        check_post_apply(&self.header, trailer.post_apply, self.pages).map_err(DecodeError::PostApply)?;
        refuse_more(source)?;
        Ok(Decoded {
            header: self.header,
            trailer,
            pos: Pos {
                txid: self.header.max_txid,
                checksum: trailer.post_apply,
            },
            page_count: self.page_count,
        })
    }

    fn read_page(&mut self, data: &mut [u8]) -> Result<Option<Pgno>, DecodeError> {
        let Self {
            body, order, file, ..
        } = self;
        match body {
            Body::Plain(source) => {
                let offset = source.offset();
                let Some(pgno) = read_page_number(source, offset, file)? else {
                    return end(order, offset).map(|()| None);
                };
                admit(order, pgno, offset)?;
                read(source, Part::Page(pgno), data)?;
                file.update(data);
                Ok(Some(pgno))
            }
            Body::Lz4(frame) => {
                let offset = frame.get_ref().offset();
                let Some(pgno) = read_page_number(frame, offset, file)? else {
                    let offset = end_frame(frame, Part::PageEnd, Source::offset)?;
                    return end(order, offset).map(|()| None);
                };
                admit(order, pgno, offset)?;
                frame
                    .read_exact(data)
                    .map_err(|error| DecodeError::read(Part::Page(pgno), frame.get_ref().offset(), error))?;
                file.update(data);
                Ok(Some(pgno))
            }
            Body::Frames(frames) => frames.read_page(data, order, file),
        }
    }
}

impl<R: Read> Frames<R> {
    fn read_page(
        &mut self,
        data: &mut [u8],
        order: &mut PageOrder,
        file: &mut Running,
    ) -> Result<Option<Pgno>, DecodeError> {
        let offset = self.source.offset();
        let mut bytes = [0; FRAME_HEADER_BYTES];
        read(&mut self.source, Part::PageHeader, &mut bytes)?;
        file.update(&bytes);
        let mut fields = Fields::new(&bytes);
        let (number, flags) = (fields.u32(), fields.u16());
        if flags & !COUNTED != 0 || (number == 0 && flags != 0) {
            return Err(DecodeError::PageFlags { offset, flags });
        }
        let Some(pgno) = Pgno::new(number) else {
            return end(order, offset).map(|()| None);
        };
        admit(order, pgno, offset)?;
        if flags == COUNTED {
            self.read_counted(pgno, data, file)?;
        } else {
            let mut frame = FrameDecoder::new(&mut self.source);
            frame
                .read_exact(data)
                .map_err(|error| DecodeError::read(Part::Page(pgno), frame.get_ref().offset(), error))?;
            end_frame(&mut frame, Part::Page(pgno), |source| source.offset())?;
        }
        file.update(data);
        self.index.enter(pgno, offset, self.source.offset() - offset);
        Ok(Some(pgno))
    }

    /// Reads a page as one LZ4 block behind its length.
    fn read_counted(&mut self, pgno: Pgno, data: &mut [u8], file: &mut Running) -> Result<(), DecodeError> {
        let mut bytes = [0; size_of::<u32>()];
        read(&mut self.source, Part::Page(pgno), &mut bytes)?;
        file.update(&bytes);
        let stored = u32::from_be_bytes(bytes);
        let offset = self.source.offset();
        let stored_max = stored_bytes_max(data.len());
        let length = usize::try_from(stored)
            .ok()
            .filter(|length| *length <= stored_max);
        let Some(length) = length else {
            return Err(DecodeError::StoredPage { pgno, offset, stored });
        };
        self.compressed.resize(length, 0);
        read(&mut self.source, Part::Page(pgno), &mut self.compressed)?;
        let page_bytes = data.len();
        match lz4_flex::block::decompress_into(&self.compressed, data) {
            Ok(bytes) if bytes == page_bytes => Ok(()),
            Ok(bytes) => Err(DecodeError::ShortPage { pgno, offset, bytes }),
            Err(error) => Err(DecodeError::Lz4 {
                part: Part::Page(pgno),
                offset,
                source: io::Error::new(io::ErrorKind::InvalidData, error),
            }),
        }
    }
}

/// What LZ4 makes of a page at worst; anything longer is no page.
const fn stored_bytes_max(page_bytes: usize) -> usize {
    page_bytes + page_bytes / 255 + 16
}

fn admit(order: &mut PageOrder, pgno: Pgno, offset: u64) -> Result<(), DecodeError> {
    order
        .admit(pgno)
        .map_err(|source| DecodeError::Page { offset, source })
}

fn end(order: &PageOrder, offset: u64) -> Result<(), DecodeError> {
    order.end().map_err(|source| DecodeError::Page { offset, source })
}

/// Reads the number before a page of version 1; nothing where the pages end.
fn read_page_number(
    input: &mut impl Read,
    offset: u64,
    file: &mut Running,
) -> Result<Option<Pgno>, DecodeError> {
    let mut bytes = [0; size_of::<u32>()];
    input
        .read_exact(&mut bytes)
        .map_err(|error| DecodeError::read(Part::PageHeader, offset, error))?;
    file.update(&bytes);
    Ok(Pgno::new(u32::from_be_bytes(bytes)))
}

fn read<R: Read>(source: &mut Source<R>, part: Part, bytes: &mut [u8]) -> Result<(), DecodeError> {
    source
        .read_exact(bytes)
        .map_err(|error| DecodeError::read(part, source.offset(), error))
}

/// Makes the frame's decoder take its end mark and look at its checksum. Returns the offset behind it.
///
/// Called before the decoder has said that it is through, so it does not look for another frame.
fn end_frame<S: Read>(
    frame: &mut FrameDecoder<S>,
    part: Part,
    offset: impl FnOnce(&S) -> u64,
) -> Result<u64, DecodeError> {
    let read = frame.read(&mut [0]);
    let offset = offset(frame.get_ref());
    match read {
        Ok(0) => Ok(offset),
        Ok(_) => Err(DecodeError::FrameEnd { part, offset }),
        Err(error) => Err(DecodeError::read(part, offset, error)),
    }
}

/// Reads the page index and compares it with what the pages ask for.
fn read_index<R: Read>(
    source: &mut Source<R>,
    index: ExpectedIndex,
    file: &mut Running,
) -> Result<(), DecodeError> {
    let offset = source.offset();
    let (mut left, expected) = index.end();
    let mut found = Running::new();
    let mut chunk = [0; INDEX_CHUNK_BYTES];
    while left > 0 {
        let length = usize::try_from(left).map_or(INDEX_CHUNK_BYTES, |left| left.min(INDEX_CHUNK_BYTES));
        let bytes = &mut chunk[..length];
        read(source, Part::Index, bytes)?;
        found.update(bytes);
        file.update(bytes);
        left -= length as u64;
    }
    if found.checksum() == expected {
        Ok(())
    } else {
        Err(DecodeError::Index { offset })
    }
}

fn refuse_more<R: Read>(source: &mut Source<R>) -> Result<(), DecodeError> {
    let offset = source.offset();
    let mut byte = [0];
    match source.read_exact(&mut byte) {
        Ok(()) => Err(DecodeError::TrailingBytes { offset }),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(DecodeError::read(Part::Trailer, offset, error)),
    }
}

impl<R: Read> fmt::Debug for Body<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Lz4(_) => "Lz4",
            Self::Frames(_) => "Frames",
        })
    }
}

#[cfg(test)]
mod tests;
