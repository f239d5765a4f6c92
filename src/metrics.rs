//! THE COUNTERS: every number the gateway keeps of itself, named in one place.
//!
//! Beside the flow. Every drop is counted here and nowhere else, so `/metrics` and the health page show all of them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
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
            /// What each sink's far side has confirmed, in its own measure: lines.
            pub sink_lines: Family<Sink, Counter>,
            /// Journal entries each sink is behind.
            pub sink_lag: Family<Sink, Gauge>,
            /// 1 while a sink does not get through, else 0.
            pub sink_failing: Family<Sink, Gauge>,
            /// Modbus polls without a right answer, and late answers, by unit and by the failure's name.
            pub modbus_failures_by_name: Family<ModbusFailure, Counter>,
            /// Of the last ten seconds, how many percent a bus had a question on it.
            pub modbus_busy_percent: Family<Link, Gauge>,
            /// Polls of a unit that were left out: the bus was late, the unit silent, or the pipeline full.
            pub modbus_missed: Family<BusUnit, Counter>,
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
                // Shown only once there is a sink; the page tells of each sink by its own name.
                let (sink_lines, sink_lag, sink_failing) = Default::default();
                registry.register("sink_lines", "Lines that a sink's far side has confirmed", Family::clone(&sink_lines));
                registry.register("sink_lag", "Journal entries a sink is behind", Family::clone(&sink_lag));
                registry.register("sink_failing", "1 while a sink does not get through", Family::clone(&sink_failing));
                let modbus_failures_by_name = Family::default();
                registry.register("modbus_failures_by_name", "Modbus polls without a right answer, and late answers, by unit and name", Family::clone(&modbus_failures_by_name));
                let (modbus_busy_percent, modbus_missed) = Default::default();
                registry.register("modbus_busy_percent", "Of the last ten seconds, how many percent a bus had a question on it", Family::clone(&modbus_busy_percent));
                registry.register("modbus_missed", "Polls of a unit that were left out: the bus was late, the unit silent, or the pipeline full", Family::clone(&modbus_missed));
                Self { $($name,)* sink_lines, sink_lag, sink_failing, modbus_failures_by_name, modbus_busy_percent, modbus_missed, registry: Arc::new(registry) }
            }

            /// Every counter and gauge that has one value, by its name. Histograms and what is counted a sink are not here.
            pub fn figures(&self) -> Vec<(&'static str, f64)> {
                [$((stringify!($name), self.$name.figure()),)*]
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?)))
                    .collect()
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
    /// Messages with nothing to record in them, as their profile says: passed over.
    frames_passed_over: Counter = Counter::default();
    /// Sparkplug messages that are missing, by the edge nodes' own count.
    sparkplug_gaps: Counter = Counter::default();
    /// Sparkplug metrics under an alias that no birth explained; their messages are kept in quarantine.
    sparkplug_unknown_aliases: Counter = Counter::default();
    /// Times that a Sparkplug edge node was asked for its births.
    sparkplug_rebirths: Counter = Counter::default();
    /// Redelivered frames that the journal already had.
    frames_repeated: Counter = Counter::default();
    /// Readings of retained messages that said only what was known: a broker sends them with every connection.
    retained_known: Counter = Counter::default();
    /// Frames of a burst so long that two of one device have the same time; of these a store keeps one.
    frames_sharing_a_millisecond: Counter = Counter::default();
    /// Messages acknowledged while they were only in memory, so that the broker could go on sending.
    frames_acked_unrecorded: Counter = Counter::default();
    /// Strays not kept, because the bounded table was full.
    strays_dropped: Counter = Counter::default();
    /// Quarantined frames given up, because the bounded quarantine was full.
    quarantine_dropped: Counter = Counter::default();
    /// Frames that a capture missed, because whoever reads it is too slow. Nothing else lost them.
    capture_dropped: Counter = Counter::default();
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
    /// Connections to the port for DTUs that were refused: registration unknown, address not allowed, too many at once.
    modbus_dial_ins_refused: Counter = Counter::default();
    /// Commands to devices that got an answer or were given up.
    device_commands: Counter = Counter::default();
    /// Commands to devices that were not done, or of which nobody knows.
    device_commands_failed: Counter = Counter::default();
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
    /// Posts of platforms that were refused: wrong token or signature, too large, not understood.
    push_refused: Counter = Counter::default();
    /// Posts of platforms that are to be sent again: too often, too many at once, not written in time.
    push_deferred: Counter = Counter::default();
    /// Points the Influx sink delivered.
    influx_points: Counter = Counter::default();
    /// Lines the Influx server refused; kept where a person can see them.
    influx_refused: Counter = Counter::default();
    /// Influx posts that failed and will be tried again.
    influx_retries: Counter = Counter::default();
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
    /// Times that a changed configuration was taken in while running.
    config_reloads: Counter = Counter::default();
    /// Times that a changed configuration was refused and the old one stayed in force.
    config_refused: Counter = Counter::default();
    /// Steps of the wall clock.
    clock_steps: Counter = Counter::default();
}

