use guest_init::proto::config::FsType;
use guest_init::proto::message::VolumeUsage;

#[test]
fn blocks_are_turned_into_bytes() {
    let usage = VolumeUsage {
        serial: "vol_1".to_owned(),
        fstype: FsType::Ext4,
        block_size: 4096,
        blocks: 100,
        blocks_free: 40,
        blocks_avail: 30,
        device_bytes: 500_000,
    };
    let report = super::report_of("m", 3, &usage);
    assert_eq!(
        (report.bytes_total, report.bytes_used, report.generation),
        (Some(409_600), Some(245_760), 3)
    );
}
