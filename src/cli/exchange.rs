//! THE SERIES AS TEXT: CSV, NDJSON and line protocol, both ways. Pure. `export` writes it, `import` reads it.
//!
//! | | a sample | rolled-up samples |
//! |---|---|---|
//! | CSV | `time,point,value,quality,unit`, the rest empty | `value` is the mean (of flags and states the newest), `width_s` and the rest are filled |
//! | NDJSON | `time point value quality`, `unit` if known | `width_s count valued bad min max mean sum last last_at_s states` |
//! | lines | as the InfluxDB sink writes them: measurement = class, tags device point site zone, fields `value` or `state`, `quality`, ms | one tag more, `width` = `1m` or `1h`; fields `count valued bad min max mean sum last last_at`, of states `seen`: a bit each, by their place in the vocabulary |
//!
//! Times are UTC with milliseconds; those beyond the year 9999, which only a broken clock gives, are milliseconds.

use crate::model::{Code, Number, Plan, PointId, Quality, Quantity, Span, Timestamp, Value};
use crate::profile::Vocabulary;
use crate::series::{Item, Rolled, RolledValues, What};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A format of both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For spreadsheets.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// InfluxDB's line protocol, time in ms: `precision=ms`.
    Lp,
}

/// The first line of a CSV file.
pub const CSV_HEAD: &str =
    "time,point,value,quality,unit,width_s,count,valued,bad,min,max,sum,last,last_at_s,states";
/// What a measurement is called whose point is not planned: the InfluxDB sink's word.
const UNPLANNED: &str = "unplanned";

/// Writes one line, with its line feed. False: this format cannot say it (a state without the plan, in line protocol).
pub fn write(out: &mut String, format: Format, plan: &Plan, point: &PointId, item: &Item) -> bool {
    match format {
        Format::Csv => write_csv(out, plan, point, item),
        Format::Ndjson => write_json(out, plan, point, item),
        Format::Lp => return write_lp(out, plan, point, item),
    }
    true
}

/// Reads one line. The vocabulary knows the states of line protocol.
///
/// Errors: what is wrong with it, for a person.
pub fn read(format: Format, vocabulary: &Vocabulary, line: &str) -> Result<(PointId, Item), String> {
    match format {
        Format::Csv => read_csv(line),
        Format::Ndjson => read_json(line),
        Format::Lp => read_lp(vocabulary, line),
    }
}

fn time_text(time: Timestamp) -> String {
    let text = time.to_string();
    // A year of more than four digits, or before year 0, has no place in RFC 3339.
    if text.len() == "2026-01-15T02:30:05.000Z".len() && !text.starts_with('-') {
        text
    } else {
        time.as_millis().to_string()
    }
}

/// `2026-11-01T08:00:00+08:00`, or milliseconds since 1970.
pub fn read_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(Timestamp::from_millis(millis));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("{text:?} is no time of RFC 3339"))?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}

/// The shortest text that reads back as the very same number.
fn number_text(value: f64) -> String {
    if value == 0.0 || (1e-6..1e15).contains(&value.abs()) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

fn read_number(text: &str) -> Result<f64, String> {
    let number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-').then(|| text.parse::<f64>().ok());
    number.flatten().filter(|number| number.is_finite()).ok_or_else(|| format!("{text:?} is no number"))
}

fn read_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no count"))
}

fn quality_name(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "good",
        Quality::Uncertain => "uncertain",
        Quality::Bad => "bad",
    }
}

fn read_quality(name: &str) -> Result<Quality, String> {
    [Quality::Good, Quality::Uncertain, Quality::Bad]
        .into_iter()
        .find(|quality| quality_name(*quality) == name)
        .ok_or_else(|| format!("{name:?} is no quality: good, uncertain, bad"))
}

fn record_quality(rolled: &Rolled) -> &'static str {
    match rolled.bad {
        0 => "good",
        bad if bad == rolled.count => "bad",
        _ => "uncertain",
    }
}

