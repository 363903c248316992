//! Running a command in a guest.

use axum::Json;
use axum::extract::{Path, State};
use daemon::{ApiError, ApiJson};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, allow, ask, find};
use crate::lifecycle::Request;
use crate::runner::StopArgs;
use crate::shim::facts::ExecRequest;
use crate::words::split;

const TIMEOUT_DEFAULT_S: f64 = 60.0;
const TIMEOUT_MAX_S: f64 = 3600.0;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Body {
    cmd: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    container: Option<String>,
    stdin: Option<String>,
    timeout: Option<f64>,
}

impl Body {
    fn read(self) -> Result<ExecRequest, ApiError> {
        if self.container.is_some_and(|container| !container.is_empty()) {
            return Err(ApiError::unprocessable(
                "container is not supported: a machine has one container",
            ));
        }
        let command = match (
            self.command.is_empty(),
            self.cmd.as_deref().filter(|cmd| !cmd.trim().is_empty()),
        ) {
            (false, None) => self.command,
            (true, Some(cmd)) => split(cmd).map_err(|error| ApiError::bad_request(error.to_string()))?,
            (false, Some(_)) => return Err(ApiError::bad_request("send command or cmd, not both")),
            (true, None) => Vec::new(),
        };
        if command.first().is_none_or(String::is_empty) {
            return Err(ApiError::bad_request(
                "command is required, e.g. {\"command\": [\"ls\", \"-l\"]}",
            ));
        }
        if command.iter().any(|word| word.contains('\0')) {
            return Err(ApiError::bad_request("command must not contain a zero byte"));
        }
        let timeout = self
            .timeout
            .filter(|timeout| *timeout != 0.0)
            .unwrap_or(TIMEOUT_DEFAULT_S);
        let duration = std::time::Duration::try_from_secs_f64(timeout).ok();
        let duration = duration
            .filter(|duration| duration.as_secs_f64() <= TIMEOUT_MAX_S)
            .ok_or_else(|| {
                ApiError::bad_request(format!(
                    "timeout must be more than 0 and at most {TIMEOUT_MAX_S} seconds"
                ))
            })?;
        let timeout_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(ExecRequest {
            command,
            stdin: self.stdin,
            timeout_ms,
        })
    }
}

pub(super) async fn exec(
    State(runner): Shared,
    Path((app, id)): Path<(String, String)>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<Body>,
) -> Result<Json<Value>, ApiError> {
    let handle = find(&runner, &app, &id)?;
    let request = body.read()?;
    allow(&runner, &handle, &headers).await?;
    ask(&handle, Request::Talk, StopArgs::default(), None).await?;
    let outcome = runner.shim(&handle.view().record.id).exec(&request).await?;
    if outcome.timed_out {
        return Err(ApiError::deadline_exceeded(format!(
            "deadline_exceeded: timeout: the command was killed after {} ms",
            request.timeout_ms
        )));
    }
    let mut stderr = outcome.stderr;
    if outcome.truncated {
        stderr.push_str("\n[output beyond 4 MiB was dropped]\n");
    }
    let exit_code = outcome
        .exit_code
        .unwrap_or_else(|| 128 + outcome.exit_signal.unwrap_or(0));
    Ok(Json(json!({
        "exit_code": exit_code,
        "exit_signal": outcome.exit_signal.unwrap_or(0),
        "stdout": outcome.stdout,
        "stderr": stderr,
    })))
}

#[cfg(test)]
mod tests;
