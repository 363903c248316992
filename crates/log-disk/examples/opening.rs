//! How long a large disk takes to open, and how much memory: `cargo run --release -p log-disk --example opening`.
//!
//! Two disks are made up: one of 1 TiB whose map has 10 million extents, opened from its checkpoint; and one with 1 GiB in its journal
//! that no object has. Checkpoint, journal, and leaves that memory has no room for are in files below the directory for temporary files.
//! Each is opened by a process of its own, so that what making it up took is not counted.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool that measures: its lines are its result"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use log_disk::{
    Answer, Ask, BLOCK_BYTES, Checkpoint, CheckpointHeader, CheckpointRef, Config, DiskId, Engine, Epoch,
    Etag, GotHead, Head, HeadPut, JournalId, Lba, LeafRef, ObjectFacts, ObjectSeq, Objects, OpenOptions,
    Opening, PAGE_BYTES, PAGED_BYTES_MAX, PIECE_BLOCKS_MAX, PageStore, RECORD_BLOCKS_MAX, Record,
    RecordHeader, RecordKind, Role, Salt, Sealer, Seq, Stream, Superblock, Time,
};

type Failure = Box<dyn std::error::Error>;

const DISK: DiskId = DiskId([7; 16]);
const JOURNAL: JournalId = JournalId([1; 16]);
const LEAVES: u32 = 16_384;
const EXTENTS: u64 = 10_000_000;
const JOURNAL_BYTES: u64 = 1 << 30;
const CHECKPOINT: ObjectSeq = ObjectSeq(9_000);

/// A file that is gone when its owner is.
fn scratch(name: &str) -> Result<File, Failure> {
    let path = std::env::temp_dir().join(format!("log-disk-opening-{}-{name}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Leaves in a file, a slot each.
#[derive(Debug)]
struct Pages {
    file: File,
    bytes: BTreeMap<u32, usize>,
}

impl Pages {
    fn place(leaf: u32) -> u64 {
        u64::from(leaf) * PAGED_BYTES_MAX.next_multiple_of(PAGE_BYTES) as u64
    }
}

impl PageStore for Pages {
    fn store(&mut self, leaf: u32, bytes: &[u8]) {
        if self.file.write_all_at(bytes, Self::place(leaf)).is_ok() {
            self.bytes.insert(leaf, bytes.len());
        }
    }

    fn load(&mut self, leaf: u32) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes.get(&leaf).copied().unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, Self::place(leaf))?;
        Ok(bytes)
    }
}

/// Seconds that this process has computed.
fn computed_seconds() -> Result<f64, Failure> {
    let times = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos: f64 = times.split(' ').next().ok_or("no such field")?.parse()?;
    Ok(nanos / 1e9)
}

/// Bytes of this process in memory.
fn resident_bytes() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = status.split(' ').nth(1).ok_or("no such field")?.parse()?;
    Ok(pages * 4096)
}

/// A leaf of short runs, none of which goes on where the one before ends.
fn leaf(number: u32, runs: u64, object: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in 0..runs {
        let start = run * (16_384 / runs);
        let at = (run * 7 + u64::from(number)) % 2_000;
        bytes.extend_from_slice(&start.to_le_bytes()[..2]);
        bytes.extend_from_slice(&[3, 0]);
        bytes.extend_from_slice(&at.to_le_bytes()[..4]);
        bytes.extend_from_slice(&(1 + (run + object) % 5_000).to_le_bytes());
    }
    bytes
}

/// A checkpoint of the whole map.
fn big_map(sealer: &Sealer) -> Result<(Bytes, CheckpointRef), Failure> {
    let seq = CHECKPOINT;
    let mut objects = Objects::default();
    let facts = |role, blocks| ObjectFacts {
        role,
        epoch: Epoch(1),
        bytes: 8 << 20,
        blocks,
        live: blocks,
        born: 1,
        dead: 0,
    };
    for object in 1..=5_000 {
        objects.add(ObjectSeq(object), facts(Role::Data, 20_000));
    }
    objects.add(seq, facts(Role::Checkpoint, u64::from(LEAVES) + 1));
    let mut offset = Checkpoint::front_bytes(LEAVES as usize, 5_001);
    let mut leaves = BTreeMap::new();
    let mut changed = Vec::new();
    for number in 0..LEAVES {
        let bytes = leaf(number, EXTENTS / u64::from(LEAVES), u64::from(number));
        let len = Checkpoint::leaf_bytes(bytes.len());
        let place = LeafRef {
            object: seq,
            epoch: Epoch(1),
            offset,
            bytes: u32::try_from(len)?,
        };
        offset += len;
        leaves.insert(number, place);
        changed.push((number, bytes));
    }
    let checkpoint = Checkpoint {
        header: CheckpointHeader {
            disk: DISK,
            epoch: Epoch(1),
            seq,
            number: 1,
            data_seq: ObjectSeq(5_000),
            journal_seq: Seq(1),
            salt: Salt([2; 8]),
        },
        leaves,
        objects,
    };
    Ok(checkpoint.encode(sealer, &changed))
}