fn unit_of(plan: &Plan, point: &PointId) -> &'static str {
    plan.point(point).map_or("", |(.., point)| point.unit())
}

fn mean(sum: f64, valued: u32, min: f64, max: f64) -> f64 {
    (sum / f64::from(valued.max(1))).clamp(min.min(max), max.max(min))
}

fn read_width(seconds: &str) -> Result<Span, String> {
    match seconds {
        "60" => Ok(Span::from_secs(60)),
        "3600" => Ok(Span::from_secs(3600)),
        other => Err(format!("{other:?} is no width: 60, 3600")),
    }
}

// --- CSV -------------------------------------------------------------------------------------------------------------

fn cell(out: &mut String, text: &str) {
    if text.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

fn write_csv(out: &mut String, plan: &Plan, point: &PointId, item: &Item) {
    let mut cells = vec![time_text(item.time), point.to_string()];
    match &item.what {
        What::Sample { value, quality } => {
            cells.push(match value {
                Value::Number(number) => number_text(number.get()),
                Value::Flag(flag) => flag.to_string(),
                Value::Code(code) => code.to_string(),
                Value::Absent => String::new(),
            });
            cells.extend([quality_name(*quality).to_owned(), unit_of(plan, point).to_owned()]);
            cells.resize(15, String::new());
        }
        What::Record(rolled) => {
            let none = || [const { String::new() }; 6];
            let [value, min, max, sum, last, states] = match &rolled.values {
                RolledValues::None => none(),
                &RolledValues::Numbers { min, max, sum, last } => {
                    let [mean, min, max, sum, last] =
                        [mean(sum, rolled.valued, min, max), min, max, sum, last].map(number_text);
                    [mean, min, max, sum, last, String::new()]
                }
                RolledValues::Flags { trues, last } => {
                    let [_, min, max, _, _, states] = none();
                    [last.to_string(), min, max, trues.to_string(), last.to_string(), states]
                }
                RolledValues::States { last, seen } => {
                    let [_, min, max, sum, ..] = none();
                    [last.to_string(), min, max, sum, last.to_string(), seen.join(" ")]
                }
            };
            cells.extend([value, record_quality(rolled).to_owned(), unit_of(plan, point).to_owned()]);
            let secs = rolled.width.as_millis() / 1000;
            cells.extend(
                [i64::from(rolled.count), rolled.valued.into(), rolled.bad.into()].map(|n| n.to_string()),
            );
            cells.insert(5, secs.to_string());
            cells.extend([min, max, sum, last, rolled.last_at.to_string(), states]);
        }
    }
    for (index, text) in cells.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        cell(out, text);
    }
    out.push('\n');
}

/// The cells of one line. A quoted cell never holds a line feed in what we write.
fn cells(line: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut rest = line;
    loop {
        let (text, after) = if let Some(mut inside) = rest.strip_prefix('"') {
            let mut text = String::new();
            loop {
                let (part, after) = inside.split_once('"').ok_or("a quoted cell does not end")?;
                text.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        text.push('"');
                        inside = more;
                    }
                    None => break (text, after),
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        all.push(text);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(all),
            None => return Err("text after a quoted cell".to_owned()),
        }
    }
}

