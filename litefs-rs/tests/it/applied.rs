//! A copy of a database, made of nothing but its LTX files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ltx::{Checksum, Decoder, FileName, PageSize, Pgno, Pos, Txid, Version};

/// What one gets who applies every transaction in its order.
#[derive(Debug)]
pub(crate) struct Applied {
    directory: PathBuf,
    pub(crate) pos: Pos,
    pub(crate) page_size: Option<PageSize>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) files: usize,
    /// Everywhere it was.
    pub(crate) positions: BTreeMap<Txid, Checksum>,
}

impl Applied {
    pub(crate) fn new(database_directory: &Path) -> Self {
        Self {
            directory: database_directory.join("ltx"),
            pos: Pos::ZERO,
            page_size: None,
            bytes: Vec::new(),
            files: 0,
            positions: BTreeMap::new(),
        }
    }

    /// Applies the files that were added, each of which must follow upon the one before.
    pub(crate) fn catch_up(&mut self) {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<FileName> = names
            .map(|name| name.parse().expect("nothing else is left"))
            .collect();
        names.sort();
        names.retain(|name| name.max > self.pos.txid);
        for name in names {
            self.apply(name);
        }
    }

    fn apply(&mut self, name: FileName) {
        let file = std::fs::read(self.directory.join(name.to_string())).unwrap();
        let mut decoder = Decoder::new(&file[..], Version::V1).unwrap();
        let header = *decoder.header();
        let before = header.pre_apply_pos();
        // Of a change of the page size the first file, a deletion, may be missing: the second holds every page.
        let anew = before.checksum == Checksum::EMPTY_DATABASE && Some(before.txid) == self.pos.txid.next();
        assert!(
            before == self.pos || anew,
            "{name} follows upon {before}, not upon {}",
            self.pos
        );
        if anew {
            self.bytes.clear();
        }
        let page_bytes = header.page_size.as_usize();
        let mut page = Vec::new();
        if self.page_size.is_some_and(|before| before != header.page_size) {
            assert!(
                self.bytes.is_empty(),
                "pages change their size only when there are none"
            );
        }
        self.bytes.resize(header.commit_pages as usize * page_bytes, 0);
        while let Some(pgno) = decoder.next_page(&mut page).unwrap() {
            let at = (pgno.get() as usize - 1) * page_bytes;
            self.bytes[at..at + page_bytes].copy_from_slice(&page);
        }
        self.pos = decoder.finish().unwrap().pos;
        self.page_size = Some(header.page_size);
        self.files += 1;
        self.positions.insert(self.pos.txid, self.pos.checksum);
        assert_eq!(
            self.pos.checksum,
            checksum(&self.bytes, header.page_size),
            "after {name}"
        );
    }
}

/// Computes a database's checksum from all its pages.
pub(crate) fn checksum(bytes: &[u8], page_size: PageSize) -> Checksum {
    let pages = (1..).zip(bytes.chunks(page_size.as_usize()));
    pages.fold(Checksum::EMPTY_DATABASE, |database, (number, page)| {
        let pgno = Pgno::new(number).unwrap();
        if pgno == page_size.lock_page() {
            database
        } else {
            database.toggle(Checksum::of_page(pgno, page))
        }
    })
}
