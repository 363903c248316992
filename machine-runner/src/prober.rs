//! Makes one try of a check over the port that is forwarded to the guest.

use daemon::wall_clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::checks::{CheckKind, CheckSpec, HttpCheck, Tried, cut_output};
use crate::record::Forward;

/// Bytes read of an answer: its status line, headers and the begin of its body.
const ANSWER_BYTES_MAX: usize = 4096;

/// Tries `spec` through `forwards`; never longer than its timeout.
pub async fn try_check(spec: &CheckSpec, forwards: &[Forward]) -> Tried {
    let forward = forwards
        .iter()
        .find(|forward| forward.protocol == "tcp" && forward.guest_port == spec.port);
    let Some(forward) = forward else {
        return failed(format!("port {} is not forwarded", spec.port));
    };
    let before = wall_clock::now();
    let result = tokio::time::timeout(spec.timeout, attempt(spec, forward)).await;
    let elapsed_ms = (wall_clock::now() - before)
        .total(jiff::Unit::Millisecond)
        .unwrap_or(0.0);
    match result {
        Err(_) => failed(format!("no answer within {} ms", spec.timeout.as_millis())),
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok(mut tried)) => {
            tried.output = cut_output(&format!("{} ({elapsed_ms:.0} ms)", tried.output));
            tried
        }
    }
}

fn failed(output: String) -> Tried {
    Tried {
        success: false,
        output: cut_output(&output),
    }
}

async fn attempt(spec: &CheckSpec, forward: &Forward) -> std::io::Result<Tried> {
    let mut stream = TcpStream::connect((forward.host_address.as_str(), forward.host_port)).await?;
    match &spec.kind {
        CheckKind::Tcp => still_open(&mut stream, spec.timeout).await,
        CheckKind::Http(http) => request(&mut stream, http, spec.port).await,
    }
}

/// The forwarder accepts before it knows whether the guest does, and hangs up when the guest refuses: a connection
/// counts when it survives a while or brings bytes.
async fn still_open(stream: &mut TcpStream, timeout: std::time::Duration) -> std::io::Result<Tried> {
    let mut byte = [0];
    let while_open = (timeout / 2).min(std::time::Duration::from_millis(500));
    match tokio::time::timeout(while_open, stream.read(&mut byte)).await {
        Ok(Ok(0)) | Ok(Err(_)) => Ok(failed("connection refused".to_owned())),
        Ok(Ok(_)) | Err(_) => Ok(Tried {
            success: true,
            output: "connected".to_owned(),
        }),
    }
}

async fn request(stream: &mut TcpStream, http: &HttpCheck, port: u16) -> std::io::Result<Tried> {
    let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", http.method, http.path);
    if !http
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text.push_str(&format!("Host: localhost:{port}\r\n"));
    }
    if !http
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
    {
        text.push_str("User-Agent: hangar-check\r\n");
    }
    for (name, value) in &http.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX as u64)
        .read_to_end(&mut answer)
        .await?;
    Ok(judge(&String::from_utf8_lossy(&answer)))
}

/// Judges an HTTP answer: 200 to 299 passes. Pure.
fn judge(answer: &str) -> Tried {
    let status_line = answer.lines().next().unwrap_or_default();
    let mut words = status_line.split_ascii_whitespace();
    let version = words.next().is_some_and(|version| version.starts_with("HTTP/"));
    let code = words
        .next()
        .and_then(|code| code.parse::<u16>().ok())
        .filter(|_| version);
    let Some(code) = code else {
        return failed(format!("not an HTTP answer: {status_line:?}"));
    };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    let output = if body.is_empty() {
        format!("HTTP {code}")
    } else {
        format!("HTTP {code}: {body}")
    };
    Tried {
        success: (200..300).contains(&code),
        output,
    }
}

#[cfg(test)]
mod tests;
