//! Arbitrary, damaged and forged bytes for every reader of the disk's formats.
//!
//! Forged are bytes whose seals open and whose content is damaged: what a seal keeps out has never been shown to the readers
//! behind it otherwise.

use bytes::Bytes;
use log_disk::{
    BLOCK_BYTES, Checkpoint, CheckpointHeader, CheckpointRef, Compression, DiskId, Epoch, Head, JournalId,
    LEAF_BLOCKS, Layout, Lba, LeafRef, ObjectFacts, ObjectHeader, ObjectKind, ObjectName, ObjectSeq, Objects,
    PAGE_BYTES, Pin, Record, RecordHeader, RecordKind, Role, Salt, Scan, ScanStep, SealedObject, Sealer, Seq,
    Snapshot, Source, SourceRun, Superblock, ToSeal, decode_leaf, forge, newest_superblock, seal_object,
};
use rand::{Rng as _, RngExt as _};
use sim::Rng;

const DISK: DiskId = DiskId([7; 16]);
const SALT: Salt = Salt([9; 8]);
/// Inputs of one seed.
pub const INPUTS: u64 = 1_000;

/// Sound bytes of everything, to be damaged.
struct Samples {
    sealer: Sealer,
    record: Vec<u8>,
    table: Vec<u8>,
    superblock: Superblock,
    object: SealedObject,
    object_table: Vec<u8>,
    checkpoint: Vec<u8>,
    index: Vec<u8>,
    rows: Vec<u8>,
    leaf: Vec<u8>,
    head: Head,
}

impl Samples {
    fn new(rng: &mut Rng) -> Self {
        let sealer = Sealer::new(&[3; 32], DISK);
        let header = RecordHeader {
            kind: RecordKind::Writes,
            disk: DISK,
            epoch: Epoch(3),
            pages: 0,
            seq: Seq(10),
            position: 100,
            salt: SALT,
            previous_crc: 77,
            durable_seq: Seq(5),
        };
        let block = Bytes::from(vec![5; BLOCK_BYTES]);
        let pieces = [(Lba(4), 1, Some(block)), (Lba(99), 1 << 20, None)];
        let (record, _) = Record::encode(&sealer, header, &pieces);
        let object = object_sample(rng, &sealer);
        let (checkpoint, reference) = checkpoint(&sealer);
        let mut head = Head::new(DISK, 1 << 20, vec![1; 85]);
        head.checkpoint = Some(reference);
        head.snapshots = vec![Snapshot {
            name: "monday".to_owned(),
            size_blocks: 500,
            checkpoint: reference,
        }];
        let head = head.fork(&head.snapshots[0], DiskId([8; 16]), vec![2; 85]);
        Self {
            superblock: Superblock {
                disk: DISK,
                journal: JournalId([5; 16]),
                revision: 8,
                ring_pages: 64,
                epoch: Epoch(3),
                adopting: Epoch(0),
                tail_position: 100,
                tail_seq: Seq(10),
                tail_epoch: Epoch(2),
                tail_crc: 77,
                durable_seq: Seq(0),
            },
            sealer,
            record,
            // What stands in the sealed tables, in clear.
            table: [
                &[0; 8],
                &[2, 0][..],
                &[4, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0],
                &[6; 16],
                &[9, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0],
                &[0; 16],
                &[1; 4],
            ]
            .concat(),
            object,
            object_table: [1_u8, 8, 200]
                .iter()
                .flat_map(|lba| {
                    [
                        &[*lba, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 100, 0, 0, 0][..],
                        &[0; 8],
                    ]
                    .concat()
                })
                .collect(),
            checkpoint: checkpoint.to_vec(),
            index: [3_u8, 90]
                .iter()
                .flat_map(|leaf| {
                    [
                        &[*leaf, 0, 0, 0, 80, 0, 0, 0][..],
                        &[1; 8],
                        &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
                    ]
                    .concat()
                })
                .collect(),
            rows: [3_u8, 9]
                .iter()
                .flat_map(|seq| [&[*seq][..], &[0; 11], &[2, 0, 0, 0], &[1; 40]].concat())
                .collect(),
            leaf: (0..20_u8)
                .flat_map(|at| [&[at, at, 3, 0, at, 0, 0, 0][..], &[1; 8]].concat())
                .collect(),
            head,
        }
    }
}

