//! volumed's pools: as it sees them, while it runs.

use std::time::Duration;

use daemon::unix_http::Client;
use serde_json::Value;

use super::{Finding, Verdict};
use crate::node::Layout;
use crate::size;
use crate::table::counted;

const UNKNOWN: &str = "not known while the node is down";

/// What volumed says of its pools, when it runs.
pub(super) async fn listed(layout: &Layout) -> Option<Vec<Value>> {
    let client = Client::new(layout.socket("volumed")).with_timeout(Duration::from_secs(5));
    client.get("/v1/pools").await.ok()
}

/// What volumed found that is not as it should be, when it runs.
pub(super) async fn inspected(layout: &Layout) -> Option<Value> {
    let client = Client::new(layout.socket("volumed")).with_timeout(Duration::from_secs(5));
    client.get("/v1/inspection").await.ok()
}

fn words<'a>(found: &'a Value, list: &str, line: impl Fn(&dyn Fn(&str) -> &'a str) -> String) -> Vec<String> {
    let entries = found[list].as_array().into_iter().flatten();
    let line = |entry: &'a Value| line(&|field: &str| entry[field].as_str().unwrap_or_default());
    entries.map(line).collect()
}

/// Nothing was found where all was looked at; a pool that cannot be read was not.
fn sound(name: &'static str, pools: Option<&[Value]>, found: &str) -> Finding {
    let pools = pools.unwrap_or_default().iter();
    let missing: Vec<&str> = pools
        .filter(|pool| ["missing", "damaged"].contains(&pool["state"].as_str().unwrap_or_default()))
        .map(|pool| pool["name"].as_str().unwrap_or_default())
        .collect();
    if missing.is_empty() {
        return Finding::ok(name, found);
    }
    let found = format!("not known of what cannot be read: pool {}", missing.join(", "));
    let follows = "what is wrong in there shows when it is back";
    Finding::bad(
        name,
        Verdict::Note,
        (
            found,
            follows,
            "bring it back: `pools` says what is wrong with it",
        ),
    )
}

/// Whether every volume can be used where it is.
pub(super) fn volumes(found: Option<&Value>, pools: Option<&[Value]>) -> Finding {
    const NAME: &str = "volumes";
    let Some(found) = found else {
        return Finding::bad(NAME, Verdict::Note, (UNKNOWN, "", ""));
    };
    let mut stranded = words(found, "without_slice", |word| {
        format!("{} has no slice in pool {}", word("volume_id"), word("pool"))
    });
    stranded.extend(words(found, "without_pool", |word| {
        format!(
            "{} is of pool {}, which is not configured",
            word("volume_id"),
            word("pool")
        )
    }));
    if stranded.is_empty() {
        return sound(NAME, pools, "each has its slice");
    }
    let follows = "they cannot be attached, and their operations fail or wait";
    let remedy = "bring back what is missing (the file or disk, or the pool's entry in node.toml), or restore a snapshot of them: \
                  `hangar volumes snapshots list` names those";
    Finding::bad(NAME, Verdict::Warning, (stranded.join("; "), follows, remedy))
}

/// Whether volumes of this host are where they belong.
pub(super) fn mounts(found: Option<&Value>) -> Finding {
    const NAME: &str = "host mounts";
    let Some(found) = found else {
        return Finding::bad(NAME, Verdict::Note, (UNKNOWN, "", ""));
    };
    let missing = words(found, "not_mounted", |word| {
        format!(
            "{} is not on {}: {}",
            word("volume_id"),
            word("host_path"),
            word("why")
        )
    });
    if missing.is_empty() {
        return Finding::ok(NAME, "each volume of this host is where it belongs");
    }
    let follows = "whoever uses such a directory uses what is below it, and not the volume";
    let remedy =
        "see that the directory is empty, then `hangar volumes attach ID --host PATH` with that path";
    Finding::bad(NAME, Verdict::Warning, (missing.join("; "), follows, remedy))
}

/// Whether a snapshot is known not to restore.
pub(super) fn snapshots(found: Option<&Value>) -> Finding {
    const NAME: &str = "snapshots";
    let Some(found) = found else {
        return Finding::bad(NAME, Verdict::Note, (UNKNOWN, "", ""));
    };
    let damaged = words(found, "damaged_snapshots", |word| {
        format!(
            "{} of {}: {}",
            word("snapshot_id"),
            word("volume_id"),
            word("damage")
        )
    });
    if damaged.is_empty() {
        return Finding::ok(NAME, "none is known to be damaged");
    }
    let count = counted(damaged.len() as u64, "snapshot");
    let found = format!("{count} damaged: {}", damaged.join("; "));
    let follows = "they do not restore; no later backup builds on them";
    let remedy = "take new ones (`hangar volumes snapshots create`), and look at what holds the bucket: it loses or alters objects";
    Finding::bad(NAME, Verdict::Warning, (found, follows, remedy))
}

