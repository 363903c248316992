//! Random requests, sound and absurd: no panic, no 500, nothing half-made.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::assert_agreement;

#[derive(Clone, Debug)]
enum Call {
    /// A create whose fields may be anything.
    Create(Vec<(&'static str, Value)>),
    /// A call on the n-th volume.
    OnVolume(usize, &'static str, &'static str, Value),
    /// A call on the n-th snapshot.
    OnSnapshot(usize, &'static str, &'static str),
    /// A new volume out of the n-th volume or snapshot.
    Copy(usize, &'static str, Value),
    /// Bytes that are no JSON, somewhere.
    Garbage(&'static str, &'static str),
    /// Time passes.
    Hours(u64),
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (1..4).prop_map(|n| json!(n)),
        1 => Just(Value::Null),
        1 => prop_oneof![Just(json!(0)), Just(json!(-1)), Just(json!(501)), Just(json!(1.5)), Just(json!(1e300))],
        1 => prop_oneof![Just(json!("")), Just(json!("ext4")), Just(json!("data")), Just(json!("x".repeat(5000)))],
        1 => prop_oneof![Just(json!(true)), Just(json!(false)), Just(json!([])), Just(json!({ "a": 1 }))],
        1 => (u64::MAX - 1..=u64::MAX).prop_map(|n| json!(n)),
    ]
}

fn field() -> impl Strategy<Value = (&'static str, Value)> {
    let names = prop::sample::select(vec![
        "app",
        "name",
        "region",
        "zone",
        "size_gb",
        "encrypted",
        "fstype",
        "snapshot_retention",
        "auto_backup_enabled",
        "snapshot_id",
        "source_volume_id",
        "require_unique_zone",
        "unique_zone_app_wide",
        "type",
        "pool",
        "idempotency_key",
        "unheard_of",
    ]);
    (names, anything())
}

fn machine() -> impl Strategy<Value = Value> {
    (prop::sample::select(vec!["m1", "m2", "", "a/b"]), 0..4_u64)
        .prop_map(|(id, generation)| json!({ "machine_id": id, "generation": generation, "formatted": true }))
}

fn call() -> impl Strategy<Value = Call> {
    let volume = prop_oneof![
        anything().prop_map(|size| ("PUT", "/extend", json!({ "size_gb": size }))),
        machine().prop_map(|m| ("POST", "/attach", m)),
        machine().prop_map(|m| ("POST", "/detach", m)),
        machine().prop_map(|m| ("POST", "/report", m)),
        Just(("POST", "/snapshots", Value::Null)),
        Just(("GET", "/snapshots", Value::Null)),
        Just(("GET", "/attachment", Value::Null)),
        Just(("DELETE", "", Value::Null)),
        Just(("POST", "/recover", Value::Null)),
        anything().prop_map(|days| ("PUT", "", json!({ "snapshot_retention": days }))),
        anything().prop_map(|any| ("POST", "/attach", any)),
    ];
    let snapshot = prop::sample::select(vec![("DELETE", ""), ("GET", ""), ("POST", "/verify")]);
    let paths = prop::sample::select(vec![
        "/v1/volumes",
        "/v1/volumes/vol_x",
        "/v1/key/import",
        "/v1/nothing",
    ]);
    let garbage = prop::sample::select(vec![
        "",
        "{",
        "[1,",
        "\u{0}",
        "{\"size_gb\": 1e999}",
        "null",
        "\"text\"",
    ]);
    prop_oneof![
        3 => prop::collection::vec(field(), 0..3).prop_map(Call::Create),
        8 => (0..4_usize, volume).prop_map(|(n, (m, p, b))| Call::OnVolume(n, m, p, b)),
        2 => (0..4_usize, snapshot).prop_map(|(n, (m, p))| Call::OnSnapshot(n, m, p)),
        2 => (0..4_usize, prop::sample::select(vec!["source_volume_id", "snapshot_id"]), anything())
            .prop_map(|(n, from, size)| Call::Copy(n, from, size)),
        1 => (paths, garbage).prop_map(|(path, text)| Call::Garbage(path, text)),
        1 => (1..40_u64).prop_map(Call::Hours),
    ]
}

/// What the model knows of a volume: that it was made, and its newest generation.
type Seen = BTreeMap<String, u64>;

async fn play(calls: Vec<Call>) {
    let rig = Rig::new();
    rig.run(async |service| {
        let http = router(service.clone());
        let mut seen = Seen::new();
        for call in calls {
            let (volumes, snapshots) = ids(&http).await;
            let id = |all: &[String], n: usize| {
                all.get(n)
                    .cloned()
                    .unwrap_or_else(|| "vol_0000000000000000".into())
            };
            let (status, answer) = match call.clone() {
                Call::Create(fields) => {
                    let mut body = create_body("data");
                    for (name, value) in fields {
                        body[name] = value;
                    }
                    super::call(&http, Method::POST, "/v1/volumes", Some(body)).await
                }
                Call::OnVolume(n, method, path, body) => {
                    let path = format!("/v1/volumes/{}{path}", id(&volumes, n));
                    super::call(&http, method.parse().unwrap(), &path, Some(body)).await
                }
                Call::OnSnapshot(n, method, path) => {
                    let path = format!("/v1/snapshots/{}{path}", id(&snapshots, n));
                    super::call(&http, method.parse().unwrap(), &path, None).await
                }
                Call::Copy(n, from, size) => {
                    let mut body = create_body("copy");
                    body["size_gb"] = size;
                    body[from] = json!(id(
                        if from == "snapshot_id" {
                            &snapshots
                        } else {
                            &volumes
                        },
                        n
                    ));
                    super::call(&http, Method::POST, "/v1/volumes", Some(body)).await
                }
                Call::Garbage(path, text) => raw(&http, Method::POST, path, Body::from(text)).await,
                Call::Hours(hours) => {
                    rig.advance(hours);
                    service.sweep_once().await;
                    continue;
                }
            };
            assert!(!status.is_server_error(), "{call:?}: {status} {answer}");
            if !status.is_success() {
                let sentence = answer["error"].as_str().unwrap_or_default();
                assert!(
                    sentence.len() >= 10,
                    "{call:?} was refused with {status} {answer}"
                );
            }
            generations_grow(&http, &mut seen).await;
        }
        settled(&service).await;
        assert_agreement(&service).await;
    })
    .await;
}

async fn ids(http: &Router) -> (Vec<String>, Vec<String>) {
    let of = |all: Value| {
        let all = all.as_array().cloned().unwrap_or_default();
        all.iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect()
    };
    let volumes = ok(http, Method::GET, "/v1/volumes", None).await;
    let snapshots = ok(http, Method::GET, "/v1/snapshots", None).await;
    (of(volumes), of(snapshots))
}

async fn generations_grow(http: &Router, seen: &mut Seen) {
    for volume in ok(http, Method::GET, "/v1/volumes", None)
        .await
        .as_array()
        .unwrap()
    {
        let generation = volume["generation"].as_u64().unwrap();
        let before = seen.insert(volume["id"].as_str().unwrap().to_owned(), generation);
        assert!(before.is_none_or(|before| before <= generation), "{volume}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_requests_never_break_anything(calls in prop::collection::vec(call(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(calls));
    }
}