fn object_sample(rng: &mut Rng, sealer: &Sealer) -> SealedObject {
    let mut noise = vec![0; 3 * BLOCK_BYTES];
    rng.fill_bytes(&mut noise);
    let from = |blocks| SourceRun {
        blocks,
        source: Source::Object {
            object: ObjectSeq(1),
            at: 0,
        },
    };
    let run = |lba, blocks, sources| ToSeal {
        lba: Lba(lba),
        blocks,
        origin: ObjectSeq(0),
        sources,
    };
    let runs = [
        run(1, 2, vec![from(2)]),
        run(8, 500, vec![]),
        run(900, 3, vec![from(3)]),
    ];
    let data = [
        Bytes::from(vec![1; 2 * BLOCK_BYTES]),
        Bytes::new(),
        Bytes::from(noise),
    ];
    let header = ObjectHeader {
        kind: ObjectKind::Data,
        disk: DISK,
        epoch: Epoch(4),
        seq: ObjectSeq(12),
        previous: ObjectSeq(11),
        journal_seq: Seq(99),
        size_blocks: 1 << 20,
        salt: SALT,
        wrapped_key: vec![1; 85],
    };
    seal_object(sealer, Compression::Lz4, header, &runs, &data)
}

fn checkpoint(sealer: &Sealer) -> (Bytes, CheckpointRef) {
    let mut objects = Objects::default();
    for (seq, role) in (1..).zip([Role::Data, Role::Gc, Role::Checkpoint]) {
        let facts = ObjectFacts {
            role,
            epoch: Epoch(2),
            bytes: 1 << 20,
            blocks: 100,
            live: seq,
            born: 1,
            dead: 0,
        };
        objects.add(ObjectSeq(seq), facts);
    }
    let at = LeafRef {
        object: ObjectSeq(3),
        epoch: Epoch(2),
        offset: 1234,
        bytes: 500,
    };
    let checkpoint = Checkpoint {
        header: CheckpointHeader {
            disk: DISK,
            epoch: Epoch(4),
            seq: ObjectSeq(50),
            number: 6,
            data_seq: ObjectSeq(48),
            journal_seq: Seq(900),
            salt: SALT,
        },
        leaves: [(3, at), (900, at)].into(),
        objects,
    };
    checkpoint.encode(sealer, &[])
}

