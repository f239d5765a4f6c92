//! FRAMES → READINGS, drafting: what inputs come to by the draft itself, and which of them are its examples.

use super::super::schema::Profile;
use super::super::writing::quoted;
use super::super::{Decoded, ExampleInput, Sample};
use super::CHECK;
use super::sheet::{Input, RECEIVED_AT, one_line};
use crate::model::{Flaw, Quality, Quantity, Timestamp, Value};
use std::collections::BTreeSet;
use std::fmt::Write;

/// What one input comes to.
pub(super) struct Shown<'s> {
    input: &'s Input,
    /// By point: what an example writes, and whether the reading is sound.
    pub(super) readings: Vec<(usize, String, bool)>,
    sampled_at: Option<Timestamp>,
    late: bool,
}

impl<'s> Shown<'s> {
    /// `None`: nothing can be read of it.
    pub(super) fn of(input: &'s Input, profile: &Profile) -> Option<Self> {
        let at = input.at.unwrap_or(RECEIVED_AT);
        let decoded: Decoded = match profile.frame_input(input.topic, &input.text).ok()? {
            ExampleInput::Message(payload) => profile.decode_message(input.topic, &payload, at),
            ExampleInput::Registers(blocks) => profile.decode_registers(&blocks, at),
        };
        let first = decoded.samples.first()?;
        let readings = decoded.samples.iter().map(|sample| {
            // A clock that is off is no fault of the value.
            let sound = sample.quality == Quality::Good || sample.flaw == Some(Flaw::ClockSuspect);
            (sample.point, written(profile, sample), sound)
        });
        let usable =
            decoded.understood || decoded.samples.iter().any(|sample| sample.quality != Quality::Bad);
        usable.then(|| Self {
            input,
            readings: readings.collect(),
            sampled_at: first.sampled_at,
            late: first.late,
        })
    }

    fn is_sound(&self) -> bool {
        self.readings.iter().all(|(_, _, sound)| *sound)
    }

    pub(super) fn example(&self, number: usize, profile: &Profile) -> String {
        let name = match &self.input.made_up {
            Some(what) => format!("{number}：{what}"),
            None => format!("{number}：照收到的 as it came"),
        };
        let mut text = format!("\n[[example]]\nname = {}\n", quoted(&one_line(&name)));
        if self.input.made_up.is_some() {
            _ = writeln!(text, "{CHECK}: 没有真正收到过 nobody received it");
        }
        if self.input.topic > 0 {
            _ = writeln!(text, "topic = {}", self.input.topic);
        }
        if let Some(at) = self.input.at {
            _ = writeln!(text, "received_at = \"{at}\"");
        }
        if let Some(at) = self.sampled_at {
            _ = writeln!(text, "sampled_at = \"{at}\"");
        }
        if self.late {
            text.push_str("late = true\n");
        }
        let reading = |(point, shown, _): &(usize, String, bool)| {
            let name = profile.points.get(*point).map(|point| point.name.as_str()).unwrap_or_default();
            format!("{} = {}", quoted(name), quoted(shown))
        };
        let readings: Vec<String> = self.readings.iter().map(reading).collect();
        _ = write!(text, "input = {}\nreadings = {{ {} }}\n", quoted(&self.input.text), readings.join(", "));
        text
    }
}

/// What a sample says, as an example writes it: a number with all of its digits, which a screen does not show.
fn written(profile: &Profile, sample: &Sample) -> String {
    let unit = profile.points.get(sample.point).map_or("", |point| point.quantity.unit());
    match &sample.value {
        Value::Number(number) => {
            let words =
                [number.get().to_string(), unit.to_owned(), sample.flaw.map_or("", Flaw::name).to_owned()];
            words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        }
        _ => profile.shown(sample),
    }
}

/// The fewest inputs that show every point with two values and every state; at least two that really came, if there are.
pub(super) fn choose<'i, 's>(shown: &'i [Shown<'s>], profile: &Profile) -> Vec<&'i Shown<'s>> {
    let all = |place: usize| {
        let quantity = profile.points.get(place).map(|point| point.quantity);
        matches!(quantity, Some(Quantity::State | Quantity::Flag))
    };
    // Of a point that was ever read soundly, only that counts.
    let sound: BTreeSet<usize> = shown
        .iter()
        .flat_map(|shown| &shown.readings)
        .filter(|(_, _, sound)| *sound)
        .map(|(point, ..)| *point)
        .collect();
    let mut values: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); profile.points.len()];
    let mut chosen: Vec<usize> = Vec::new();
    loop {
        let gain = |shown: &Shown<'_>| {
            let news = |(point, text, is_sound): &&(usize, String, bool)| {
                values.get(*point).is_some_and(|values| {
                    (*is_sound || !sound.contains(point))
                        && !values.contains(text.as_str())
                        && (values.len() < 2 || all(*point))
                })
            };
            shown.readings.iter().filter(news).count()
        };
        let real = chosen.iter().filter(|place| shown.get(**place).is_some_and(is_real)).count();
        let left = shown.iter().enumerate().filter(|(place, _)| !chosen.contains(place));
        let best = left.max_by_key(|(place, shown)| {
            let length = std::cmp::Reverse(shown.input.text.len());
            (
                gain(shown).min(1),
                is_real(shown),
                shown.is_sound(),
                gain(shown),
                length,
                std::cmp::Reverse(*place),
            )
        });
        let Some((place, best)) = best else { break };
        if gain(best) == 0 && (real >= 2 || !is_real(best)) {
            break;
        }
        for (point, text, _) in &best.readings {
            if let Some(values) = values.get_mut(*point) {
                values.insert(text);
            }
        }
        chosen.push(place);
    }
    chosen.sort_unstable();
    chosen.into_iter().filter_map(|place| shown.get(place)).collect()
}

fn is_real(shown: &Shown<'_>) -> bool {
    shown.input.made_up.is_none()
}
