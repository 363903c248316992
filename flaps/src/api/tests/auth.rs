use super::*;

async fn status_with(world: &World, authorization: &str) -> u16 {
    world
        .raw(
            Method::GET,
            "/v1/platform/regions",
            &[("authorization", authorization)],
            Vec::new(),
        )
        .await
        .0
}

#[tokio::test]
async fn every_form_of_a_known_token_opens_and_anything_else_is_401() {
    let world = World::start().await;
    for good in [
        "Bearer root-token",
        "FlyV1 root-token",
        "FlyV1 fm2_other,root-token",
        "root-token",
    ] {
        assert_eq!(status_with(&world, good).await, 200, "{good}");
    }
    for bad in [
        "Bearer wrong",
        "Bearer root-toke",
        "Bearer",
        "Basic cm9vdC10b2tlbg==",
        ",",
    ] {
        assert_eq!(status_with(&world, bad).await, 401, "{bad}");
    }
    assert_eq!(world.raw(Method::GET, "/v1/apps", &[], Vec::new()).await.0, 401);
}

#[tokio::test]
async fn health_needs_no_token_and_unknown_paths_do() {
    let world = World::start().await;
    assert_eq!(world.raw(Method::GET, "/v1/health", &[], Vec::new()).await.0, 200);
    assert_eq!(
        world.raw(Method::GET, "/v1/nothing", &[], Vec::new()).await.0,
        401
    );
}

#[tokio::test]
async fn a_deploy_token_reaches_its_app_and_nothing_else() {
    let world = World::with_app("a1").await;
    world.make_app("a2").await;
    let (status, answer) = world
        .call(
            Method::POST,
            "/v1/apps/a1/deploy_token",
            Some(json!({"expiry": "1h"})),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let with = |method: Method, path: &'static str| {
        let (world, bearer) = (&world, bearer.as_str());
        async move {
            world
                .raw(method, path, &[("authorization", bearer)], Vec::new())
                .await
                .0
        }
    };
    assert_eq!(with(Method::GET, "/v1/apps/a1").await, 200);
    assert_eq!(with(Method::GET, "/v1/apps/a1/machines").await, 200);
    assert_eq!(with(Method::GET, "/v1/apps/a2").await, 404);
    assert_eq!(with(Method::DELETE, "/v1/apps/a1").await, 403);
    assert_eq!(with(Method::POST, "/v1/apps/a1/deploy_token").await, 403);
    assert_eq!(with(Method::GET, "/v1/apps?org_slug=personal").await, 403);
    assert_eq!(with(Method::POST, "/hangar/v1/key/export").await, 403);
}

#[tokio::test]
async fn a_lifetime_that_is_none_is_refused() {
    let world = World::with_app("a1").await;
    for expiry in [json!("soon"), json!(-1), json!([])] {
        let body = json!({"expiry": expiry});
        let (status, answer) = world
            .call(Method::POST, "/v1/apps/a1/deploy_token", Some(body))
            .await;
        assert_eq!(status, 400, "{answer}");
    }
}
