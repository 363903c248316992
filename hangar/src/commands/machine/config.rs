//! Machine configurations made from options. Pure but for the files that options name.

use std::path::Path;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::cli::machine::Settings;
use crate::failure::Failure;
use crate::guest_size::Wish;

/// Changes `config` by what the options say; what they do not mention stays.
pub(super) fn apply(settings: &Settings, config: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(given) = &settings.machine_config {
        merge(config, whole(given)?);
    }
    for pair in &settings.env {
        let (name, value) = split(pair, "environment variable")?;
        object(config, "env").insert(name.to_owned(), json!(value));
    }
    for pair in &settings.metadata {
        let (name, value) = split(pair, "metadata")?;
        object(config, "metadata").insert(name.to_owned(), json!(value));
    }
    let wish = Wish {
        size: settings.vm_size.as_deref(),
        cpus: settings.vm_cpus,
        memory: settings.vm_memory.as_deref(),
        cpu_kind: settings.vm_cpu_kind.as_deref(),
    };
    wish.apply(object(config, "guest"))?;
    if let Some(policy) = &settings.restart {
        let policy = if policy == "on-fail" { "on-failure" } else { policy };
        object(config, "restart").insert("policy".to_owned(), json!(policy));
    }
    if let Some(schedule) = &settings.schedule {
        config.insert("schedule".to_owned(), json!(schedule));
    }
    if let Some(entrypoint) = &settings.entrypoint {
        object(config, "init").insert("entrypoint".to_owned(), json!(words(entrypoint)?));
    }
    if let Some(megabytes) = settings.swap_size {
        object(config, "init").insert("swap_size_mb".to_owned(), json!(megabytes));
    }
    if settings.skip_dns_registration {
        object(config, "dns").insert("skip_registration".to_owned(), json!(true));
    }
    for port in &settings.port {
        list(config, "services").push(service(port)?);
    }
    for pair in &settings.file_local {
        let (guest, local) = split(pair, "file")?;
        let path = Path::new(local);
        let bytes = std::fs::read(path).map_err(|source| Failure::File {
            path: path.to_owned(),
            source,
        })?;
        list(config, "files").push(file(guest, &bytes));
    }
    for pair in &settings.file_literal {
        let (guest, text) = split(pair, "file")?;
        list(config, "files").push(file(guest, text.as_bytes()));
    }
    if config.get("guest").is_some_and(|guest| *guest == json!({})) {
        config.remove("guest");
    }
    Ok(())
}

/// Splits a command line as a shell splits words: blanks, both quotes, backslash.
pub(super) fn words(line: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, _) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err(Failure::BadValue {
            what: "command",
            given: line.to_owned(),
            expected: "close the quote",
        });
    }
    words.extend(word);
    Ok(words)
}

fn object<'m>(config: &'m mut Map<String, Value>, field: &str) -> &'m mut Map<String, Value> {
    let value = config.entry(field).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made an object above")
}

fn list<'m>(config: &'m mut Map<String, Value>, field: &str) -> &'m mut Vec<Value> {
    let value = config.entry(field).or_insert(Value::Null);
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("made a list above")
}

fn split<'t>(pair: &'t str, what: &'static str) -> Result<(&'t str, &'t str), Failure> {
    let bad = || Failure::BadValue {
        what,
        given: pair.to_owned(),
        expected: "use NAME=VALUE",
    };
    pair.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(bad)
}

fn file(guest_path: &str, bytes: &[u8]) -> Value {
    let raw_value = base64::engine::general_purpose::STANDARD.encode(bytes);
    json!({"guest_path": guest_path, "raw_value": raw_value})
}

/// `8080:80/tcp:http:tls`: port outside, port inside, protocol, handlers.
fn service(given: &str) -> Result<Value, Failure> {
    let bad = || Failure::BadValue {
        what: "port",
        given: given.to_owned(),
        expected: "use PORT:PORT, then /tcp or /udp, then handlers",
    };
    let (ports, rest) = given.split_once('/').unwrap_or((given, "tcp"));
    let (outer, inner) = ports.split_once(':').unwrap_or((ports, ports));
    let mut parts = rest.split(':');
    let protocol = parts
        .next()
        .filter(|protocol| ["tcp", "udp"].contains(protocol))
        .ok_or_else(bad)?;
    let handlers: Vec<&str> = parts.filter(|handler| !handler.is_empty()).collect();
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad);
    let port = json!({"port": number(outer)?, "handlers": handlers});
    Ok(json!({"protocol": protocol, "internal_port": number(inner)?, "ports": [port]}))
}

fn whole(given: &str) -> Result<Map<String, Value>, Failure> {
    let text = if given.trim_start().starts_with('{') {
        given.to_owned()
    } else {
        let path = Path::new(given);
        std::fs::read_to_string(path).map_err(|source| Failure::File {
            path: path.to_owned(),
            source,
        })?
    };
    let bad = || Failure::BadValue {
        what: "machine config",
        given: given.to_owned(),
        expected: "use a JSON object",
    };
    serde_json::from_str(&text).map_err(|_| bad())
}

fn merge(config: &mut Map<String, Value>, from: Map<String, Value>) {
    for (field, value) in from {
        match (config.get_mut(&field), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                config.insert(field, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
