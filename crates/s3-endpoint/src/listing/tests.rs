use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn keys(names: &[&str]) -> BTreeMap<String, ()> {
    names.iter().map(|name| ((*name).to_owned(), ())).collect()
}

fn query(prefix: &str, delimiter: &str, after: Option<After>, limit: usize) -> Query {
    Query {
        prefix: prefix.to_owned(),
        delimiter: delimiter.to_owned(),
        after,
        limit,
    }
}

fn names(items: &[Item<'_, ()>]) -> Vec<String> {
    let name = |item: &Item<'_, ()>| match item {
        Item::Object(key, ()) => (*key).to_owned(),
        Item::CommonPrefix(prefix) => format!("{prefix}*"),
    };
    items.iter().map(name).collect()
}

#[test]
fn keys_below_a_delimiter_are_rolled_up_once_and_in_order() {
    let keys = keys(&["a", "a-b", "a/1", "a/2", "a/b/3", "b/1", "c"]);
    let (items, more) = page(&keys, &query("", "/", None, 99), |_| true);
    assert_eq!(
        (names(&items), more),
        (["a", "a-b", "a/*", "b/*", "c"].map(str::to_owned).to_vec(), false)
    );
    let (items, _) = page(&keys, &query("a/", "/", None, 99), |_| true);
    assert_eq!(names(&items), ["a/1", "a/2", "a/b/*"]);
}

#[test]
fn a_page_that_ends_on_a_common_prefix_goes_on_after_all_its_keys() {
    let keys = keys(&["a/1", "a/2", "b"]);
    let (items, more) = page(&keys, &query("", "/", None, 1), |_| true);
    assert_eq!((names(&items), more), (vec!["a/*".to_owned()], true));
    let (items, more) = page(&keys, &query("", "/", Some(items[0].after()), 1), |_| true);
    assert_eq!((names(&items), more), (vec!["b".to_owned()], false));
}

#[test]
fn what_is_not_visible_does_not_exist() {
    let keys = keys(&["mine/1", "mine/2", "other/1"]);
    let (items, more) = page(&keys, &query("", "/", None, 1), |key| key.starts_with("mine/"));
    assert_eq!((names(&items), more), (vec!["mine/*".to_owned()], false));
}

#[test]
fn a_token_comes_back_and_a_strangers_is_refused() {
    for after in [
        After::Key("ü/\u{1}".to_owned()),
        After::CommonPrefix("a/".to_owned()),
    ] {
        assert_eq!(After::from_token(&after.to_token()), Some(after));
    }
    for token in ["", "%%", "eA"] {
        assert_eq!(After::from_token(token), None, "{token}");
    }
}

/// All pages, one after the other, of at most `limit` items.
fn all(keys: &BTreeMap<String, ()>, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let (items, more) = page(keys, &query(prefix, delimiter, after, limit), |_| true);
        assert!(items.len() <= limit);
        all.extend(names(&items));
        if !more {
            return all;
        }
        after = items.last().map(Item::after);
    }
}

/// The same by the definition, from the keys alone.
fn expected(keys: &BTreeMap<String, ()>, prefix: &str, delimiter: &str) -> Vec<String> {
    let mut expected = BTreeSet::new();
    for key in keys.keys() {
        let Some(rest) = key.strip_prefix(prefix) else {
            continue;
        };
        match rest.split_once(delimiter).filter(|_| !delimiter.is_empty()) {
            Some((head, _)) => expected.insert(format!("{prefix}{head}{delimiter}*")),
            None => expected.insert(key.clone()),
        };
    }
    let mut expected: Vec<String> = expected.into_iter().collect();
    expected.sort_by(|a, b| a.trim_end_matches('*').cmp(b.trim_end_matches('*')));
    expected
}

proptest! {
    #[test]
    fn prop_pages_of_any_size_make_up_the_listing(
        set in prop::collection::btree_set("[a/b-]{1,6}", 0..40),
        prefix in "[a/b]{0,3}",
        delimiter in prop::sample::select(vec!["", "/", "-", "b/"]),
        limit in 1_usize..6,
    ) {
        let keys: BTreeMap<String, ()> = set.into_iter().map(|key| (key, ())).collect();
        prop_assert_eq!(all(&keys, &prefix, delimiter, limit), expected(&keys, &prefix, delimiter));
    }
}
