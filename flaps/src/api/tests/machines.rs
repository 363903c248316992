use super::*;

#[tokio::test]
async fn a_created_machine_carries_the_network_and_the_secrets_of_its_app() {
    let world = World::with_app("a1").await;
    world
        .call(
            Method::POST,
            "/v1/apps/a1/secrets",
            Some(json!({"values": {"K": "V"}})),
        )
        .await;
    let body = json!({"config": {"image": "x", "mounts": null}, "region": "", "min_secrets_version": 1, "name": null});
    let (status, made) = world.call(Method::POST, "/v1/apps/a1/machines", Some(body)).await;
    assert_eq!((status, &made["config"]["image"]), (200, &json!("x")));
    let seen = world.seen(&Method::POST, "/v1/apps/a1/machines").remove(0);
    assert_eq!(
        seen.body["hangar"],
        json!({"org": "personal", "network": "a1", "secrets": {"K": "V"}})
    );
    assert_eq!(seen.headers["x-hangar-network"], "a1");
    assert!(
        seen.body.get("region").is_none() && seen.body.get("name").is_none(),
        "{}",
        seen.body
    );
}

#[tokio::test]
async fn the_nonce_of_a_lease_reaches_machine_runner_and_the_token_does_not() {
    let world = World::with_app("a1").await;
    let headers = [
        ("authorization", "Bearer root-token"),
        ("fly-machine-lease-nonce", "n1"),
    ];
    world
        .raw(
            Method::POST,
            "/v1/apps/a1/machines/m1/start",
            &headers,
            Vec::new(),
        )
        .await;
    let seen = world
        .seen(&Method::POST, "/v1/apps/a1/machines/m1/start")
        .remove(0);
    assert_eq!(seen.headers["fly-machine-lease-nonce"], "n1");
    assert!(!seen.headers.contains_key("authorization"));
}

#[tokio::test]
async fn only_volumes_of_the_app_can_be_mounted() {
    let world = World::with_app("a1").await;
    world.add_volume("vol_1", "a1");
    world.add_volume("vol_2", "a2");
    let config =
        |volume: &str| json!({"config": {"image": "x", "mounts": [{"volume": volume, "path": "/data"}]}});
    let create = |body| world.call(Method::POST, "/v1/apps/a1/machines", Some(body));
    assert_eq!(create(config("vol_1")).await.0, 200);
    for absent in ["vol_2", "vol_3", "../volumes"] {
        assert_eq!(create(config(absent)).await.0, 422, "{absent}");
    }
}

#[tokio::test]
async fn bad_machine_requests_never_reach_machine_runner() {
    let world = World::with_app("a1").await;
    for (body, status) in [
        (json!({}), 400),
        (json!({"config": 3}), 400),
        (json!({"config": {}, "region": "zzz"}), 422),
        (json!({"config": {}, "region": 5}), 400),
        (json!({"config": {"mounts": {}}}), 400),
        (json!({"config": {"mounts": [{"volume": 4}]}}), 400),
        (json!({"config": {}, "min_secrets_version": 9}), 412),
        (json!({"config": {}, "skip_secrets": "no"}), 400),
    ] {
        let answer = world
            .call(Method::POST, "/v1/apps/a1/machines", Some(body.clone()))
            .await;
        assert_eq!(answer.0, status, "{body} {answer:?}");
    }
    assert_eq!(world.get("/v1/apps/a1/machines/..%2F..").await.0, 404);
    assert_eq!(world.seen(&Method::POST, "/v1/apps/a1/machines").len(), 0);
}

#[tokio::test]
async fn answers_and_queries_pass_through() {
    let world = World::with_app("a1").await;
    world.add_machine("m1", "a1", "started");
    assert_eq!(
        world
            .get("/v1/apps/a1/machines/")
            .await
            .1
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(world.get("/v1/apps/a1/machines/m1").await.1["state"], "started");
    assert_eq!(
        world.get("/v1/apps/a1/machines/m2").await,
        (404, json!({"error": "machine not found"}))
    );
    assert_eq!(
        world
            .get("/v1/apps/a1/machines/m1/wait?state=started&timeout=1")
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn an_answer_that_is_no_json_becomes_our_shape() {
    let world = World::with_app("a1").await;
    let (status, answer) = world
        .call(Method::POST, "/v1/apps/a1/machines/m1/stop", Some(json!({})))
        .await;
    assert_eq!((status, answer), (502, json!({"error": "no JSON at all"})));
}

#[tokio::test]
async fn the_organization_list_names_apps_and_turns_pages() {
    let world = World::with_app("a1").await;
    world.make_app("a2").await;
    for (id, app) in [("m1", "a1"), ("m2", "a2"), ("m3", "a1")] {
        world.add_machine(id, app, "started");
    }
    let (_, first) = world.get("/v1/orgs/personal/machines?limit=2").await;
    assert_eq!(first["machines"][1]["app_name"], "a2");
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) = world
        .get(&format!("/v1/orgs/personal/machines?limit=2&cursor={cursor}"))
        .await;
    assert_eq!(
        (&second["machines"][0]["id"], &second["next_cursor"]),
        (&json!("m3"), &Value::Null)
    );
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=%25",
        "updated_after=yesterday",
    ] {
        assert_eq!(
            world.get(&format!("/v1/orgs/personal/machines?{bad}")).await.0,
            400,
            "{bad}"
        );
    }
    assert_eq!(world.get("/v1/orgs/other/machines").await.0, 404);
}

#[tokio::test]
async fn logs_come_as_lines() {
    let world = World::with_app("a1").await;
    let request = Request::builder()
        .uri("/hangar/v1/apps/a1/machines/m1/logs?tail=2")
        .header("authorization", "Bearer root-token")
        .body(Body::empty())
        .unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    let bytes = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
    assert_eq!(bytes, "{\"message\":\"a\"}\n{\"message\":\"b\"}\n");
}
