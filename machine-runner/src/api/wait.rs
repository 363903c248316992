//! Waiting for a state.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use daemon::{ApiError, ApiQuery};
use serde_json::{Value, json};

use super::requests::Pairs;
use super::{Shared, find};
use crate::lifecycle;
use crate::runner::View;

const TIMEOUT_MAX_S: f64 = 60.0;

/// What is waited for.
struct Wanted {
    states: Vec<String>,
    version: Option<String>,
    after_event: Option<String>,
}

impl Wanted {
    fn read(pairs: &Pairs) -> Result<Self, ApiError> {
        let mut states = pairs.list("state");
        if states.is_empty() {
            states.push("started".to_owned());
        }
        // `restarting` is for those who want to say why a start failed while it is being tried again.
        const WORDS: [&str; 7] = [
            "started",
            "stopped",
            "suspended",
            "destroyed",
            "failed",
            "restarting",
            "settled",
        ];
        if let Some(unknown) = states.iter().find(|state| !WORDS.contains(&state.as_str())) {
            let words = WORDS.join(", ");
            return Err(ApiError::bad_request(format!(
                "cannot wait for state {unknown:?}; it must be one of {words}"
            )));
        }
        let version = pairs
            .get("version")
            .or_else(|| pairs.get("instance_id"))
            .filter(|version| !version.is_empty());
        if let Some(version) = version
            && version.len() != 26
        {
            return Err(ApiError::bad_request(format!(
                "version must have 26 characters, got {version:?}"
            )));
        }
        let after_event = pairs
            .get("from_event_id")
            .filter(|id| !id.is_empty())
            .map(str::to_owned);
        Ok(Self {
            states,
            version: version.map(str::to_owned),
            after_event,
        })
    }

    fn is_met(&self, view: &View) -> bool {
        let state = view.record.state;
        let state_met = self.states.iter().any(|wanted| match wanted.as_str() {
            "settled" => state.is_settled(),
            word => word == state.as_str(),
        });
        // A destroyed machine has no further versions.
        let gone = state == lifecycle::State::Destroyed;
        let version_met = gone
            || self
                .version
                .as_ref()
                .is_none_or(|version| *version == view.record.instance_id);
        // Event ids are ULIDs: they sort by time.
        let event_met = self
            .after_event
            .as_ref()
            .is_none_or(|after| view.last_event > *after);
        state_met && version_met && event_met
    }
}

pub(super) async fn wait(
    State(runner): Shared,
    Path((app, id)): Path<(String, String)>,
    ApiQuery(pairs): ApiQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let handle = find(&runner, &app, &id)?;
    let pairs = Pairs(pairs);
    let wanted = Wanted::read(&pairs)?;
    let seconds = match pairs.get("timeout").filter(|text| !text.is_empty()) {
        None => TIMEOUT_MAX_S,
        Some(text) => text
            .trim_end_matches('s')
            .parse::<f64>()
            .ok()
            .filter(|seconds| (1.0..=TIMEOUT_MAX_S).contains(seconds))
            .ok_or_else(|| ApiError::bad_request(format!("timeout must be 1 to 60 seconds, got {text:?}")))?,
    };
    let mut view = handle.view.clone();
    let waited = tokio::time::timeout(
        Duration::from_secs_f64(seconds),
        view.wait_for(|view| wanted.is_met(view)),
    );
    match waited.await {
        Ok(Ok(view)) => Ok(Json(json!({
            "ok": true,
            "event_id": view.last_event,
            "state": view.record.state,
            "version": view.record.instance_id,
        }))),
        // The actor has ended: nothing changes any more.
        Ok(Err(_)) | Err(_) => {
            let state = handle.view().record.state;
            let states = wanted.states.join(" or ");
            Err(ApiError::deadline_exceeded(format!(
                "deadline_exceeded: timeout after {seconds} s of waiting for {states}, the machine is {state}"
            )))
        }
    }
}
