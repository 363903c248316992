use super::*;

const BYTES: u64 = 8 * MIB;

fn device() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(BYTES).unwrap();
    file
}

#[test]
fn a_device_of_zeros_is_blank() {
    assert_eq!(inspect(&device(), BYTES).unwrap(), Content::Blank);
}

#[test]
fn a_byte_in_the_first_or_last_mib_forbids_formatting() {
    for offset in [0, MIB - 1, BYTES - MIB, BYTES - 1, BYTES - MARK_FROM_END] {
        let device = device();
        device.write_all_at(&[1], offset).unwrap();
        assert_eq!(
            inspect(&device, BYTES).unwrap(),
            Content::Something,
            "byte at {offset}"
        );
    }
}

#[test]
fn a_format_cut_short_may_start_over_and_a_whole_one_may_not() {
    let device = device();
    begin(&device, BYTES).unwrap();
    assert_eq!(inspect(&device, BYTES).unwrap(), Content::HalfFormatted);
    device.write_all_at(b"superblock", 1024).unwrap();
    assert_eq!(inspect(&device, BYTES).unwrap(), Content::HalfFormatted);
    end(&device, BYTES).unwrap();
    assert_eq!(inspect(&device, BYTES).unwrap(), Content::Something);
}

#[test]
fn what_the_file_system_put_over_the_mark_stays() {
    let device = device();
    begin(&device, BYTES).unwrap();
    device.write_all_at(b"table", BYTES - MARK_FROM_END).unwrap();
    end(&device, BYTES).unwrap();
    let mut there = [0; 5];
    device.read_exact_at(&mut there, BYTES - MARK_FROM_END).unwrap();
    assert_eq!(&there, b"table");
}

#[test]
fn a_device_too_small_for_two_ends_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MIB).unwrap();
    assert!(matches!(
        inspect(&file, MIB),
        Err(FormatError::TooSmall { bytes: MIB })
    ));
}