fn read_csv(line: &str) -> Result<(PointId, Item), String> {
    let cells = cells(line)?;
    let [time, point, value, quality, _unit, rest @ ..] = cells.as_slice() else {
        return Err(format!("{} cells instead of 15", cells.len()));
    };
    let time = read_time(time)?;
    let point = PointId::parse(point).map_err(|error| error.to_string())?;
    let what = match rest {
        [] => What::Sample { value: read_value(value)?, quality: read_quality(quality)? },
        [width, rest @ ..] if width.is_empty() && rest.iter().all(String::is_empty) => {
            What::Sample { value: read_value(value)?, quality: read_quality(quality)? }
        }
        [width, count, valued, bad, min, max, sum, last, last_at, states] => {
            let values = match (last.as_str(), read_value(last)?) {
                ("", _) => RolledValues::None,
                (_, Value::Number(last)) => RolledValues::Numbers {
                    min: read_number(min)?,
                    max: read_number(max)?,
                    sum: read_number(sum)?,
                    last: last.get(),
                },
                (_, Value::Flag(last)) => RolledValues::Flags { trues: read_count(sum)?, last },
                (_, Value::Code(last)) => {
                    RolledValues::States { last, seen: states.split_whitespace().map(Into::into).collect() }
                }
                (_, Value::Absent) => RolledValues::None,
            };
            What::Record(Rolled {
                width: read_width(width)?,
                count: read_count(count)?,
                valued: read_count(valued)?,
                bad: read_count(bad)?,
                last_at: read_count(last_at)?,
                values,
            })
        }
        _ => return Err(format!("{} cells instead of 15", cells.len())),
    };
    Ok((point, Item { time, what }))
}

/// Empty, `true`, `false`, a number, or else the name of a state.
fn read_value(text: &str) -> Result<Value, String> {
    match text {
        "" => Ok(Value::Absent),
        "true" => Ok(Value::Flag(true)),
        "false" => Ok(Value::Flag(false)),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            Number::new(read_number(text)?).map(Value::Number).ok_or_else(|| format!("{text:?} is no number"))
        }
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err(format!("{text:?} is no value"))
        }
        code => Ok(Value::Code(code.into())),
    }
}

// --- NDJSON ----------------------------------------------------------------------------------------------------------

fn write_json(out: &mut String, plan: &Plan, point: &PointId, item: &Item) {
    // Written by hand in one fixed order: the same samples are the same bytes.
    let text = |text: &str| Json::from(text).to_string();
    let _infallible =
        write!(out, "{{\"time\":{},\"point\":{}", text(&time_text(item.time)), text(point.as_str()));
    let mut field = |name: &str, value: String| {
        let _infallible = write!(out, ",\"{name}\":{value}");
    };
    let unit = unit_of(plan, point);
    match &item.what {
        What::Sample { value, quality } => {
            field(
                "value",
                match value {
                    Value::Number(number) => number_text(number.get()),
                    Value::Flag(flag) => flag.to_string(),
                    Value::Code(code) => text(code),
                    Value::Absent => "null".to_owned(),
                },
            );
            field("quality", text(quality_name(*quality)));
        }
        What::Record(rolled) => {
            field("width_s", (rolled.width.as_millis() / 1000).to_string());
            field("count", rolled.count.to_string());
            field("valued", rolled.valued.to_string());
            field("bad", rolled.bad.to_string());
            match &rolled.values {
                RolledValues::None => {}
                &RolledValues::Numbers { min, max, sum, last } => {
                    let mean = mean(sum, rolled.valued, min, max);
                    for (name, figure) in
                        [("min", min), ("max", max), ("mean", mean), ("sum", sum), ("last", last)]
                    {
                        field(name, number_text(figure));
                    }
                }
                RolledValues::Flags { trues, last } => {
                    field("trues", trues.to_string());
                    field("last", last.to_string());
                }
                RolledValues::States { last, seen } => {
                    field("last", text(last));
                    field("states", json!(seen).to_string());
                }
            }
            field("last_at_s", rolled.last_at.to_string());
        }
    }
    if !unit.is_empty() {
        field("unit", text(unit));
    }
    out.push_str("}\n");
}

