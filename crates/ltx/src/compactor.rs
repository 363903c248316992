//! Merging files of consecutive transactions into one.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{Read, Write},
};

use crate::{
    Checksum, DecodeError, Decoded, Decoder, EncodeError, Encoded, Encoder, FileName, Flags, Header, NodeId,
    PageSize, Pgno, Version,
};

/// Merges `inputs`, files of version 1 in any order, into one that does to a database what they do one after the other.
///
/// Of each page the newest copy is taken. The last file's commit decides the size: what lies beyond is dropped. A page that a
/// file in between cut off does not come back: where the database grew again without writing it, it is zeros, as in
/// the database itself.
///
/// The result has the commit, the time and the post-apply checksum of the last file, the pre-apply checksum of the first,
/// no node and no write-ahead log. `flags` says how it is compressed.
///
/// Memory: for each input a page, and what its decompressor needs; nothing grows with the files.
///
/// # Errors
/// There is no input; one cannot be read or is damaged; page sizes differ; between two transactions or checksums there
/// is a gap; the output fails. What was written by then is no file: it has no trailer.
pub fn compact<R: Read, W: Write>(
    inputs: impl IntoIterator<Item = R>,
    output: W,
    flags: Flags,
) -> Result<Encoded<W>, CompactError> {
    let mut inputs = open(inputs)?;
    let header = merged_header(&inputs, flags)?;
    let mut encoder = Encoder::new(output, header).map_err(CompactError::Output)?;
    merge(&mut inputs, &mut encoder)?;
    let post_apply = finish(inputs)?;
    encoder.finish(post_apply).map_err(CompactError::Output)
}

/// One of the files to merge.
struct Input<R: Read> {
    /// Which one it was among those given.
    position: usize,
    decoder: Decoder<R>,
    /// The page that was read last; its number stands in the heap.
    data: Vec<u8>,
}

impl<R: Read> Input<R> {
    fn header(&self) -> &Header {
        self.decoder.header()
    }

    fn next_page(&mut self) -> Result<Option<Pgno>, CompactError> {
        let position = self.position;
        self.decoder
            .next_page(&mut self.data)
            .map_err(|source| CompactError::Input { position, source })
    }
}

/// Reads the headers and puts the files into the order of their transactions.
fn open<R: Read>(inputs: impl IntoIterator<Item = R>) -> Result<Vec<Input<R>>, CompactError> {
    let mut opened = Vec::new();
    for (position, input) in inputs.into_iter().enumerate() {
        let decoder =
            Decoder::new(input, Version::V1).map_err(|source| CompactError::Input { position, source })?;
        opened.push(Input {
            position,
            decoder,
            data: Vec::new(),
        });
    }
    opened.sort_by_key(|input| input.header().min_txid);
    Ok(opened)
}

/// Returns the header of the merged file, if the files follow upon each other.
fn merged_header<R: Read>(inputs: &[Input<R>], flags: Flags) -> Result<Header, CompactError> {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        return Err(CompactError::NoInput);
    };
    for pair in inputs.windows(2) {
        let (before, after) = (pair[0].header(), pair[1].header());
        if before.page_size != after.page_size {
            return Err(CompactError::PageSizes {
                before: before.file_name(),
                before_bytes: before.page_size,
                after: after.file_name(),
                after_bytes: after.page_size,
            });
        }
        if before.max_txid.next() != Some(after.min_txid) {
            return Err(CompactError::Gap {
                before: before.file_name(),
                after: after.file_name(),
            });
        }
    }
    let (first, last) = (first.header(), last.header());
    Ok(Header {
        flags,
        max_txid: last.max_txid,
        commit_pages: last.commit_pages,
        timestamp_ms: last.timestamp_ms,
        wal: None,
        node: NodeId::NONE,
        ..*first
    })
}

/// Writes the pages of the merged file.
fn merge<R: Read, W: Write>(inputs: &mut [Input<R>], encoder: &mut Encoder<W>) -> Result<(), CompactError> {
    let commits: Vec<u32> = inputs.iter().map(|input| input.header().commit_pages).collect();
    let mut merged = Merged::new(encoder, &commits);
    // The lowest page first, of equal ones that of the newest file.
    let mut heap = BinaryHeap::new();
    for (index, input) in inputs.iter_mut().enumerate() {
        if let Some(pgno) = input.next_page()? {
            heap.push(Reverse((pgno, Reverse(index))));
        }
    }
    while let Some(Reverse((pgno, Reverse(index)))) = heap.pop() {
        merged.zeros_until(u64::from(pgno.get()))?;
        merged.page(pgno, index, &inputs[index].data)?;
        if let Some(next) = inputs[index].next_page()? {
            heap.push(Reverse((next, Reverse(index))));
        }
    }
    merged.zeros_until(u64::MAX)
}

