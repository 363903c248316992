use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::testing::{Rig, settled};

async fn call(router: &Router, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let body = body.map_or(Body::empty(), |b| Body::from(b.to_string()));
    raw(router, method, path, body).await
}

async fn raw(router: &Router, method: Method, path: &str, body: Body) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn ok(router: &Router, method: Method, path: &str, body: Option<Value>) -> Value {
    let (status, value) = call(router, method, path, body).await;
    assert_eq!(status, StatusCode::OK, "{path}: {value}");
    value
}

mod random_requests;

fn create_body(name: &str) -> Value {
    json!({ "app": "shop", "name": name, "size_gb": 1, "encrypted": false, "require_unique_zone": false })
}

#[tokio::test(start_paused = true)]
async fn a_volume_lives_its_whole_life_over_http() {
    Rig::new()
        .run(async |service| {
            let http = router(service.clone());
            let made = ok(&http, Method::POST, "/v1/volumes", Some(create_body("data"))).await;
            assert_eq!(
                (&made["state"], &made["size_gb"], &made["fstype"]),
                (&json!("created"), &json!(1), &json!(""))
            );
            let path = format!("/v1/volumes/{}", made["id"].as_str().unwrap());
            assert_eq!(ok(&http, Method::GET, &path, None).await["id"], made["id"]);

            let attach = json!({ "machine_id": "m1" });
            let attached = ok(
                &http,
                Method::POST,
                &format!("{path}/attach"),
                Some(attach.clone()),
            )
            .await;
            assert_eq!(attached["format_allowed"], true);
            assert_eq!(attached["generation"], 1);
            assert_eq!(attached["device"]["format"], "raw");
            let again = ok(&http, Method::POST, &format!("{path}/attach"), Some(attach)).await;
            assert_eq!(again["generation"], 1);
            let shown = ok(&http, Method::GET, &format!("{path}/attachment"), None).await;
            assert_eq!(shown["device"], attached["device"]);
            let report = json!({ "machine_id": "m1", "generation": 1, "formatted": true, "fstype": "ext4",
                "bytes_total": 1_000_000_000, "bytes_used": 10 });
            ok(&http, Method::POST, &format!("{path}/report"), Some(report)).await;

            let grown = ok(
                &http,
                Method::PUT,
                &format!("{path}/extend"),
                Some(json!({ "size_gb": 2 })),
            )
            .await;
            assert_eq!(
                (&grown["volume"]["size_gb"], &grown["needs_restart"]),
                (&json!(2), &json!(false))
            );
            assert_eq!(grown["volume"]["state"], "created");

            let snapshot = ok(&http, Method::POST, &format!("{path}/snapshots"), None).await;
            settled(&service).await;
            let listed = ok(&http, Method::GET, &format!("{path}/snapshots"), None).await;
            assert_eq!(listed[0]["id"], snapshot["id"]);
            assert_eq!(listed[0]["status"], "created");

            let mut fork = create_body("copy");
            fork["source_volume_id"] = made["id"].clone();
            fork["size_gb"] = Value::Null;
            let fork = ok(&http, Method::POST, "/v1/volumes", Some(fork)).await;
            assert_ne!(fork["zone"], made["zone"]);
            assert_eq!(fork["size_gb"], 2);
            let mut restore = create_body("back");
            restore["snapshot_id"] = snapshot["id"].clone();
            restore["size_gb"] = json!(3);
            let restored = ok(&http, Method::POST, "/v1/volumes", Some(restore)).await;
            settled(&service).await;
            let restored_path = format!("/v1/volumes/{}", restored["id"].as_str().unwrap());
            let restored = ok(&http, Method::GET, &restored_path, None).await;
            assert_eq!(
                (&restored["state"], &restored["size_gb"]),
                (&json!("created"), &json!(3))
            );
            assert_eq!(restored["fstype"], "ext4");

            let (status, refused) = call(&http, Method::DELETE, &path, None).await;
            assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{refused}");
            let detach = json!({ "machine_id": "m1", "generation": 1 });
            ok(&http, Method::POST, &format!("{path}/detach"), Some(detach)).await;
            let deleted = ok(&http, Method::DELETE, &path, None).await;
            assert_eq!(deleted["state"], "pending_destroy");
            let recovered = ok(&http, Method::POST, &format!("{path}/recover"), None).await;
            assert_eq!(recovered["state"], "created");

            let all = ok(&http, Method::GET, "/v1/volumes?app=shop", None).await;
            assert_eq!(all.as_array().unwrap().len(), 3);
            let health = ok(&http, Method::GET, "/v1/health", None).await;
            assert_eq!(health["object_store"], "ok");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_shows_its_state_a_full_volume_grows_and_backups_are_read_back_over_http() {
    let mut rig = Rig::new();
    rig.disk_bytes = Some(100 << 30);
    rig.run(async |service| {
        let http = router(service.clone());
        let mut body = create_body("data");
        body["snapshot_retention_weekly"] = json!(4);
        let made = ok(&http, Method::POST, "/v1/volumes", Some(body)).await;
        assert_eq!(
            (
                &made["snapshot_retention"],
                &made["snapshot_retention_weekly"],
                &made["snapshot_retention_hourly"]
            ),
            (&json!(5), &json!(4), &json!(0))
        );
        let path = format!("/v1/volumes/{}", made["id"].as_str().unwrap());
        let pools = ok(&http, Method::GET, "/v1/pools", None).await;
        assert_eq!(
            (&pools[0]["state"], &pools[0]["reason"]),
            (&json!("ok"), &Value::Null)
        );

        let attach = json!({ "machine_id": "m1" });
        ok(&http, Method::POST, &format!("{path}/attach"), Some(attach)).await;
        let report = json!({ "machine_id": "m1", "generation": 1, "formatted": true, "fstype": "ext4",
            "bytes_total": 1_000_000_000, "bytes_used": 900_000_000,
            "auto_extend": { "threshold_percent": 85, "add_size_gb": 2, "size_gb_limit": 10 } });
        ok(&http, Method::POST, &format!("{path}/report"), Some(report)).await;
        settled(&service).await;
        let grown = ok(&http, Method::GET, &path, None).await;
        assert_eq!(
            (&grown["size_gb"], &grown["auto_extend_blocked"]),
            (&json!(3), &Value::Null)
        );

        ok(&http, Method::POST, &format!("{path}/snapshots"), None).await;
        settled(&service).await;
        let everything = json!({ "restore": true });
        let scrubbed = ok(&http, Method::POST, "/v1/scrub", Some(everything)).await;
        assert_eq!(
            (&scrubbed["scrubbed"][0]["restored"], &scrubbed["errors"]),
            (&json!(true), &json!([]))
        );
        let proved = ok(&http, Method::GET, &path, None).await;
        assert_ne!(proved["last_verified_restore"], Value::Null);
    })
    .await;
}
