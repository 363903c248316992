//! Writes a planned image, front to back.

use super::directory::{self, Entry};
use super::format::{self, BLOCK, BLOCK_BYTES, Superblock};
use super::plan::{Placed, Plan};
use super::{Contents, InodeId, Kind, Options, Output, Summary, Tree, WriteError};

/// How much is gathered before the output is called: 256 blocks.
const BUFFER_BYTES: usize = 256 * BLOCK;

pub(super) fn emit(
    tree: &Tree,
    options: &Options,
    plan: &Plan,
    contents: &mut dyn Contents,
    output: &mut dyn Output,
) -> Result<Summary, WriteError> {
    let inodes = plan.placed.len() as u64;
    let superblock = Superblock {
        root_node: u16::try_from(plan.placed[0].node()).expect("checked by the plan"),
        inodes,
        build_time: options.build_time,
        blocks: plan.blocks,
        uuid: options.uuid,
    };
    let mut out = Sequential {
        output,
        position: 0,
        pending: Vec::with_capacity(BUFFER_BYTES),
    };
    out.put(&format::first_block(&superblock))?;

    let mut by_offset: Vec<&Placed> = plan.placed.iter().collect();
    by_offset.sort_unstable_by_key(|inode| inode.offset);
    for inode in by_offset {
        out.pad_to(inode.offset)?;
        let mut record = Vec::new();
        format::put_inode(&mut record, &inode.record);
        format::put_xattrs(&mut record, tree.get(inode.id).xattrs.iter());
        out.put(&record)?;
        if inode.tail_bytes() > 0 {
            out.put_data(
                tree,
                plan,
                inode,
                inode.body_bytes(),
                inode.tail_bytes(),
                contents,
            )?;
        }
    }
    out.pad_to(plan.meta_blocks * BLOCK_BYTES)?;
    for inode in &plan.placed {
        if inode.body_bytes() > 0 {
            out.pad_to(u64::from(inode.record.union_field) * BLOCK_BYTES)?;
            out.put_data(tree, plan, inode, 0, inode.body_bytes(), contents)?;
        }
    }
    let size_bytes = u64::from(plan.blocks) * BLOCK_BYTES;
    out.pad_to(size_bytes)?;
    out.flush()?;
    Ok(Summary { size_bytes, inodes })
}

/// The bytes of a directory, with node ids filled in.
fn directory_bytes(tree: &Tree, plan: &Plan, inode: &Placed) -> Vec<u8> {
    let Kind::Directory(children) = &tree.get(inode.id).kind else {
        return Vec::new();
    };
    let entry = |name, id: InodeId| Entry {
        name,
        node: plan.of(id).node(),
        file_type: format::file_type_of(&tree.get(id).kind),
    };
    let mut entries: Vec<Entry<'_>> = children
        .iter()
        .map(|(name, id)| entry(name.as_slice(), *id))
        .collect();
    entries.push(entry(b".", inode.id));
    entries.push(entry(b"..", inode.parent));
    entries.sort_unstable();
    let bytes = directory::encode(&entries);
    assert_eq!(
        bytes.len() as u64,
        inode.record.size_bytes,
        "directory {:?} changed its size",
        inode.name
    );
    bytes
}

/// Gathers bytes in order and leaves out blocks of zeros.
struct Sequential<'o> {
    output: &'o mut dyn Output,
    /// Offset of the first pending byte, a multiple of the block size.
    position: u64,
    pending: Vec<u8>,
}

impl Sequential<'_> {
    fn offset(&self) -> u64 {
        self.position + self.pending.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= BUFFER_BYTES {
            self.write_whole_blocks()
        } else {
            Ok(())
        }
    }

    fn pad_to(&mut self, offset: u64) -> Result<(), WriteError> {
        assert!(
            offset >= self.offset(),
            "records overlap: at {}, next {offset}",
            self.offset()
        );
        let in_block =
            (offset - self.offset()).min(self.offset().next_multiple_of(BLOCK_BYTES) - self.offset());
        self.pending.resize(
            self.pending.len() + usize::try_from(in_block).expect("less than a block"),
            0,
        );
        let whole = (offset - self.offset()) / BLOCK_BYTES * BLOCK_BYTES;
        if whole > 0 {
            self.flush()?;
            self.position += whole;
        }
        let rest = usize::try_from(offset - self.offset()).expect("less than a block");
        self.pending.resize(self.pending.len() + rest, 0);
        Ok(())
    }

    /// Copies `len` bytes of an inode's data from `from` on.
    fn put_data(
        &mut self,
        tree: &Tree,
        plan: &Plan,
        inode: &Placed,
        from: u64,
        len: u64,
        contents: &mut dyn Contents,
    ) -> Result<(), WriteError> {
        let in_memory = |bytes: &[u8]| -> Vec<u8> {
            let start = usize::try_from(from).expect("directories and links fit memory");
            bytes[start..start + usize::try_from(len).expect("the same")].to_vec()
        };
        match &tree.get(inode.id).kind {
            Kind::Directory(_) => self.put(&in_memory(&directory_bytes(tree, plan, inode))),
            Kind::Symlink(target) => self.put(&in_memory(target)),
            Kind::File { .. } => self.put_file(inode, from, len, contents),
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo | Kind::Socket => Ok(()),
        }
    }

    fn put_file(
        &mut self,
        inode: &Placed,
        from: u64,
        len: u64,
        contents: &mut dyn Contents,
    ) -> Result<(), WriteError> {
        let mut done = 0;
        while done < len {
            let step = usize::try_from((len - done).min(BUFFER_BYTES as u64)).expect("bounded by the buffer");
            let start = self.pending.len();
            self.pending.resize(start + step, 0);
            contents
                .read_at(inode.id, from + done, &mut self.pending[start..])
                .map_err(|source| WriteError::Contents {
                    name: inode.name.clone(),
                    source,
                })?;
            done += step as u64;
            if self.pending.len() >= BUFFER_BYTES {
                self.write_whole_blocks()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        assert!(self.pending.len().is_multiple_of(BLOCK), "flush inside a block");
        self.write_whole_blocks()
    }

    /// Writes the whole blocks gathered so far, in runs between blocks of zeros.
    fn write_whole_blocks(&mut self) -> Result<(), WriteError> {
        let whole = self.pending.len() / BLOCK * BLOCK;
        let mut run_start = None;
        for start in (0..whole).step_by(BLOCK) {
            let is_zero = self.pending[start..start + BLOCK].iter().all(|byte| *byte == 0);
            match (is_zero, run_start) {
                (false, None) => run_start = Some(start),
                (true, Some(from)) => {
                    self.write_run(from, start)?;
                    run_start = None;
                }
                (false, Some(_)) | (true, None) => {}
            }
        }
        if let Some(from) = run_start {
            self.write_run(from, whole)?;
        }
        self.pending.drain(..whole);
        self.position += whole as u64;
        Ok(())
    }

    fn write_run(&mut self, from: usize, to: usize) -> Result<(), WriteError> {
        self.output
            .write_at(self.position + from as u64, &self.pending[from..to])
            .map_err(WriteError::Output)
    }
}
