//! Every bad field of every request gets the documented status and a sentence; nothing half-made stays behind.

use it::node::Node;
use serde_json::{Value, json};

/// A request that must be refused: what it is, method, path, body, the status it must get.
type Case = (&'static str, &'static str, &'static str, Value, u16);

fn volume_cases() -> Vec<Case> {
    let volume = |patch: Value| {
        let mut body = json!({"name": "data", "region": "local", "size_gb": 1});
        for (key, value) in patch.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let post = |what, patch, status| (what, "POST", "/v1/apps/shop/volumes", volume(patch), status);
    vec![
        post("size 0", json!({"size_gb": 0}), 422),
        post("negative size", json!({"size_gb": -1}), 422),
        post("size over the limit", json!({"size_gb": 501}), 422),
        post("size as text", json!({"size_gb": "ten"}), 400),
        post("fractional size", json!({"size_gb": 1.5}), 422),
        post("empty name", json!({"name": ""}), 422),
        post("name with a slash", json!({"name": "../etc"}), 422),
        post("name of 31 characters", json!({"name": "a".repeat(31)}), 422),
        post("name in capitals", json!({"name": "Data"}), 422),
        post("unknown region", json!({"region": "atlantis"}), 422),
        post("unknown file system", json!({"fstype": "fat"}), 422),
        post("retention 0", json!({"snapshot_retention": 0}), 422),
        post("retention 61", json!({"snapshot_retention": 61}), 422),
        post(
            "unknown snapshot",
            json!({"snapshot_id": "vs_doesnotexist00000"}),
            404,
        ),
        post(
            "unknown source",
            json!({"source_volume_id": "vol_doesnotexist0000"}),
            404,
        ),
        post("unknown type", json!({"type": "elastic"}), 422),
        (
            "volume of an unknown app",
            "POST",
            "/v1/apps/nobody/volumes",
            volume(json!({})),
            404,
        ),
        (
            "show of an unknown volume",
            "GET",
            "/v1/apps/shop/volumes/vol_doesnotexist0000",
            Value::Null,
            404,
        ),
        (
            "show of a path as id",
            "GET",
            "/v1/apps/shop/volumes/..%2f..%2fetc",
            Value::Null,
            404,
        ),
        (
            "extend of an unknown volume",
            "PUT",
            "/v1/apps/shop/volumes/vol_doesnotexist0000/extend",
            json!({"size_gb": 2}),
            404,
        ),
        (
            "body that is a list",
            "POST",
            "/v1/apps/shop/volumes",
            json!([]),
            400,
        ),
    ]
}

fn machine_cases() -> Vec<Case> {
    let machine = |config: Value| json!({"config": config, "region": "local"});
    let post = |what, config, status| (what, "POST", "/v1/apps/shop/machines", machine(config), status);
    vec![
        post("no image", json!({}), 422),
        post(
            "image of a registry that does not answer",
            json!({"image": "127.0.0.1:1/nobody/nothing:1"}),
            503,
        ),
        post(
            "image that is no reference",
            json!({"image": "not a reference"}),
            422,
        ),
        post(
            "memory of 100 MB",
            json!({"image": "x", "guest": {"memory_mb": 100}}),
            422,
        ),
        post("negative cpus", json!({"image": "x", "guest": {"cpus": -1}}), 422),
        post(
            "unknown restart policy",
            json!({"image": "x", "restart": {"policy": "sometimes"}}),
            422,
        ),
        post(
            "mount at the root",
            json!({"image": "x", "mounts": [{"volume": "vol_doesnotexist0000", "path": "/"}]}),
            422,
        ),
        post(
            "relative mount",
            json!({"image": "x", "mounts": [{"volume": "vol_doesnotexist0000", "path": "data"}]}),
            422,
        ),
        post(
            "env that is a number",
            json!({"image": "x", "env": {"A": 1}}),
            422,
        ),
        post(
            "unknown signal",
            json!({"image": "x", "stop_config": {"signal": "SIGNOTHING"}}),
            422,
        ),
        (
            "no config",
            "POST",
            "/v1/apps/shop/machines",
            json!({"region": "local"}),
            400,
        ),
        (
            "start of an unknown machine",
            "POST",
            "/v1/apps/shop/machines/00000000000000/start",
            Value::Null,
            404,
        ),
        (
            "exec in an unknown machine",
            "POST",
            "/v1/apps/shop/machines/00000000000000/exec",
            json!({"command": ["true"]}),
            404,
        ),
    ]
}

fn app_cases() -> Vec<Case> {
    let post = |what, name: &str, status| {
        (
            what,
            "POST",
            "/v1/apps",
            json!({"app_name": name, "name": name, "org_slug": "personal"}),
            status,
        )
    };
    vec![
        post("app with capitals", "Shop", 422),
        post("app with a slash", "a/b", 422),
        post("app without a name", "", 422),
        post("app that exists", "shop", 422),
        (
            "app of an unknown organization",
            "POST",
            "/v1/apps",
            json!({"name": "other", "org_slug": "nobody"}),
            404,
        ),
        ("unknown app", "GET", "/v1/apps/nobody", Value::Null, 404),
        ("unknown path", "GET", "/v1/nonsense", Value::Null, 404),
        ("wrong method", "PATCH", "/v1/apps", Value::Null, 405),
    ]
}

/// One node for all of them: what must hold at the end is that nothing was left behind.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_their_status_and_leave_nothing_behind() {
    let node = Node::start().unwrap();
    node.ok(
        "POST",
        "/v1/apps",
        Some(&json!({"app_name": "shop", "name": "shop", "org_slug": "personal"})),
    )
    .await
    .unwrap();
    let mut wrong = Vec::new();
    for (what, method, path, body, status) in [volume_cases(), machine_cases(), app_cases()].concat() {
        let answer = node
            .call(method, path, (!body.is_null()).then_some(&body))
            .await
            .unwrap();
        let sentence = answer.body["error"].as_str().unwrap_or("");
        // A sentence, not a word: it says what to do.
        if answer.status != status || sentence.split(' ').count() < 3 {
            wrong.push(format!(
                "{what}: wanted {status}, got {} {}",
                answer.status, answer.body
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for list in ["/v1/apps/shop/volumes", "/v1/apps/shop/machines"] {
        assert_eq!(
            node.ok("GET", list, None).await.unwrap(),
            json!([]),
            "{list} has something half-made"
        );
    }
    assert_eq!(
        names(&node.path("volumed/pool")),
        [".hangar-pool"],
        "the pool has a stray file"
    );
    same_volume_twice(&node).await;
    wrong_token(&node).await;
}

/// A second attach, a shrink and the destruction of an attached volume are refused, and say so.
async fn same_volume_twice(node: &Node) {
    let volume = json!({"name": "data", "region": "local", "size_gb": 2});
    let volume = node
        .ok("POST", "/v1/apps/shop/volumes", Some(&volume))
        .await
        .unwrap();
    let path = format!("/v1/apps/shop/volumes/{}", volume["id"].as_str().unwrap());
    for size in [0, 1, 2, 501] {
        let answer = node
            .call("PUT", &format!("{path}/extend"), Some(&json!({"size_gb": size})))
            .await
            .unwrap();
        assert_eq!(answer.status, 422, "extend from 2 to {size}: {}", answer.body);
    }
    let update = json!({"snapshot_retention": 0});
    assert_eq!(node.call("PUT", &path, Some(&update)).await.unwrap().status, 422);
    let destroyed = node.ok("DELETE", &path, None).await.unwrap();
    assert!(
        destroyed["state"].as_str().unwrap().contains("destroy"),
        "{destroyed}"
    );
}

async fn wrong_token(node: &Node) {
    let base = std::fs::read_to_string(node.path("run/flaps.addr")).unwrap();
    let url = format!("http://{}/v1/apps/shop", base.trim());
    for token in ["", "Bearer wrong", "FlyV1 fm2_nonsense"] {
        let request = reqwest::Client::new().get(&url).header("authorization", token);
        assert_eq!(
            request.send().await.unwrap().status().as_u16(),
            401,
            "token {token:?}"
        );
    }
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
