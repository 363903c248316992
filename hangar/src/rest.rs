//! The node's REST API, as the command uses it.

use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::environment::Environment;
use crate::failure::Failure;

/// A client of one node.
#[derive(Debug, Clone)]
pub struct Rest {
    base: String,
    token: String,
    client: reqwest::Client,
}

/// One request.
#[derive(Debug)]
pub struct Ask<'a> {
    /// What is being done, for the error message: `create volume`.
    pub doing: &'static str,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// JSON body.
    pub body: Option<&'a Value>,
    /// Extra headers.
    pub headers: HeaderMap,
}

impl Rest {
    /// Finds the node and its token.
    ///
    /// # Errors
    /// [`Failure::NoNode`], [`Failure::Token`], [`Failure::BadValue`] for an endpoint that is no URL.
    pub fn new(environment: &Environment) -> Result<Self, Failure> {
        let base = environment.endpoint()?;
        let is_url = reqwest::Url::parse(&base)
            .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        if !is_url {
            return Err(Failure::BadValue {
                what: "endpoint",
                given: base,
                expected: "use a URL like http://127.0.0.1:4280",
            });
        }
        Ok(Self {
            base,
            token: environment.token()?,
            client: reqwest::Client::new(),
        })
    }

    /// `GET path`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn get(&self, doing: &'static str, path: &str) -> Result<Value, Failure> {
        self.send(Ask {
            doing,
            method: Method::GET,
            path,
            body: None,
            headers: HeaderMap::new(),
        })
        .await
    }

    /// `POST path` with a body.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn post(&self, doing: &'static str, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Ask {
            doing,
            method: Method::POST,
            path,
            body: Some(body),
            headers: HeaderMap::new(),
        })
        .await
    }

    /// `PUT path` with a body.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn put(&self, doing: &'static str, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Ask {
            doing,
            method: Method::PUT,
            path,
            body: Some(body),
            headers: HeaderMap::new(),
        })
        .await
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn delete(&self, doing: &'static str, path: &str) -> Result<Value, Failure> {
        self.send(Ask {
            doing,
            method: Method::DELETE,
            path,
            body: None,
            headers: HeaderMap::new(),
        })
        .await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`Failure::Unreachable`], [`Failure::Refused`], [`Failure::BadToken`], [`Failure::NotTheApi`].
    pub async fn send(&self, ask: Ask<'_>) -> Result<Value, Failure> {
        let doing = ask.doing;
        let response = self.open(ask).await?;
        let bytes = response
            .bytes()
            .await
            .map_err(|source| self.unreachable(doing, source))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| self.not_the_api(doing))
    }

    /// Sends a request and leaves the answer to be read piece by piece.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn open(&self, ask: Ask<'_>) -> Result<reqwest::Response, Failure> {
        let Ask {
            doing,
            method,
            path,
            body,
            headers,
        } = ask;
        let url = format!("{}{path}", self.base);
        let mut request = self
            .client
            .request(method, url)
            .bearer_auth(&self.token)
            .headers(headers);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|source| self.unreachable(doing, source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let header = response
            .headers()
            .get("fly-request-id")
            .and_then(|value| value.to_str().ok());
        let request_id = header.map(str::to_owned);
        let text = response.text().await.unwrap_or_default();
        let parsed = serde_json::from_str::<Value>(&text).ok();
        let sentence = parsed
            .as_ref()
            .and_then(|body| body.get("message").or(body.get("error"))?.as_str());
        match sentence {
            Some(_) if status == 401 => Err(Failure::BadToken {
                doing,
                endpoint: self.base.clone(),
            }),
            Some(error) => Err(Failure::Refused {
                doing,
                status,
                error: error.to_owned(),
                request_id,
            }),
            None => Err(self.not_the_api(doing)),
        }
    }

    /// The address asked.
    pub fn base(&self) -> &str {
        &self.base
    }

    fn unreachable(&self, doing: &'static str, source: reqwest::Error) -> Failure {
        Failure::Unreachable {
            doing,
            endpoint: self.base.clone(),
            source,
        }
    }

    fn not_the_api(&self, doing: &'static str) -> Failure {
        Failure::NotTheApi {
            doing,
            endpoint: self.base.clone(),
        }
    }
}

/// What RFC 3986 calls unreserved stays as it is.
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Writes text as one query value or path segment.
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}

#[cfg(test)]
mod tests;
