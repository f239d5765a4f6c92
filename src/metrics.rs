//! THE COUNTERS: every number the gateway keeps of itself, named in one place.
//!
//! Beside the flow. Every drop is counted here and nowhere else, so `/metrics` and the health page show all of them.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Arc;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $name:ident : $kind:ty = $new:expr;)*) => {
        /// All counters, gauges and histograms. Cheap to clone.
        #[derive(Clone)]
        pub struct Metrics {
            $($(#[doc = $doc])* pub $name: $kind,)*
            registry: Arc<Registry>,
        }

        impl Metrics {
            /// A fresh set, all zero.
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("fengsui");
                $(
                    let $name: $kind = $new;
                    registry.register(stringify!($name), concat!($($doc,)*).trim(), $name.clone());
                )*
                Self { $($name,)* registry: Arc::new(registry) }
            }
        }
    };
}

metrics! {
    /// Frames taken from all sources.
    frames_received: Counter = Counter::default();
    /// Frames that named no device of the plan; kept under 待接入.
    frames_unknown: Counter = Counter::default();
    /// Frames that no profile could read; kept in quarantine.
    frames_unreadable: Counter = Counter::default();
    /// Redelivered frames that the journal already had.
    frames_repeated: Counter = Counter::default();
    /// Messages acknowledged while they were only in memory, so that the broker could go on sending.
    frames_acked_unrecorded: Counter = Counter::default();
    /// Strays not kept, because the bounded table was full.
    strays_dropped: Counter = Counter::default();
    /// Readings decoded.
    readings: Counter = Counter::default();
    /// Readings of bad quality.
    readings_bad: Counter = Counter::default();
    /// Readings given up while the journal could not be written and memory was full.
    readings_lost: Counter = Counter::default();
    /// Hazards raised.
    hazards_raised: Counter = Counter::default();
    /// Hazards open now.
    hazards_open: Gauge = Gauge::default();
    /// The journal's newest entry number.
    journal_head: Gauge = Gauge::default();
    /// Journal commits.
    journal_commits: Counter = Counter::default();
    /// Journal commits that failed.
    journal_failures: Counter = Counter::default();
    /// Journal entries deleted by the size limit before every follower had read them.
    journal_trimmed: Counter = Counter::default();
    /// Stored rows of the journal or the series that failed their check when read, and were skipped.
    journal_damaged: Counter = Counter::default();
    /// Bytes of the journal's files.
    journal_bytes: Gauge = Gauge::default();
    /// Seconds one journal commit took.
    journal_commit_seconds: Histogram = Histogram::new(exponential_buckets(0.0001, 4.0, 9));
    /// Seconds from a frame's reception to the commit of a hazard that it raised.
    hazard_latency_seconds: Histogram = Histogram::new(exponential_buckets(0.0005, 2.0, 14));
    /// Modbus polls made.
    modbus_polls: Counter = Counter::default();
    /// Modbus polls without a right answer.
    modbus_failures: Counter = Counter::default();
    /// Modbus polls skipped because the unit's breaker was open or the bus was late.
    modbus_skipped: Counter = Counter::default();
    /// MQTT connections made.
    mqtt_connects: Counter = Counter::default();
    /// MQTT acknowledgements dropped because their connection was gone; the broker sends those messages again.
    mqtt_stale_acks: Counter = Counter::default();
    /// MQTT messages larger than allowed, of which only the beginning was kept.
    mqtt_oversize: Counter = Counter::default();
    /// Frames that nobody will send again, given up when the gateway stopped while its pipeline was full.
    frames_lost: Counter = Counter::default();
    /// Clients connected to the embedded broker.
    broker_clients: Gauge = Gauge::default();
    /// Connections, sign-ins and messages that the embedded broker refused.
    broker_refused: Counter = Counter::default();
    /// Points the Influx sink delivered.
    influx_points: Counter = Counter::default();
    /// Lines the Influx server refused; kept where a person can see them.
    influx_refused: Counter = Counter::default();
    /// Influx posts that failed and will be tried again.
    influx_retries: Counter = Counter::default();
    /// Journal entries the Influx sink is behind.
    influx_lag: Gauge = Gauge::default();
    /// Duty-room pages open (live event streams).
    web_streams: Gauge = Gauge::default();
    /// Failed sign-ins.
    web_sign_in_failures: Counter = Counter::default();
    /// Sign-ins and sign-outs missing from the duty log, because too much was waiting for the pipeline.
    web_access_lost: Counter = Counter::default();
    /// Backups that the gateway made by itself.
    backups: Counter = Counter::default();
    /// Backups that failed.
    backups_failed: Counter = Counter::default();
    /// Steps of the wall clock.
    clock_steps: Counter = Counter::default();
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_in_the_prometheus_format() {
        let metrics = Metrics::new();
        metrics.frames_received.inc_by(3);
        let text = metrics.render();
        assert!(text.contains("fengsui_frames_received_total 3"), "{text}");
        assert!(text.contains("# HELP fengsui_readings_lost"), "{text}");
    }
}
