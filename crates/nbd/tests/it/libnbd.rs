use super::clients::run;
use super::export::Served;
use nbd::Export;

const BYTES: usize = 32 << 20;
const PACKAGE: &str = "libnbd-bin";

#[test]
fn nbdinfo_lists_exports_with_what_they_can_do() {
    let served = Served::new(BYTES, 512);
    let other = Export {
        read_only: true,
        ..Export::new("other", 1 << 40)
    };
    served.exports.lock().unwrap().push(other);
    let told = run("nbdinfo", PACKAGE, &["--json", "--list", &served.uri()]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["protocol"], "newstyle-fixed");
    assert_eq!(told["structured"], true);
    let exports = told["exports"].as_array().unwrap();
    assert_eq!(exports.len(), 2);
    let disk = &exports[0];
    assert_eq!(disk["export-name"], "disk");
    assert_eq!(disk["description"], "in memory");
    assert_eq!(disk["export-size"], BYTES);
    assert_eq!(disk["contexts"], serde_json::json!(["base:allocation"]));
    for (what, offered) in [
        ("is_read_only", false),
        ("is_rotational", false),
        ("can_cache", true),
        ("can_df", true),
        ("can_fast_zero", true),
        ("can_flush", true),
        ("can_fua", true),
        ("can_multi_conn", true),
        ("can_trim", true),
        ("can_zero", true),
    ] {
        assert_eq!(disk[what], offered, "{what}");
    }
    assert_eq!(disk["block_size_minimum"], 512);
    assert_eq!(disk["block_size_preferred"], 4096);
    assert_eq!(disk["block_size_maximum"], 32 << 20);
    assert_eq!(exports[1]["is_read_only"], true);
    assert_eq!(exports[1]["export-size"], 1_u64 << 40);
}

#[test]
fn nbdinfo_sees_a_grown_export() {
    let served = Served::new(BYTES, 4096);
    let size = |served: &Served| run("nbdinfo", PACKAGE, &["--size", &served.uri_of("")]);
    assert_eq!(size(&served).trim(), BYTES.to_string());
    served.exports.lock().unwrap()[0].bytes *= 2;
    assert_eq!(size(&served).trim(), (2 * BYTES).to_string());
}

#[test]
fn nbdinfo_s_map_shows_what_is_there() {
    let served = Served::new(BYTES, 4096);
    served.fill(4096..12288);
    let told = run("nbdinfo", PACKAGE, &["--map", "--json", &served.uri()]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let told: Vec<_> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| {
            (
                extent["offset"].as_u64().unwrap(),
                extent["type"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [(0, 3), (4096, 0), (12288, 3)]);
}

#[test]
fn nbdcopy_brings_bytes_in_and_out_over_several_connections() {
    let source = Served::new(BYTES, 1);
    source.fill(1..10_000_000);
    source.fill(20_000_000..20_000_001);
    let file = source.path("copy");
    let name = file.to_str().unwrap();
    run(
        "nbdcopy",
        PACKAGE,
        &[
            "--threads=4",
            "--connections=4",
            "--requests=32",
            &source.uri(),
            name,
        ],
    );
    assert!(source.is_in(&file));
    assert!(source.counts().connections == 4, "{:?}", source.counts());
    let target = Served::new(BYTES, 1);
    target.fill(0..BYTES);
    run(
        "nbdcopy",
        PACKAGE,
        &["--flush", "--connections=4", name, &target.uri()],
    );
    assert!(target.is_in(&file));
    assert!(target.counts().flushes >= 1);
    let straight = Served::new(BYTES, 1);
    run(
        "nbdcopy",
        PACKAGE,
        &["--synchronous", &source.uri(), &straight.uri()],
    );
    assert!(straight.is_in(&file));
}
