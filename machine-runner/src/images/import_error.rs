//! Why an image did not get into the store.

use std::io;
use std::path::PathBuf;

use http::StatusCode;
use oci_client::errors::{OciDistributionError, OciErrorCode};

use super::digest::Digest;
use super::merge::MergeError;
use super::name::NameSyntax;
use super::tar_reader::TarError;
use crate::erofs::WriteError;

/// Why an image could not be imported or pulled. Nothing of it stays in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The name is malformed.
    #[error(transparent)]
    Name(#[from] NameSyntax),
    /// There is no such file, or an archive lacks a part that it refers to.
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    /// A file of the source could not be read.
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file of the store could not be written.
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is a tar archive that cannot be read.
    #[error("{} is not a readable tar archive", path.display())]
    Tar {
        path: PathBuf,
        #[source]
        source: TarError,
    },
    /// The archive is neither of the two kinds.
    #[error("{} is neither an OCI image layout nor an archive of docker save", path.display())]
    Unrecognised { path: PathBuf },
    /// The source holds no image.
    #[error("there is no image in it")]
    Empty,
    /// One name was given, and the source holds several images.
    #[error("it holds {images} images; they cannot all be named {name:?}")]
    Ambiguous { images: usize, name: String },
    /// The list of images does not parse.
    #[error("the list of images is malformed")]
    Index {
        #[source]
        source: serde_json::Error,
    },
    /// A document could not be read.
    #[error("read document {digest}")]
    Document {
        digest: Digest,
        #[source]
        source: io::Error,
    },
    /// A manifest does not parse.
    #[error("manifest {digest} is malformed")]
    Manifest {
        digest: Digest,
        #[source]
        source: serde_json::Error,
    },
    /// A configuration does not parse.
    #[error("configuration {digest} is malformed")]
    Config {
        digest: Digest,
        #[source]
        source: serde_json::Error,
    },
    /// The image has no variant that runs here.
    #[error("it has no variant for linux/{architecture}; offered: {}", offered.join(", "))]
    Platform {
        architecture: String,
        offered: Vec<String>,
    },
    /// Bytes are not what their digest says.
    #[error("{digest} is corrupt: its bytes have the digest {actual}")]
    Corrupt { digest: Digest, actual: Digest },
    /// A layer's compression is damaged, though its digest is right.
    #[error("decompress layer {digest}")]
    Decompress {
        digest: Digest,
        #[source]
        source: io::Error,
    },
    /// A layer is encrypted.
    #[error("layer {digest} is encrypted")]
    Encrypted { digest: Digest },
    /// A layer is not a readable archive.
    #[error("layer {digest} is not a readable tar archive")]
    Archive {
        digest: Digest,
        #[source]
        source: TarError,
    },
    /// A layer holds what no root file system can.
    #[error("layer {digest}")]
    Layer {
        digest: Digest,
        #[source]
        source: MergeError,
    },
    /// The configuration and the manifest disagree on the number of layers.
    #[error("the manifest lists {manifest} layers, the configuration {config}")]
    LayerCount { manifest: usize, config: usize },
    /// The image unpacks to more than the limit.
    #[error("the image unpacks to more than {limit_bytes} bytes, which is the limit here")]
    TooLarge { limit_bytes: u64 },
    /// The image has more entries than the limit.
    #[error("the image has more than {entries_max} files, which is the limit here")]
    TooManyEntries { entries_max: usize },
    /// The image has more layers than the limit.
    #[error("the image has {layers} layers; the limit here is {layers_max}")]
    TooManyLayers { layers: usize, layers_max: usize },
    /// The file system could not be written.
    #[error("write the root file system")]
    FileSystem {
        #[source]
        source: WriteError,
    },
    /// The registry has no such image.
    #[error("there is no image {name} in its registry; import one with `hangar images import`")]
    NotFound { name: String },
    /// The registry asks for other credentials.
    #[error("the registry does not allow to pull {name}; run docker login, or make the image public")]
    Unauthorized { name: String },
    /// The registry did not answer properly.
    #[error("pull {name}")]
    Registry {
        name: String,
        #[source]
        source: Box<OciDistributionError>,
    },
    /// A download broke off.
    #[error("download {digest} of {name}")]
    Download {
        name: String,
        digest: Digest,
        #[source]
        source: io::Error,
    },
    /// The thread that did the work panicked.
    #[error("the import stopped unexpectedly; see the log")]
    Stopped,
}

impl ImportError {
    /// Returns the message with those of its causes, joined by `: `, each once.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let chain = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        let mut words: Vec<_> = chain.map(ToString::to_string).collect();
        words.dedup();
        words.join(": ")
    }

    /// Returns the HTTP status that says whose fault it is.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::Missing { .. } => StatusCode::NOT_FOUND,
            Self::Unauthorized { .. } => StatusCode::FORBIDDEN,
            Self::Registry { .. } | Self::Download { .. } => StatusCode::BAD_GATEWAY,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Self::FileSystem {
                source: WriteError::Output(source),
            } if source.kind() == io::ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Write { .. } | Self::Stopped => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Name(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// Returns whether the same call may succeed later, nothing else having changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Download { .. } => true,
            Self::Registry { source, .. } => match &**source {
                OciDistributionError::RequestError(_) => true,
                OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
                _ => false,
            },
            _ => false,
        }
    }

    /// Sorts a registry's answer.
    pub(super) fn from_registry(name: &str, source: OciDistributionError) -> Self {
        let name = name.to_owned();
        let unknown = |code: &OciErrorCode| {
            matches!(
                code,
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::BlobUnknown
            )
        };
        let denied = |code: &OciErrorCode| matches!(code, OciErrorCode::Denied | OciErrorCode::Unauthorized);
        match &source {
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => Self::NotFound { name },
            OciDistributionError::RegistryError { envelope, .. }
                if envelope.errors.iter().any(|e| unknown(&e.code)) =>
            {
                Self::NotFound { name }
            }
            OciDistributionError::RegistryError { envelope, .. }
                if envelope.errors.iter().any(|e| denied(&e.code)) =>
            {
                Self::Unauthorized { name }
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => Self::Unauthorized { name },
            _ => Self::Registry {
                name,
                source: Box::new(source),
            },
        }
    }
}
