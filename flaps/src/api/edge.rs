//! What happens to every request and every answer: id, token, panics, one error shape.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, header};

use super::Api;
use crate::refusal::Refusal;
use crate::token;

/// Carried by every answer; clients print it behind an error.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("fly-request-id");

/// The one path that needs no token: it says only that we are here.
pub(super) const HEALTH: &str = "/v1/health";

/// Gives the request an id, runs it, logs it, and turns a panic into a 500 in our shape.
pub(super) async fn outermost(State(api): State<Api>, request: Request, next: Next) -> Response {
    let request_id = format!(
        "{}-{}",
        daemon::random::base36(26).to_uppercase(),
        api.default_region().code
    );
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = tokio::time::Instant::now();
    let mut response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(request_id, %method, path, "request handler panicked");
            Refusal::Internal.into_response()
        }
    };
    let elapsed_ms = begun.elapsed().as_millis();
    tracing::debug!(request_id, %method, path, status = response.status().as_u16(), elapsed_ms, "request answered");
    let value = HeaderValue::from_str(&request_id).unwrap_or(HeaderValue::from_static("unknown"));
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// Lets requests with a known token pass, and notes what the token may do.
pub(super) async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if request.uri().path() == HEALTH {
        return next.run(request).await;
    }
    let headers = request.headers().get_all(header::AUTHORIZATION);
    let presented: Vec<&str> = headers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(token::presented)
        .collect();
    if presented.is_empty() {
        return Refusal::Unauthorized.into_response();
    }
    let rows = match api.store.tokens().await {
        Ok(rows) => rows,
        Err(error) => return Refusal::from(error).into_response(),
    };
    match token::grant(&presented, &rows, api.clock.now()) {
        Some(grant) => {
            request.extensions_mut().insert(grant);
            next.run(request).await
        }
        None => Refusal::Unauthorized.into_response(),
    }
}

/// Answers paths that do not exist.
pub(super) async fn no_route(request: Request) -> Refusal {
    Refusal::NoRoute {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
    }
}

/// Answers methods that a path does not have.
pub(super) async fn method_not_allowed(request: Request) -> Refusal {
    Refusal::MethodNotAllowed {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
    }
}
