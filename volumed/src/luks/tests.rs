//! Against the format, and against QEMU and cryptsetup, which must agree with us in both directions.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use aes::cipher::KeyInit as _;
use proptest::prelude::*;

use super::*;
use crate::backup::tests::{Seeded, noise};

const PASSPHRASE: &str = "28712ddf74291b27407c4218c577052e2f13936eb6bcab18af5878d3166b4da2";
const PAYLOAD_BYTES: u64 = 8 << 20;

static HEADER: LazyLock<Vec<u8>> = LazyLock::new(|| create_header(PASSPHRASE, &Seeded::new(1)));

fn header() -> Vec<u8> {
    HEADER.clone()
}

/// Runs a tool that the tests need; says how to get it when it is not there.
fn run(tool: &str, package: &str, arguments: &[&str]) -> Output {
    match Command::new(tool)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
    {
        Ok(output) => output,
        Err(error) => panic!("{tool}: {error}; install the package {package} (xtask setup does)"),
    }
}

fn succeed(tool: &str, package: &str, arguments: &[&str]) -> String {
    let output = run(tool, package, arguments);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{tool} {arguments:?}: {text}");
    text
}

fn qemu_io(image: &Path, passphrase: &str, commands: &[&str]) -> Output {
    let secret = format!("secret,id=key,data={passphrase}");
    let options = format!(
        "driver=luks,key-secret=key,file.driver=file,file.filename={}",
        image.display()
    );
    let mut arguments = vec!["--object", &secret, "--image-opts", &options];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    run("qemu-io", "qemu-utils", &arguments)
}

/// Makes a LUKS file with a payload never written.
fn image(dir: &Path, header: &[u8]) -> std::path::PathBuf {
    let path = dir.join("image.luks");
    let file = File::create(&path).unwrap();
    file.write_all_at(header, 0).unwrap();
    file.set_len(HEADER_BYTES + PAYLOAD_BYTES).unwrap();
    path
}

#[test]
fn qemu_and_cryptsetup_take_our_header_for_luks1() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), &header());
    let info = succeed("qemu-img", "qemu-utils", &["info", &path.display().to_string()]);
    for expected in [
        "file format: luks",
        "virtual size: 8 MiB (8388608 bytes)",
        "cipher alg: aes-256",
        "cipher mode: xts",
    ] {
        assert!(info.contains(expected), "{expected:?} not in {info}");
    }
    for expected in [
        "ivgen alg: plain64",
        "hash alg: sha256",
        "payload offset: 4194304",
        "master key iters: 1000",
    ] {
        assert!(info.contains(expected), "{expected:?} not in {info}");
    }
    let dump = succeed(
        "cryptsetup",
        "cryptsetup-bin",
        &["luksDump", &path.display().to_string()],
    );
    for expected in [
        "Version:       \t1",
        "Payload offset:\t8192",
        "MK bits:       \t512",
        "Key Slot 0: ENABLED",
        "Key Slot 7: DISABLED",
    ] {
        assert!(dump.contains(expected), "{expected:?} not in {dump}");
    }
}

#[test]
fn cryptsetup_opens_our_key_slot_with_the_right_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), &header()).display().to_string();
    for (passphrase, opens) in [(PASSPHRASE, true), ("wrong", false)] {
        let key_file = dir.path().join("passphrase");
        File::create(&key_file)
            .unwrap()
            .write_all_at(passphrase.as_bytes(), 0)
            .unwrap();
        if !opens {
            File::options()
                .write(true)
                .open(&key_file)
                .unwrap()
                .set_len(5)
                .unwrap();
        }
        let key_file = key_file.display().to_string();
        let arguments = [
            "open",
            "--test-passphrase",
            "--type",
            "luks1",
            "--key-file",
            &key_file,
            &path,
        ];
        let output = run("cryptsetup", "cryptsetup-bin", &arguments);
        assert_eq!(
            output.status.success(),
            opens,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn what_qemu_writes_we_read_and_what_we_write_qemu_reads() {
    let dir = tempfile::tempdir().unwrap();
    let header = header();
    let path = image(dir.path(), &header);
    let cipher = Cipher::open(&header, PASSPHRASE).unwrap();

    let written = qemu_io(&path, PASSPHRASE, &["write -P 0xa5 0 64k", "write -P 0x3c 5M 1k"]);
    assert!(
        written.status.success(),
        "{}",
        String::from_utf8_lossy(&written.stderr)
    );
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let read = |offset: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, HEADER_BYTES + offset).unwrap();
        cipher.decrypt(offset / SECTOR_BYTES, &mut bytes);
        bytes
    };
    assert!(read(0, 64 << 10) == vec![0xa5; 64 << 10]);
    assert!(read(5 << 20, 1024) == vec![0x3c; 1024]);

    let mut ours = vec![0x77; 1 << 20];
    cipher.encrypt((3 << 20) / SECTOR_BYTES, &mut ours);
    file.write_all_at(&ours, HEADER_BYTES + (3 << 20)).unwrap();
    let checked = qemu_io(&path, PASSPHRASE, &["read -P 0x77 3M 1M", "read -P 0xa5 0 64k"]);
    let output = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && !output.contains("failed"), "{output}");

    let refused = qemu_io(&path, "wrong", &["read 0 512"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains("Invalid password"), "{message}");
}

