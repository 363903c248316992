//! A disk's metrics. The process has one disk: its volume is no label, whoever scrapes knows whose socket it is.

use log_disk::{BLOCK_BYTES, Role};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::driver::Report;

/// What a guest asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Zero,
    Flush,
    Status,
}

/// Bounded: the kinds of [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    request: &'static str,
}

/// Bounded: the kinds of objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    object: &'static str,
}

/// 8 µs to 17 s, each half as long again.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.000_008, 1.5, 36))
}

/// Handles on the registered metrics; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    answers: [Histogram; 5],
    written_bytes: Counter,
    read_bytes: Counter,
    journal_bytes: Counter,
    put_bytes: [Counter; 3],
    epoch: Gauge,
    size_bytes: Gauge,
    accepted_seq: Gauge,
    journaled_seq: Gauge,
    durable_seq: Gauge,
    lag_bytes: Gauge,
    lag_ms: Gauge,
    ring_permille: Gauge,
    map_runs: Gauge,
    objects: Gauge,
    uploads: Gauge,
    stored_bytes: Gauge,
    live_bytes: Gauge,
    garbage_bytes: Gauge,
    snapshots: Gauge,
    clients: Gauge,
    cache_hit_bytes: Gauge,
    cache_miss_bytes: Gauge,
    cache_fetched_bytes: Gauge,
    cache_lines: Gauge,
    cache_distrusted: Gauge,
}

const REQUESTS: [&str; 5] = ["read", "write", "zero", "flush", "status"];
const OBJECTS: [&str; 3] = ["data", "collected", "checkpoint"];

impl Metrics {
    /// Registers the metrics.
    pub(super) fn register(registry: &daemon::metrics::Metrics) -> Self {
        let answers: Family<RequestLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(latencies);
        let puts: Family<RoleLabels, Counter> = Family::default();
        let metrics = Self {
            answers: REQUESTS.map(|request| answers.get_or_create(&RequestLabels { request }).clone()),
            written_bytes: Counter::default(),
            read_bytes: Counter::default(),
            journal_bytes: Counter::default(),
            put_bytes: OBJECTS.map(|object| puts.get_or_create(&RoleLabels { object }).clone()),
            epoch: Gauge::default(),
            size_bytes: Gauge::default(),
            accepted_seq: Gauge::default(),
            journaled_seq: Gauge::default(),
            durable_seq: Gauge::default(),
            lag_bytes: Gauge::default(),
            lag_ms: Gauge::default(),
            ring_permille: Gauge::default(),
            map_runs: Gauge::default(),
            objects: Gauge::default(),
            uploads: Gauge::default(),
            stored_bytes: Gauge::default(),
            live_bytes: Gauge::default(),
            garbage_bytes: Gauge::default(),
            snapshots: Gauge::default(),
            clients: Gauge::default(),
            cache_hit_bytes: Gauge::default(),
            cache_miss_bytes: Gauge::default(),
            cache_fetched_bytes: Gauge::default(),
            cache_lines: Gauge::default(),
            cache_distrusted: Gauge::default(),
        };
        registry.register(|registry| {
            registry.register(
                "disk_answer_seconds",
                "Time from a guest's request to its answer. request: read, write, zero, flush, status",
                answers,
            );
            registry.register(
                "disk_put_bytes",
                "Bytes of objects given to the store, repeats not counted; over disk_written_bytes this is the write \
                 amplification. object: data, collected, checkpoint",
                puts,
            );
        });
        metrics.register_counters(registry);
        metrics.register_figures(registry);
        metrics
    }

    fn register_counters(&self, registry: &daemon::metrics::Metrics) {
        let counters = [
            (
                "disk_written_bytes",
                "Bytes that guests wrote",
                &self.written_bytes,
            ),
            ("disk_read_bytes", "Bytes that guests read", &self.read_bytes),
            (
                "disk_journal_bytes",
                "Bytes written to the journal",
                &self.journal_bytes,
            ),
        ];
        registry.register(|registry| {
            for (name, help, counter) in counters {
                registry.register(name, help, counter.clone());
            }
        });
    }