/// A journal full of writes; tells the pages of its ring and its last record.
fn full_journal(sealer: &Sealer, file: &File) -> Result<[u64; 2], Failure> {
    let pages_each = RECORD_BLOCKS_MAX + 1;
    let records = JOURNAL_BYTES / (RECORD_BLOCKS_MAX * BLOCK_BYTES as u64);
    let data = Bytes::from(vec![5; usize::try_from(PIECE_BLOCKS_MAX)? * BLOCK_BYTES]);
    let mut previous_crc = 0;
    for record in 0..records {
        let position = record * pages_each;
        let header = RecordHeader {
            kind: RecordKind::Writes,
            disk: DISK,
            epoch: Epoch(1),
            pages: 0,
            seq: Seq(record + 1),
            position,
            salt: Salt([3; 8]),
            previous_crc,
            durable_seq: Seq(record),
        };
        let pieces: Vec<_> = (0..RECORD_BLOCKS_MAX / PIECE_BLOCKS_MAX)
            .map(|piece| {
                let lba = (record * RECORD_BLOCKS_MAX + piece * PIECE_BLOCKS_MAX) % (1 << 27) * 2;
                (Lba(lba), PIECE_BLOCKS_MAX, Some(data.clone()))
            })
            .collect();
        let (bytes, made) = Record::encode(sealer, header, &pieces);
        previous_crc = made.crc;
        file.write_all_at(&bytes, position * PAGE_BYTES as u64)?;
    }
    Ok([records * pages_each + 10_000, records])
}

/// What an opening finds.
struct Found {
    head: Head,
    checkpoint: Option<File>,
    superblock: Option<Superblock>,
    journal: File,
}

/// Opens the disk and says what that took.
fn open(sealer: &Arc<Sealer>, found: &Found) -> Result<Engine<Pages>, Failure> {
    let options = OpenOptions {
        config: Config::default(),
        sealer: Arc::clone(sealer),
        bases: Vec::new(),
        salt: Salt([4; 8]),
        new_journal: JOURNAL,
        ring_pages: 1 << 18,
        discard_stale_journal: false,
        discard_damaged_journal: false,
        roll_back_to: None,
        force: true,
        pages: Some(Pages {
            file: scratch("pages")?,
            bytes: BTreeMap::new(),
        }),
    };
    let etag = || Etag("1".to_owned());
    let mut most = 0;
    let (began, computed) = (Instant::now(), computed_seconds()?);
    let (mut opening, mut ask) = Opening::new(options);
    loop {
        let answer = match ask {
            Ask::ReadSuperblocks => {
                let blank = vec![0; PAGE_BYTES];
                let page = found.superblock.map_or(blank, |superblock| superblock.encode());
                Answer::Superblocks(Some([page.clone(), page]))
            }
            Ask::GetHead => Answer::Head(GotHead::Found {
                bytes: found.head.encode(sealer, Salt([0; 8])).into(),
                etag: etag(),
            }),
            Ask::PutHead { .. } => Answer::HeadPut(HeadPut::Stored(etag())),
            Ask::Get(wanted) => {
                let mut got = Vec::new();
                for part in wanted.parts {
                    let mut bytes = vec![0; usize::try_from(part.range.end - part.range.start)?];
                    let file = found.checkpoint.as_ref().ok_or("no checkpoint")?;
                    file.read_exact_at(&mut bytes, part.range.start)?;
                    got.push(Some(Bytes::from(bytes)));
                }
                Answer::Got(got)
            }
            Ask::ListData { .. } => Answer::Listed(Vec::new()),
            Ask::ReadRing { position, pages } => {
                let mut bytes = vec![0; usize::try_from(pages)? * PAGE_BYTES];
                // Past the file's end there are zeros.
                let _read = found.journal.read_at(&mut bytes, position * PAGE_BYTES as u64)?;
                Answer::Ring(Some(bytes))
            }
            Ask::WaitUntil(_) | Ask::SyncRing | Ask::WriteSuperblock(_) | Ask::Put { .. } => Answer::Done,
            Ask::Ready(engine) => {
                println!(
                    "open in {:.2} s, of which {:.2} s computing; at most {} MiB in memory",
                    began.elapsed().as_secs_f64(),
                    computed_seconds()? - computed,
                    most >> 20,
                );
                return Ok(*engine);
            }
            Ask::Failed(why) => return Err(why.into()),
        };
        ask = opening.answer(Time(1), answer);
        most = most.max(resident_bytes()?);
    }
}

