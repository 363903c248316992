//! What a disk's objects and its journal say, in lines for a person.

use std::fmt::{self, Write as _};

use log_disk::{
    Checkpoint, CheckpointRef, Head, Layout, PAGE_BYTES, Record, RecordKind, Role, Scan, ScanStep, Sealer,
    Superblock, newest_superblock,
};

#[cfg(test)]
mod tests;

/// Prints into a string, which cannot fail.
fn lines(print: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    // A string takes everything.
    let _ = print(&mut out);
    out
}

/// Prints HEAD.
pub fn dump_head(head: &Head) -> String {
    lines(|out| {
        writeln!(out, "HEAD of disk {}", head.disk)?;
        writeln!(
            out,
            "revision {}, epoch {}, size {} blocks",
            head.revision, head.epoch, head.size_blocks
        )?;
        writeln!(out, "claimed from journal {}", hex(&head.owner.0))?;
        writeln!(out, "wrapped key {}", hex(&head.wrapped_key))?;
        match &head.checkpoint {
            Some(reference) => print_reference(out, "checkpoint", reference)?,
            None => writeln!(out, "no checkpoint yet")?,
        }
        for stream in &head.streams {
            writeln!(
                out,
                "stream of epoch {}: objects from {} on, after data object {}, from journal {}",
                stream.epoch,
                stream.begin,
                stream.after,
                hex(&stream.owner.0)
            )?;
        }
        for snapshot in &head.snapshots {
            let what = format!("snapshot {:?} of {} blocks:", snapshot.name, snapshot.size_blocks);
            print_reference(out, &what, &snapshot.checkpoint)?;
        }
        Ok(())
    })
}

fn print_reference(out: &mut String, what: &str, reference: &CheckpointRef) -> fmt::Result {
    writeln!(
        out,
        "{what} {} in c/{:016x}-{:08x}: up to data object {}, {} bytes, {} of them to open it",
        reference.number,
        reference.seq.0,
        reference.epoch.0,
        reference.data_seq,
        reference.total_bytes,
        reference.front_bytes
    )
}

/// Prints the front of a data or GC object.
pub fn dump_object(layout: &Layout) -> String {
    lines(|out| {
        let header = &layout.header;
        writeln!(
            out,
            "{:?} object {} of epoch {}, disk {}",
            header.kind, header.seq, header.epoch, header.disk
        )?;
        writeln!(
            out,
            "after data object {}, journal up to record {}, size of the disk {} blocks",
            header.previous, header.journal_seq, header.size_blocks
        )?;
        writeln!(
            out,
            "{} bytes, {} extents, {} blocks with data",
            layout.total_bytes,
            layout.extents.len(),
            layout.data_blocks()
        )?;
        for extent in &layout.extents {
            write!(out, "{}+{}", extent.lba, extent.blocks)?;
            if extent.is_zero() {
                writeln!(out, " zeros")?;
                continue;
            }
            let stored = extent.stored.end - extent.stored.start;
            write!(out, " in {stored} bytes at {}", extent.stored.start)?;
            if extent.origin.0 == 0 {
                writeln!(out)?;
            } else {
                writeln!(out, ", first written by data object {}", extent.origin)?;
            }
        }
        Ok(())
    })
}

/// Prints the front of a checkpoint.
pub fn dump_checkpoint(checkpoint: &Checkpoint) -> String {
    lines(|out| {
        let header = &checkpoint.header;
        writeln!(
            out,
            "checkpoint {}, object {} of epoch {}, disk {}",
            header.number, header.seq, header.epoch, header.disk
        )?;
        writeln!(
            out,
            "up to data object {}, journal record {}",
            header.data_seq, header.journal_seq
        )?;
        for (leaf, place) in &checkpoint.leaves {
            writeln!(
                out,
                "leaf {leaf} in c/{:016x}-{:08x}: {} bytes at {}",
                place.object.0, place.epoch.0, place.bytes, place.offset
            )?;
        }
        for (seq, facts) in checkpoint.objects.iter() {
            let folder = facts.role.folder();
            write!(
                out,
                "{folder}/{:016x}-{:08x}: {} bytes, ",
                seq.0, facts.epoch.0, facts.bytes
            )?;
            let what = if facts.role == Role::Checkpoint {
                "leaves"
            } else {
                "blocks"
            };
            write!(
                out,
                "{} of {} {what} needed, since checkpoint {}",
                facts.live, facts.blocks, facts.born
            )?;
            match facts.dead {
                0 => writeln!(out)?,
                dead => writeln!(out, ", no longer since {dead}")?,
            }
        }
        Ok(())
    })
}

