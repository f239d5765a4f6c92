//! FRAMES → READINGS, SenML (RFC 8428, JSON): a pack of records is resolved into named values.
//!
//! A record's base fields hold for itself and for all behind it, so a record whose base fields cannot be read spoils
//! the rest of the pack and the pack is refused; a value that cannot be read spoils only itself.

use super::device_time::{Taken, TimeUnit, judge};
use super::json;
use super::meaning::Raw;
use super::named::{NamedValue, Names};
use crate::model::{Span, Timestamp};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The most records of a pack. A sensor that kept a day of minutes has 1440; at about 200 bytes each in memory this is
/// 1 MB while the pack is read.
const RECORDS_MAX: usize = 4096;

/// The version of SenML that RFC 8428 describes, and the newest that may be read by its rules.
const VERSION: f64 = 10.0;

/// Times below this many seconds count from now, others from 1970 (RFC 8428, 4.5.3).
const ABSOLUTE_FROM_SECS: f64 = 268_435_456.0; // 2^28

/// The fields that RFC 8428 names.
const BASE_FIELDS: [&str; 6] = ["bn", "bt", "bu", "bv", "bs", "bver"];

/// What holds for the records from here on.
#[derive(Default)]
struct Base<'m> {
    name: Cow<'m, str>,
    time: f64,
    unit: Option<Cow<'m, str>>,
    value: f64,
}

/// The values of a pack, in its order. The error is for a person, in Chinese.
pub(super) fn resolve(message: &str, received_at: Timestamp) -> Result<Vec<NamedValue<'_>>, String> {
    let records: Vec<&RawValue> =
        serde_json::from_str(message).map_err(|error| format!("不是 SenML（JSON 数组）：{error}"))?;
    if records.len() > RECORDS_MAX {
        return Err(format!("SenML 记录过多：{} 条，上限 {RECORDS_MAX}", records.len()));
    }
    let (mut base, mut values) = (Base::default(), Vec::with_capacity(records.len()));
    for (place, record) in records.into_iter().enumerate() {
        let refuse = |what: &str| format!("SenML 第 {} 条记录：{what}", place + 1);
        let fields: BTreeMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(record.get()).map_err(|error| refuse(&format!("不是对象：{error}")))?;
        base.take(&fields).map_err(|what| refuse(&what))?;
        values.extend(base.value(&fields, received_at).map_err(|what| refuse(&what))?);
    }
    Ok(values)
}

/// The values whose names the profile knows, under the profile's names. A profile is for a model, a SenML name for one
/// device (`urn:dev:mac:0024befffe804ff1:smoke`): the part behind the last `:`, `/` or `.` may stand for it. Two devices
/// in one pack would then be one, and are refused.
pub(super) fn known<'m>(values: Vec<NamedValue<'m>>, names: &Names) -> Result<Vec<NamedValue<'m>>, String> {
    let mut whole: HashMap<String, Cow<'m, str>> = HashMap::new();
    let mut known = Vec::with_capacity(values.len());
    for mut value in values {
        let name = value.name;
        let last = name.rsplit([':', '/', '.']).next().unwrap_or_default();
        let Some(own) = [&*name, last].into_iter().find(|own| names.contains_key(*own)).map(str::to_owned)
        else {
            continue;
        };
        let first = whole.entry(own.clone()).or_insert_with(|| name.clone());
        if *first != name {
            let (first, second) = (Raw::Text(first.clone()), Raw::Text(name.clone()));
            return Err(format!("SenML 里 {first} 和 {second} 都是 {own}：请在型号文件里写完整名称"));
        }
        value.name = Cow::Owned(own);
        known.push(value);
    }
    Ok(known)
}

type Record<'m> = BTreeMap<Cow<'m, str>, &'m RawValue>;

fn number(fields: &Record<'_>, field: &str) -> Result<Option<f64>, String> {
    let Some(value) = fields.get(field) else { return Ok(None) };
    match json::raw(value) {
        Raw::Number(number) if number.is_finite() => Ok(Some(number)),
        other => Err(format!("{field} 应为数字，收到 {other}")),
    }
}

fn text<'m>(fields: &Record<'m>, field: &str) -> Result<Option<Cow<'m, str>>, String> {
    let Some(&value) = fields.get(field) else { return Ok(None) };
    match json::raw(value) {
        Raw::Text(text) => Ok(Some(text)),
        other => Err(format!("{field} 应为文本，收到 {other}")),
    }
}

impl<'m> Base<'m> {
    fn take(&mut self, fields: &Record<'m>) -> Result<(), String> {
        // A name that ends so must be understood by whoever reads the pack (RFC 8428, 4.4).
        if let Some(name) = fields.keys().find(|name| name.ends_with('_')) {
            return Err(format!("字段 {} 必须理解才能读取，本网关不认识", Raw::Text(name.clone())));
        }
        if let Some(version) = number(fields, "bver")?
            && version > VERSION
        {
            return Err(format!("SenML 版本 {version} 太新，本网关只认识到 {VERSION}"));
        }
        if let Some(name) = text(fields, "bn")? {
            self.name = name;
        }
        if let Some(time) = number(fields, "bt")? {
            self.time = time;
        }
        if let Some(unit) = text(fields, "bu")? {
            self.unit = Some(unit);
        }
        if let Some(value) = number(fields, "bv")? {
            self.value = value;
        }
        Ok(())
    }

    /// `None`: a record of base fields alone, or of a sum, which is no present value of anything.
    fn value(&self, fields: &Record<'m>, received_at: Timestamp) -> Result<Option<NamedValue<'m>>, String> {
        let raw = match (fields.get("v"), fields.get("vb"), fields.get("vs"), fields.get("vd")) {
            (Some(value), ..) => match json::raw(value) {
                Raw::Number(number) => Raw::Number(number + self.value),
                other => other,
            },
            (None, Some(value), ..) | (None, None, Some(value), _) | (None, None, None, Some(value)) => {
                json::raw(value)
            }
            (None, None, None, None) => {
                let nothing = fields.keys().all(|name| BASE_FIELDS.contains(&&**name));
                return if nothing || fields.contains_key("s") {
                    Ok(None)
                } else {
                    Err("没有值".to_owned())
                };
            }
        };
        let own = text(fields, "n")?.unwrap_or_default();
        let name = if own.is_empty() { self.name.clone() } else { Cow::Owned(format!("{}{own}", self.name)) };
        if name.is_empty() {
            return Err("没有名称（bn、n）".to_owned());
        }
        let seconds = self.time + number(fields, "t")?.unwrap_or(0.0);
        let unit = text(fields, "u")?.or_else(|| self.unit.clone()).filter(|unit| !unit.is_empty());
        Ok(Some(NamedValue { name, raw, unit, taken: taken(seconds, received_at), late: false, flaw: None }))
    }
}

/// Seconds of SenML: 0 is now, small ones are before or after now, large ones count from 1970.
fn taken(seconds: f64, received_at: Timestamp) -> Taken {
    if seconds == 0.0 {
        return Taken::Unknown;
    }
    if seconds >= ABSOLUTE_FROM_SECS {
        return judge(&Raw::Number(seconds), &[TimeUnit::Seconds], received_at);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, and a saturated time is not believed"
    )]
    let time = received_at + Span::from_millis((seconds * 1000.0) as i64);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
    judge(&Raw::Number(time.as_millis() as f64), &[TimeUnit::Milliseconds], received_at)
}

#[cfg(test)]
mod tests;
