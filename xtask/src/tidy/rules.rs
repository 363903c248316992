//! The rules, as functions from files to breaches; no file system here.

use std::collections::BTreeSet;

/// Lines of code that a file may hold, tests in their own file not counted.
const LINES_MAX: usize = 500;

/// Files that may be longer, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Bytes that a tracked file may hold; larger ones are images or binaries, which stay out of git.
const FILE_BYTES_MAX: usize = 512 * 1024;

/// Words that a PURE file may not hold: no clock, no I/O, no task, no randomness.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net",
    "Instant::now",
    "SystemTime::now",
    "getrandom",
    "rustix::",
    "std::process",
];

/// One file of the tree.
pub(super) struct File {
    /// Path from the root.
    pub(super) path: String,
    /// Whole content.
    pub(super) bytes: Vec<u8>,
}

/// Returns every breach as `file:line: what to do`.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files {
        check_file(file, &mut breaches);
    }
    check_guarantees(files, &mut breaches);
    check_links(files, &mut breaches);
    breaches
}

fn check_file(file: &File, breaches: &mut Vec<String>) {
    let path = &file.path;
    if file.bytes.len() > FILE_BYTES_MAX {
        breaches.push(format!(
            "{path}:1: {} bytes; binaries and images stay out of git",
            file.bytes.len()
        ));
    }
    let Ok(text) = std::str::from_utf8(&file.bytes) else {
        breaches.push(format!("{path}:1: not UTF-8; binaries stay out of git"));
        return;
    };
    if path.ends_with(".rs") {
        check_rust(path, text, breaches);
    }
}

fn check_rust(path: &str, text: &str, breaches: &mut Vec<String>) {
    let is_test = is_test(path);
    let code = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
        .count();
    if !is_test && code > LINES_MAX && !LONG_FILES.iter().any(|(name, _)| *name == path) {
        breaches.push(format!(
            "{path}:{code}: {code} lines of code, {LINES_MAX} at most; cut it by idea"
        ));
    }
    if path.ends_with("/mod.rs") && !path.starts_with("tests/") {
        breaches.push(format!(
            "{path}:1: name the module's root after it, beside its folder"
        ));
    }
    if path.ends_with("src/lib.rs")
        && text
            .lines()
            .any(|line| line.starts_with("pub fn") || line.starts_with("fn "))
    {
        breaches.push(format!(
            "{path}:1: lib.rs holds no logic; move the function into a module"
        ));
    }
    let pure = text
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("//!") && line.contains("PURE"));
    for (index, line) in text.lines().enumerate() {
        check_line(path, index + 1, line, pure, breaches);
    }
    if is_test && !in_virtual_time(path, text) {
        check_sleeps(path, text, breaches);
    }
}

/// Where the clock is simulated a sleep takes no time and decides an order that the seed chose.
fn in_virtual_time(path: &str, text: &str) -> bool {
    path.starts_with("crates/sim/")
        || path.starts_with("tests/disk/")
        || path.contains("operations_world")
        || text.contains("start_paused = true")
}

/// A pause between two looks at a condition is a poll; any other sleep hopes that something has happened meanwhile.
fn check_sleeps(path: &str, text: &str, breaches: &mut Vec<String>) {
    const LOOK_BACK: usize = 3;
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let sleeps =
            line.contains(concat!("thread::sl", "eep")) || line.contains(concat!("time::sl", "eep("));
        let before = &lines[index.saturating_sub(LOOK_BACK)..index];
        let polls = before
            .iter()
            .any(|line| line.contains("while ") || line.contains("loop {"));
        if sleeps && !polls {
            breaches.push(format!(
                "{path}:{}: a test that sleeps is wrong; wait for the condition",
                index + 1
            ));
        }
    }
}

fn check_line(path: &str, number: usize, line: &str, pure: bool, breaches: &mut Vec<String>) {
    // Spelled in two halves so that this file does not find itself.
    let unfinished = [
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("TO", "DO"),
        concat!("unimple", "mented!("),
        concat!("to", "do!("),
    ];
    if let Some(word) = unfinished.iter().find(|word| line.contains(**word)) {
        breaches.push(format!(
            "{path}:{number}: `{word}`: finish it, or say plainly in words what is not there"
        ));
    }
    if line.trim_start().starts_with(concat!("#[ig", "nore")) {
        breaches.push(format!(
            "{path}:{number}: an ignored test proves nothing; assert what is true today"
        ));
    }
    if line.trim_start().starts_with("mod tests {") {
        breaches.push(format!("{path}:{number}: tests live in a sibling tests.rs"));
    }
    if pure && !line.trim_start().starts_with("//") {
        for word in IMPURE.iter().filter(|word| line.contains(**word)) {
            breaches.push(format!(
                "{path}:{number}: `{word}` in a PURE file; take it as an argument"
            ));
        }
    }
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

/// Every test named in the guarantees must exist: a promise without its proof is a breach.
fn check_guarantees(files: &[File], breaches: &mut Vec<String>) {
    const PAGE: &str = "docs/guarantees.md";
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        breaches.push(format!("{PAGE}:1: the page of promises is missing"));
        return;
    };
    let mut tests = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        tests.extend(text.lines().filter_map(function_name).map(str::to_owned));
    }
    let page = String::from_utf8_lossy(&page.bytes);
    let mut ids = BTreeSet::new();
    for (index, line) in page.lines().enumerate().filter(|(_, line)| is_promise(line)) {
        let id = line.split('|').nth(1).unwrap_or_default().trim();
        if !ids.insert(id.to_owned()) {
            breaches.push(format!("{PAGE}:{}: {id} is promised twice", index + 1));
        }
        let Some(proof) = line.rsplit('|').nth(1) else {
            continue;
        };
        let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            breaches.push(format!(
                "{PAGE}:{}: a promise without the name of its test",
                index + 1
            ));
        }
        for name in names.iter().filter(|name| !tests.contains(**name)) {
            breaches.push(format!("{PAGE}:{}: no test is called `{name}`", index + 1));
        }
    }
}

/// A promise's row begins `| V-1 |`: letters, a hyphen, a number.
fn is_promise(line: &str) -> bool {
    let first = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
    let parts = first.and_then(|id| id.split_once('-'));
    parts.is_some_and(|(letter, number)| letter.len() == 1 && number.parse::<u32>().is_ok())
}

fn function_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    // Tests that a harness of their own lists are visible to it.
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = line
        .strip_prefix("fn ")
        .or_else(|| line.strip_prefix("pub fn "))?;
    rest.split(['(', '<']).next()
}

/// Relative links between pages must lead somewhere.
fn check_links(files: &[File], breaches: &mut Vec<String>) {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let text = String::from_utf8_lossy(&file.bytes);
        for (index, line) in text.lines().enumerate() {
            for target in line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split([')', '#']).next())
            {
                let known = target.is_empty() || target.contains("://") || exists(&paths, &file.path, target);
                if !known {
                    breaches.push(format!(
                        "{}:{}: the link to `{target}` leads nowhere",
                        file.path,
                        index + 1
                    ));
                }
            }
        }
    }
}

fn exists(paths: &BTreeSet<&str>, from: &str, target: &str) -> bool {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let path = parts.join("/");
    let folder = format!("{path}/");
    paths.contains(path.as_str())
        || paths
            .range(folder.as_str()..)
            .next()
            .is_some_and(|next| next.starts_with(&folder))
}
