//! Refusals: what a client is told, and with which status.

use daemon::ApiError;
use http::StatusCode;

/// Why a request was not carried out. The sentence says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Machine-readable word, when the API documents one.
    pub code: Option<&'static str>,
    /// Shown to the user.
    pub sentence: String,
}

impl Refusal {
    fn new(status: u16, sentence: impl Into<String>) -> Self {
        Self {
            status,
            code: None,
            sentence: sentence.into(),
        }
    }

    /// 400: malformed.
    pub fn malformed(sentence: impl Into<String>) -> Self {
        Self::new(400, sentence)
    }

    /// 404: no such thing.
    pub fn missing(sentence: impl Into<String>) -> Self {
        Self::new(404, sentence)
    }

    /// 409: something else is going on with it at the moment; the same request may succeed later.
    pub fn conflict(sentence: impl Into<String>) -> Self {
        Self::new(409, sentence)
    }

    /// 412: its state or holder does not allow this, and no waiting changes that.
    pub fn precondition(sentence: impl Into<String>) -> Self {
        Self::new(412, sentence)
    }

    /// 422: well-formed, and cannot be honoured.
    pub fn invalid(sentence: impl Into<String>) -> Self {
        Self::new(422, sentence)
    }

    /// 422: the pool has no room.
    pub fn capacity(sentence: impl Into<String>) -> Self {
        Self {
            code: Some("insufficient_capacity"),
            ..Self::new(422, sentence)
        }
    }

    /// 422: no zone is left that the request allows.
    pub fn placement(sentence: impl Into<String>) -> Self {
        Self {
            code: Some("volume_placement_capacity"),
            ..Self::new(422, sentence)
        }
    }

    /// 500: this host could not.
    pub fn internal(sentence: impl Into<String>) -> Self {
        Self::new(500, sentence)
    }

    /// 503: not now; the same request may succeed later.
    pub fn unavailable(sentence: impl Into<String>) -> Self {
        Self::new(503, sentence)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            error: refusal.sentence,
            code: refusal.code,
        }
    }
}
