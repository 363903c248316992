use axum::body::Body;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extend {
    size_gb: u32,
}

async fn check(request: Request<Body>, status: u16, error_part: &str) {
    let router = Router::new()
        .route(
            "/extend",
            post(|ApiJson(body): ApiJson<Extend>| async move { body.size_gb.to_string() }),
        )
        .route(
            "/list",
            get(|ApiQuery(query): ApiQuery<Extend>| async move { query.size_gb.to_string() }),
        );
    let response = with_json_fallbacks(router).oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), status);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains(error_part), "{text}");
    if status != 200 {
        let body: Value = serde_json::from_str(&text).unwrap();
        assert!(body["error"].is_string(), "{text}");
    }
}

#[tokio::test]
async fn every_fault_of_a_request_is_a_sentence_in_the_one_shape() {
    let post = |body: &'static str| Request::post("/extend").body(Body::from(body)).unwrap();
    check(post(r#"{"size_gb": 3}"#), 200, "3").await;
    check(post(r#"{"size_gb": -3}"#), 400, "invalid value: integer `-3`").await;
    check(post(r#"{"size_gb": 3, "siez": 1}"#), 400, "siez").await;
    check(post("{"), 400, "EOF").await;
    check(post(""), 400, "null").await;
    check(
        Request::get("/list?size_gb=4").body(Body::empty()).unwrap(),
        200,
        "4",
    )
    .await;
    check(
        Request::get("/list?size_gb=x").body(Body::empty()).unwrap(),
        400,
        "size_gb",
    )
    .await;
    check(
        Request::get("/nowhere").body(Body::empty()).unwrap(),
        404,
        "/nowhere",
    )
    .await;
    check(Request::get("/extend").body(Body::empty()).unwrap(), 405, "GET").await;
}

#[tokio::test]
async fn the_code_is_sent_as_status_and_only_when_there_is_one() {
    for (error, expected) in [
        (
            ApiError::unprocessable("no room").with_code("insufficient_capacity"),
            json!({"error": "no room", "status": "insufficient_capacity"}),
        ),
        (
            ApiError::not_found("volume not found"),
            json!({"error": "volume not found"}),
        ),
    ] {
        let body = axum::body::to_bytes(error.into_response().into_body(), 10_000)
            .await
            .unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }
}
