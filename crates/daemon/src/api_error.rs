//! The one JSON error shape of all daemons: `{"error": "sentence", "status": "code"}`.

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::unix_http::CallError;

/// An error as an HTTP client sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A sentence that says what is wrong and, where it can, what to do.
    pub error: String,
    /// A machine-readable word, sent as `status`; left out of the body when there is none.
    pub code: Option<&'static str>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

impl ApiError {
    /// Creates an error of any status, without a code.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            code: None,
        }
    }

    /// Adds the machine-readable word.
    #[must_use]
    pub fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 401: no token, or an unknown one.
    pub fn unauthorized(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error)
    }

    /// 403: known, and not allowed.
    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// 404: no such thing.
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// 408: the client's own deadline passed.
    pub fn deadline_exceeded(error: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, error)
    }

    /// 409: the thing is in a state that forbids it.
    pub fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    /// 412: a version or a lease that the request named no longer holds.
    pub fn precondition_failed(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, error)
    }

    /// 422: well-formed, and cannot be honoured.
    pub fn unprocessable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    /// 500: our fault.
    pub fn internal(error: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    /// 503: not now; try again.
    pub fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (
            self.status,
            axum::Json(Body {
                error: &self.error,
                status: self.code,
            }),
        )
            .into_response()
    }
}

/// Passes a daemon's refusal on as it is; anything else is 502, 503 or 504 and says so.
impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Status { status, error, .. } => Self::new(
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
                error,
            ),
            CallError::Refused(_) => Self::unavailable(error.to_string()),
            CallError::Timeout { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
            CallError::Request(_) => Self::internal(error.to_string()),
            CallError::Broken(_) | CallError::Decode(_) => {
                Self::new(StatusCode::BAD_GATEWAY, error.to_string())
            }
        }
    }
}

/// A JSON request body; whatever is wrong with it comes back as an [`ApiError`] of status 400 (413 when too large).
///
/// Takes any content type, as the services it stands in for do.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = bytes::Bytes::from_request(request, state)
            .await
            .map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
        let body: &[u8] = if bytes.trim_ascii().is_empty() {
            b"null"
        } else {
            &bytes
        };
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| ApiError::bad_request(format!("the request body is not as expected: {error}")))
    }
}

/// The query string; whatever is wrong with it comes back as an [`ApiError`] of status 400.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(query)| Self(query))
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))
    }
}

/// Gives `router` answers in the JSON error shape for unknown paths (404) and methods (405).
pub fn with_json_fallbacks(router: Router) -> Router {
    router
        .fallback(|request: Request| async move {
            ApiError::not_found(format!("no such path: {}", request.uri().path()))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let (method, path) = (request.method(), request.uri().path());
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{method} is not allowed on {path}"),
            )
        })
}

#[cfg(test)]
mod tests;
