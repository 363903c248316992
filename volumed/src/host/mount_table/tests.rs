use super::*;

const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:36 / /run rw,nosuid - tmpfs tmpfs rw,size=1
90 22 7:3 / /srv/my\\040data rw,relatime shared:50 master:1 - ext4 /dev/loop3 rw
91 22 7:4 / /srv/twice rw - ext4 /dev/loop4 rw
92 91 7:5 / /srv/twice rw - xfs /dev/mapper/hangar-vol_1 rw
";

fn source(point: &str) -> Option<String> {
    at(TABLE, point.as_bytes()).map(|mount| String::from_utf8(mount.source).unwrap())
}

#[test]
fn a_mount_is_found_by_its_directory() {
    assert_eq!(source("/").as_deref(), Some("/dev/vda"));
    assert_eq!(source("/run").as_deref(), Some("tmpfs"));
    assert_eq!(source("/srv"), None);
}

#[test]
fn blanks_in_a_directory_are_read_and_optional_fields_skipped() {
    assert_eq!(source("/srv/my data").as_deref(), Some("/dev/loop3"));
}

#[test]
fn of_two_mounts_on_one_directory_the_upper_is_seen() {
    assert_eq!(source("/srv/twice").as_deref(), Some("/dev/mapper/hangar-vol_1"));
}

#[test]
fn what_is_no_escape_stays_as_it_is() {
    assert_eq!(unescaped(b"a\\134b\\zz\\04"), b"a\\b\\zz\\04");
}

#[test]
fn lines_that_are_cut_off_are_skipped() {
    assert_eq!(at(b"1 2 3\n1 2 3 4 /x rw\n", b"/x"), None);
}
