use super::clients::run;
use super::export::Served;

#[test]
fn fio_verifies_what_it_wrote_at_random_with_sixteen_under_way() {
    let served = Served::new(32 << 20, 4096);
    let uri = format!("--uri={}", served.uri());
    let result = served.path("result");
    let output = format!("--output={}", result.display());
    let args = [
        "--name=verify",
        "--ioengine=nbd",
        &uri,
        "--rw=randwrite",
        "--bsrange=4k-128k",
        "--blockalign=4k",
        "--size=32m",
        "--iodepth=16",
        "--fsync=64",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randseed=1",
        "--output-format=json",
        &output,
    ];
    run("fio", "fio", &args);
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    let job = &told["jobs"][0];
    assert_eq!(job["error"], 0);
    for kind in ["read", "write"] {
        assert!(
            job[kind]["io_bytes"].as_u64().unwrap() >= 32 << 20,
            "{kind}: {}",
            job[kind]
        );
    }
    assert!(served.counts().flushes > 0);
}
