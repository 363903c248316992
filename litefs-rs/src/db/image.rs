//! A file of SQLite that becomes a database.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
};

use bytes::Buf as _;
use ltx::{Checksum, DecodeError, EncodeError, Encoder, PageSize, Pgno};

use super::{
    capture::in_database,
    checksum::PageChecksums,
    commit::CommitError,
    files::{FileKind, Files as _},
    handle::Database,
    page::{DatabaseHeader, DatabaseHeaderError, HEADER_BYTES},
};

/// Where the counter of changes stands in the first page.
const CHANGE: usize = 24;
/// Where the count of pages does.
const PAGES: usize = 28;
/// Where the counter of changes of the schema does.
const SCHEMA: usize = 40;
/// Where the counter of changes is repeated, as of when pages were counted.
const COUNTED: usize = 92;

/// A file of SQLite, its log in it.
#[derive(Debug)]
pub struct Image {
    file: File,
    page_size: PageSize,
    pages: u32,
}

impl Image {
    /// Looks at a file.
    ///
    /// # Errors
    /// It is no database.
    pub fn open(file: File) -> Result<Self, ImageError> {
        let mut header = [0; HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ImageError::Header(DatabaseHeaderError::Magic));
            }
            Err(error) => return Err(error.into()),
        }
        let header = DatabaseHeader::decode(&header)?;
        let pages = header.pages(file.metadata()?.len())?;
        Ok(Self {
            file,
            page_size: header.page_size,
            pages,
        })
    }
}

impl Database {
    /// Writes the transaction that makes this database be like an image. The caller holds the [whole](Self::lock_whole)
    /// database.
    ///
    /// Whoever has the database open reads its schema anew: its counters go on from those that the database had.
    ///
    /// # Errors
    /// The image cannot be read or the transaction written; or pages of the database have another size.
    pub fn import<W: Write>(&self, image: &mut Image, out: W) -> Result<W, ImageError> {
        if let Some(ours) = self.history.page_size()
            && ours != image.page_size
        {
            return Err(ImageError::PageSize {
                ours,
                theirs: image.page_size,
            });
        }
        let header = self
            .node
            .origin()
            .header(self.history.pos(), image.page_size, image.pages)?;
        let mut encoder = Encoder::new(out, header)?;
        let mut page = vec![0; image.page_size.as_usize()];
        let mut checksums = Vec::new();
        for pgno in (1..=image.pages).filter_map(Pgno::new) {
            let offset = in_database(image.page_size, pgno).offset;
            image.file.read_exact_at(&mut page, offset)?;
            if pgno == Pgno::FIRST {
                self.go_on_counting(&mut page, image.pages)?;
            }
            checksums.push(Checksum::of_page(pgno, &page));
            if pgno != image.page_size.lock_page() {
                encoder.page(pgno, &page)?;
            }
        }
        let after = PageChecksums::of(image.page_size, checksums).database();
        Ok(encoder.finish(after)?.output)
    }

    fn go_on_counting(&self, first: &mut [u8], pages: u32) -> io::Result<()> {
        let mut ours = [0; HEADER_BYTES];
        if self.files.read_at(FileKind::Database, &mut ours, 0)? < HEADER_BYTES {
            return Ok(());
        }
        for at in [CHANGE, SCHEMA] {
            let [before, theirs] = [&ours[..], first].map(|header| (&header[at..]).get_u32());
            let next = before.max(theirs).wrapping_add(1);
            first[at..at + 4].copy_from_slice(&next.to_be_bytes());
        }
        let change: [u8; 4] = [
            first[CHANGE],
            first[CHANGE + 1],
            first[CHANGE + 2],
            first[CHANGE + 3],
        ];
        // With both alike the count of pages is believed.
        first[COUNTED..COUNTED + 4].copy_from_slice(&change);
        first[PAGES..PAGES + 4].copy_from_slice(&pages.to_be_bytes());
        Ok(())
    }
}

/// Why a file did not become a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is no database.
    #[error("import")]
    Header(#[from] DatabaseHeaderError),
    /// The database has pages of another size.
    #[error("an import with pages of {theirs} bytes over a database with pages of {ours}; drop that first")]
    PageSize {
        /// The database's.
        ours: PageSize,
        /// The file's.
        theirs: PageSize,
    },
    /// It cannot be read.
    #[error("import")]
    Disk(#[from] io::Error),
    /// No transaction can follow.
    #[error("import")]
    Commit(#[from] CommitError),
    /// The transaction cannot be written.
    #[error("write the transaction of an import")]
    Encode(#[from] EncodeError),
    /// The transaction cannot be read again.
    #[error("read the transaction of an import")]
    Decode(#[from] DecodeError),
}
