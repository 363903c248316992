//! Every reason for which a request is not carried out, each with its HTTP status.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::store::StoreError;

/// Why a request was refused. Its text is what the user reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No token, or none that is known and still valid.
    #[error(
        "no valid token in the Authorization header; use `Authorization: Bearer <token>` with the token from the node's flaps/token file"
    )]
    Unauthorized,
    /// The token is for one app only.
    #[error("this token may not do that; use one of the whole node")]
    Forbidden,
    /// No such route.
    #[error("no such endpoint: {method} {path}")]
    NoRoute {
        /// Method asked.
        method: http::Method,
        /// Path asked.
        path: String,
    },
    /// The route exists, the method does not.
    #[error("{method} is not allowed on {path}")]
    MethodNotAllowed {
        /// Method asked.
        method: http::Method,
        /// Path asked.
        path: String,
    },
    /// No such app.
    #[error("app {name:?} not found; `hangar apps list` shows which there are")]
    AppNotFound {
        /// As asked.
        name: String,
    },
    /// The app is on its way out.
    #[error("app {name:?} is being destroyed")]
    AppDeleting {
        /// Its name.
        name: String,
    },
    /// Another app has the name.
    #[error("name {name:?} has already been taken; choose another")]
    NameTaken {
        /// As asked.
        name: String,
    },
    /// The idempotency key stands for another app.
    #[error("idempotency key {key:?} was used for app {other:?}; use a fresh key for another app")]
    KeyReused {
        /// As asked.
        key: String,
        /// The app made with it.
        other: String,
    },
    /// The name breaks the rule.
    #[error(
        "{what} {name:?} is invalid: lower-case letters, digits and dashes, first a letter or digit, at most 63"
    )]
    BadName {
        /// Which name.
        what: &'static str,
        /// As asked.
        name: String,
    },
    /// No such organization.
    #[error("organization {slug:?} not found; this node has {known:?}")]
    OrganizationNotFound {
        /// As asked.
        slug: String,
        /// The one that exists.
        known: String,
    },
    /// The region is not one of this node's.
    #[error("region {region:?} not found; this node has: {known}")]
    RegionNotFound {
        /// As asked.
        region: String,
        /// Comma list.
        known: String,
    },
    /// No such volume in this app.
    #[error("volume not found")]
    VolumeNotFound,
    /// A request names a volume that its app does not have.
    #[error("volume {volume} not found in app {app:?}; create it there first")]
    MountNotFound {
        /// As asked.
        volume: String,
        /// The app of the request.
        app: String,
    },
    /// No such machine in this app.
    #[error("machine not found")]
    MachineNotFound,
    /// No such snapshot.
    #[error("snapshot not found")]
    SnapshotNotFound,
    /// No such secret in this app.
    #[error("secret {name:?} not found")]
    SecretNotFound {
        /// As asked.
        name: String,
    },
    /// The body is not JSON.
    #[error("malformed JSON in the request body: {0}")]
    MalformedJson(#[source] serde_json::Error),
    /// The body is JSON of another kind.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// A field or query value has the wrong type or shape.
    #[error("{field} must be {expected}")]
    BadField {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A required field is missing.
    #[error("{field} is required")]
    MissingField {
        /// Its name.
        field: &'static str,
    },
    /// A well-formed value outside its range.
    #[error("{field} must be {expected}")]
    OutOfRange {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The body is larger than the limit.
    #[error("the request body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The configured limit.
        limit_bytes: usize,
    },
    /// The body broke off.
    #[error("the request body could not be read to its end")]
    BodyBroken,
    /// The app's secrets are older than asked.
    #[error(
        "min_secrets_version {wanted} is not reached: app {app:?} has version {current}; set the secrets first"
    )]
    SecretsTooOld {
        /// As asked.
        wanted: u64,
        /// What there is.
        current: u64,
        /// The app.
        app: String,
    },
    /// The app still runs something and `force=false` was given.
    #[error(
        "app {app:?} has machines that are not stopped ({machines}); stop them or destroy the app with force=true"
    )]
    AppInUse {
        /// The app.
        app: String,
        /// How many.
        machines: usize,
    },
    /// Someone holds a lease on a machine of the app.
    #[error(
        "machine {machine} of app {app:?} is leased; wait for the lease to end or destroy the app with force=true"
    )]
    AppLeased {
        /// The app.
        app: String,
        /// The machine.
        machine: String,
    },
    /// There is no proxy on this node that could serve a public address.
    #[error(
        "this node has no proxy, so it cannot assign addresses; machines of one app reach each other at <machine id>.vm.{app}.internal"
    )]
    NoAddresses {
        /// The app.
        app: String,
    },
    /// No such address.
    #[error("ip {ip:?} is not assigned to app {app:?}")]
    AddressNotFound {
        /// As asked.
        ip: String,
        /// The app.
        app: String,
    },
    /// A daemon is not there; nothing was done, so the request may be repeated.
    #[error(
        "{daemon} is not running or not reachable; start it (`hangar up` restarts it by itself) and try again"
    )]
    DaemonAway {
        /// Which daemon.
        daemon: &'static str,
    },
    /// A daemon did not answer in time; it may or may not have done it.
    #[error(
        "{daemon} did not answer in time; it may still be working: look at the state before trying again"
    )]
    DaemonSilent {
        /// Which daemon.
        daemon: &'static str,
    },
    /// A daemon's answer could not be understood.
    #[error("{daemon} answered something unreadable; look into its log")]
    DaemonGarbled {
        /// Which daemon.
        daemon: &'static str,
    },
    /// A daemon refused, in its own words.
    #[error("{error}")]
    Passed {
        /// The daemon's status.
        status: StatusCode,
        /// The daemon's sentence.
        error: String,
        /// Its machine-readable status, when it is one that clients know.
        code: Option<&'static str>,
    },
    /// Our catalog.
    #[error("the catalog of flaps could not be used; look into its log")]
    Store(#[from] StoreError),
    /// A defect of ours.
    #[error("internal error of flaps; look into its log for this request id")]
    Internal,
}