/// Which sink: the label of what is counted for each. As many as the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Sink {
    /// Its name in the configuration.
    pub sink: String,
}

/// What a Modbus poll failed of: the label of its count. As many units as the plan has devices, at most
/// 22 names each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModbusFailure {
    /// The link.
    pub link: String,
    /// The device, by its id in the plan.
    pub device: String,
    /// `silent`, `wrong_crc`, `exception_02` …: `src/sources/modbus/failures.rs` has all of them.
    pub failure: &'static str,
}

impl Sink {
    /// The sink of that name.
    pub fn named(name: &str) -> Self {
        Self { sink: name.to_owned() }
    }
}

/// Which link: the label of what is counted for each. As many as the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Link {
    /// Its name in the configuration.
    pub link: String,
}

impl Link {
    /// The link of that name.
    pub fn named(name: &str) -> Self {
        Self { link: name.to_owned() }
    }
}

/// Which unit of which bus: the label of what is counted for each. As many as the plan has devices.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BusUnit {
    /// The bus, by its name in the configuration.
    pub link: String,
    /// The device, by its id in the plan.
    pub device: String,
}

impl BusUnit {
    /// That device on that bus.
    pub fn of(link: &str, device: &str) -> Self {
        Self { link: link.to_owned(), device: device.to_owned() }
    }
}

/// A metric's one value, if it has just one.
trait Figure {
    fn figure(&self) -> Option<f64>;
}

#[expect(clippy::cast_precision_loss, reason = "a count above 2^52 may lose its last digit")]
impl Figure for Counter {
    fn figure(&self) -> Option<f64> {
        Some(self.get() as f64)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge above 2^52 may lose its last digit")]
impl Figure for Gauge {
    fn figure(&self) -> Option<f64> {
        Some(self.get() as f64)
    }
}

impl Figure for Histogram {
    fn figure(&self) -> Option<f64> {
        None
    }
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

    #[test]
    fn every_counter_and_gauge_has_a_figure_and_no_histogram_has() {
        let metrics = Metrics::new();
        metrics.frames_received.inc_by(3);
        metrics.journal_head.set(-2);
        metrics.sink_lag.get_or_create(&Sink::named("town")).set(7);
        let text = metrics.render();
        assert!(text.contains("fengsui_sink_lag{sink=\"town\"} 7"), "{text}");
        let figures = metrics.figures();
        let counts = |kind: &str| {
            text.lines().filter(|line| line.starts_with("# TYPE") && line.ends_with(kind)).count()
        };
        assert_eq!(figures.len(), counts(" counter") + counts(" gauge") - 1, "all but the one of a sink");
        assert!(figures.contains(&("frames_received", 3.0)) && figures.contains(&("journal_head", -2.0)));
    }
}