#[test]
fn a_file_that_qemu_made_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qemu.luks");
    let secret = format!("secret,id=key,data={PASSPHRASE}");
    let options =
        "key-secret=key,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha256,iter-time=10";
    let name = path.display().to_string();
    // QEMU times its PBKDF2 to choose a number of rounds, and gives up when the host's CPU accounting ticked too
    // coarsely just then: a matter of load, not of the file.
    let made = (0..20).any(|_| {
        let arguments = [
            "create", "-q", "--object", &secret, "-f", "luks", "-o", options, &name, "8M",
        ];
        let output = run("qemu-img", "qemu-utils", &arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() || message.contains("accurate CPU usage"),
            "{message}"
        );
        output.status.success()
    });
    assert!(made, "qemu-img could not time its PBKDF2 twenty times in a row");
    let bytes = std::fs::read(&path).unwrap();
    let cipher = Cipher::open(&bytes, PASSPHRASE).unwrap();
    let written = qemu_io(&path, PASSPHRASE, &["write -P 0x42 4k 4k"]);
    assert!(written.status.success());
    let bytes = std::fs::read(&path).unwrap();
    let at = usize::try_from(cipher.payload_offset_bytes()).unwrap() + 4096;
    let mut sectors = bytes[at..at + 4096].to_vec();
    cipher.decrypt(8, &mut sectors);
    assert!(sectors == vec![0x42; 4096]);
}

#[test]
fn a_rekeyed_header_opens_the_same_payload_for_qemu_with_the_new_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let old = header();
    let path = image(dir.path(), &old);
    assert!(
        qemu_io(&path, PASSPHRASE, &["write -P 0x5a 1M 4k"])
            .status
            .success()
    );
    let new = rekey_header(&old, PASSPHRASE, "another-passphrase", &Seeded::new(2)).unwrap();
    assert_eq!(new.len() as u64, HEADER_BYTES);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(&new, 0)
        .unwrap();
    let read = qemu_io(&path, "another-passphrase", &["read -P 0x5a 1M 4k"]);
    let output = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success() && !output.contains("failed"), "{output}");
    assert_eq!(
        Cipher::open(&new, PASSPHRASE).unwrap_err(),
        LuksError::WrongPassphrase
    );
    let refused = rekey_header(&old, "wrong", "new", &Seeded::new(3));
    assert_eq!(refused, Err(LuksError::WrongPassphrase));
}

#[test]
fn the_header_is_laid_out_as_the_byte_table_says() {
    let header = header();
    assert_eq!(header.len(), 4 << 20);
    assert_eq!(&header[..8], b"LUKS\xba\xbe\x00\x01");
    assert_eq!(
        &header[8..44],
        b"aes\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0xts-"
    );
    assert_eq!(&header[40..52], b"xts-plain64\0");
    assert_eq!(&header[72..79], b"sha256\0");
    assert_eq!(header[104..112], [0, 0, 0x20, 0, 0, 0, 0, 64]);
    assert_eq!(header[164..168], 1_000_u32.to_be_bytes());
    assert_eq!(header[208..216], [0x00, 0xac, 0x71, 0xf3, 0, 0, 3, 0xe8]);
    assert_eq!(header[248..256], [0, 0, 0, 8, 0, 0, 0x0f, 0xa0]);
    assert_eq!(header[256..264], [0, 0, 0xde, 0xad, 0, 0, 0, 0]);
    assert_eq!(header[296..304], [0, 0, 2, 0, 0, 0, 0x0f, 0xa0]);
    // Slot 0's material, and nothing behind it up to the payload.
    assert!(header[4096..4096 + 256_000].iter().any(|byte| *byte != 0));
    assert!(header[4096 + 256_000..].iter().all(|byte| *byte == 0));
}

