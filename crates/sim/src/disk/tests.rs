use super::*;

const STATE: &str = "/d/state";

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(1 << 20, Rng::new(seed), Trace::new())
}

fn replace(disk: &SimDisk, bytes: &[u8]) -> Result<()> {
    crashsafe::create_dir_durable(disk, "t", Path::new("/d"))?;
    crashsafe::write_atomic(disk, "t", Path::new(STATE), bytes, 0o600)
}

fn state(disk: &SimDisk) -> Option<Vec<u8>> {
    disk.seen()
        .file(&STATE[1..])
        .map(crashsafe::model::Content::to_vec)
}

#[test]
fn an_atomic_write_is_old_or_new_wherever_the_power_goes() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..200 {
        let disk = disk(seed);
        replace(&disk, &[1; 5_000]).unwrap();
        disk.cut_power_after(seed % 8);
        let done = replace(&disk, &[2; 9_000]);
        assert_eq!(done.is_ok(), disk.is_powered());
        disk.reboot();
        match state(&disk) {
            Some(bytes) if bytes == [2; 9_000] => new += 1,
            Some(bytes) if bytes == [1; 5_000] && done.is_err() => old += 1,
            left => panic!(
                "seed {seed}: {:?} bytes after {done:?}",
                left.map(|left| left.len())
            ),
        }
    }
    assert!(old > 20 && new > 20, "{old} old, {new} new");
}

#[test]
fn every_call_fails_while_the_power_is_off_and_old_files_after_it() {
    let disk = disk(1);
    replace(&disk, b"bytes").unwrap();
    let file = disk.open("t", Path::new(STATE), OpenOptions::READ_WRITE).unwrap();
    disk.cut_power();
    assert!(disk.stat(Path::new(STATE)).is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    disk.reboot();
    assert!(disk.stat(Path::new(STATE)).unwrap().is_some());
    assert!(file.read_at(&mut [0], 0).is_err() && file.sync_data().is_err());
}

#[test]
fn the_power_goes_right_after_the_given_event() {
    let disk = disk(1);
    replace(&disk, b"bytes").unwrap();
    let before = disk.events().len();
    disk.cut_power_after(3);
    replace(&disk, b"other").unwrap_err();
    assert_eq!(
        disk.events()[before..],
        ["t:create_dir_all", "t:sync_dir", "t:open"]
    );
}

#[test]
fn a_full_disk_refuses_writes_and_reservations_and_takes_them_when_room_is_made() {
    let disk = disk(1);
    let path = Path::new("/big");
    let file = disk.open("t", path, OpenOptions::CREATE_NEW).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    assert_eq!(
        disk.space(path).unwrap(),
        Space {
            total_bytes: 1 << 20,
            free_bytes: 0
        }
    );
    file.write_at(&[1; 4096], 4096).unwrap();
    let other = disk
        .open("t", Path::new("/other"), OpenOptions::CREATE_NEW)
        .unwrap();
    assert_eq!(
        other.write_at(b"x", 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(other.allocate(0, 1).unwrap_err().kind(), ErrorKind::StorageFull);
    file.punch_hole(0, 4096).unwrap();
    other.write_at(b"x", 0).unwrap();
    disk.remove_file("t", path).unwrap();
    assert_eq!(disk.space(path).unwrap().free_bytes, (1 << 20) - 4096);
}

#[test]
fn a_failed_sync_is_reported_once_and_what_it_lost_stays_lost() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = disk(seed);
        replace(&disk, &[1; 8 * 4096]).unwrap();
        let file = disk.open("t", Path::new(STATE), OpenOptions::READ_WRITE).unwrap();
        file.write_at(&[2; 8 * 4096], 0).unwrap();
        disk.fail_next("t:sync_data", ErrorKind::Other);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        disk.reboot();
        lost += usize::from(state(&disk).unwrap() != [2; 8 * 4096]);
    }
    assert!(lost > 15, "{lost} of 20");
}

#[test]
fn an_injected_fault_strikes_its_event_once_and_without_effect() {
    let disk = disk(1);
    disk.fail_next("t:rename", ErrorKind::PermissionDenied);
    assert_eq!(
        replace(&disk, b"bytes").unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
    assert_eq!(state(&disk), None);
    replace(&disk, b"bytes").unwrap();
    assert_eq!(state(&disk).unwrap(), b"bytes");
}

#[test]
fn damage_changes_one_byte_for_good() {
    let disk = disk(1);
    replace(&disk, &[0; 3]).unwrap();
    disk.damage(Path::new(STATE), 1).unwrap();
    disk.reboot();
    assert_eq!(state(&disk).unwrap(), [0, 255, 0]);
    assert_eq!(
        disk.damage(Path::new(STATE), 3).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
}

#[test]
fn a_disk_without_reflinks_says_so() {
    let disk = disk(1).without_reflink();
    replace(&disk, b"bytes").unwrap();
    let error = disk
        .reflink("t", Path::new(STATE), Path::new("/d/copy"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(disk.stat(Path::new("/d/copy")).unwrap(), None);
}

#[test]
fn a_file_opened_to_be_read_is_not_written() {
    let disk = disk(1);
    replace(&disk, b"bytes").unwrap();
    let file = disk.open("t", Path::new(STATE), OpenOptions::READ).unwrap();
    assert_eq!(
        file.write_at(b"x", 0).unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
}
