use std::process::Command;

use super::*;

fn made(size_bytes: u64, options: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size_bytes).unwrap();
    let done = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4"])
        .args(options)
        .arg(file.path())
        .status();
    assert!(done.unwrap().success());
    file
}

#[test]
fn the_size_is_what_mke2fs_was_told_and_not_that_of_the_device() {
    for options in [["-b", "1024"], ["-b", "4096"], ["-O", "^64bit"], ["-O", "64bit"]] {
        let file = made(64 << 20, &options);
        file.as_file().set_len(128 << 20).unwrap();
        assert_eq!(size_bytes(file.path()).unwrap(), Some(64 << 20), "{options:?}");
    }
}

#[test]
fn more_blocks_than_32_bits_count_are_all_counted() {
    let mut superblock = [0; SUPERBLOCK_LEN];
    superblock[MAGIC_AT..MAGIC_AT + 2].copy_from_slice(&MAGIC);
    superblock[BLOCK_SIZE_AT] = 2;
    superblock[BLOCKS_HIGH_AT] = 1;
    superblock[BLOCKS_LOW_AT] = 5;
    // Without the feature the word is somebody else's.
    assert_eq!(parse(&superblock), Some(5 << 12));
    superblock[INCOMPATIBLE_AT] = 0x80;
    assert_eq!(parse(&superblock), Some((1 << 44) + (5 << 12)));
}

#[test]
fn anything_else_has_no_size() {
    let mut superblock = [0; SUPERBLOCK_LEN];
    assert_eq!(parse(&superblock), None);
    superblock[MAGIC_AT..MAGIC_AT + 2].copy_from_slice(&MAGIC);
    superblock[BLOCK_SIZE_AT] = 60;
    assert_eq!(parse(&superblock), None);
}