impl Refusal {
    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NoRoute { .. }
            | Self::AppNotFound { .. }
            | Self::OrganizationNotFound { .. }
            | Self::VolumeNotFound
            | Self::MachineNotFound
            | Self::SnapshotNotFound
            | Self::SecretNotFound { .. }
            | Self::AddressNotFound { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MalformedJson(_)
            | Self::NotAnObject
            | Self::BadField { .. }
            | Self::MissingField { .. }
            | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::NameTaken { .. }
            | Self::KeyReused { .. }
            | Self::BadName { .. }
            | Self::RegionNotFound { .. }
            | Self::MountNotFound { .. }
            | Self::OutOfRange { .. }
            | Self::NoAddresses { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AppDeleting { .. } | Self::AppLeased { .. } => StatusCode::CONFLICT,
            Self::SecretsTooOld { .. } | Self::AppInUse { .. } => StatusCode::PRECONDITION_FAILED,
            Self::DaemonAway { .. } => StatusCode::SERVICE_UNAVAILABLE,
            // Not 503: clients repeat those even for POST, and this request may have been carried out.
            Self::DaemonSilent { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::DaemonGarbled { .. } | Self::Store(_) | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Passed { status, .. } => *status,
        }
    }

    /// The word in the answer's `status` field, for the few cases on which clients act.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::NameTaken { .. } => Some("name_taken"),
            Self::Passed { code, .. } => *code,
            _ => None,
        }
    }
}

/// The words of the `status` field that clients know (others are not passed on).
pub fn known_code(code: &str) -> Option<&'static str> {
    [
        "unknown",
        "insufficient_capacity",
        "volume_placement_capacity",
        "name_taken",
    ]
    .into_iter()
    .find(|known| *known == code)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::Store(source) = &self {
            tracing::error!(error = %source, cause = ?std::error::Error::source(source), "catalog call failed");
        }
        daemon::ApiError {
            status: self.status(),
            error: self.to_string(),
            code: self.code(),
        }
        .into_response()
    }
}
