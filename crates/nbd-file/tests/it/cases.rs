use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::fs::FallocateFlags;

use super::place::{Place, run};

const MIB: usize = 1 << 20;

type Case = (&'static str, fn());

pub(crate) const ALL: &[Case] = &[
    (
        "the_file_reads_and_writes_as_the_export_does",
        the_file_reads_and_writes_as_the_export_does,
    ),
    (
        "requests_wait_for_the_next_server_and_are_then_carried_out",
        requests_wait_for_the_next_server_and_are_then_carried_out,
    ),
    (
        "an_ext4_under_a_verifying_writer_outlives_twenty_servers",
        an_ext4_under_a_verifying_writer_outlives_twenty_servers,
    ),
    (
        "a_grown_export_is_a_grown_file_and_a_grown_loop_device",
        a_grown_export_is_a_grown_file_and_a_grown_loop_device,
    ),
];

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn the_file_reads_and_writes_as_the_export_does() {
    let place = Place::new(4 * MIB, 1);
    let mut file = open(&place.file());
    assert_eq!(file.metadata().unwrap().size(), 4 * MIB as u64);
    file.seek(SeekFrom::Start(1000)).unwrap();
    file.write_all(b"some bytes").unwrap();
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    {
        let disk = place.server.disk.lock().unwrap();
        assert!(all == disk.bytes && &all[1000..1010] == b"some bytes");
        assert!(disk.flushes > 0);
    }
    let keep = FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | keep, 1002, 2).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE | keep, 1005, 1).unwrap();
    let mut here = [0; 10];
    file.read_exact_at(&mut here, 1000).unwrap();
    assert_eq!(&here, b"so\0\0 \0ytes");
    assert_eq!(place.server.disk.lock().unwrap().zeroed, 3);
    let past = rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE | keep, 4 * MIB as u64 - 1, 2);
    assert_eq!(past, Err(rustix::io::Errno::NOSPC));
    assert_eq!(
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 10),
        Err(rustix::io::Errno::OPNOTSUPP)
    );
    assert!(file.set_len(10).is_err(), "the size is the export's");
    assert!(file.write_all_at(b"beyond", 4 * MIB as u64 - 5).is_err());
    drop(file);
    place.end();
}

fn requests_wait_for_the_next_server_and_are_then_carried_out() {
    let mut place = Place::new(4 * MIB, 512);
    let file = Arc::new(open(&place.file()));
    file.write_all_at(&[1; 4096], 0).unwrap();
    place.server.kill();
    let writers: Vec<_> = (1..9_u8)
        .map(|byte| {
            let file = Arc::clone(&file);
            thread::spawn(move || file.write_all_at(&[byte; 4096], u64::from(byte) * 4096))
        })
        .collect();
    let reader = {
        let file = Arc::clone(&file);
        thread::spawn(move || {
            let mut here = [0; 4096];
            file.read_exact_at(&mut here, 0).map(|()| here)
        })
    };
    assert_eq!(
        file.metadata().unwrap().size(),
        4 * MIB as u64,
        "the size is known without a server"
    );
    assert!(writers.iter().all(|writer| !writer.is_finished()));
    place.server.start();
    for writer in writers {
        writer.join().unwrap().unwrap();
    }
    assert_eq!(reader.join().unwrap().unwrap(), [1; 4096]);
    for byte in 1..9_u8 {
        let at = usize::from(byte) * 4096;
        assert_eq!(
            place.server.disk.lock().unwrap().bytes[at..at + 4096],
            [byte; 4096]
        );
    }
    drop(file);
    place.end();
}

/// Writes blocks of its own and reads them back, until it is told to end; returns how many it wrote.
fn write_and_verify(path: &Path, seed: u64, stop: &AtomicBool, progress: &AtomicU64) -> u64 {
    const BLOCKS: usize = 64;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    let mut versions = [0_u8; BLOCKS];
    file.write_all_at(&[0; BLOCKS * 4096], 0).unwrap();
    let mut written = 0;
    while !stop.load(Ordering::Acquire) {
        let block = rng.random_range(0..BLOCKS);
        versions[block] = versions[block].wrapping_add(1);
        file.write_all_at(&[versions[block]; 4096], block as u64 * 4096)
            .unwrap();
        written += 1;
        if rng.random_ratio(1, 4) {
            file.sync_data().unwrap();
        }
        // Past the page cache, so that it is the disk that is read.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let block = rng.random_range(0..BLOCKS);
        let mut here = [0; 4096];
        file.read_exact_at(&mut here, block as u64 * 4096).unwrap();
        assert!(
            here == [versions[block]; 4096],
            "block {block} of seed {seed} after {written} writes"
        );
        progress.fetch_add(1, Ordering::AcqRel);
    }
    written
}

fn an_ext4_under_a_verifying_writer_outlives_twenty_servers() {
    let mut place = Place::new(64 * MIB, 512);
    let node = place.attach();
    run("mke2fs", &["-q", "-t", "ext4", &node]);
    let path = place.mount(&node);
    let stop = Arc::new(AtomicBool::new(false));
    let progress = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..3)
        .map(|seed| {
            let (stop, progress) = (Arc::clone(&stop), Arc::clone(&progress));
            let file = path.join(format!("file-{seed}"));
            thread::spawn(move || write_and_verify(&file, seed, &stop, &progress))
        })
        .collect();
    for life in 0..20 {
        let upto = progress.load(Ordering::Acquire) + 20 + life;
        while progress.load(Ordering::Acquire) < upto {
            assert!(
                writers.iter().all(|writer| !writer.is_finished()),
                "a writer has failed"
            );
            thread::yield_now();
        }
        place.server.kill();
        place.server.start();
    }
    stop.store(true, Ordering::Release);
    for writer in writers {
        assert!(writer.join().unwrap() > 0);
    }
    place.unmount();
    run("e2fsck", &["-fn", &node]);
    let image = place.directory.parent().unwrap().join("image");
    File::create(&image)
        .unwrap()
        .write_all(&place.server.disk.lock().unwrap().bytes)
        .unwrap();
    run("e2fsck", &["-fn", image.to_str().unwrap()]);
    place.end();
}

fn a_grown_export_is_a_grown_file_and_a_grown_loop_device() {
    let mut place = Place::new(16 * MIB, 512);
    let node = place.attach();
    let size = |node: &str| {
        run("blockdev", &["--getsize64", node])
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    assert_eq!(size(&node), 16 * MIB);
    run("mke2fs", &["-q", "-t", "ext4", &node]);
    let path = place.mount(&node);
    File::create(path.join("before"))
        .unwrap()
        .write_all(&[7; 100_000])
        .unwrap();
    place.server.disk.lock().unwrap().bytes.resize(32 * MIB, 0);
    assert_eq!(std::fs::metadata(place.file()).unwrap().size(), 32 * MIB as u64);
    run("losetup", &["--set-capacity", &node]);
    assert_eq!(size(&node), 32 * MIB);
    let device = open(Path::new(&node));
    device.write_all_at(&[9; 4096], 31 * MIB as u64).unwrap();
    device.sync_all().unwrap();
    drop(device);
    assert_eq!(
        place.server.disk.lock().unwrap().bytes[31 * MIB..31 * MIB + 4096],
        [9; 4096]
    );
    assert!(std::fs::read(path.join("before")).unwrap() == [7; 100_000]);
    place.end();
}
