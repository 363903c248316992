//! Typed reads of a JSON object, with errors that name the field.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::go_duration;

/// A field of a machine configuration that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid machine configuration: {field} {sentence}")]
pub struct InvalidConfig {
    /// Path of the field, e.g. `config.guest.cpus`.
    pub field: String,
    /// What is wrong and what would be right.
    pub sentence: String,
}

impl InvalidConfig {
    pub(super) fn new(field: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            sentence: sentence.into(),
        }
    }
}

/// Whether a value asks for nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
    }
}

/// One object of the configuration and its path.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(path: impl Into<String>, map: &'a Map<String, Value>) -> Self {
        Self {
            path: path.into(),
            map,
        }
    }

    pub(super) fn from_value(path: String, value: &'a Value) -> Result<Self, InvalidConfig> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            _ => Err(InvalidConfig::new(path, "must be an object")),
        }
    }

    pub(super) fn error(&self, key: &str, sentence: impl Into<String>) -> InvalidConfig {
        InvalidConfig::new(format!("{}.{key}", self.path), sentence)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Refuses a non-empty field that is not in `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), InvalidConfig> {
        for (key, value) in self.map {
            if !known.contains(&key.as_str()) && !is_empty(value) {
                return Err(self.error(key, "is not supported"));
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, InvalidConfig> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.contains('\0') => {
                Err(self.error(key, "must not contain a zero byte"))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.error(key, "must be text")),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, InvalidConfig> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(set)) => Ok(*set),
            Some(_) => Err(self.error(key, "must be true or false")),
        }
    }

    pub(super) fn integer(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, InvalidConfig> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.error(
                key,
                format!(
                    "must be a whole number from {} to {}, got {value}",
                    range.start(),
                    range.end()
                ),
            )),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, InvalidConfig> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) if !text.contains('\0') => Ok(text.clone()),
                    _ => Err(self.error(key, "must be a list of texts")),
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Some),
            Some(_) => Err(self.error(key, "must be a list of texts")),
        }
    }

    pub(super) fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>, InvalidConfig> {
        match self.get(key) {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(name, value)| match value {
                    _ if name.is_empty() || name.contains(['\0', '=']) => {
                        Err(self.error(key, format!("has the name {name:?}, which cannot be used")))
                    }
                    Value::String(text) if !text.contains('\0') => Ok((name.clone(), text.clone())),
                    _ => Err(self.error(&format!("{key}.{name}"), "must be text")),
                })
                .collect(),
            Some(_) => Err(self.error(key, "must be an object of texts")),
        }
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, InvalidConfig> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields {
                path: format!("{}.{key}", self.path),
                map,
            })),
            Some(_) => Err(self.error(key, "must be an object")),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Vec<Fields<'a>>, InvalidConfig> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(index, item)| Fields::from_value(format!("{}.{key}[{index}]", self.path), item))
                .collect(),
            Some(_) => Err(self.error(key, "must be a list")),
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    pub(super) fn duration(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, InvalidConfig> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match go_duration::from_json(value) {
            Some(duration) if range.contains(&duration) => Ok(Some(duration)),
            Some(duration) => Err(self.error(
                key,
                format!(
                    "must be {:?} to {:?}, got {duration:?}",
                    range.start(),
                    range.end()
                ),
            )),
            None => Err(self.error(
                key,
                format!("must be a duration like \"15s\" or nanoseconds, got {value}"),
            )),
        }
    }

    /// A port, 1 to 65535.
    pub(super) fn port(&self, key: &str) -> Result<Option<u16>, InvalidConfig> {
        Ok(self
            .integer(key, 1..=65_535)?
            .and_then(|port| u16::try_from(port).ok()))
    }

    /// An absolute, clean path that is not `/`.
    pub(super) fn guest_path(&self, key: &str) -> Result<String, InvalidConfig> {
        let path = self.text(key)?.unwrap_or_default();
        let clean = path.starts_with('/')
            && path.len() <= 4000
            && path
                .trim_end_matches('/')
                .split('/')
                .skip(1)
                .all(|part| !part.is_empty() && part != "." && part != "..");
        if !clean || path.trim_end_matches('/').is_empty() {
            let sentence = format!("must be an absolute path without . or .., and not /, got {path:?}");
            return Err(self.error(key, sentence));
        }
        Ok(path.trim_end_matches('/').to_owned())
    }
}
