use super::*;

#[tokio::test]
async fn an_app_is_created_listed_and_shown() {
    let world = World::start().await;
    let body = json!({"name": "a1", "org_slug": "personal", "network": null, "app_role_id": "", "enable_subdomains": null});
    let (status, made) = world.call(Method::POST, "/v1/apps?wait=true", Some(body)).await;
    assert_eq!(status, 201);
    assert_eq!(
        (&made["name"], &made["network"], &made["status"]),
        (&json!("a1"), &json!("default"), &json!("pending"))
    );
    assert!(made["organization"]["internal_numeric_id"].is_number());
    world.add_volume("vol_1", "a1");
    let (_, list) = world.get("/v1/apps?org_slug=personal").await;
    assert_eq!(
        (&list["total_apps"], &list["apps"][0]["volume_count"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(world.get("/v1/apps/a1").await.1["id"], "a1");
    assert_eq!(
        world.get("/v1/apps/a1/ip_assignments").await.1,
        json!({"ips": []})
    );
}

#[tokio::test]
async fn a_taken_name_is_422_with_the_word_that_clients_know() {
    let world = World::with_app("a1").await;
    let (status, answer) = world
        .call(
            Method::POST,
            "/v1/apps",
            Some(json!({"name": "a1", "org_slug": "personal"})),
        )
        .await;
    assert_eq!((status, &answer["status"]), (422, &json!("name_taken")));
}

#[tokio::test]
async fn a_repeated_creation_with_its_key_gives_the_same_app() {
    let world = World::start().await;
    let body = |name: &str| Some(json!({"name": name, "org_slug": "personal", "idempotency_key": "k"}));
    let (_, first) = world.call(Method::POST, "/v1/apps", body("a1")).await;
    let (status, again) = world.call(Method::POST, "/v1/apps", body("a1")).await;
    assert_eq!((status, again), (201, first));
    assert_eq!(world.call(Method::POST, "/v1/apps", body("a2")).await.0, 422);
}

#[tokio::test]
async fn bad_app_requests_say_what_is_wrong() {
    let world = World::start().await;
    for (body, status) in [
        (json!({"org_slug": "personal"}), 400),
        (json!({"name": "a1"}), 400),
        (json!({"name": "Bad_Name", "org_slug": "personal"}), 422),
        (json!({"name": "", "org_slug": "personal"}), 422),
        (json!({"name": 7, "org_slug": "personal"}), 400),
        (json!({"name": "a1", "org_slug": "nosuch"}), 404),
        (
            json!({"name": "a1", "org_slug": "personal", "network": "Bad Net"}),
            422,
        ),
        (json!(["a1"]), 400),
    ] {
        let answer = world.call(Method::POST, "/v1/apps", Some(body.clone())).await;
        assert_eq!(answer.0, status, "{body} {answer:?}");
    }
    assert_eq!(world.get("/v1/apps").await.0, 400);
    assert_eq!(world.get("/v1/apps?org_slug=nosuch").await.0, 404);
    assert_eq!(world.get("/v1/apps/nosuch").await.0, 404);
}

#[tokio::test]
async fn secrets_are_set_listed_removed_and_counted() {
    let world = World::with_app("a1").await;
    let body = json!({"values": {"A": "1", "B": "2"}});
    let (status, answer) = world.call(Method::POST, "/v1/apps/a1/secrets", Some(body)).await;
    assert_eq!(
        (status, &answer["version"], &answer["Version"]),
        (200, &json!(1), &json!(1))
    );
    let (_, answer) = world
        .call(
            Method::POST,
            "/v1/apps/a1/secrets",
            Some(json!({"values": {"A": null}})),
        )
        .await;
    assert_eq!(answer["version"], 2);
    let (_, list) = world.get("/v1/apps/a1/secrets?version=2").await;
    assert_eq!(list["secrets"].as_array().unwrap().len(), 1);
    assert!(
        list["secrets"][0].get("value").is_none(),
        "values are shown only on demand"
    );
    assert_eq!(
        world.get("/v1/apps/a1/secrets?show_secrets=true").await.1["secrets"][0]["value"],
        "2"
    );
    assert_eq!(world.get("/v1/apps/a1/secrets?min_version=3").await.0, 412);
    let (status, answer) = world
        .call(Method::POST, "/v1/apps/a1/secrets/C", Some(json!({"value": "3"})))
        .await;
    assert_eq!((status, &answer["version"]), (201, &json!(3)));
    assert_eq!(
        world.call(Method::DELETE, "/v1/apps/a1/secrets/C", None).await.0,
        200
    );
    assert_eq!(
        world.call(Method::DELETE, "/v1/apps/a1/secrets/C", None).await.0,
        404
    );
    for bad in [json!({}), json!({"values": []}), json!({"values": {"A": 1}})] {
        assert_eq!(
            world.call(Method::POST, "/v1/apps/a1/secrets", Some(bad)).await.0,
            400
        );
    }
    assert_eq!(
        world
            .call(
                Method::POST,
                "/v1/apps/a1/secrets",
                Some(json!({"values": {"1=": "x"}}))
            )
            .await
            .0,
        422
    );
}

#[tokio::test]
async fn destroying_an_app_takes_its_machines_and_volumes_along_and_frees_the_name() {
    let world = World::with_app("a1").await;
    world.add_machine("m1", "a1", "started");
    world.add_machine("m9", "a2", "started");
    world.add_volume("vol_1", "a1");
    world.fakes.volumes.lock().unwrap()[0]["attached_machine_id"] = json!("m1");
    assert_eq!(world.call(Method::DELETE, "/v1/apps/a1", None).await.0, 202);
    assert_eq!(world.fakes.machines.lock().unwrap()[0]["state"], "destroyed");
    assert_eq!(world.fakes.machines.lock().unwrap()[1]["state"], "started");
    assert_eq!(
        world.fakes.volumes.lock().unwrap()[0]["state"],
        "scheduling_destroy"
    );
    assert_eq!(world.get("/v1/apps/a1").await.0, 404);
    world.make_app("a1").await;
}

#[tokio::test]
async fn an_app_in_use_is_spared_when_force_is_denied_and_a_leased_one_unless_it_is_given() {
    let world = World::with_app("a1").await;
    world.add_machine("m1", "a1", "started");
    assert_eq!(
        world
            .call(Method::DELETE, "/v1/apps/a1?force=false", None)
            .await
            .0,
        412
    );
    world.fakes.machines.lock().unwrap()[0]["lease"] = json!({"nonce": "n1"});
    assert_eq!(world.call(Method::DELETE, "/v1/apps/a1", None).await.0, 409);
    assert_eq!(world.fakes.machines.lock().unwrap()[0]["state"], "started");
    assert_eq!(
        world.call(Method::DELETE, "/v1/apps/a1?force=true", None).await.0,
        202
    );
    assert_eq!(world.fakes.machines.lock().unwrap()[0]["state"], "destroyed");
}

#[tokio::test]
async fn a_destruction_that_a_dead_daemon_held_up_is_finished_later() {
    let mut world = World::with_app("a1").await;
    world.add_volume("vol_1", "a1");
    world.kill_daemons().await;
    assert_eq!(
        world.call(Method::DELETE, "/v1/apps/a1?force=true", None).await.0,
        503
    );
    assert_eq!(
        world
            .call(Method::POST, "/v1/apps/a1/secrets", Some(json!({"values": {}})))
            .await
            .0,
        409
    );
    std::fs::remove_file(&world.api.config.volumed_socket).unwrap();
    std::fs::remove_file(&world.api.config.machine_runner_socket).unwrap();
    world.daemons = vec![
        listen(&world.api.config.volumed_socket, volumed(world.fakes.clone())),
        listen(
            &world.api.config.machine_runner_socket,
            machine_runner(world.fakes.clone()),
        ),
    ];
    let stop = tokio_util::sync::CancellationToken::new();
    let resume = daemon::spawn("resume", resume_destroys(world.api.clone(), stop.clone()));
    while world.get("/v1/apps/a1").await.0 != 404 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        world.fakes.volumes.lock().unwrap()[0]["state"],
        "scheduling_destroy"
    );
    stop.cancel();
    resume.await.unwrap();
}