#[test]
fn two_headers_for_one_passphrase_have_nothing_in_common() {
    let other = create_header(PASSPHRASE, &Seeded::new(9));
    let mut one = vec![1; 512];
    let mut two = one.clone();
    Cipher::open(&header(), PASSPHRASE).unwrap().encrypt(0, &mut one);
    Cipher::open(&other, PASSPHRASE).unwrap().encrypt(0, &mut two);
    assert_ne!(one, two);
}

#[test]
fn sectors_are_numbered_one_by_one() {
    let cipher = Cipher::open(&header(), PASSPHRASE).unwrap();
    let plain = noise(4, 8 * 512);
    let mut together = plain.clone();
    cipher.encrypt(100, &mut together);
    for sector in 0..8 {
        let mut alone = plain[sector * 512..(sector + 1) * 512].to_vec();
        cipher.encrypt(100 + sector as u64, &mut alone);
        assert!(
            alone == together[sector * 512..(sector + 1) * 512],
            "sector {sector}"
        );
    }
    cipher.decrypt(100, &mut together);
    assert!(together == plain);
}

#[test]
fn headers_that_are_damaged_or_of_another_kind_are_refused_by_name() {
    let check = |at: usize, bytes: &[u8], expected: LuksError| {
        let mut header = header();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Cipher::open(&header, PASSPHRASE).unwrap_err(), expected);
    };
    let unsupported = |field| LuksError::Unsupported { field };
    check(0, b"X", LuksError::NotLuks);
    check(6, &[0, 2], unsupported("version"));
    check(8, b"twofish", unsupported("cipher"));
    check(40, b"cbc-essiv", unsupported("cipher mode"));
    check(72, b"sha512", unsupported("hash"));
    check(108, &[0, 0, 0, 32], unsupported("key length"));
    check(164, &[0xff; 4], unsupported("digest iterations"));
    check(208, &[1, 2, 3, 4], unsupported("key slot state"));
    check(212, &[0xff; 4], unsupported("key slot iterations"));
    check(252, &[0, 0, 0, 1], unsupported("key slot"));
    check(120, &[0; 8], LuksError::WrongPassphrase);
    check(5_000, &[0; 32], LuksError::WrongPassphrase);
    let expected_bytes = 4096 + 256_000;
    let short = LuksError::Short {
        got_bytes: 5_000,
        expected_bytes,
    };
    assert_eq!(Cipher::open(&header()[..5_000], PASSPHRASE).unwrap_err(), short);
    check(
        248,
        &[0xff; 4],
        LuksError::Short {
            got_bytes: 4 << 20,
            expected_bytes: 0xffff_ffff * 512 + 256_000,
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn prop_sectors_are_enciphered_as_another_implementation_does(sectors in 0..40_usize, first: u64, seed: u64) {
        let mut key = [0; MASTER_KEY_BYTES];
        Seeded::new(seed).fill(&mut key);
        let half = |at: usize| aes::Aes256::new(key[at..at + 32].as_array::<32>().unwrap().into());
        let other = xts_mode::Xts128::new(half(0), half(32));
        // Numbers past the last 64-bit one would not be sectors.
        let first = first >> 1;
        let plain = noise(seed, sectors * 512);
        let (mut ours, mut theirs) = (plain.clone(), plain.clone());
        let cipher = Cipher::new(&key, 0);
        cipher.encrypt(first, &mut ours);
        other.encrypt_area(&mut theirs, 512, u128::from(first), xts_mode::get_tweak_default);
        prop_assert!(ours == theirs);
        cipher.decrypt(first, &mut ours);
        prop_assert!(ours == plain);
    }

    #[test]
    fn prop_split_keys_merge(key in prop::collection::vec(any::<u8>(), 1..80), stripes in 1..20_usize, seed: u64) {
        let material = anti_forensic::split(&key, stripes, &Seeded::new(seed));
        prop_assert_eq!(material.len(), key.len() * stripes);
        let mut merged = vec![0; key.len()];
        anti_forensic::merge(&material, &mut merged);
        prop_assert_eq!(merged, key);
    }

    #[test]
    fn prop_arbitrary_headers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..700), at in 6..592_usize) {
        prop_assert!(Cipher::open(&bytes, PASSPHRASE).is_err());
        let mut header = HEADER.clone();
        header.truncate(4096 + 256_000);
        let end = (at + bytes.len().min(4)).min(592);
        let part = &bytes[..end - at];
        // Not the iteration counts: up to ten million rounds are allowed, and slow.
        let slow = (164..168).contains(&at) || (161..164).contains(&at) || (209..216).contains(&at);
        if !slow {
            header[at..end].copy_from_slice(part);
            let _opened = Cipher::open(&header, PASSPHRASE);
        }
    }
}
