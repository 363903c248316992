//! PURE. Environment variables in a file's text.

use super::Lookup;

/// Replaces `$VAR`, `${VAR}`, `${VAR == 'x'}`, `${VAR != "x"}` and `${VAR == OTHER}` all over the text, comments included. A
/// variable that is not set is empty; a comparison is `true` or `false`.
#[must_use]
pub fn expand(text: &str, lookup: &Lookup<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(inner) = after.strip_prefix('{')
            && let Some(end) = inner.find('}')
        {
            out.push_str(&evaluate(inner[..end].trim(), lookup));
            rest = &inner[end + 1..];
            continue;
        }
        let name_len = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        if name_len == 0 || after.starts_with(|c: char| c.is_ascii_digit()) {
            out.push('$');
            rest = after;
        } else {
            out.push_str(&lookup(&after[..name_len]).unwrap_or_default());
            rest = &after[name_len..];
        }
    }
    out.push_str(rest);
    out
}

fn evaluate(expression: &str, lookup: &Lookup<'_>) -> String {
    for (operator, wanted) in [("==", true), ("!=", false)] {
        if let Some((left, right)) = expression.split_once(operator) {
            let left = lookup(left.trim()).unwrap_or_default();
            let equal = left == operand(right.trim(), lookup);
            return (equal == wanted).to_string();
        }
    }
    lookup(expression).unwrap_or_default()
}

fn operand(text: &str, lookup: &Lookup<'_>) -> String {
    for quote in ['\'', '"'] {
        let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner.to_owned();
        }
    }
    lookup(text).unwrap_or_default()
}
