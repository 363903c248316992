//! Pages of the organization-wide lists.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Most items of one page, and the number when the request names none.
pub const LIMIT_MAX: usize = 1000;

/// What a request asks of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageRequest {
    /// Only ids after this one.
    pub after_id: Option<String>,
    /// 1..=[`LIMIT_MAX`].
    pub limit: usize,
    /// Only items whose `updated_at` is later (RFC 3339, compared as instants).
    pub updated_after: Option<jiff::Timestamp>,
    /// Only these regions, unless empty.
    pub regions: Vec<String>,
    /// Only these states, unless empty.
    pub states: Vec<String>,
}

/// One page, items in order of id.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The items.
    pub items: Vec<Value>,
    /// Cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
    /// Id of the last item.
    pub last_id: Option<String>,
    /// Newest `updated_at` among the items.
    pub last_updated_at: Option<String>,
}

/// Writes a cursor that stands after `id`.
pub fn cursor_after(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// Reads a cursor; None when it is not one of ours.
pub fn read_cursor(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// Cuts one page out of `items`.
pub fn cut(mut items: Vec<Value>, request: &PageRequest) -> Page {
    assert!(
        (1..=LIMIT_MAX).contains(&request.limit),
        "page limit {}",
        request.limit
    );
    items.sort_by(|a, b| id(a).cmp(id(b)));
    let mut items: Vec<Value> = items.into_iter().filter(|item| wanted(item, request)).collect();
    let more = items.len() > request.limit;
    items.truncate(request.limit);
    let last_id = items.last().map(|item| id(item).to_owned());
    let last_updated_at = items
        .iter()
        .filter_map(|item| Some((updated_at(item)?, item["updated_at"].as_str()?)))
        .max_by_key(|(at, _)| *at)
        .map(|(_, text)| text.to_owned());
    Page {
        next_cursor: last_id.as_deref().filter(|_| more).map(cursor_after),
        items,
        last_id,
        last_updated_at,
    }
}

fn wanted(item: &Value, request: &PageRequest) -> bool {
    let listed = |wanted: &[String], field: &str| {
        wanted.is_empty()
            || item[field]
                .as_str()
                .is_some_and(|value| wanted.iter().any(|w| w == value))
    };
    request.after_id.as_deref().is_none_or(|after| id(item) > after)
        && request
            .updated_after
            .is_none_or(|after| updated_at(item).is_none_or(|at| at > after))
        && listed(&request.regions, "region")
        && listed(&request.states, "state")
}

fn id(item: &Value) -> &str {
    item["id"].as_str().unwrap_or_default()
}

fn updated_at(item: &Value) -> Option<jiff::Timestamp> {
    item["updated_at"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests;
