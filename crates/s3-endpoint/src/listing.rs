//! Pages of a listing: prefix, delimiter, where to go on. No I/O.

use std::collections::BTreeMap;
use std::ops::Bound;

/// What a page is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Keys begin with this.
    pub(crate) prefix: String,
    /// Keys that go on after the prefix up to this are rolled up into one common prefix; empty for none.
    pub(crate) delimiter: String,
    /// Only what comes after.
    pub(crate) after: Option<After>,
    /// Most keys and common prefixes together.
    pub(crate) limit: usize,
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    /// After this key.
    Key(String),
    /// After every key that begins with this common prefix.
    CommonPrefix(String),
}

/// One item of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item<'a, T> {
    /// A key.
    Object(&'a str, &'a T),
    /// Keys rolled up.
    CommonPrefix(String),
}

impl<T> Item<'_, T> {
    /// Where the page after this item begins.
    pub(crate) fn after(&self) -> After {
        match self {
            Self::Object(key, _) => After::Key((*key).to_owned()),
            Self::CommonPrefix(prefix) => After::CommonPrefix(prefix.clone()),
        }
    }
}

impl After {
    /// Writes it as an opaque token.
    pub(crate) fn to_token(&self) -> String {
        use base64::Engine as _;
        let text = match self {
            Self::Key(key) => format!("k{key}"),
            Self::CommonPrefix(prefix) => format!("p{prefix}"),
        };
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token; `None` when it is none of ours.
    pub(crate) fn from_token(token: &str) -> Option<Self> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(token)
            .ok()?;
        let text = String::from_utf8(bytes).ok()?;
        match text.split_at_checked(1)? {
            ("k", key) => Some(Self::Key(key.to_owned())),
            ("p", prefix) => Some(Self::CommonPrefix(prefix.to_owned())),
            _ => None,
        }
    }
}

/// Returns a page of `keys`, in ascending byte order, and whether more follows.
///
/// * `visible`: keys that it refuses do not exist for the asker.
pub(crate) fn page<'a, T>(
    keys: &'a BTreeMap<String, T>,
    query: &Query,
    visible: impl Fn(&str) -> bool,
) -> (Vec<Item<'a, T>>, bool) {
    let start = match &query.after {
        Some(After::Key(key)) if *key >= query.prefix => Bound::Excluded(key.as_str()),
        Some(After::CommonPrefix(prefix)) if *prefix >= query.prefix => Bound::Included(prefix.as_str()),
        Some(_) | None => Bound::Included(query.prefix.as_str()),
    };
    let mut items: Vec<Item<'a, T>> = Vec::new();
    for (key, value) in keys.range::<str, _>((start, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(&query.prefix) else {
            break;
        };
        if !visible(key) {
            continue;
        }
        let item = match rest
            .find(&query.delimiter)
            .filter(|_| !query.delimiter.is_empty())
        {
            None => Item::Object(key, value),
            Some(at) => {
                let prefix = &key[..query.prefix.len() + at + query.delimiter.len()];
                let rolled_up = match (&query.after, items.last()) {
                    (Some(After::CommonPrefix(done)), _) if done == prefix => true,
                    (_, Some(Item::CommonPrefix(last))) => last == prefix,
                    _ => false,
                };
                if rolled_up {
                    continue;
                }
                Item::CommonPrefix(prefix.to_owned())
            }
        };
        if items.len() == query.limit {
            return (items, true);
        }
        items.push(item);
    }
    (items, false)
}

#[cfg(test)]
mod tests;
