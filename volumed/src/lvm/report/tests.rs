use super::*;

/// As LVM 2.03.16 prints it, of an inactive linear volume.
const LINEAR: &str = r#"
  {
      "report": [
          {
              "lv": [
                  {"lv_uuid":"SQaHfS-T4qP-6miw-oMUi-aHCr-YxGX-xzHlux", "lv_name":"v-abc", "lv_attr":"-wi------k", "lv_size":"20971520", "lv_metadata_size":"", "lv_tags":"volumed,volumed.id=v-abc,volumed.state=new", "pool_lv":"", "origin":"", "thin_id":"", "transaction_id":"", "data_percent":"", "chunk_size":"0", "zero":"unknown", "lv_active":"", "lv_suspended":"", "lv_device_open":"", "lv_snapshot_invalid":"unknown", "seg_pe_ranges":"/dev/loop0:0-4", "a_new_field":"x"},
                  {"lv_uuid":"SQaHfS-T4qP-6miw-oMUi-aHCr-YxGX-xzHlux", "lv_name":"v-abc", "lv_attr":"-wi------k", "lv_size":"20971520", "lv_metadata_size":"", "lv_tags":"volumed", "pool_lv":"", "origin":"", "thin_id":"", "transaction_id":"", "data_percent":"", "chunk_size":"0", "zero":"unknown", "lv_active":"", "lv_suspended":"", "lv_device_open":"", "lv_snapshot_invalid":"unknown", "seg_pe_ranges":"/dev/loop0:9-9"}
              ]
          }
      ]
  }
"#;

#[test]
fn a_linear_volume_is_read_once_however_many_segments_it_has() {
    let found = lvs(LINEAR).unwrap();
    assert_eq!(found.len(), 1);
    let lv = &found[0];
    assert_eq!(
        (lv.name.as_str(), lv.size_bytes, lv.hidden),
        ("v-abc", 20 << 20, false)
    );
    assert_eq!(lv.tags, ["volumed", "volumed.id=v-abc", "volumed.state=new"]);
    assert_eq!(
        (
            lv.pool.as_ref(),
            lv.origin.as_ref(),
            lv.thin_id,
            lv.allocated_bytes
        ),
        (None, None, None, None)
    );
    assert_eq!((lv.active, lv.open, lv.overflowed), (false, false, false));
    assert_eq!(lv.place, "/dev/loop0:0-4");
}

#[test]
fn a_thin_pool_its_parts_and_its_volumes_are_told_apart() {
    let row = |name: &str, attr: &str, rest: &str| {
        let fixed = r#""lv_uuid":"NAME","lv_name":"NAME","lv_attr":"ATTR","lv_size":"1073741824","lv_suspended":"","lv_snapshot_invalid":"unknown","seg_pe_ranges":"""#;
        format!("{{{},{rest}}}", fixed.replace("NAME", name).replace("ATTR", attr))
    };
    let pool = row(
        "pool",
        "twi-aotz--",
        r#""lv_metadata_size":"4194304","lv_tags":"","pool_lv":"","origin":"","thin_id":"","transaction_id":"7","data_percent":"12.50","chunk_size":"65536","zero":"zero","lv_active":"active","lv_device_open":"open""#,
    );
    let meta = row(
        "[pool_tmeta]",
        "ewi-ao----",
        r#""lv_metadata_size":"","lv_tags":"","pool_lv":"","origin":"","thin_id":"","transaction_id":"","data_percent":"","chunk_size":"0","zero":"unknown","lv_active":"active","lv_device_open":"open""#,
    );
    let thin = row(
        "s-1",
        "Vwi---tz-k",
        r#""lv_metadata_size":"","lv_tags":"volumed","pool_lv":"pool","origin":"v-1","thin_id":"2","transaction_id":"3","data_percent":"","chunk_size":"0","zero":"zero","lv_active":"","lv_device_open":"""#,
    );
    let found = lvs(&format!(r#"{{"report":[{{"lv":[{pool},{meta},{thin}]}}]}}"#)).unwrap();
    assert!(found[0].is_thin_pool() && found[0].zeroes && found[0].active);
    assert_eq!(
        (
            found[0].allocated_bytes,
            found[0].metadata_bytes,
            found[0].chunk_bytes
        ),
        (Some(128 << 20), Some(4 << 20), 65536)
    );
    assert_eq!((found[1].name.as_str(), found[1].hidden), ("pool_tmeta", true));
    assert_eq!(
        (found[2].pool.as_deref(), found[2].thin_id),
        (Some("pool"), Some(2))
    );
    assert!(!found[2].is_cow_snapshot());
}

#[test]
fn a_group_is_read_and_a_partial_one_is_not_writable() {
    let row = |attr: &str, missing: &str| {
        format!(
            r#"{{"report":[{{"vg":[{{"vg_name":"vg0", "vg_uuid":"RZdR2J-GVsH", "vg_size":"624951296", "vg_free":"603979776", "vg_extent_size":"4194304", "vg_missing_pv_count":"{missing}", "vg_attr":"{attr}", "vg_tags":"", "vg_seqno":"2"}}]}}]}}"#
        )
    };
    let group = vg(&row("wz--n-", "0")).unwrap();
    assert_eq!((group.free_bytes, group.extent_bytes), (603_979_776, 4 << 20));
    assert!(group.writable);
    let partial = vg(&row("wz-pn-", "1")).unwrap();
    assert!(!partial.writable && partial.missing_pvs == 1);
    assert!(!vg(&row("wzx-n-", "0")).unwrap().writable);
    assert!(!vg(&row("rz--n-", "0")).unwrap().writable);
}

#[test]
fn what_is_not_a_report_is_refused_with_the_field_that_is_wrong() {
    let missing = lvs(r#"{"report":[{"lv":[{"lv_uuid":"x"}]}]}"#).unwrap_err();
    assert!(crate::ops::chain(&missing).contains("lv_name"), "{missing:?}");
    let number = lvs(&LINEAR.replace("20971520", "20.00m")).unwrap_err();
    assert_eq!(
        number.to_string(),
        r#"report of lvs: lv_size of v-abc is "20.00m", not a number"#
    );
    assert!(matches!(
        vg(r#"{"report":[{"vg":[]}]}"#),
        Err(ReportError::Count { count: 0 })
    ));
    assert!(lvs("lvs: command not found").is_err());
}

#[test]
fn physical_volumes_are_those_that_have_a_path() {
    let json = r#"{"report": [{"pv": [{"pv_name":"/dev/nvme0n1"}, {"pv_name":"[unknown]"}, {"pv_name":"/dev/sdb"}]}]}"#;
    assert_eq!(
        pvs(json).unwrap(),
        [PathBuf::from("/dev/nvme0n1"), PathBuf::from("/dev/sdb")]
    );
    assert!(pvs("{}").is_err());
}
