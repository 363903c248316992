//! What is refused, with which status. No guest runs here, but the daemon is the real one.

use http::Method;
use serde_json::{Value, json};

use crate::node::{IMAGE, Node};

type Row = (Method, String, Option<Value>, u16);

fn with_image(mut config: Value) -> Value {
    config["image"] = json!(IMAGE);
    json!({"config": config})
}

#[allow(clippy::too_many_lines)] // a table
fn bad_requests(machines: &str, own: &str) -> Vec<Row> {
    let (post, get, delete) = (Method::POST, Method::GET, Method::DELETE);
    let image = with_image;
    let rows = [
        (&post, machines.to_owned(), Some(json!({})), 422),
        (&post, machines.to_owned(), Some(json!([])), 400),
        (&post, machines.to_owned(), Some(json!({"config": {}})), 422),
        (
            &post,
            machines.to_owned(),
            Some(json!({"config": {"image": "demo:none@"}})),
            422,
        ),
        (
            &post,
            machines.to_owned(),
            Some(json!({"region": "mars", "config": {"image": IMAGE}})),
            422,
        ),
        (
            &post,
            machines.to_owned(),
            Some(json!({"name": "one", "config": {"image": IMAGE}})),
            422,
        ),
        (
            &post,
            machines.to_owned(),
            Some(json!({"name": "-", "config": {"image": IMAGE}})),
            422,
        ),
        (
            &post,
            machines.to_owned(),
            Some(json!({"lease_ttl": -1, "config": {"image": IMAGE}})),
            400,
        ),
        (
            &post,
            machines.to_owned(),
            Some(image(json!({"guest": {"cpus": 0.5}}))),
            422,
        ),
        (
            &post,
            machines.to_owned(),
            Some(image(json!({"schedule": "daily"}))),
            422,
        ),
        (
            &post,
            machines.to_owned(),
            Some(image(json!({"mounts": [{"volume": "vol_none", "path": "/d"}]}))),
            404,
        ),
        (
            &post,
            machines.to_owned(),
            Some(image(json!({"mounts": [{"volume": "vol_free", "path": "/d"}]}))),
            412,
        ),
        (
            &post,
            machines.to_owned(),
            Some(image(json!({"mounts": [{"volume": "vol_raw", "path": "/d"}]}))),
            422,
        ),
        (&get, format!("{machines}?state=walking"), None, 400),
        (&get, format!("{machines}/00000000000000"), None, 404),
        (&get, format!("{machines}/nonsense"), None, 404),
        (&get, own.replace("/web/", "/other/"), None, 404),
        (&get, format!("{own}/wait?state=walking"), None, 400),
        (&get, format!("{own}/wait?timeout=61"), None, 400),
        (&get, format!("{own}/wait?timeout=1"), None, 408),
        (&get, format!("{own}/events?limit=51"), None, 400),
        (&get, format!("{own}/lease"), None, 404),
        (&get, format!("{own}/metadata/none"), None, 404),
        (&post, format!("{own}/exec"), Some(json!({"cmd": "ls"})), 412),
        (&post, format!("{own}/exec"), Some(json!({})), 400),
        (&post, format!("{own}/suspend"), None, 412),
        (&post, format!("{own}/signal"), Some(json!({"signal": 9})), 412),
        (
            &post,
            format!("{own}/signal"),
            Some(json!({"signal": "SIGNOPE"})),
            400,
        ),
        (
            &post,
            format!("{own}/stop"),
            Some(json!({"timeout": "400s"})),
            400,
        ),
        (&post, format!("{own}/lease?ttl=0"), None, 400),
        (&post, format!("{own}/lease?ttl=soon"), None, 400),
        (
            &post,
            own.to_owned(),
            Some(image(
                json!({"guest": {"cpus": 3}, "mounts": [{"volume": "vol_free", "path": "/d"}]}),
            )),
            422,
        ),
        (&post, own.to_owned(), Some(image(json!({}))), 422),
        (
            &post,
            own.to_owned(),
            Some(json!({"current_version": "old", "config": {"image": IMAGE}})),
            412,
        ),
        (&delete, "/v1/images/none:1".to_owned(), None, 404),
        (&delete, format!("/v1/images/{IMAGE}"), None, 412),
        (&post, "/v1/images".to_owned(), Some(json!({})), 400),
        (&post, "/v1/nothing".to_owned(), None, 404),
        (&delete, "/v1/health".to_owned(), None, 405),
    ];
    rows.map(|(method, path, body, status)| (method.clone(), path, body, status))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_their_documented_status_and_a_sentence() {
    let node = Node::start().await;
    node.volumed.create("vol_free", 64 << 20);
    node.volumed.create_raw("vol_raw", 64 << 20);
    let machines = "/v1/apps/web/machines";
    let body = json!({"skip_launch": true, "name": "one", "config": {"image": IMAGE, "mounts": [{"volume": "vol_free", "path": "/d"}]}});
    let one = node.ok(Method::POST, machines, Some(body)).await;
    let id = one["id"].as_str().unwrap();
    assert_eq!(one["state"], "created");
    let own = format!("{machines}/{id}");
    for (method, path, body, status) in bad_requests(machines, &own) {
        let reply = node.call(method.clone(), &path, body.clone()).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status.as_u16(), status, "{method} {path} {body:?}: {text}");
        let error = reply.json::<Value>().unwrap()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(error.len() > 10, "{method} {path}: {text}");
    }
    assert_eq!(
        node.volumed.volume("vol_free").generation,
        1,
        "refused creates attach nothing"
    );
    assert_eq!(
        node.volumed.volume("vol_raw").holder,
        None,
        "a volume that cannot be mounted is free again"
    );
    assert_eq!(
        node.ok(Method::GET, machines, None)
            .await
            .as_array()
            .unwrap()
            .len(),
        1,
        "and leave nothing"
    );
    leases_and_metadata(&node, &own).await;
    node.ok(Method::DELETE, &own, None).await;
    node.ok(
        Method::GET,
        &format!("{own}/wait?state=destroyed&timeout=30"),
        None,
    )
    .await;
    assert_eq!(node.volumed.volume("vol_free").holder, None);
    assert_eq!(
        node.call(Method::POST, &format!("{own}/start"), None)
            .await
            .status,
        404
    );
}