fn open_map(sealer: &Arc<Sealer>, path: &str, front_bytes: u64, total_bytes: u64) -> Result<(), Failure> {
    let mut head = Head::new(DISK, 1 << 28, vec![1; 85]);
    head.checkpoint = Some(CheckpointRef {
        number: 1,
        seq: CHECKPOINT,
        epoch: Epoch(1),
        front_bytes,
        total_bytes,
        data_seq: ObjectSeq(5_000),
    });
    let found = Found {
        head,
        checkpoint: Some(File::open(path)?),
        superblock: None,
        journal: scratch("empty")?,
    };
    let engine = open(sealer, &found)?;
    println!("{} runs of the map are in memory", engine.stats().map_runs);
    Ok(())
}

fn open_journal(sealer: &Arc<Sealer>, path: &str, ring_pages: u64, durable: u64) -> Result<(), Failure> {
    let mut head = Head::new(DISK, 1 << 28, vec![1; 85]);
    head.epoch = Epoch(1);
    head.owner = JOURNAL;
    head.streams.push(Stream {
        epoch: Epoch(1),
        owner: JOURNAL,
        begin: ObjectSeq(1),
        after: ObjectSeq(0),
    });
    let superblock = Superblock {
        disk: DISK,
        journal: JOURNAL,
        revision: 1,
        ring_pages,
        epoch: Epoch(1),
        adopting: Epoch(0),
        tail_position: 0,
        tail_seq: Seq(1),
        tail_epoch: Epoch(1),
        tail_crc: 0,
        durable_seq: Seq(durable),
    };
    let found = Found {
        head,
        checkpoint: None,
        superblock: Some(superblock),
        journal: File::open(path)?,
    };
    let engine = open(sealer, &found)?;
    println!("{} records were taken up", engine.stats().accepted_seq);
    Ok(())
}

/// Has this program open a disk that was made up.
fn ask_child(what: &str, path: &std::path::Path, numbers: [u64; 2]) -> Result<(), Failure> {
    let mut child = Command::new(std::env::current_exe()?);
    child
        .arg(what)
        .arg(path)
        .args(numbers.map(|number| number.to_string()));
    let status = child.status()?;
    std::fs::remove_file(path)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{what}: {status}").into())
    }
}

fn main() -> Result<(), Failure> {
    let sealer = Arc::new(Sealer::new(&[3; 32], DISK));
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["map", path, front, total] => return open_map(&sealer, path, front.parse()?, total.parse()?),
        ["journal", path, pages, durable] => {
            return open_journal(&sealer, path, pages.parse()?, durable.parse()?);
        }
        _ => {}
    }
    let path = std::env::temp_dir().join(format!("log-disk-opening-{}", std::process::id()));
    let (checkpoint, reference) = big_map(&sealer)?;
    println!(
        "1 TiB in {EXTENTS} extents, {} MiB of leaves",
        checkpoint.len() >> 20
    );
    File::create_new(&path)?.write_all_at(&checkpoint, 0)?;
    ask_child("map", &path, [reference.front_bytes, reference.total_bytes])?;
    println!("{} MiB of journal", JOURNAL_BYTES >> 20);
    let superblock = full_journal(&sealer, &File::create_new(&path)?)?;
    ask_child("journal", &path, superblock)
}
