//! JOURNAL → WORLD, pure: journal entries as line protocol.
//!
//! # Schema
//! | | a reading | a hazard's change |
//! |---|---|---|
//! | measurement | the point's class, such as `residual_current` | `hazard` |
//! | tags | `site`, `zone`, `device`, `point` | `site`, `zone`, `device`, `point`, `rule`, `signal`, `priority` |
//! | fields | `value`: the number in the canonical unit; or `state`: a flag as 0 or 1, a code as its index in the vocabulary's list; always `quality`: 0 good, 1 uncertain, 2 bad | `open`, `acknowledged`: 0 or 1; `occurrences`; and on the change that it belongs to, once: `raised`: 1, `seconds_to_acknowledge` since it was last raised, `seconds_to_reset` since it was first raised |
//! | time | the device's own, else that of reception, ms | when it changed, ms |
//!
//! A change that people saw under a clock that nobody had set bears their time in the duty log, and its right one here.
//!
//! A reading without a value writes its quality only. There are no strings among the fields: VictoriaMetrics would
//! store them as 0. Readings of points that the plan no longer has go to the measurement `unplanned`.
//!
//! Once a minute comes one line of the gateway itself: measurement `gateway`, tag `gateway` (its name), and as fields every
//! counter and gauge of `metrics.rs` by its name there, such as `readings`, all floats, and `sink_lag`: how many entries
//! this very store is behind. These are produced when they are sent and stand in no journal: for the time of an outage
//! there are none.
//!
//! # Cardinality
//! The tags are the plan's own ids: one series a point and field, and for hazards one a rule of a point. Nothing that
//! a device sends (topic, address, text) becomes a tag or a name, so a stranger cannot make series.

use crate::journal::Entry;
use crate::metrics::{Metrics, Sink};
use crate::model::{Change, Plan, PointId, Quality, Reading, Span, Timestamp, Transition, Value};
use influxdb2::models::data_point::{DataPoint, DataPointBuilder, WriteDataPoint};

/// One line of the line protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// With its line feed.
    pub(super) text: String,
    /// The time in it.
    pub(super) at: Timestamp,
}

impl Line {
    /// Names here are ids: nothing in them is escaped.
    pub(super) fn measurement(&self) -> &str {
        self.text.split([',', ' ']).next().unwrap_or("")
    }

    pub(super) fn has_field(&self, name: &str) -> bool {
        let fields = self.text.split(' ').nth(1).unwrap_or("");
        fields.split(',').any(|field| field.split_once('=').is_some_and(|(known, _)| known == name))
    }
}

/// The gateway's own figures, and how far the store behind this sink is.
pub(super) fn gateway_line(name: &str, metrics: &Metrics, sink: &Sink, at: Timestamp) -> Option<Line> {
    let line = DataPoint::builder("gateway").tag("gateway", name);
    let line = metrics.figures().into_iter().fold(line, |line, (name, value)| line.field(name, value));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 entries")]
    let lag = metrics.sink_lag.get_or_create(sink).get() as f64;
    finish(line.field("sink_lag", lag), at)
}

/// An entry is written within seconds of its last change. One that is further from it was dated anew, with its readings;
/// its changes keep the time that they were signed with.
const DATED_ANEW_MIN: Span = Span::from_secs(60);

/// The lines of one entry.
pub(super) fn lines(entry: &Entry, plan: &Plan) -> Vec<Line> {
    let readings = entry.readings.iter().map(|reading| reading_line(reading, plan));
    let last = entry.transitions.iter().map(|transition| transition.at).max();
    let away = last.map_or(Span::ZERO, |last| entry.at.since(last));
    let shift = if away.abs() < DATED_ANEW_MIN { Span::ZERO } else { away };
    let transitions = entry.transitions.iter().map(|transition| hazard_line(transition, shift, plan));
    readings.chain(transitions).flatten().collect()
}

fn reading_line(reading: &Reading, plan: &Plan) -> Option<Line> {
    let point = plan.point(&reading.point).map(|(.., point)| point);
    let class = point.map_or("unplanned", |point| point.class.as_str());
    let line = placed(DataPoint::builder(class), &reading.point, plan);
    let state_index = |code: &str| {
        let index = point?.states.iter().position(|(name, _)| &**name == code)?;
        i64::try_from(index).ok()
    };
    let line = match &reading.value {
        Value::Number(number) => line.field("value", number.get()),
        Value::Flag(flag) => line.field("state", i64::from(*flag)),
        Value::Code(code) => match state_index(code) {
            Some(index) => line.field("state", index),
            None => line,
        },
        Value::Absent => line,
    };
    let quality: i64 = match reading.quality {
        Quality::Good => 0,
        Quality::Uncertain => 1,
        Quality::Bad => 2,
    };
    finish(line.field("quality", quality), reading.time())
}

fn hazard_line(transition: &Transition, shift: Span, plan: &Plan) -> Option<Line> {
    let hazard = &transition.hazard;
    let line = placed(DataPoint::builder("hazard"), &hazard.point, plan)
        .tag("rule", hazard.rule.as_str())
        .tag("signal", hazard.signal.name())
        .tag("priority", hazard.priority.name())
        .field("open", i64::from(hazard.closed.is_none()))
        .field("acknowledged", i64::from(hazard.acknowledged.is_some()))
        .field("occurrences", i64::from(hazard.occurrences));
    // Each answer of a person is one value at one moment, so that a store can count and average them.
    let line = match transition.change {
        Change::Raised | Change::RaisedAgain => line.field("raised", 1_i64),
        Change::Acknowledged => {
            line.field("seconds_to_acknowledge", seconds(transition.at.since(hazard.last_raised_at)))
        }
        Change::Reset => line.field("seconds_to_reset", seconds(transition.at.since(hazard.raised_at))),
        Change::Returned | Change::Silenced | Change::Ended => line,
    };
    finish(line, transition.at + shift)
}

/// Never below zero: a clock that was set back in between says nothing about a person.
fn seconds(span: Span) -> f64 {
    span.as_secs_f64().max(0.0)
}

fn placed(line: DataPointBuilder, point: &PointId, plan: &Plan) -> DataPointBuilder {
    let line = line.tag("device", point.device()).tag("point", point.name());
    match plan.device(point.device()) {
        Some((site, zone, _)) => line.tag("site", site.id.as_str()).tag("zone", zone.id.as_str()),
        None => line,
    }
}

/// `None` never happens: every line has a field, and writing to memory does not fail.
fn finish(line: DataPointBuilder, at: Timestamp) -> Option<Line> {
    let mut text = Vec::with_capacity(160);
    line.timestamp(at.as_millis()).build().ok()?.write_data_point_to(&mut text).ok()?;
    Some(Line { text: String::from_utf8(text).ok()?, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_store_is_told_how_far_behind_it_is_itself() {
        let metrics = Metrics::new();
        let (near, far) = (Sink::named("near"), Sink::named("far"));
        metrics.sink_lag.get_or_create(&far).set(7);
        let told = |sink| gateway_line("box", &metrics, sink, Timestamp::EPOCH).unwrap();
        assert!(told(&near).has_field("sink_lag") && told(&near).has_field("readings"));
        assert!(told(&near).text.contains("sink_lag=0"), "{}", told(&near).text);
        assert!(told(&far).text.contains("sink_lag=7"), "{}", told(&far).text);
    }
}
