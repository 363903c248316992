//! `litefs verify`.

use std::process::ExitCode;

use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;

use super::{complain, say};
use crate::{
    cli::VerifyArgs,
    http_client::{request, whole},
    verify::{Finding, Verdict, files, verdict},
};

/// Says of every database whether it is as it should be. Exit code 0: all are; 1: one is damaged; 2: nobody can say.
pub(super) async fn verify(args: &VerifyArgs) -> ExitCode {
    let found = match &args.data {
        Some(data) => files::directory(data).map_err(|error| format!("{}: {error}", data.display())),
        None => ask(&args.url).await.map_err(|error| format!("{error:#}")),
    };
    let findings = match found {
        Ok(findings) => findings,
        Err(error) => {
            complain(&format!("ERROR: {error}"));
            return ExitCode::from(2);
        }
    };
    for finding in &findings {
        say(&told(finding));
    }
    ExitCode::from(match verdict(&findings) {
        Verdict::Sound => 0,
        Verdict::Damaged => 1,
        Verdict::Unknown => 2,
    })
}

fn told(finding: &Finding) -> String {
    let Finding {
        database,
        pos,
        ltx_files,
        damage,
        unknown,
    } = finding;
    let verdict = match verdict(std::slice::from_ref(finding)) {
        Verdict::Sound => format!("sound at {pos}, {ltx_files} ltx files"),
        Verdict::Damaged => format!("DAMAGED: {}", damage.join("; ")),
        Verdict::Unknown => format!("unknown: {}", unknown.join("; ")),
    };
    format!("{database} {verdict}")
}

async fn ask(url: &str) -> anyhow::Result<Vec<Finding>> {
    let response = request(Method::GET, url, "/verify", HeaderMap::new(), whole("")).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}