async fn leases_and_metadata(node: &Node, own: &str) {
    let lease = node.ok(Method::POST, &format!("{own}/lease?ttl=60"), None).await;
    let nonce = lease["data"]["nonce"].as_str().unwrap();
    assert_eq!(lease["status"], "success");
    for (method, path, body) in [
        (Method::POST, format!("{own}/start"), None),
        (Method::DELETE, own.to_owned(), None),
        (Method::POST, format!("{own}/lease?ttl=60"), None),
        (
            Method::POST,
            format!("{own}/metadata/a"),
            Some(json!({"value": "b"})),
        ),
    ] {
        let reply = node.call(method.clone(), &path, body).await;
        assert_eq!(reply.status, 409, "{method} {path}");
    }
    let shown = node
        .ok(Method::GET, &format!("{own}?include_leases=true"), None)
        .await;
    assert!(
        shown.get("nonce").is_none() && !shown.to_string().contains(nonce),
        "a nonce is the holder's secret"
    );
    let mut headers = http::HeaderMap::new();
    headers.insert("fly-machine-lease-nonce", nonce.parse().unwrap());
    let client = daemon::unix_http::Client::new(node.dir.path().join("api.sock"));
    let limit = std::time::Duration::from_secs(20);
    let body = json!({"value": "b"});
    let set = client
        .request(
            Method::POST,
            &format!("{own}/metadata/a"),
            Some(&body),
            headers.clone(),
            limit,
        )
        .await;
    assert_eq!(set.unwrap().status, 204);
    let released = client
        .request(Method::DELETE, &format!("{own}/lease"), None, headers, limit)
        .await;
    assert_eq!(released.unwrap().status, 200);
    let version = node.ok(Method::GET, own, None).await["instance_id"].clone();
    let patch = json!({"metadata": {"a": null, "c": "d"}, "machine_version": version});
    assert_eq!(
        node.ok(Method::PATCH, &format!("{own}/metadata"), Some(patch))
            .await,
        json!({"c": "d"})
    );
    let stale = json!({"metadata": {"a": "x"}, "machine_version": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    assert_eq!(
        node.call(Method::PATCH, &format!("{own}/metadata"), Some(stale))
            .await
            .status,
        412
    );
    let same = node.ok(Method::GET, own, None).await["instance_id"].clone();
    assert_eq!(same, version, "metadata makes no version");
}
