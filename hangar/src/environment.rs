//! Where the command finds its node, its token and its app.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cli::GlobalArgs;
use crate::failure::Failure;

/// The environment variables that matter, and the global options that override them.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    data: Option<PathBuf>,
    endpoint: Option<String>,
    token: Option<String>,
}

const NAMES: [&str; 11] = [
    "HANGAR_DATA",
    "HANGAR_ENDPOINT",
    "FLY_FLAPS_BASE_URL",
    "FLY_API_TOKEN",
    "FLY_ACCESS_TOKEN",
    "FLY_APP",
    "HANGAR_APP",
    "HANGAR_ASSETS",
    "HOME",
    "XDG_DATA_HOME",
    "NO_COLOR",
];

impl Environment {
    /// Reads this process's environment; global options win.
    pub fn of_process(global: &GlobalArgs) -> Self {
        let variables = NAMES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self {
            variables,
            data: global.data.clone(),
            endpoint: global.endpoint.clone(),
            token: global.access_token.clone(),
        }
    }

    /// An environment made up of the given variables.
    pub fn of_variables<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        Self {
            variables,
            ..Self::default()
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).and_then(|value| value.to_str())
    }

    /// The node's data directory: `--data`, `$HANGAR_DATA`, `/var/lib/hangar` for root, else below the user's own data.
    pub fn data_directory(&self) -> PathBuf {
        if let Some(given) = self
            .data
            .clone()
            .or_else(|| self.variables.get("HANGAR_DATA").map(PathBuf::from))
        {
            return std::path::absolute(&given).unwrap_or(given);
        }
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/hangar");
        }
        let own = self
            .variables
            .get("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let home = || {
            self.variables
                .get("HOME")
                .map(|home| Path::new(home).join(".local/share"))
        };
        own.or_else(home)
            .unwrap_or_else(|| PathBuf::from("."))
            .join("hangar")
    }

    /// The node's API: `--endpoint`, `$HANGAR_ENDPOINT`, `$FLY_FLAPS_BASE_URL`, else what the node itself wrote down.
    ///
    /// # Errors
    /// [`Failure::NoNode`] when there is none of these.
    pub fn endpoint(&self) -> Result<String, Failure> {
        let given = self.endpoint.as_deref().or_else(|| self.text("HANGAR_ENDPOINT"));
        if let Some(url) = given.or_else(|| self.text("FLY_FLAPS_BASE_URL")) {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let data = self.data_directory();
        let written = std::fs::read_to_string(data.join("run/flaps.addr"));
        written
            .map(|address| format!("http://{}", address.trim()))
            .map_err(|_| Failure::NoNode { data })
    }

    /// The token: `-t`, `$FLY_API_TOKEN`, `$FLY_ACCESS_TOKEN`, else the node's own.
    ///
    /// # Errors
    /// [`Failure::Token`] when the node's token cannot be read.
    pub fn token(&self) -> Result<String, Failure> {
        let given = self.token.as_deref().or_else(|| self.text("FLY_API_TOKEN"));
        if let Some(token) = given.or_else(|| self.text("FLY_ACCESS_TOKEN")) {
            return Ok(token.to_owned());
        }
        let path = self.data_directory().join("flaps/token");
        match std::fs::read_to_string(&path) {
            Ok(token) => Ok(token.trim().to_owned()),
            Err(source) => Err(Failure::Token { path, source }),
        }
    }

    /// The app: as given, else `$FLY_APP`, else `$HANGAR_APP`.
    ///
    /// # Errors
    /// [`Failure::MissingApp`].
    pub fn app(&self, given: Option<&str>) -> Result<String, Failure> {
        given
            .or_else(|| self.text("FLY_APP"))
            .or_else(|| self.text("HANGAR_APP"))
            .map(str::to_owned)
            .ok_or(Failure::MissingApp)
    }

    /// Where `$HANGAR_ASSETS` says guest kernel and initramfs are.
    pub fn assets(&self) -> Option<PathBuf> {
        self.variables.get("HANGAR_ASSETS").map(PathBuf::from)
    }

    /// Tells whether colour was declined.
    pub fn no_colour(&self) -> bool {
        self.variables.contains_key("NO_COLOR")
    }
}

#[cfg(test)]
mod tests;
