//! An agent over HTTP/1.1.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;

use super::{Agent, ConsulConfig};
use crate::AskError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// An agent over HTTP/1.1.
#[derive(Debug)]
pub struct HttpAgent {
    client: Client<HttpConnector, Full<Bytes>>,
    authority: String,
    token: Option<String>,
}

impl HttpAgent {
    /// Prepares to ask an agent. Nothing is sent yet.
    #[must_use]
    pub fn new(config: &ConsulConfig) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            authority: config.authority.clone(),
            token: config.token.clone(),
        }
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AskError {
        AskError::Agent {
            authority: self.authority.clone(),
            source: source.into(),
        }
    }
}

#[async_trait]
impl Agent for HttpAgent {
    async fn call(&self, method: &'static str, path: &str, body: Bytes) -> Result<(u16, Bytes), AskError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .body(Full::new(body));
        let mut request = request.map_err(|error| self.failed(error))?;
        if let Some(token) = &self.token {
            let token = HeaderValue::from_str(token).map_err(|error| self.failed(error))?;
            request.headers_mut().insert("X-Consul-Token", token);
        }
        let asked = timeout(PATIENCE, async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| self.failed(error))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await;
            Ok((status, body.map_err(|error| self.failed(error))?.to_bytes()))
        });
        asked.await.unwrap_or_else(|_| {
            Err(AskError::Timeout {
                authority: self.authority.clone(),
                after: PATIENCE,
            })
        })
    }
}
