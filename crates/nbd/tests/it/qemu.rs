use super::clients::run;
use super::export::{PAGE, Served};

const BYTES: usize = 16 << 20;

fn qemu_io(served: &Served, commands: &[&str]) -> String {
    let uri = served.uri();
    let mut args = vec!["-f", "raw", "-t", "none", "-d", "unmap"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(&uri);
    let told = run("qemu-io", "qemu-utils", &args);
    assert!(!told.contains("failed") && !told.contains("rror"), "{told}");
    told
}

fn qemu_img(args: &[&str]) -> String {
    run("qemu-img", "qemu-utils", args)
}

#[test]
fn qemu_io_reads_back_what_it_wrote_zeroed_and_discarded() {
    for minimum in [1, 512, 4096] {
        let served = Served::new(BYTES, minimum);
        qemu_io(
            &served,
            &[
                "write -P 7 0 1M",
                "read -P 7 0 1M",
                "write -P 9 1000 3001",
                "read -P 7 0 1000",
                "read -P 9 1000 3001",
                "read -P 7 4001 1000",
                "write -z 8k 8k",
                "read -P 0 8k 8k",
                "write -z -u 32k 64k",
                "read -P 0 32k 64k",
                "discard 256k 256k",
                "read -P 7 512k 512k",
                "read -P 0 15M 1M",
                "aio_write -P 1 2M 1M",
                "aio_write -P 2 3M 1M",
                "aio_write -P 3 4M 1M",
                "aio_flush",
                "read -P 1 2M 1M",
                "read -P 2 3M 1M",
                "read -P 3 4M 1M",
            ],
        );
        let memory = served.memory.lock().unwrap();
        let holes =
            |range: std::ops::Range<usize>| memory.present[range.start / PAGE..range.end / PAGE].iter();
        assert!(
            holes(32 << 10..96 << 10).all(|present| !present),
            "unmapped as asked"
        );
        assert!(holes(256 << 10..512 << 10).all(|present| !present), "discarded");
        assert!(
            holes(8 << 10..16 << 10).all(|present| *present),
            "zeroed and kept"
        );
    }
}

#[test]
fn qemu_io_s_flush_and_fua_reach_the_disk() {
    let served = Served::new(BYTES, 4096);
    qemu_io(
        &served,
        &[
            "write -P 1 0 4k",
            "flush",
            "write -f -P 2 4k 4k",
            "write -z -f 8k 4k",
        ],
    );
    let counts = served.counts();
    assert!(counts.flushes >= 1 && counts.fua == 2, "{counts:?}");
}

#[test]
fn the_largest_payload_comes_in_one_request() {
    let served = Served::new(64 << 20, 4096);
    qemu_io(
        &served,
        &["write -P 5 4k 32M", "read -P 5 4k 32M", "read -P 0 33M 31M"],
    );
}

#[test]
fn qemu_img_s_map_shows_what_is_there() {
    let served = Served::new(BYTES, 4096);
    served.fill(1 << 20..2 << 20);
    served.fill(8 << 20..(8 << 20) + 4096);
    let map = qemu_img(&["map", "--output=json", "-f", "raw", &served.uri()]);
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let told: Vec<_> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["start"].as_u64(), e["zero"].as_bool()))
        .collect();
    let starts = [0, 1 << 20, 2 << 20, 8 << 20, (8 << 20) + 4096];
    let expected: Vec<_> = starts
        .iter()
        .zip([true, false].iter().cycle())
        .map(|(at, zero)| (Some(*at), Some(*zero)))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn qemu_img_converts_out_of_an_export_and_into_one() {
    let source = Served::new(BYTES, 4096);
    source.fill(123_456..3_000_000);
    source.fill(9 << 20..(9 << 20) + 1);
    let image = source.path("image.qcow2");
    let image = image.to_str().unwrap();
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", &source.uri(), image]);
    let target = Served::new(BYTES, 4096);
    target.fill(0..BYTES);
    qemu_img(&[
        "convert",
        "-n",
        "-W",
        "-f",
        "qcow2",
        "-O",
        "raw",
        image,
        &target.uri(),
    ]);
    let compared = qemu_img(&["compare", "-f", "raw", "-F", "raw", &source.uri(), &target.uri()]);
    assert!(compared.contains("identical"), "{compared}");
    assert!(source.memory.lock().unwrap().bytes == target.memory.lock().unwrap().bytes);
    let present = target
        .memory
        .lock()
        .unwrap()
        .present
        .iter()
        .filter(|present| **present)
        .count();
    assert!(present < 1000, "what was zeros became holes: {present} pages");
}
