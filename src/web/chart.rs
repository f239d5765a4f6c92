//! WEB · what a chart is drawn from: the buckets of a point, its limits, and when it was in alarm.

use super::api::{Answer, Problem, unreadable};
use super::{Shared, rows, wire};
use crate::model::{Condition, Point, PointId, Priority, Quantity, Span, Text, Timestamp};
use crate::series::{Bucket, Series};
use axum::extract::{Json, Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Buckets of a chart: a full-HD screen has 1920 columns, none can show more.
pub const BUCKETS_MAX: usize = 2000;
const BUCKETS: usize = 600;

/// Closed hazards shaded on one chart, the last closed first: more than can be told apart on a screen.
pub const CLOSED_MAX: usize = 200;

/// The part of time a chart shows.
#[derive(Debug, Deserialize)]
pub struct Range {
    from: Option<i64>,
    to: Option<i64>,
    buckets: Option<usize>,
}

/// `GET /api/v1/points/{device}/{point}/series`: the values with the limits and the hazards of the point, open and closed.
pub async fn series(
    State(shared): State<Shared>,
    Path((device, name)): Path<(String, String)>,
    Query(range): Query<Range>,
) -> Answer {
    let id = PointId::parse(&format!("{device}/{name}")).map_err(|_| Problem::missing())?;
    let plan = shared.plan();
    let (_, _, device, point) = plan.point(&id).ok_or_else(Problem::missing)?;
    let now = shared.room.clock.now();
    let to = range.to.map_or(now, Timestamp::from_millis);
    let from = range.from.map_or(to - Span::from_secs(3600), Timestamp::from_millis);
    if from >= to {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "empty_range",
            "起始时间必须早于结束时间",
            "from must be before to",
        ));
    }
    let buckets = range.buckets.unwrap_or(BUCKETS).clamp(1, BUCKETS_MAX);
    let series = &shared.room.series;
    let filled = match point.quantity.is_numeric() {
        true => series.range(&id, from, to, buckets).await,
        false => series.range_of_states(&id, from, to, buckets).await,
    };
    let mut states = States::of(point);
    // Empty buckets say nothing: a gap is where there is no row.
    let filled = filled.map_err(unreadable)?;
    let drawn: Vec<_> = filled
        .iter()
        .filter(|bucket| bucket.count > 0 || bucket.bad > 0)
        .map(|bucket| row(bucket, point, &mut states, series))
        .collect();
    let limits: Vec<_> = point
        .rules
        .iter()
        .filter_map(|rule| {
            let limit = rule.condition.limit()?;
            Some(json!({
                "limit": limit.get(), "text": rule.condition.limit_text(point.unit()),
                "title": wire::text(&rule.title), "priority": rule.priority.name(),
            }))
        })
        .collect();
    let snapshot = shared.board.snapshot();
    let open: Vec<_> = snapshot.on_point(&id).map(|open| wire::open(&plan, open)).collect();
    let closed =
        shared.room.journal.closed_hazards_of(&id, from, to, CLOSED_MAX).await.map_err(unreadable)?;
    let closed: Vec<_> = closed.iter().map(|hazard| wire::hazard(&plan, hazard)).collect();
    Ok(Json(json!({
        "point": id.as_str(), "name": wire::text(&point.name), "unit": point.unit(), "decimals": point.decimals,
        "numeric": point.quantity.is_numeric(), "states": states.json(),
        "silent_after_ms": rows::old_after(device).as_millis(),
        "from": from.as_millis(), "to": to.as_millis(), "now": now.as_millis(),
        "columns": ["start", "end", "count", "bad", "min", "max", "mean", "last", "states"],
        "rows": drawn, "limits": limits, "hazards": open, "closed_hazards": closed,
    })))
}

fn row(bucket: &Bucket, point: &Point, states: &mut States, series: &Series) -> Value {
    let (start, end) = (bucket.start.as_millis(), bucket.end.as_millis());
    let (count, bad) = (bucket.count, bucket.bad);
    if point.quantity.is_numeric() {
        return json!([start, end, count, bad, bucket.min, bucket.max, bucket.mean, bucket.last, []]);
    }
    let mut place = |number: u32| states.place(number, series);
    let mut seen: Vec<usize> = bucket.states.iter().filter_map(|&number| place(number)).collect();
    seen.sort_unstable();
    let last = bucket.last.and_then(|last| bucket.states.iter().copied().find(|&n| f64::from(n) == last));
    let last = last.and_then(place);
    // The mean of states means nothing: the last one stands in.
    json!([start, end, count, bad, seen.first(), seen.last(), last, last, seen])
}

/// The states of one chart, each with its place: first those that the vocabulary knows, in its order, then those that
/// the device sent all the same. None is left out.
struct States {
    flags: bool,
    known: Vec<Named>,
}

struct Named {
    code: String,
    name: Text,
    /// Of the most urgent rule that this state fulfils.
    priority: Option<Priority>,
}

impl States {
    fn of(point: &Point) -> Self {
        let flags = point.quantity == Quantity::Flag;
        let mut known: Vec<Named> = point
            .states
            .iter()
            .map(|(code, name)| Named {
                code: code.to_string(),
                name: name.clone(),
                priority: urgent(
                    point,
                    |condition| matches!(condition, Condition::OneOf(codes) if codes.contains(code)),
                ),
            })
            .collect();
        if flags {
            known = [false, true]
                .map(|flag| Named {
                    code: flag.to_string(),
                    name: wire::value_text(None, &crate::model::Value::Flag(flag)),
                    priority: urgent(point, |condition| *condition == Condition::Is(flag)),
                })
                .into();
        }
        Self { flags, known }
    }

    /// The place of a state by the number the series keeps for it.
    fn place(&mut self, number: u32, series: &Series) -> Option<usize> {
        if self.flags {
            return usize::try_from(number).ok().filter(|&place| place < self.known.len());
        }
        let code = series.state_name(number)?;
        let known = self.known.iter().position(|state| state.code == *code);
        Some(known.unwrap_or_else(|| {
            self.known.push(Named { code: code.to_string(), name: Text::new(&code, &code), priority: None });
            self.known.len() - 1
        }))
    }

    fn json(&self) -> Vec<Value> {
        let state = |state: &Named| json!({ "code": state.code, "name": wire::text(&state.name), "priority": state.priority.map(Priority::name) });
        self.known.iter().map(state).collect()
    }
}

fn urgent(point: &Point, fulfils: impl Fn(&Condition) -> bool) -> Option<Priority> {
    point.rules.iter().filter(|rule| fulfils(&rule.condition)).map(|rule| rule.priority).min()
}
