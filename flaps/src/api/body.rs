//! Request bodies: any content type, JSON objects, every optional field may be null.

use std::fmt;

use axum::extract::{FromRequest, Request};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Api;
use crate::refusal::Refusal;

/// A request body that is nothing (or blank) or JSON of any kind.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonBody(pub(super) Option<Value>);

impl FromRequest<Api> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Refusal> {
        let limit_bytes = api.config.body_bytes_max;
        let bytes = axum::body::to_bytes(request.into_body(), limit_bytes)
            .await
            .map_err(|error| {
                let too_large = std::error::Error::source(&error)
                    .is_some_and(|source| source.to_string().contains("limit"));
                if too_large {
                    Refusal::BodyTooLarge { limit_bytes }
                } else {
                    Refusal::BodyBroken
                }
            })?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(None));
        }
        serde_json::from_slice::<Unambiguous>(&bytes)
            .map(|Unambiguous(value)| Self(Some(value)))
            .map_err(Refusal::MalformedJson)
    }
}

/// JSON in which no object says one thing twice: readers differ in which of the two they take.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnambiguousVisitor).map(Self)
    }
}

struct UnambiguousVisitor;

impl<'de> Visitor<'de> for UnambiguousVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unambiguous(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Unambiguous(value))) = fields.next_entry::<String, _>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "the field {name:?} is given twice"
                )));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

impl JsonBody {
    /// The body as an object with its null fields taken out; nothing and null count as `{}`.
    pub(super) fn into_object(self) -> Result<Map<String, Value>, Refusal> {
        match self.0 {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
            Some(_) => Err(Refusal::NotAnObject),
        }
    }
}

/// Reads an optional text field; an empty text counts as absent.
pub(super) fn text<'a>(
    body: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a str>, Refusal> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Refusal::BadField {
            field,
            expected: "a string",
        }),
    }
}

/// Reads an optional whole number, 0 or more.
pub(super) fn number(body: &Map<String, Value>, field: &'static str) -> Result<Option<u64>, Refusal> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(Refusal::BadField {
            field,
            expected: "a whole number, 0 or more",
        }),
    }
}

/// Reads an optional truth value.
pub(super) fn flag(body: &Map<String, Value>, field: &'static str) -> Result<Option<bool>, Refusal> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_bool().map(Some).ok_or(Refusal::BadField {
            field,
            expected: "true or false",
        }),
    }
}

#[cfg(test)]
mod tests;