/// The merged file, as its pages come in order, of each the newest copy first.
struct Merged<'a, W: Write> {
    encoder: &'a mut Encoder<W>,
    /// For each input the fewest pages that the database had from then on: its pages beyond were cut off.
    kept: Vec<u32>,
    /// The last page that is settled: written, or never cut off and so as it was.
    settled: u32,
    zeros: Vec<u8>,
}

impl<'a, W: Write> Merged<'a, W> {
    fn new(encoder: &'a mut Encoder<W>, commits: &[u32]) -> Self {
        let mut kept = commits.to_vec();
        let mut fewest = u32::MAX;
        for commit in kept.iter_mut().rev() {
            fewest = fewest.min(*commit);
            *commit = fewest;
        }
        Self {
            zeros: vec![0; encoder.header().page_size.as_usize()],
            encoder,
            kept,
            settled: 0,
        }
    }

    /// Writes a page from the input `index`, unless a newer copy was written or a later file cut it off.
    fn page(&mut self, pgno: Pgno, index: usize, data: &[u8]) -> Result<(), CompactError> {
        if pgno.get() <= self.settled || pgno.get() > self.kept[index] {
            return Ok(());
        }
        self.encoder.page(pgno, data).map_err(CompactError::Output)?;
        self.settled = pgno.get();
        Ok(())
    }

    /// Writes zeros for the pages before `end` that were cut off, are back, and that no file wrote since.
    fn zeros_until(&mut self, end: u64) -> Result<(), CompactError> {
        let header = self.encoder.header();
        let (commit, lock_page) = (header.commit_pages, header.page_size.lock_page());
        let never_cut_off = self.kept.first().copied().unwrap_or(commit);
        let begin = self.settled.max(never_cut_off);
        let last = u32::try_from(end - 1).unwrap_or(u32::MAX).min(commit);
        for pgno in (begin..last).filter_map(|before| Pgno::new(before + 1)) {
            if pgno != lock_page {
                self.encoder
                    .page(pgno, &self.zeros)
                    .map_err(CompactError::Output)?;
            }
            self.settled = pgno.get();
        }
        Ok(())
    }
}

/// Reads the files to their ends and checks that each begins with the checksum that the one before ended with. Returns the
/// last one's.
fn finish<R: Read>(inputs: Vec<Input<R>>) -> Result<Checksum, CompactError> {
    let mut before: Option<Decoded> = None;
    for input in inputs {
        let position = input.position;
        let decoded = input
            .decoder
            .finish()
            .map_err(|source| CompactError::Input { position, source })?;
        if let Some(before) = before
            && before.pos != decoded.header.pre_apply_pos()
        {
            return Err(CompactError::Chain {
                before: before.header.file_name(),
                post_apply: before.trailer.post_apply,
                after: decoded.header.file_name(),
                pre_apply: decoded.header.pre_apply,
            });
        }
        before = Some(decoded);
    }
    before
        .map(|last| last.trailer.post_apply)
        .ok_or(CompactError::NoInput)
}

/// Why files could not be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// There is nothing to merge.
    #[error("no ltx file to merge")]
    NoInput,
    /// A file cannot be read, or is damaged.
    #[error("ltx file number {position} of those to merge")]
    Input {
        /// Which one of those given, from 0.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// Two files do not belong to one database, or its page size changed.
    #[error("{before} with pages of {before_bytes} bytes and {after} with pages of {after_bytes} bytes")]
    PageSizes {
        /// The earlier one.
        before: FileName,
        /// Its page size.
        before_bytes: PageSize,
        /// The later one.
        after: FileName,
        /// Its page size.
        after_bytes: PageSize,
    },
    /// Transactions are missing between two files, or are in both.
    #[error("{after} does not follow upon {before}")]
    Gap {
        /// The earlier one.
        before: FileName,
        /// The later one.
        after: FileName,
    },
    /// Two files follow upon each other by number but not by content.
    #[error("{after} begins with checksum {pre_apply}, but {before} ends with {post_apply}")]
    Chain {
        /// The earlier one.
        before: FileName,
        /// The database's checksum after it.
        post_apply: Checksum,
        /// The later one.
        after: FileName,
        /// The database's checksum before it.
        pre_apply: Checksum,
    },
    /// The merged file cannot be written.
    #[error("the merged ltx file")]
    Output(#[source] EncodeError),
}

#[cfg(test)]
mod tests;
