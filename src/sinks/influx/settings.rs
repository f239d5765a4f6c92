//! JOURNAL → WORLD: what a store needs to be told, and the names and limits that others use.

use crate::model::Span;
use std::time::Duration;

/// How the cursors' names in the journal begin: `influx:<name>`.
pub const CURSOR: &str = "influx";

/// The kind of the journal's documents that keep refused lines, under the key `<store>:<number modulo 100>`. Each is JSON:
/// `sink` the store's name, `number` counting from 0, `at` when it was given up, `entry_at_most` the newest entry it may
/// come from, `line` as it was posted, `reason` and `reason_en` in the server's words or ours, `alike` how many more were refused
/// together with it and are not listed.
pub const REFUSED_KIND: &str = "influx-refused";

/// Refused lines kept a store for a person to see; the oldest is overwritten. 100 × about 400 bytes = 40 kB.
pub const REFUSED_KEPT: u64 = 100;

/// The most lines a post: 5000 × about 105 bytes = 0.5 MB, 50 kB packed. InfluxData advises 5000.
pub const BATCH_LINES_DEFAULT: usize = 5000;

/// Lines of history a second while it is caught up: at 10 bytes each, packed, 20 kB/s, a third of a poor 4G uplink of
/// 0.5 Mbit/s. A day at 10 readings/s is caught up in 7 minutes, a day at 100 in 72.
pub const BACKFILL_LINES_PER_SECOND_DEFAULT: u32 = 2000;

/// The longest wait for the server's answer.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Where to write, and what is known of that place.
#[derive(Clone, PartialEq, Eq)]
pub struct InfluxSettings {
    /// What the store is called.
    pub name: String,
    /// The store's cursor in the journal: `influx:<name>`.
    pub cursor: String,
    /// `http://127.0.0.1:8086`, without a path unless a proxy needs one.
    pub url: String,
    /// Which of the two ways to write, with what it needs.
    pub way: Way,
    /// The most lines a post; the server's answers may make it fewer: [`BATCH_LINES_DEFAULT`].
    pub batch_lines_max: usize,
    /// Lines of history a second after an outage: [`BACKFILL_LINES_PER_SECOND_DEFAULT`].
    pub backfill_lines_per_second: u32,
    /// How far back the store keeps points, if it drops older ones; those are not sent.
    pub retention: Option<Span>,
    /// How far in the future the store takes points; those beyond are not sent.
    pub future_max: Option<Span>,
    /// What the gateway is called there: its own figures are sent under this name; `None`: they are not.
    pub gateway: Option<String>,
    /// The longest wait for an answer: [`TIMEOUT_DEFAULT`].
    pub timeout: Duration,
    /// Pack the posts.
    pub gzip: bool,
}

impl InfluxSettings {
    /// A store with the default limits.
    pub fn new(name: &str, url: &str, way: Way) -> Self {
        Self {
            name: name.to_owned(),
            cursor: format!("{CURSOR}:{name}"),
            url: url.to_owned(),
            way,
            batch_lines_max: BATCH_LINES_DEFAULT,
            backfill_lines_per_second: BACKFILL_LINES_PER_SECOND_DEFAULT,
            retention: None,
            future_max: None,
            gateway: None,
            timeout: TIMEOUT_DEFAULT,
            gzip: true,
        }
    }
}

/// How a store is written to.
#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// InfluxDB 1: `/write`.
    V1 {
        /// The database; it must exist.
        database: String,
        /// The retention policy; `None`: the database's own default.
        retention_policy: Option<String>,
        /// User and password. A secret: never shown.
        login: Option<(String, String)>,
    },
    /// InfluxDB 2 and 3, VictoriaMetrics: `/api/v2/write`.
    V2 {
        /// The organisation; VictoriaMetrics ignores it.
        org: String,
        /// The bucket; VictoriaMetrics ignores it.
        bucket: String,
        /// The token. A secret: never shown.
        token: Option<String>,
    },
}

impl std::fmt::Debug for InfluxSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, url, .. } = self;
        write!(f, "InfluxSettings {{ name: {name:?}, url: {url:?}, .. }}")
    }
}