/// Prints a journal: its superblocks, and the records that an owner would replay. `read` returns pages of the ring by position and
/// number, `None` when they cannot be read.
pub fn dump_journal(
    sealer: &Sealer,
    superblocks: [&[u8]; 2],
    read: &mut dyn FnMut(u64, u64) -> Option<Vec<u8>>,
) -> String {
    lines(|out| {
        for (page, bytes) in superblocks.iter().enumerate() {
            match Superblock::decode(bytes) {
                Ok(superblock) => print_superblock(out, page, &superblock)?,
                Err(flaw) => writeln!(out, "page {page}: no superblock: {flaw}")?,
            }
        }
        let superblock = match newest_superblock(superblocks) {
            Ok(superblock) if superblock.disk == sealer.disk() => superblock,
            Ok(superblock) => return writeln!(out, "the journal belongs to disk {}", superblock.disk),
            Err(flaw) => {
                return writeln!(
                    out,
                    "no superblock is sound ({flaw}): what the journal held beyond the bucket is lost"
                );
            }
        };
        let mut scan = Scan::new(&superblock);
        let mut step = scan.begin();
        loop {
            step = match step {
                ScanStep::Read { position, pages } => {
                    let bytes = read(position, pages);
                    if bytes.is_none() {
                        writeln!(out, "pages {position}+{pages} of the ring cannot be read")?;
                    }
                    scan.read(sealer, bytes.as_deref())
                }
                ScanStep::Record(record) => {
                    print_record(out, &record)?;
                    scan.begin()
                }
                ScanStep::End(end) => {
                    writeln!(out, "end at page {} before record {}", end.position, end.seq)?;
                    if end.damaged {
                        writeln!(
                            out,
                            "damaged: records up to {} were durable; keep the slice, and open the disk only if the bucket has them",
                            superblock.durable_seq
                        )?;
                    }
                    return Ok(());
                }
            };
        }
    })
}

fn print_superblock(out: &mut String, page: usize, superblock: &Superblock) -> fmt::Result {
    writeln!(
        out,
        "page {page}: superblock {} of journal {}, disk {}, epoch {}",
        superblock.revision,
        hex(&superblock.journal.0),
        superblock.disk,
        superblock.epoch
    )?;
    if superblock.adopting.0 != 0 {
        writeln!(out, "  about to become epoch {}", superblock.adopting)?;
    }
    writeln!(
        out,
        "  ring of {} pages; needed from record {} at page {} on, durable up to record {}",
        superblock.ring_pages, superblock.tail_seq, superblock.tail_position, superblock.durable_seq
    )
}

fn print_record(out: &mut String, record: &Record) -> fmt::Result {
    let header = &record.header;
    let pages = u64::from(header.pages) + 1;
    write!(
        out,
        "record {} at page {}, {pages} pages, epoch {}:",
        header.seq, header.position, header.epoch
    )?;
    if header.kind == RecordKind::Pad {
        return writeln!(out, " pad of {} bytes", pages * PAGE_BYTES as u64);
    }
    for piece in &record.pieces {
        let zeros = if piece.data.is_some() { "" } else { " zeros" };
        write!(out, " {}+{}{zeros}", piece.lba, piece.blocks)?;
    }
    writeln!(out)
}

fn hex(bytes: &[u8]) -> String {
    lines(|out| bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")))
}