/// What lies in pools and is none of their slices.
pub(super) fn foreign_files(found: Option<&Value>, pools: Option<&[Value]>) -> Finding {
    const NAME: &str = "pool folders";
    let Some(found) = found else {
        return Finding::bad(NAME, Verdict::Note, (UNKNOWN, "", ""));
    };
    let foreign = words(found, "foreign_files", |word| {
        format!("{}/{}", word("pool"), word("name"))
    });
    if foreign.is_empty() {
        return sound(NAME, pools, "nothing but slices in them");
    }
    let found = format!("not hangar's: {}", foreign.join(", "));
    let follows = "they take the pools' room, and nothing removes them";
    Finding::bad(
        NAME,
        Verdict::Note,
        (
            found,
            follows,
            "move them elsewhere, or delete what nobody misses",
        ),
    )
}

/// Whether the next snapshot of the largest volume has the room that it takes where captures are copies.
pub(super) fn snapshot_room(pools: Option<&[Value]>) -> Finding {
    const NAME: &str = "snapshot room";
    let Some(pools) = pools else {
        return Finding::bad(NAME, Verdict::Note, (UNKNOWN, "", ""));
    };
    let mut copying = pools.iter().filter(|pool| pool["reflink"] == false).peekable();
    if copying.peek().is_none() {
        return Finding::ok(NAME, "none needed: captures share their volume's blocks");
    }
    let bytes = |pool: &Value, field: &str| pool[field].as_u64().unwrap_or(0);
    let (mut short, mut enough) = (Vec::new(), Vec::new());
    for pool in copying {
        let name = pool["name"].as_str().unwrap_or_default();
        let free = bytes(pool, "promisable_bytes").saturating_sub(bytes(pool, "promised_bytes"));
        let largest = bytes(pool, "largest_volume_bytes");
        let found = format!(
            "pool {name} can promise {} more, its largest volume has {}",
            size::bytes(free),
            size::bytes(largest)
        );
        if free < largest { &mut short } else { &mut enough }.push(found);
    }
    if short.is_empty() {
        return Finding::ok(NAME, enough.join("; "));
    }
    let follows = "without reflink a snapshot is a copy first: those of the largest volumes are refused, scheduled ones too";
    let remedy = "add space, purge deleted volumes (`hangar volumes destroy --purge`), or raise the pool's overcommit_ratio \
                  in node.toml";
    Finding::bad(NAME, Verdict::Warning, (short.join("; "), follows, remedy))
}

/// Whether the pools take new work and can be used at all.
pub(super) fn states(pools: Option<&[Value]>) -> Finding {
    const NAME: &str = "pools";
    let Some(pools) = pools else {
        return Finding::bad(NAME, Verdict::Note, (UNKNOWN, "", ""));
    };
    let word = |pool: &Value, field: &str| pool[field].as_str().unwrap_or_default().to_owned();
    let ill: Vec<String> = pools
        .iter()
        .filter(|pool| pool["state"] != "ok")
        .map(|pool| {
            format!(
                "{} is {}: {}",
                word(pool, "name"),
                word(pool, "state"),
                word(pool, "reason")
            )
        })
        .collect();
    if ill.is_empty() {
        let names: Vec<String> = pools.iter().map(|pool| word(pool, "name")).collect();
        return Finding::ok(NAME, format!("{} in order", names.join(", ")));
    }
    let follows = "new volumes, extends and snapshots are or will be refused there; what exists goes on as far as it can";
    let remedy = "do what the reason says; docs/operating/lvm-pools.md has a section for each state of pools of logical volumes";
    Finding::bad(NAME, Verdict::Warning, (ill.join("; "), follows, remedy))
}

/// Slices of ours that no volume and no snapshot knows.
pub(super) fn unknown_slices(pools: Option<&[Value]>) -> Finding {
    const NAME: &str = "slices";
    let Some(pools) = pools else {
        return Finding::bad(NAME, Verdict::Note, (UNKNOWN, "", ""));
    };
    let unknown: Vec<String> = pools
        .iter()
        .flat_map(|pool| {
            let slices = pool["unknown_slices"].as_array().into_iter().flatten();
            slices.map(move |slice| {
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                format!(
                    "{}/{}: {}",
                    word(&pool["name"]),
                    word(&slice["slice"]),
                    word(&slice["reason"])
                )
            })
        })
        .collect();
    if unknown.is_empty() {
        return sound(NAME, Some(pools), "each belongs to a volume or a snapshot");
    }
    let count = counted(unknown.len() as u64, "slice");
    let found = format!("{count} of no known volume or snapshot: {}", unknown.join("; "));
    let follows = "they take room, and nothing removes them";
    let remedy = "import the cluster key that their volumes were made with (`hangar key import`), or remove what you do not miss: \
                  `lvremove` for a logical volume, `rm` for a file";
    Finding::bad(NAME, Verdict::Warning, (found, follows, remedy))
}

#[cfg(test)]
mod tests;