/// Damages bytes in a few places.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let len = bytes.len();
        if len < 8 {
            bytes.extend_from_slice(&[0; 8]);
            continue;
        }
        match rng.random_range(0..6) {
            0 => bytes[rng.random_range(0..len)] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(rng.random_range(0..len)),
            2 => {
                // A field of ours, with something plausible or huge in it.
                let at = rng.random_range(0..len.min(130) - 4);
                let word: u32 =
                    [0, 1, 4, 255, 1 << 16, 1 << 20, u32::MAX, rng.random()][rng.random_range(0..8)];
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            3 => {
                let more = rng.random_range(1..40);
                bytes.extend((0..more).map(|at| at * 3));
            }
            4 => {
                let count = rng.random_range(1..len.min(40));
                let (from, to) = (
                    rng.random_range(0..=len - count),
                    rng.random_range(0..=len - count),
                );
                bytes.copy_within(from..from + count, to);
            }
            _ => {
                let at = rng.random_range(0..len - 7);
                let word: u64 = [0, u64::MAX, 1 << 48, 1 << 56, rng.random()][rng.random_range(0..5)];
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

fn mend(rng: &mut Rng, bytes: &mut [u8]) {
    if rng.random_bool(0.7)
        && let Some(at) = bytes.len().checked_sub(4)
    {
        let crc = crc32fast::hash(&bytes[..at]);
        bytes[at..].copy_from_slice(&crc.to_le_bytes());
    }
}

fn arbitrary(rng: &mut Rng, magic: &[u8; 4], most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(8..most)];
    rng.fill_bytes(&mut bytes);
    bytes[..6].copy_from_slice(&[magic[0], magic[1], magic[2], magic[3], 1, 0]);
    mend(rng, &mut bytes);
    bytes
}

/// Shows one seed's inputs to the readers.
///
/// # Errors
/// What was read that was never written, or is larger than what it was read from.
///
/// # Panics
/// When a reader does.
pub fn run_decoders(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let samples = Samples::new(&mut rng);
    for input in 0..INPUTS {
        let shown = match rng.random_range(0..7) {
            0 => record(&mut rng, &samples),
            1 => superblock(&mut rng, &samples),
            2 => object(&mut rng, &samples),
            3 => extent(&mut rng, &samples),
            4 => checkpoint_front(&mut rng, &samples),
            5 => head(&mut rng, &samples),
            _ => small(&mut rng, &samples),
        };
        shown.map_err(|why| format!("input {input} of seed {seed}: {why}"))?;
    }
    Ok(())
}

/// An input: sound bytes damaged, or forged, or arbitrary. Says whether what is read must be what was written.
fn input(
    rng: &mut Rng,
    sound: &[u8],
    magic: &[u8; 4],
    forged: impl FnOnce(&mut Rng) -> Option<Vec<u8>>,
) -> (Vec<u8>, bool) {
    match rng.random_range(0..5) {
        0 => (arbitrary(rng, magic, 5000), true),
        1 | 2 => {
            let mut bytes = sound.to_vec();
            damage(rng, &mut bytes);
            mend(rng, &mut bytes);
            (bytes, true)
        }
        _ => (forged(rng).unwrap_or_default(), false),
    }
}

fn record(rng: &mut Rng, samples: &Samples) -> Result<(), String> {
    let sealer = &samples.sealer;
    let (mut bytes, genuine) = input(rng, &samples.record, b"HGJR", |rng| {
        let (mut clear, mut table) = (samples.record[..64].to_vec(), samples.table.clone());
        damage(rng, &mut table);
        if rng.random_bool(0.3) {
            damage(rng, &mut clear);
            clear.resize(64, 0);
        }
        forge::record(sealer, &clear, &table)
    });
    if let Ok(read) = Record::open(sealer, &bytes) {
        let sound = Record::open(sealer, &samples.record).map_err(|flaw| flaw.to_string())?;
        // Between the table and the checksum there are zeros that say nothing.
        if genuine && (&read.header, &read.pieces) != (&sound.header, &sound.pieces) {
            return Err(format!("a damaged record reads as {read:?}"));
        }
        if read.pieces.len() > PAGE_BYTES / 28 {
            return Err(format!("{} pieces in a page", read.pieces.len()));
        }
        let payload = vec![1; rng.random_range(0..4) * PAGE_BYTES];
        for index in 0..read.pieces.len().min(4) {
            let _flaw = read.open_piece(sealer, index, &payload);
        }
        let _flaw = read.check_payload(sealer, &payload);
    }
    // The same bytes, met by a scan.
    bytes.resize(64 * PAGE_BYTES, 0);
    let mut scan = Scan::new(&samples.superblock);
    let mut step = scan.begin();
    for _ in 0..200 {
        step = match step {
            ScanStep::Read { position, pages } => {
                let at =
                    usize::try_from((position - 100) % 64).map_err(|error| error.to_string())? * PAGE_BYTES;
                let len = usize::try_from(pages).map_err(|error| error.to_string())? * PAGE_BYTES;
                scan.read(sealer, bytes.get(at..at + len))
            }
            ScanStep::Record(_) => scan.begin(),
            ScanStep::End(_) => return Ok(()),
        };
    }
    Err("a scan does not end".to_owned())
}

fn superblock(rng: &mut Rng, samples: &Samples) -> Result<(), String> {
    let mut pages = [samples.superblock.encode(), samples.superblock.encode()];
    for page in &mut pages {
        damage(rng, page);
        mend(rng, page);
    }
    if let Ok(found) = newest_superblock([&pages[0], &pages[1]])
        && found.ring_pages < 1 << 20
    {
        // It has no seal: what it says must be borne.
        let mut scan = Scan::new(&found);
        let mut step = scan.begin();
        for _ in 0..40_000 {
            step = match step {
                ScanStep::Read { .. } => scan.read(&samples.sealer, None),
                ScanStep::Record(_) => scan.begin(),
                ScanStep::End(_) => return Ok(()),
            };
        }
        return Err(format!("a scan from {found:?} does not end"));
    }
    Ok(())
}

fn clear_of_object(samples: &Samples) -> &[u8] {
    &samples.object.body[..96 + 85]
}

fn object(rng: &mut Rng, samples: &Samples) -> Result<(), String> {
    let sealer = &samples.sealer;
    let (bytes, genuine) = input(rng, &samples.object.body, b"HGDO", |rng| {
        let mut table = samples.object_table.clone();
        damage(rng, &mut table);
        let mut clear = clear_of_object(samples).to_vec();
        let extents = u32::try_from(table.len() / 24).ok()?;
        clear[28..32].copy_from_slice(&extents.to_le_bytes());
        let stored: u64 = table
            .chunks_exact(24)
            .map(|row| u64::from(u32::from_le_bytes([row[12], row[13], row[14], row[15]])))
            .sum();
        let total = (clear.len() + table.len() + 20) as u64 + stored + 4;
        clear[64..72].copy_from_slice(&total.to_le_bytes());
        forge::object(sealer, &clear, &table)
    });
    if Layout::front_bytes(&bytes).is_ok_and(|front| front > 96 + 255 + (24 << 20) + 20) {
        return Err("a front larger than any".to_owned());
    }
    let Ok(layout) = Layout::open(sealer, &bytes) else {
        return Ok(());
    };
    let same = layout == samples.object.layout;
    if genuine && !same {
        return Err(format!("a damaged object reads as {layout:?}"));
    }
    if layout.extents.len() > bytes.len() / 24 {
        return Err(format!(
            "{} extents in {} bytes",
            layout.extents.len(),
            bytes.len()
        ));
    }
    let at: u32 = [0, 1, 5, u32::MAX, rng.random()][rng.random_range(0..5)];
    let _found = layout.find(at);
    let _reads = layout.reads(Lba(rng.random_range(0..1 << 48)), at, rng.random_range(1..100));
    let _blocks = layout.data_blocks();
    let stored = vec![7; rng.random_range(0..300)];
    for index in 0..layout.extents.len().min(4) {
        let _flaw = layout.open_extent(sealer, index, &stored);
    }
    Ok(())
}

fn extent(rng: &mut Rng, samples: &Samples) -> Result<(), String> {
    let (sealer, layout) = (&samples.sealer, &samples.object.layout);
    let index = [0, 2][rng.random_range(0..2)];
    let extent = &layout.extents[index];
    let range = |byte: u64| usize::try_from(byte).map_err(|error| error.to_string());
    let sound = &samples.object.body[range(extent.stored.start)?..range(extent.stored.end)?];
    let mut stored = sound.to_vec();
    if rng.random_bool(0.3) {
        damage(rng, &mut stored);
        let opened = layout.open_extent(sealer, index, &stored);
        return match opened {
            Ok(_) if stored != sound => Err("a damaged extent opens".to_owned()),
            _ => Ok(()),
        };
    }
    // Forged: any codec, and whatever stands where compressed bytes should.
    let codec = rng.random_range(1..4_u8);
    let mut packed = vec![0; rng.random_range(0..400)];
    rng.fill_bytes(&mut packed);
    if rng.random_bool(0.5) {
        let plain = vec![3; BLOCK_BYTES * 2];
        packed = if codec == 3 {
            zstd_of(&plain)
        } else {
            lz4_of(&plain)
        };
        packed.extend_from_slice(&[1; 8]);
        damage(rng, &mut packed);
    }
    let row = [1, 0, 0, 0, 0, 0, codec, 0, 2, 0, 0, 0];
    let stored_bytes = u32::try_from(packed.len() + 16).map_err(|error| error.to_string())?;
    let table = [&row[..], &stored_bytes.to_le_bytes(), &[0; 8]].concat();
    let mut clear = clear_of_object(samples).to_vec();
    clear[28..32].copy_from_slice(&1_u32.to_le_bytes());
    let total = (clear.len() + table.len() + 20) as u64 + u64::from(stored_bytes) + 4;
    clear[64..72].copy_from_slice(&total.to_le_bytes());
    let front = forge::object(sealer, &clear, &table).ok_or("no front")?;
    let layout = Layout::open(sealer, &front).map_err(|flaw| format!("a forged front: {flaw}"))?;
    let aad = [&1_u64.to_le_bytes()[..], &2_u64.to_le_bytes(), &[codec]].concat();
    let forged = forge::extent(sealer, &clear, 0, &aad, &packed).ok_or("no extent")?;
    match layout.open_extent(sealer, 0, &forged) {
        Ok(plain) if plain.len() != 2 * BLOCK_BYTES => Err(format!("{} bytes for two blocks", plain.len())),
        _ => Ok(()),
    }
}

fn zstd_of(plain: &[u8]) -> Vec<u8> {
    compressed(plain, Compression::Zstd { level: 1 })
}

fn lz4_of(plain: &[u8]) -> Vec<u8> {
    compressed(plain, Compression::Lz4)
}

fn compressed(plain: &[u8], compression: Compression) -> Vec<u8> {
    forge::packed(plain, compression)
}

fn checkpoint_front(rng: &mut Rng, samples: &Samples) -> Result<(), String> {
    let sealer = &samples.sealer;
    let (bytes, genuine) = input(rng, &samples.checkpoint, b"HGCK", |rng| {
        let (mut index, mut rows) = (samples.index.clone(), samples.rows.clone());
        let table = if rng.random_bool(0.5) {
            &mut index
        } else {
            &mut rows
        };
        damage(rng, table);
        forge::checkpoint(sealer, &samples.checkpoint, &index, &rows)
    });
    let Ok(mut read) = Checkpoint::open(sealer, &bytes) else {
        return Ok(());
    };
    if genuine && bytes.get(..88) != samples.checkpoint.get(..88) {
        return Err(format!("a damaged checkpoint reads as {read:?}"));
    }
    let rows = read.leaves.len() + read.objects.iter().count();
    if rows > bytes.len() / 32 {
        return Err(format!("{rows} rows in {} bytes", bytes.len()));
    }
    let stored = vec![7; rng.random_range(0..300)];
    for (leaf, at) in read.leaves.iter().take(3) {
        let _flaw = Checkpoint::open_leaf(sealer, *leaf, at, &stored);
    }
    let number: u64 = rng.random();
    let _named = read.objects.deletable(number, &[1, number / 2]);
    let past = read.objects.clone();
    let _back = read.objects.back_to(&past, number);
    read.objects.bury(number);
    Ok(())
}

fn head(rng: &mut Rng, samples: &Samples) -> Result<(), String> {
    let sealer = Sealer::new(&[3; 32], samples.head.disk);
    let sound = samples.head.encode(&sealer, SALT);
    let (bytes, genuine) = input(rng, &sound, b"HGHD", |rng| {
        let mut body = sound[..sound.len() - 20].to_vec();
        damage(rng, &mut body);
        forge::head(&sealer, &body)
    });
    let _key = Head::wrapped_key(&bytes);
    let Ok(read) = Head::decode(&sealer, &bytes) else {
        return Ok(());
    };
    if genuine && read != samples.head {
        return Err(format!("a damaged HEAD reads as {read:?}"));
    }
    if read.snapshots.len() + read.streams.len() + read.bases.len() > bytes.len() / 33 {
        return Err(format!("too much in {} bytes: {read:?}", bytes.len()));
    }
    let mut again = read.clone();
    again.forget_covered_streams();
    let _counts = again.counts(ObjectSeq(rng.random()), Epoch(rng.random()));
    if Head::decode(&sealer, &read.encode(&sealer, SALT)).as_ref() != Ok(&read) {
        return Err(format!("written again it is another: {read:?}"));
    }
    Ok(())
}

/// Leaves of the map, and names.
fn small(rng: &mut Rng, samples: &Samples) -> Result<(), String> {
    let mut leaf = samples.leaf.clone();
    damage(rng, &mut leaf);
    let number = [0, 5, u32::MAX][rng.random_range(0..3)];
    if let Ok(runs) = decode_leaf(number, &leaf) {
        if runs.len() > leaf.len() / 16 {
            return Err(format!("{} runs in {} bytes", runs.len(), leaf.len()));
        }
        let blocks: u64 = runs
            .parts(u64::from(number) * LEAF_BLOCKS, LEAF_BLOCKS)
            .iter()
            .map(|part| part.blocks)
            .sum();
        if blocks != LEAF_BLOCKS {
            return Err(format!("a leaf of {blocks} blocks"));
        }
    }
    let mut name = format!("{:016x}-{:08x}", rng.random::<u64>(), rng.random::<u32>()).into_bytes();
    let mut pin = [&name[..17], &[b'a'; 32]].concat();
    if rng.random_bool(0.8) {
        damage(rng, &mut name);
        damage(rng, &mut pin);
    }
    let name = String::from_utf8_lossy(&name);
    if let Some(read) = ObjectName::parse(Role::Data, &name)
        && read.key(DISK) != format!("{}{name}", ObjectName::prefix(DISK, Role::Data))
    {
        return Err(format!("{name} reads as {read:?}"));
    }
    let pin = String::from_utf8_lossy(&pin);
    if let Some(read) = Pin::parse(&pin)
        && read.key(DISK) != format!("{}{pin}", Pin::prefix(DISK))
    {
        return Err(format!("{pin} reads as {read:?}"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
