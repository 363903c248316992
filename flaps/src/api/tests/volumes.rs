use super::*;

#[tokio::test]
async fn a_volume_is_created_with_the_defaults_of_the_bare_api() {
    let world = World::with_app("a1").await;
    let body = json!({"name": "data", "region": "", "size_gb": null, "encrypted": null, "snapshot_id": null,
        "source_volume_id": null, "fstype": null, "require_unique_zone": true, "compute": {"cpus": 1}, "app": "evil"});
    let (status, made) = world.call(Method::POST, "/v1/apps/a1/volumes", Some(body)).await;
    assert_eq!((status, &made["id"]), (200, &json!("vol_new")));
    let seen = world.seen(&Method::POST, "/v1/volumes").remove(0);
    assert_eq!(
        seen.body,
        json!({"name": "data", "app": "a1", "region": "local", "size_gb": 3, "require_unique_zone": true})
    );
}

#[tokio::test]
async fn a_fork_leaves_size_and_region_to_its_source_which_must_be_of_the_app() {
    let world = World::with_app("a1").await;
    world.add_volume("vol_1", "a1");
    world.add_volume("vol_2", "a2");
    let fork =
        |source: &str| Some(json!({"name": "f", "region": "", "source_volume_id": source, "size_gb": null}));
    assert_eq!(
        world
            .call(Method::POST, "/v1/apps/a1/volumes", fork("vol_1"))
            .await
            .0,
        200
    );
    let seen = world.seen(&Method::POST, "/v1/volumes").remove(0);
    assert_eq!(
        seen.body,
        json!({"name": "f", "app": "a1", "source_volume_id": "vol_1"})
    );
    assert_eq!(
        world
            .call(Method::POST, "/v1/apps/a1/volumes", fork("vol_2"))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn a_volume_of_another_app_does_not_exist_here() {
    let world = World::with_app("a1").await;
    world.add_volume("vol_2", "a2");
    for (method, path) in [
        (Method::GET, ""),
        (Method::PUT, ""),
        (Method::DELETE, ""),
        (Method::GET, "/snapshots"),
        (Method::POST, "/snapshots"),
    ] {
        for id in ["vol_2", "vol_3", "nonsense"] {
            let (status, answer) = world
                .call(method.clone(), &format!("/v1/apps/a1/volumes/{id}{path}"), None)
                .await;
            assert_eq!(
                (status, &answer["error"]),
                (404, &json!("volume not found")),
                "{method} {id}{path}"
            );
        }
    }
    let recover = world
        .call(Method::POST, "/hangar/v1/apps/a1/volumes/vol_2/recover", None)
        .await;
    assert_eq!(recover.0, 404);
}

#[tokio::test]
async fn a_destroyed_volume_stays_in_the_list_and_can_be_recovered() {
    let world = World::with_app("a1").await;
    world.add_volume("vol_1", "a1");
    let (status, answer) = world
        .call(Method::DELETE, "/v1/apps/a1/volumes/vol_1", None)
        .await;
    assert_eq!((status, &answer["state"]), (200, &json!("scheduling_destroy")));
    assert_eq!(
        world
            .get("/v1/apps/a1/volumes/")
            .await
            .1
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let (status, answer) = world
        .call(Method::POST, "/hangar/v1/apps/a1/volumes/vol_1/recover", None)
        .await;
    assert_eq!((status, &answer["state"]), (200, &json!("recovering")));
}

#[tokio::test]
async fn extend_passes_the_size_alone_and_wants_one() {
    let world = World::with_app("a1").await;
    world.add_volume("vol_1", "a1");
    let path = "/v1/apps/a1/volumes/vol_1/extend";
    let (status, answer) = world
        .call(Method::PUT, path, Some(json!({"size_gb": 5, "noise": 1})))
        .await;
    assert_eq!((status, &answer["needs_restart"]), (200, &json!(false)));
    assert_eq!(
        world.seen(&Method::PUT, "/v1/volumes/vol_1/extend")[0].body,
        json!({"size_gb": 5})
    );
    assert_eq!(
        world
            .call(Method::PUT, path, Some(json!({"size_gb": null})))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn the_words_of_volumed_reach_the_client() {
    let world = World::with_app("a1").await;
    let body = json!({"name": "big", "size_gb": 501});
    let answer = world.call(Method::POST, "/v1/apps/a1/volumes", Some(body)).await;
    assert_eq!(answer, (422, json!({"error": "size_gb must be 1 to 500"})));
    let body = json!({"name": "x", "region": "zzz"});
    assert_eq!(
        world
            .call(Method::POST, "/v1/apps/a1/volumes", Some(body))
            .await
            .0,
        422
    );
}

#[tokio::test]
async fn the_organization_list_knows_only_volumes_of_living_apps() {
    let world = World::with_app("a1").await;
    world.add_volume("vol_1", "a1");
    world.add_volume("vol_2", "gone");
    let (_, answer) = world.get("/v1/orgs/personal/volumes").await;
    let volumes = answer["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 1);
    assert_eq!(
        (&volumes[0]["app_name"], &volumes[0]["updated_at"]),
        (&json!("a1"), &json!("2026-01-01T00:00:00Z"))
    );
}

#[tokio::test]
async fn the_extension_routes_reach_their_daemons() {
    let world = World::start().await;
    assert_eq!(
        world.get("/hangar/v1/snapshots?app=gone").await.1[0]["id"],
        "vs_1"
    );
    assert_eq!(
        world.call(Method::POST, "/hangar/v1/key/export", None).await.1["text"],
        "hangar-key-1-x"
    );
    let (_, answer) = world
        .call(Method::DELETE, "/hangar/v1/images/ghcr.io%2Fa/b:1", None)
        .await;
    assert_eq!(answer["image"], "ghcr.io/a/b:1");
    assert_eq!(world.get("/hangar/v1/snapshots/..").await.0, 404);
}

#[tokio::test]
async fn a_claim_goes_to_volumed_with_the_app_of_the_path_and_nothing_but_force() {
    let world = World::with_app("a1").await;
    let path = "/hangar/v1/apps/a1/volumes/vol_9/claim";
    let body = json!({"force": true, "app": "evil", "noise": 1});
    world.call(Method::POST, path, Some(body)).await;
    assert_eq!(
        world.seen(&Method::POST, "/v1/volumes/vol_9/claim")[0].body,
        json!({"force": true, "app": "a1"})
    );
    let (status, _) = world
        .call(
            Method::POST,
            "/hangar/v1/apps/a1/volumes/nonsense/claim",
            Some(json!({})),
        )
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn only_an_app_s_own_volume_is_drained() {
    let world = World::with_app("a1").await;
    world.add_volume("vol_2", "a2");
    for method in [Method::POST, Method::DELETE] {
        let path = "/hangar/v1/apps/a1/volumes/vol_2/drain";
        assert_eq!(world.call(method, path, None).await.0, 404);
    }
}