fn read_json(line: &str) -> Result<(PointId, Item), String> {
    // Figures as they are written: this parser's own are a bit off now and then.
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(line).map_err(|error| error.to_string())?;
    let raw = |name: &str| fields.get(name).map_or("null", |raw| raw.get());
    let missing = |name: &str| format!("{name:?} is missing or of the wrong kind");
    let text = |name: &str| serde_json::from_str::<String>(raw(name)).map_err(|_| missing(name));
    let count = |name: &str| raw(name).parse::<u32>().map_err(|_| missing(name));
    let figure = |name: &str| read_number(raw(name)).map_err(|_| missing(name));
    let value = |name: &str| match raw(name) {
        "null" => Ok(Value::Absent),
        "true" => Ok(Value::Flag(true)),
        "false" => Ok(Value::Flag(false)),
        raw if raw.starts_with('"') => Ok(Value::Code(text(name)?.into())),
        _ => Number::new(figure(name)?).map(Value::Number).ok_or_else(|| missing(name)),
    };
    let time = read_time(&text("time")?)?;
    let point = PointId::parse(&text("point")?).map_err(|error| error.to_string())?;
    if !fields.contains_key("width_s") {
        let what = What::Sample { value: value("value")?, quality: read_quality(&text("quality")?)? };
        return Ok((point, Item { time, what }));
    }
    let values = match value("last")? {
        Value::Absent => RolledValues::None,
        Value::Flag(last) => RolledValues::Flags { trues: count("trues")?, last },
        Value::Code(last) => {
            let seen: Vec<String> = serde_json::from_str(raw("states")).map_err(|_| missing("states"))?;
            RolledValues::States { last, seen: seen.into_iter().map(Code::from).collect() }
        }
        Value::Number(last) => RolledValues::Numbers {
            min: figure("min")?,
            max: figure("max")?,
            sum: figure("sum")?,
            last: last.get(),
        },
    };
    let rolled = Rolled {
        width: read_width(raw("width_s"))?,
        count: count("count")?,
        valued: count("valued")?,
        bad: count("bad")?,
        last_at: count("last_at_s")?,
        values,
    };
    Ok((point, Item { time, what: What::Record(rolled) }))
}

// --- line protocol ---------------------------------------------------------------------------------------------------

fn write_lp(out: &mut String, plan: &Plan, point: &PointId, item: &Item) -> bool {
    let planned = plan.point(point);
    let class = planned.map_or(UNPLANNED, |(.., point)| point.class.as_str());
    let place_of = |code: &str| {
        let states = planned.map_or(&[][..], |(.., point)| &point.states);
        states.iter().position(|(name, _)| &**name == code)
    };
    let mut fields = Vec::new();
    let mut width = "";
    match &item.what {
        What::Sample { value, quality } => {
            match value {
                Value::Number(number) => fields.push(format!("value={}", number_text(number.get()))),
                Value::Flag(flag) => fields.push(format!("state={}i", u8::from(*flag))),
                Value::Code(code) => match place_of(code) {
                    Some(place) => fields.push(format!("state={place}i")),
                    None => return false,
                },
                Value::Absent => {}
            }
            fields.push(format!("quality={}i", *quality as u8));
        }
        What::Record(rolled) => {
            width = if rolled.width.as_millis() == 60_000 { ",width=1m" } else { ",width=1h" };
            for (name, count) in [("count", rolled.count), ("valued", rolled.valued), ("bad", rolled.bad)] {
                fields.push(format!("{name}={count}i"));
            }
            match &rolled.values {
                RolledValues::None => {}
                &RolledValues::Numbers { min, max, sum, last } => {
                    let mean = mean(sum, rolled.valued, min, max);
                    for (name, figure) in
                        [("min", min), ("max", max), ("mean", mean), ("sum", sum), ("last", last)]
                    {
                        fields.push(format!("{name}={}", number_text(figure)));
                    }
                }
                RolledValues::Flags { trues, last } => {
                    fields.push(format!("trues={trues}i"));
                    fields.push(format!("state={}i", u8::from(*last)));
                }
                RolledValues::States { last, seen } => {
                    let Some(newest) = place_of(last) else { return false };
                    let mut bits = 0u64;
                    for code in seen {
                        match place_of(code) {
                            Some(place) if place < 63 => bits |= 1 << place,
                            _ => return false,
                        }
                    }
                    fields.push(format!("state={newest}i"));
                    fields.push(format!("seen={bits}i"));
                }
            }
            fields.push(format!("last_at={}i", rolled.last_at));
        }
    }
    // Ids are slugs: nothing in them needs escaping. Tags in the order of their names, as the sink writes them.
    let _infallible = write!(out, "{class},device={},point={}", point.device(), point.name());
    if let Some((site, zone, ..)) = planned {
        let _infallible = write!(out, ",site={}", site.id);
        out.push_str(width);
        let _infallible = write!(out, ",zone={}", zone.id);
    } else {
        out.push_str(width);
    }
    let _infallible = writeln!(out, " {} {}", fields.join(","), item.time.as_millis());
    true
}