    fn register_figures(&self, registry: &daemon::metrics::Metrics) {
        let gauges = [
            (
                "disk_epoch",
                "The epoch in which this process owns the disk",
                &self.epoch,
            ),
            ("disk_size_bytes", "Size of the disk", &self.size_bytes),
            (
                "disk_accepted_seq",
                "The last record accepted",
                &self.accepted_seq,
            ),
            (
                "disk_journaled_seq",
                "The last record known to be durable on this host",
                &self.journaled_seq,
            ),
            (
                "disk_durable_seq",
                "The last record that the store has, without a gap",
                &self.durable_seq,
            ),
            (
                "disk_lag_bytes",
                "Bytes of the journal that the store does not have",
                &self.lag_bytes,
            ),
            (
                "disk_lag_milliseconds",
                "Age of the oldest record that the store does not have",
                &self.lag_ms,
            ),
            (
                "disk_ring_fill_permille",
                "Thousandths of the journal's ring in use",
                &self.ring_permille,
            ),
            ("disk_map_runs", "Runs of the map in memory", &self.map_runs),
            ("disk_objects", "Objects of the disk in the store", &self.objects),
            ("disk_uploads", "Objects being sealed or put", &self.uploads),
            (
                "disk_stored_bytes",
                "Bytes of blocks in objects, before compression",
                &self.stored_bytes,
            ),
            (
                "disk_live_bytes",
                "Those that the map refers to",
                &self.live_bytes,
            ),
            (
                "disk_garbage_bytes",
                "Those that collection is owed",
                &self.garbage_bytes,
            ),
            ("disk_snapshots", "Snapshots kept", &self.snapshots),
            ("disk_clients", "Connections to the export", &self.clients),
            (
                "disk_cache_hit_bytes",
                "Bytes of objects that guests wanted and that were here",
                &self.cache_hit_bytes,
            ),
            (
                "disk_cache_miss_bytes",
                "Those that were not",
                &self.cache_miss_bytes,
            ),
            (
                "disk_cache_fetched_bytes",
                "Bytes fetched for the cache",
                &self.cache_fetched_bytes,
            ),
            (
                "disk_cache_lines",
                "Lines of 64 KiB in the cache",
                &self.cache_lines,
            ),
            (
                "disk_cache_distrusted",
                "Lines that did not open, and were fetched anew",
                &self.cache_distrusted,
            ),
        ];
        registry.register(|registry| {
            for (name, help, gauge) in gauges {
                registry.register(name, help, gauge.clone());
            }
        });
    }

    /// A client was answered.
    pub(super) fn answered(&self, kind: Kind, micros: u64) {
        let seconds = std::time::Duration::from_micros(micros).as_secs_f64();
        self.answers[kind as usize].observe(seconds);
    }

    /// Bytes were read for a guest.
    pub(super) fn read(&self, bytes: usize) {
        self.read_bytes.inc_by(bytes as u64);
    }

    /// Bytes of a guest were taken.
    pub(super) fn written(&self, bytes: usize) {
        self.written_bytes.inc_by(bytes as u64);
    }

    /// A record is written.
    pub(super) fn journaled(&self, bytes: usize) {
        self.journal_bytes.inc_by(bytes as u64);
    }

    /// An object is put.
    pub(super) fn put(&self, role: Role, bytes: usize) {
        let which = match role {
            Role::Data => 0,
            Role::Gc => 1,
            Role::Checkpoint => 2,
        };
        self.put_bytes[which].inc_by(bytes as u64);
    }

    /// Takes the figures of this moment over, for the next scrape.
    pub(super) fn show(&self, report: &Report) {
        let Report {
            epoch,
            size_blocks,
            stats,
            cache,
            clients,
            snapshots,
        } = report;
        let (stored, live) = (stats.stored_blocks, stats.live_blocks);
        let figures = [
            (&self.epoch, u64::from(epoch.0)),
            (&self.size_bytes, bytes(*size_blocks)),
            (&self.accepted_seq, stats.accepted_seq.0),
            (&self.journaled_seq, stats.journaled_seq.0),
            (&self.durable_seq, stats.durable_seq.0),
            (&self.lag_bytes, stats.lag.bytes),
            (&self.lag_ms, stats.lag.micros / 1000),
            (&self.ring_permille, stats.ring_permille),
            (&self.map_runs, stats.map_runs as u64),
            (&self.objects, stats.objects),
            (&self.uploads, stats.uploads as u64),
            (&self.stored_bytes, bytes(stored)),
            (&self.live_bytes, bytes(live)),
            (&self.garbage_bytes, bytes(stored.saturating_sub(live))),
            (&self.snapshots, *snapshots as u64),
            (&self.clients, *clients as u64),
            (&self.cache_hit_bytes, cache.hit_bytes),
            (&self.cache_miss_bytes, cache.miss_bytes),
            (&self.cache_fetched_bytes, cache.fetched_bytes),
            (&self.cache_lines, cache.lines),
            (&self.cache_distrusted, cache.distrusted),
        ];
        for (gauge, value) in figures {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

/// Blocks as bytes.
pub(super) fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES as u64)
}
