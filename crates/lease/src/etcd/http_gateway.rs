//! Members of etcd over HTTP.

use std::{io, path::Path, path::PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Certificate, Client, Identity, header, redirect};

use super::{EtcdConfig, Gateway};
use crate::AskError;

/// Members of etcd over HTTP.
#[derive(Debug)]
pub struct HttpGateway {
    client: Client,
    config: EtcdConfig,
}

/// Why members of etcd cannot be asked at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdConnectError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// What is in it is no certificate, or no key.
    #[error("use {}", path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: reqwest::Error,
    },
    /// A certificate authority has no certificate.
    #[error("{}: no certificate is in it", .0.display())]
    Empty(PathBuf),
    /// Nothing can be encrypted.
    #[error("set up requests to etcd")]
    Client(#[source] reqwest::Error),
}

impl HttpGateway {
    /// Prepares to ask members. Nothing is sent yet.
    ///
    /// # Errors
    /// A file of certificates cannot be used.
    pub fn new(config: &EtcdConfig) -> Result<Self, EtcdConnectError> {
        let mut client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(config.attempt());
        let encrypted = config
            .endpoints
            .iter()
            .any(|endpoint| endpoint.starts_with("https:"));
        match &config.tls.ca {
            Some(path) => client = client.tls_certs_only(authorities(path)?),
            // The system's are not even looked for.
            None if !encrypted => client = client.tls_certs_only([]),
            None => {}
        }
        if let Some((certificate, key)) = &config.tls.identity {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = Identity::from_pem(&pem).map_err(|source| EtcdConnectError::Pem {
                path: key.clone(),
                source,
            })?;
            client = client.identity(identity);
        }
        Ok(Self {
            client: client.build().map_err(EtcdConnectError::Client)?,
            config: config.clone(),
        })
    }

    fn failed(&self, endpoint: &str, source: reqwest::Error) -> AskError {
        if source.is_timeout() {
            return AskError::Timeout {
                authority: endpoint.to_owned(),
                after: self.config.attempt(),
            };
        }
        AskError::Etcd {
            endpoint: endpoint.to_owned(),
            source: source.without_url().into(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EtcdConnectError> {
    std::fs::read(path).map_err(|source| EtcdConnectError::Read {
        path: path.to_owned(),
        source,
    })
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, EtcdConnectError> {
    let found = Certificate::from_pem_bundle(&read(path)?).map_err(|source| EtcdConnectError::Pem {
        path: path.to_owned(),
        source,
    })?;
    // Nobody would be believed.
    if found.is_empty() {
        return Err(EtcdConnectError::Empty(path.to_owned()));
    }
    Ok(found)
}

#[async_trait]
impl Gateway for HttpGateway {
    async fn post(
        &self,
        member: usize,
        path: &'static str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<(u16, Bytes), AskError> {
        let endpoint = &self.config.endpoints[member];
        let mut request = self
            .client
            .post(format!("{endpoint}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let failed = |error| self.failed(endpoint, error);
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        Ok((status, response.bytes().await.map_err(failed)?))
    }
}
