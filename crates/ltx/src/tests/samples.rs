//! Files and databases that tests share.

use std::collections::BTreeMap;

use crate::{
    Checksum, DecodeError, Decoded, Decoder, Encoder, Flags, Header, NodeId, PageSize, Pgno, Txid, Version,
};

/// The recorded file `name`; `tests/fixtures/README.md` says where they come from.
macro_rules! recorded {
    ($name:literal) => {
        $crate::tests::samples::unhex(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/",
            $name,
            ".hex"
        )))
    };
}
pub(crate) use recorded;

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.replace('\n', "")).unwrap()
}

pub(crate) fn pgno(number: u32) -> Pgno {
    Pgno::new(number).unwrap()
}

/// The bytes that recorded files have for a page that a transaction wrote.
pub(crate) fn recorded_page(number: u32, txid: u64, page_bytes: usize) -> Vec<u8> {
    let byte = |at: usize| (u64::from(number) * 31 + txid * 17 + (at / 7) as u64).to_le_bytes()[0];
    (0..page_bytes).map(byte).collect()
}

/// A header of one change of a database, with pages of 512 bytes.
pub(crate) fn change(commit_pages: u32) -> Header {
    Header {
        flags: Flags::NONE,
        page_size: PageSize::MIN,
        commit_pages,
        min_txid: Txid::new(8),
        max_txid: Txid::new(8),
        timestamp_ms: 1_700_000_000_000,
        pre_apply: Checksum::EMPTY_DATABASE,
        wal: None,
        node: NodeId::new(9),
    }
}

/// A header of a whole database.
pub(crate) fn snapshot(commit_pages: u32) -> Header {
    Header {
        min_txid: Txid::FIRST,
        pre_apply: Checksum::NONE,
        ..change(commit_pages)
    }
}

/// Pages by number.
pub(crate) type Pages = BTreeMap<u32, Vec<u8>>;

pub(crate) fn encode(header: Header, pages: &Pages, post_apply: Checksum) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    for (number, data) in pages {
        encoder.page(pgno(*number), data).unwrap();
    }
    encoder.finish(post_apply).unwrap().output
}

pub(crate) fn decode(file: &[u8], version: Version) -> Result<(Pages, Decoded), DecodeError> {
    let mut decoder = Decoder::new(file, version)?;
    let mut pages = Pages::new();
    let mut data = Vec::new();
    while let Some(pgno) = decoder.next_page(&mut data)? {
        pages.insert(pgno.get(), data.clone());
    }
    Ok((pages, decoder.finish()?))
}

pub(crate) fn checksum(pages: &Pages) -> Checksum {
    pages
        .iter()
        .map(|(number, data)| Checksum::of_page(pgno(*number), data))
        .fold(Checksum::EMPTY_DATABASE, Checksum::toggle)
}

/// A database that transactions happen to, as SQLite's file would see them.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    page_size: PageSize,
    txid: Txid,
    /// Every page, from 1.
    pages: Pages,
    exists: bool,
}

impl Database {
    pub(crate) fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            txid: Txid::ZERO,
            pages: Pages::new(),
            exists: false,
        }
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(crate) fn checksum(&self) -> Checksum {
        if self.exists {
            checksum(&self.pages)
        } else {
            Checksum::NONE
        }
    }

    /// Makes it `commit_pages` long, with zeros where it grows, and overwrites `changed`. Returns the header of a file of
    /// this transaction.
    pub(crate) fn commit(&mut self, commit_pages: u32, changed: &Pages) -> Header {
        let pre_apply = self.checksum();
        self.txid = self.txid.next().unwrap();
        self.set(commit_pages, changed);
        Header {
            page_size: self.page_size,
            min_txid: self.txid,
            max_txid: self.txid,
            pre_apply,
            ..change(commit_pages)
        }
    }

    /// Does to the database what a file says.
    pub(crate) fn apply(&mut self, file: &[u8]) {
        let (pages, decoded) = decode(file, Version::V1).unwrap();
        assert_eq!(decoded.header.pre_apply, self.checksum());
        self.txid = decoded.header.max_txid;
        self.set(decoded.header.commit_pages, &pages);
        assert_eq!(decoded.trailer.post_apply, self.checksum());
    }

    fn set(&mut self, commit_pages: u32, changed: &Pages) {
        self.exists = true;
        self.pages.retain(|number, _| *number <= commit_pages);
        for number in 1..=commit_pages {
            let zeros = || vec![0; self.page_size.as_usize()];
            self.pages.entry(number).or_insert_with(zeros);
        }
        self.pages
            .extend(changed.iter().map(|(number, data)| (*number, data.clone())));
    }
}
