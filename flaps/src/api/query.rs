//! The query string, without surprises: any text is accepted, unknown names are ignored.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;

use crate::refusal::Refusal;

/// The pairs of the query string in order.
#[derive(Debug, Clone, Default)]
pub(super) struct QueryPairs(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for QueryPairs {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|_| Refusal::BadField {
                field: "the query string",
                expected: "pairs of names and values",
            })
    }
}

impl QueryPairs {
    /// The first value of `name`, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of `name`: repeated, or a comma list, or both.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let values = self
            .0
            .iter()
            .filter(|(key, _)| key == name)
            .flat_map(|(_, value)| value.split(','));
        values
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// A truth value; a bare name counts as true.
    pub(super) fn flag(&self, field: &'static str) -> Result<Option<bool>, Refusal> {
        match self
            .0
            .iter()
            .find(|(key, _)| key == field)
            .map(|(_, value)| value.as_str())
        {
            None => Ok(None),
            Some("true" | "1" | "") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(Refusal::BadField {
                field,
                expected: "true or false",
            }),
        }
    }

    /// A whole number.
    pub(super) fn number(&self, field: &'static str) -> Result<Option<u64>, Refusal> {
        self.get(field)
            .map(|text| {
                text.parse().map_err(|_| Refusal::BadField {
                    field,
                    expected: "a whole number, 0 or more",
                })
            })
            .transpose()
    }
}
