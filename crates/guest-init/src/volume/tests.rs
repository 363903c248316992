use super::*;

#[test]
fn flags_and_the_file_systems_own_options_part_ways() {
    let words = ["noatime", "rw", "data=journal", "nodev", "discard"].map(str::to_owned);
    let (flags, data) = options(&words).unwrap();
    assert_eq!(flags, MountFlags::NOATIME | MountFlags::NODEV);
    assert_eq!(data.unwrap().to_str().unwrap(), "data=journal,discard");
    assert_eq!(
        options(&["defaults".to_owned()]).unwrap(),
        (MountFlags::empty(), None)
    );
}

#[test]
fn an_option_with_a_zero_byte_is_refused() {
    assert!(matches!(
        options(&["a\0b".to_owned()]),
        Err(VolumeError::Option { .. })
    ));
}