fn read_lp(vocabulary: &Vocabulary, line: &str) -> Result<(PointId, Item), String> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [head, fields, time] = parts.as_slice() else {
        return Err("not measurement,tags fields time".to_owned());
    };
    let (class, tags) = head.split_once(',').ok_or("no tags")?;
    let lookup = |list: &str, name: &str| -> Option<String> {
        let mut pairs = list.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let tag = |name: &str| lookup(tags, name).ok_or_else(|| format!("the tag {name:?} is missing"));
    let field = |name: &str| lookup(fields, name);
    let whole = |name: &str| -> Result<Option<u64>, String> {
        let text = field(name);
        text.map(|text| text.trim_end_matches('i').parse().map_err(|_| format!("{name:?} is no count")))
            .transpose()
    };
    let count = |name: &str| -> Result<u32, String> {
        whole(name)?
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| format!("the field {name:?} is missing"))
    };
    let figure = |name: &str| -> Result<f64, String> {
        read_number(&field(name).ok_or_else(|| format!("the field {name:?} is missing"))?)
    };
    let point = PointId::parse(&format!("{}/{}", tag("device")?, tag("point")?))
        .map_err(|error| error.to_string())?;
    let time = Timestamp::from_millis(time.parse().map_err(|_| format!("{time:?} is no time in ms"))?);
    let known = vocabulary.class(class);
    let is_state = known.is_some_and(|class| class.quantity == Quantity::State);
    let state = |place: u64| -> Result<Code, String> {
        let place = usize::try_from(place).ok();
        let found = known.zip(place).and_then(|(class, place)| class.states.get(place));
        found.map(|(code, _)| code.clone()).ok_or_else(|| format!("the class {class:?} has no such state"))
    };
    let Some(width) = lookup(tags, "width") else {
        let value = match (field("value"), whole("state")?) {
            (Some(number), _) => Number::new(read_number(&number)?).map(Value::Number).ok_or("no number")?,
            (None, Some(place)) if is_state => Value::Code(state(place)?),
            (None, Some(flag)) => Value::Flag(flag != 0),
            (None, None) => Value::Absent,
        };
        let quality = match count("quality")? {
            0 => Quality::Good,
            1 => Quality::Uncertain,
            _ => Quality::Bad,
        };
        return Ok((point, Item { time, what: What::Sample { value, quality } }));
    };
    let values = match (field("last"), whole("state")?) {
        (Some(last), _) => RolledValues::Numbers {
            min: figure("min")?,
            max: figure("max")?,
            sum: figure("sum")?,
            last: read_number(&last)?,
        },
        (None, Some(last)) if is_state => {
            let bits = whole("seen")?.ok_or("the field \"seen\" is missing")?;
            let mut seen =
                (0..63).filter(|place| bits >> place & 1 == 1).map(state).collect::<Result<Vec<_>, _>>()?;
            seen.sort();
            RolledValues::States { last: state(last)?, seen }
        }
        (None, Some(last)) => RolledValues::Flags { trues: count("trues")?, last: last != 0 },
        (None, None) => RolledValues::None,
    };
    let rolled = Rolled {
        width: read_width(match width.as_str() {
            "1m" => "60",
            "1h" => "3600",
            other => other,
        })?,
        count: count("count")?,
        valued: count("valued")?,
        bad: count("bad")?,
        last_at: count("last_at")?,
        values,
    };
    Ok((point, Item { time, what: What::Record(rolled) }))
}
