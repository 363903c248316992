use std::process::Command;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

struct Never;

impl Power for Never {
    fn fails(&mut self) -> bool {
        false
    }

    fn failed(&mut self) {}
}

/// Runs commands of qemu-io against a new disk, which it leaves to look at.
fn qemu_io(commands: &[&str]) -> Arc<Mutex<VolatileDisk>> {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nbd");
    let disk = Arc::new(Mutex::new(VolatileDisk::new(8 << 20)));
    serve(&socket, Arc::clone(&disk), Never).unwrap();
    let mut qemu_io = Command::new("qemu-io");
    qemu_io.args(["-f", "raw", "-t", "none"]);
    for command in commands {
        qemu_io.args(["-c", command]);
    }
    let out = qemu_io.arg(format!("nbd+unix:///?socket={}", socket.display()));
    let out = out.output().expect("qemu-io starts (package qemu-utils)");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let crashed = commands.last() == Some(&"abort");
    assert!(
        out.status.success() != crashed && !text.contains("failed"),
        "{text}"
    );
    disk
}

/// The first byte of a page after a cut, for 50 cuts: how many show `byte`.
fn left(disk: &Arc<Mutex<VolatileDisk>>, offset: u64, byte: u8) -> usize {
    let shows = |seed: &u64| {
        let mut first = [0];
        lock(disk)
            .cut(&mut ChaCha8Rng::seed_from_u64(*seed))
            .read(&mut first, offset);
        first == [byte]
    };
    (0..50).filter(shows).count()
}

#[test]
fn qemu_reads_back_what_it_wrote_zeroed_and_discarded() {
    qemu_io(&[
        "write -P 7 0 1M",
        "read -P 7 0 1M",
        "write -z 4k 8k",
        "read -P 0 4k 8k",
        "read -P 7 12k 4k",
        "discard 64k 64k",
        "read -P 0 64k 64k",
        "read -P 0 7M 1M",
    ]);
}

#[test]
fn a_write_with_fua_is_durable_and_one_without_is_not() {
    // It crashes on command: the end of a tidy client is a flush.
    let disk = qemu_io(&["write -P 1 0 4k", "write -f -P 2 1M 4k", "abort"]);
    let lucky = left(&disk, 0, 1);
    assert!((1..50).contains(&lucky), "{lucky}");
    assert_eq!(left(&disk, 1 << 20, 2), 50);
}

#[test]
fn a_flush_makes_everything_before_it_durable() {
    let disk = qemu_io(&["write -P 1 0 4k", "write -P 2 1M 4k", "flush", "abort"]);
    assert_eq!((left(&disk, 0, 1), left(&disk, 1 << 20, 2)), (50, 50));
}
