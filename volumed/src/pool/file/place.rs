//! The place of a file pool: its folder, and the marker in it that tells it from the empty folder where its disk is not
//! mounted.

use std::io;

use crashsafe::OpenOptions;

use super::{FINAL, FilePool, UNFINISHED};
use crate::pool::{Fault, SliceId};

/// Name of the marker: one line, `hangar pool NAME ID`.
pub(super) const MARKER: &str = ".hangar-pool";
pub(super) const PROBE: &str = ".reflink-probe";
pub(super) const PROBE_COPY: &str = ".reflink-probe.copy";
/// More than any marker of ours has.
const MARKER_BYTES_MAX: usize = 256;
const ID_LEN: usize = 8;

/// What the catalog knows of a pool's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The id in its marker; none before its first use.
    pub id: Option<String>,
    /// Whether volumes of the catalog have their slices there.
    pub has_volumes: bool,
}

/// What a marker says.
#[derive(Debug, PartialEq, Eq)]
struct Marker {
    pool: String,
    id: String,
}

impl Marker {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        match (
            words.next()?,
            words.next()?,
            words.next()?,
            words.next()?,
            words.next(),
        ) {
            ("hangar", "pool", pool, id, None) => Some(Self {
                pool: pool.to_owned(),
                id: id.to_owned(),
            }),
            _ => None,
        }
    }

    fn line(pool: &str, id: &str) -> String {
        format!("hangar pool {pool} {id}")
    }
}

impl FilePool {
    /// Sees that the folder is this pool's; makes folder and marker at its first use. Returns the marker's id.
    pub(super) fn settle(&self) -> Result<String, Fault> {
        if let Some(id) = self.identify()? {
            return Ok(id);
        }
        let id = self.new_id();
        let made = || {
            crashsafe::create_dir_durable(&*self.disk, "pool:open:create_dir", &self.config.path)?;
            let line = Marker::line(&self.config.name, &id) + "\n";
            let path = self.config.path.join(MARKER);
            crashsafe::write_atomic(&*self.disk, "pool:open:marker", &path, line.as_bytes(), 0o644)
        };
        made().map_err(|error| self.unfit(&error))?;
        Ok(id)
    }

    /// Sees that the folder is this pool's, and changes nothing. None before its first use.
    pub(super) fn identify(&self) -> Result<Option<String>, Fault> {
        let known = self.known();
        let name = &self.config.name;
        let marker = match self.marker().map_err(|error| self.unfit(&error))? {
            Some(Some(marker)) => marker,
            Some(None) => return Err(self.missing_place("the marker in it is none of hangar's", &known)),
            None if known.id.is_some() => return Err(self.missing_place("its marker is not there", &known)),
            None if known.has_volumes && !self.has_slices().map_err(|error| self.unfit(&error))? => {
                return Err(self.missing_place("none of its volumes is there", &known));
            }
            None => return Ok(None),
        };
        if marker.pool != *name {
            let what = format!("it is the folder of pool {}", marker.pool);
            return Err(self.missing_place(&what, &known));
        }
        if known.id.as_ref().is_some_and(|id| *id != marker.id) {
            return Err(self.missing_place("it is the folder of another node's pool of this name", &known));
        }
        Ok(Some(marker.id))
    }

    /// Reads the marker; `Some(None)` when it is not one of ours.
    fn marker(&self) -> io::Result<Option<Option<Marker>>> {
        let path = self.config.path.join(MARKER);
        let file = match self.disk.open("pool:open:marker", &path, OpenOptions::READ) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        if len > MARKER_BYTES_MAX {
            return Ok(Some(None));
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(
            String::from_utf8(bytes)
                .ok()
                .and_then(|text| Marker::parse(&text)),
        ))
    }

    fn has_slices(&self) -> io::Result<bool> {
        let entries = match self.disk.list(&self.config.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(entries.iter().any(|entry| slice_of(&entry.name).is_some()))
    }

    fn new_id(&self) -> String {
        let mut bytes = [0; ID_LEN];
        self.random.fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn unfit(&self, error: &io::Error) -> Fault {
        let path = self.config.path.display();
        Fault {
            state: "unfit",
            sentence: format!(
                "its folder {path} cannot be used ({error}): put that right, volumed goes on by itself then"
            ),
        }
    }

    pub(super) fn missing_place(&self, what: &str, known: &Known) -> Fault {
        let (path, name) = (self.config.path.display(), &self.config.name);
        let line = Marker::line(name, known.id.as_deref().unwrap_or("1"));
        Fault {
            state: "missing",
            sentence: format!(
                "{path} is not the folder that the pool was in ({what}): mount its disk there, volumed goes on by itself then; \
                 if that disk is lost for good, say so by `echo {line} > {path}/{MARKER}` and restore its volumes' snapshots"
            ),
        }
    }
}

/// Returns the slice whose file has this name, and whether it is finished.
pub(super) fn slice_of(name: &str) -> Option<(SliceId, bool)> {
    let (stem, complete) = match (name.strip_suffix(FINAL), name.strip_suffix(UNFINISHED)) {
        (Some(stem), _) => (stem, true),
        (None, Some(stem)) => (stem, false),
        (None, None) => return None,
    };
    Some((SliceId::from_name(stem)?, complete))
}
