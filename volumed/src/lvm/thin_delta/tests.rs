use proptest::prelude::*;

use super::*;

/// As thin-provisioning-tools 0.9.0 prints it.
const RECORDED: &str = r#"<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="1000">
  <diff left="1" right="2">
    <same begin="0" length="10"/>
    <different begin="10" length="1"/>
    <left_only begin="11" length="1"/>
    <same begin="12" length="8"/>
    <right_only begin="100" length="3"/>
  </diff>
</superblock>
"#;
const CHUNK: u64 = 64 << 10;

#[test]
fn what_differs_or_is_mapped_on_one_side_only_is_changed() {
    let delta = parse(RECORDED, 1, 2).unwrap();
    assert_eq!(delta.chunk_bytes, CHUNK);
    assert_eq!(delta.changed, [10 * CHUNK..12 * CHUNK, 100 * CHUNK..103 * CHUNK]);
}

#[test]
fn two_empty_volumes_do_not_differ() {
    let recorded = r#"<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="1000">
  <diff left="3" right="4">
  </diff>
</superblock>"#;
    assert_eq!(parse(recorded, 3, 4).unwrap().changed, []);
}

#[test]
fn another_pair_a_cut_document_and_an_unknown_element_are_refused() {
    assert!(matches!(parse(RECORDED, 1, 3), Err(DeltaError::Other { .. })));
    let lines: Vec<&str> = RECORDED.lines().collect();
    for kept in 0..lines.len() {
        assert_eq!(
            parse(&lines[..kept].join("\n"), 1, 2).unwrap_err(),
            DeltaError::Cut,
            "{kept} lines"
        );
    }
    for (from, to) in [
        ("left_only", "left_perhaps"),
        ("length=\"8\"", "length=\"0\""),
        ("begin=\"12\"", "begin=\"11\""),
        ("begin=\"12\"", "begin=\"-1\""),
        (
            "<different begin=\"10\" length=\"1\"/>",
            "<different begin=\"10\" length=\"1\">",
        ),
        ("data_block_size=\"128\"", "data_block_size=\"0\""),
    ] {
        let changed = RECORDED.replace(from, to);
        assert!(
            matches!(parse(&changed, 1, 2), Err(DeltaError::Line { .. })),
            "{to}"
        );
    }
}

proptest! {
    #[test]
    fn every_run_that_is_not_the_same_is_covered_and_nothing_else(
        runs in prop::collection::vec((0_u64..3, 1_u64..5, 0_usize..4), 0..40),
    ) {
        let kinds = ["same", "different", "left_only", "right_only"];
        let (mut at, mut expected, mut body) = (0, std::collections::BTreeSet::new(), String::new());
        for (gap, length, kind) in runs {
            at += gap;
            body.push_str(&format!("    <{} begin=\"{at}\" length=\"{length}\"/>\n", kinds[kind]));
            if kind != 0 {
                expected.extend(at..at + length);
            }
            at += length;
        }
        let xml = format!(
            "<superblock uuid=\"\" time=\"2\" transaction=\"3\" data_block_size=\"128\" nr_data_blocks=\"9\">\n  \
             <diff left=\"1\" right=\"2\">\n{body}  </diff>\n</superblock>\n"
        );
        let delta = parse(&xml, 1, 2).unwrap();
        let covered: std::collections::BTreeSet<u64> =
            delta.changed.iter().flat_map(|r| r.start / CHUNK..r.end / CHUNK).collect();
        prop_assert_eq!(covered, expected);
        prop_assert!(delta.changed.windows(2).all(|pair| pair[0].end < pair[1].start));
    }
}
