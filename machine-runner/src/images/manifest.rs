//! The documents of an image: index, manifest, configuration, and the list inside a docker-archive. Pure.
//!
//! Parsed by types of our own, which ask only for what is used: producers differ in what they leave out.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;

const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const MEDIA_DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const MEDIA_DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a registry is asked for.
pub(super) const MEDIA_ACCEPTED: [&str; 4] = [
    MEDIA_MANIFEST,
    MEDIA_INDEX,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_DOCKER_LIST,
];
/// Where index entries carry an image's name.
pub(super) const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and buildkit put its full form.
pub(super) const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";

/// Points to a document or a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
}

/// An index or a manifest: they are told apart by what they hold, since the media type may be left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Document {
    Index(Index),
    Manifest(Manifest),
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Manifest {
    /// Writes the manifest that a docker-archive lacks. Its bytes are the image's identity: never change them.
    pub(super) fn synthetic(config: Descriptor, layers: Vec<Descriptor>) -> (Self, Vec<u8>) {
        let manifest = Self {
            schema_version: 2,
            media_type: MEDIA_MANIFEST.to_owned(),
            config,
            layers,
        };
        let bytes = serde_json::to_vec(&manifest).expect("a manifest has no map with odd keys");
        (manifest, bytes)
    }
}

/// One image of a docker-archive's `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ArchiveImage {
    pub(super) config: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) repo_tags: Vec<String>,
    pub(super) layers: Vec<String>,
}

/// The image's configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) config: RawConfig,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RootFs {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) diff_ids: Vec<Digest>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RawConfig {
    #[serde(deserialize_with = "null_as_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    user: String,
    #[serde(deserialize_with = "null_as_default")]
    working_dir: String,
    #[serde(deserialize_with = "null_as_default")]
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_as_default")]
    volumes: BTreeMap<String, serde_json::Value>,
}

/// How an image asks to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `KEY=value` lines.
    pub env: Vec<String>,
    /// The words before [`ImageConfig::cmd`]; may be empty.
    pub entrypoint: Vec<String>,
    /// The command, or the arguments of the entry point.
    pub cmd: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    pub user: String,
    /// Where the process starts; empty means `/`.
    pub working_dir: String,
    /// Labels, as the API shows them.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the process to stop.
    pub stop_signal: Option<String>,
    /// `80/tcp` and the like.
    pub exposed_ports: Vec<String>,
    /// Paths that the image would like to be volumes.
    pub volumes: Vec<String>,
}

impl From<RawConfig> for ImageConfig {
    fn from(raw: RawConfig) -> Self {
        Self {
            env: raw.env,
            entrypoint: raw.entrypoint,
            cmd: raw.cmd,
            user: raw.user,
            working_dir: raw.working_dir,
            labels: raw.labels,
            stop_signal: raw.stop_signal.filter(|signal| !signal.is_empty()),
            exposed_ports: raw.exposed_ports.into_keys().collect(),
            volumes: raw.volumes.into_keys().collect(),
        }
    }
}

/// Go writes absent lists and maps as null.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Picks the entry for this kind of guest: linux on `architecture`, else the only entry that names no platform.
///
/// Entries such as attestations state the platform `unknown/unknown` and are never picked.
pub(super) fn pick<'d>(entries: &'d [Descriptor], architecture: &str) -> Option<&'d Descriptor> {
    let fits = |entry: &&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|found| found.os == "linux" && found.architecture == architecture)
    };
    let mut unnamed = entries.iter().filter(|entry| entry.platform.is_none());
    entries
        .iter()
        .find(fits)
        .or_else(|| unnamed.next().filter(|_| unnamed.next().is_none()))
}

/// The platforms that an index offers, for a message.
pub(super) fn platforms(entries: &[Descriptor]) -> Vec<String> {
    let named = entries.iter().filter_map(|entry| entry.platform.as_ref());
    named
        .map(|platform| format!("{}/{}", platform.os, platform.architecture))
        .collect()
}
