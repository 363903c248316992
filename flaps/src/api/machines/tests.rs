use axum::extract::FromRequestParts as _;

use super::*;

async fn seconds(method: Method, path: &str, body: Option<Value>) -> u64 {
    let uri: http::Uri = path.parse().unwrap();
    let mut parts = http::Request::builder()
        .uri(uri.clone())
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let query = QueryPairs::from_request_parts(&mut parts, &()).await.unwrap();
    patience(&method, uri.path(), &query, body.as_ref()).as_secs()
}

#[tokio::test]
async fn calls_that_wait_by_design_get_their_own_time() {
    assert_eq!(
        seconds(Method::GET, "/v1/apps/a/machines/m/wait?timeout=5", None).await,
        20
    );
    assert_eq!(
        seconds(
            Method::POST,
            "/v1/apps/a/machines/m/exec",
            Some(json!({"timeout": 200}))
        )
        .await,
        215
    );
    assert_eq!(
        seconds(
            Method::POST,
            "/v1/apps/a/machines/m/exec",
            Some(json!({"cmd": "x"}))
        )
        .await,
        75
    );
    assert_eq!(seconds(Method::GET, "/v1/apps/a/machines/m", None).await, 75);
    assert_eq!(
        seconds(Method::POST, "/v1/apps/a/machines/m/stop", None).await,
        345
    );
}

#[test]
fn a_trailing_slash_is_dropped_and_the_query_kept() {
    assert_eq!(
        upstream_path(&"/v1/apps/a/machines/?state=started".parse().unwrap()),
        "/v1/apps/a/machines?state=started"
    );
}
