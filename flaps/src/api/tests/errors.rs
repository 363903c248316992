use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn unknown_paths_and_methods_answer_in_the_same_shape() {
    let world = World::with_app("a1").await;
    assert_eq!(world.get("/v1/nothing").await.0, 404);
    assert_eq!(world.call(Method::PATCH, "/v1/apps/a1", None).await.0, 405);
    assert_eq!(
        world.call(Method::DELETE, "/v1/apps/a1/volumes", None).await.0,
        405
    );
}

#[tokio::test]
async fn malformed_json_is_400_with_its_position() {
    let world = World::with_app("a1").await;
    let headers = [("authorization", "Bearer root-token")];
    for path in [
        "/v1/apps",
        "/v1/apps/a1/volumes",
        "/v1/apps/a1/machines",
        "/v1/apps/a1/machines/m1/start",
    ] {
        let (status, answer) = world
            .raw(Method::POST, path, &headers, b"{\"a\":\n nope}".to_vec())
            .await;
        assert_eq!(status, 400, "{path}");
        assert!(
            answer["error"].as_str().unwrap().contains("line 2 column 3"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_field_given_twice_is_400_and_a_senseless_placement_hint_422() {
    let world = World::with_app("a1").await;
    let path = "/v1/apps/a1/volumes";
    let headers = [("authorization", "Bearer root-token")];
    let twice = b"{\"name\": \"data\", \"size_gb\": 1, \"size_gb\": 2}".to_vec();
    let (status, answer) = world.raw(Method::POST, path, &headers, twice).await;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("\"size_gb\" is given twice"),
        "{answer}"
    );
    for (compute, expected) in [
        (json!({"cpus": -1}), 422),
        (json!({"cpus": 1, "memory_mb": "much"}), 422),
        (json!(7), 400),
    ] {
        let body = json!({"name": "data", "compute": compute});
        let (status, answer) = world.call(Method::POST, path, Some(body)).await;
        assert_eq!(status, expected, "{compute}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains("compute"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_413() {
    let world = World::with_app("a1").await;
    let body = vec![b' '; 65537];
    let (status, answer) = world
        .raw(
            Method::POST,
            "/v1/apps",
            &[("authorization", "Bearer root-token")],
            body,
        )
        .await;
    assert_eq!(status, 413, "{answer}");
}

#[tokio::test]
async fn a_dead_daemon_is_503_and_says_which() {
    let mut world = World::with_app("a1").await;
    world.kill_daemons().await;
    let (status, answer) = world.get("/v1/apps/a1/volumes").await;
    assert_eq!(status, 503);
    assert!(answer["error"].as_str().unwrap().contains("volumed"), "{answer}");
    let (status, answer) = world.get("/v1/apps/a1/machines/m1").await;
    assert_eq!(status, 503);
    assert!(
        answer["error"].as_str().unwrap().contains("machine-runner"),
        "{answer}"
    );
    let (status, app) = world.get("/v1/apps/a1").await;
    assert_eq!(
        (status, &app["machine_count"]),
        (200, &Value::Null),
        "what is not known is not made up"
    );
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a1".to_owned()),
        Just("vol_1".to_owned()),
        Just("m1".to_owned()),
        Just("machines".to_owned()),
        Just("volumes".to_owned()),
        Just("secrets".to_owned()),
        Just("snapshots".to_owned()),
        Just("extend".to_owned()),
        Just("personal".to_owned()),
        Just("%2e%2e".to_owned()),
        Just("%ff".to_owned()),
        "[a-zA-Z0-9_.:-]{0,12}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        Just("/v1/apps"),
        Just("/v1/apps/a1"),
        Just("/v1/apps/a1/machines"),
        Just("/v1/apps/a1/volumes"),
        Just("/v1/orgs/personal"),
        Just("/hangar/v1"),
        Just(""),
    ];
    let query = prop_oneof![Just(String::new()), "\\?[a-z_=&%0-9,]{0,24}"];
    (base, prop::collection::vec(part(), 0..3), query)
        .prop_map(|(base, parts, query)| format!("{base}/{}{query}", parts.join("/")))
}

fn body() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        Just("name"),
        Just("org_slug"),
        Just("size_gb"),
        Just("config"),
        Just("values"),
        Just("region"),
        Just("source_volume_id"),
        Just("expiry"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("a2")),
        Just(json!("personal")),
        Just(json!({"mounts": [{"volume": "vol_1"}]})),
        Just(json!([[], {}])),
    ];
    let object = prop::collection::vec((field, leaf), 0..5).prop_map(|pairs| {
        let map: serde_json::Map<String, Value> = pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Value::Object(map).to_string()
    });
    prop_oneof![object, "\\PC{0,40}", Just(String::new())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_request_panics_us_or_gets_an_error_that_is_not_json(
        method in prop_oneof![Just(Method::GET), Just(Method::POST), Just(Method::PUT), Just(Method::DELETE), Just(Method::PATCH), Just(Method::OPTIONS)],
        path in path(),
        body in body(),
    ) {
        thread_local! {
            static WORLD: (tokio::runtime::Runtime, World) = {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let world = runtime.block_on(World::with_app("a1"));
                world.add_volume("vol_1", "a1");
                world.add_machine("m1", "a1", "stopped");
                (runtime, world)
            };
        }
        prop_assume!(path.parse::<http::Uri>().is_ok());
        // A log line stream and a plain word are the only answers of the fakes that are no JSON.
        prop_assume!(!path.contains("/logs"));
        WORLD.with(|(runtime, world)| {
            let headers = [("authorization", "Bearer root-token")];
            let (status, answer) = runtime.block_on(world.raw(method.clone(), &path, &headers, body.into_bytes()));
            assert!(status < 500 || status == 502, "{method} {path}: {status} {answer}");
        });
    }
}
