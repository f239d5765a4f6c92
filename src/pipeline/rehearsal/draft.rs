//! THE LOOP, rehearsed: hazard examples that nobody has written yet, drafted by playing what the file has. A person reads them:
//! what comes of a wrong code is wrong as well.

use super::{Rehearsal, Told, Why, meets, rules_of};
use crate::model::{SignalClass, Span};
use crate::profile::{Example, HazardExample, Step};
use std::collections::BTreeSet;

/// From the frame at rest to the one that alarms.
const BEFORE: Span = Span::from_secs(10);

/// How long the alarming frame stands, and the one at rest behind it: longer than every delay of the default rules (1 h).
const STANDS: Span = Span::from_secs(7200);

impl Rehearsal {
    /// One series for each example that meets a rule which no hazard example shows, with what comes of it.
    pub fn drafted(&self) -> Vec<HazardExample> {
        let mut names = BTreeSet::new();
        for due in self.unshown() {
            if let Why::Example(example) = due.why {
                names.insert(example);
            }
        }
        let rest =
            self.profile.examples.iter().position(|example| !example.refused && !self.alarms_at(example));
        let alarming = names
            .iter()
            .filter_map(|name| self.profile.examples.iter().position(|example| example.name == *name));
        let series = alarming.map(|alarm| self.series(rest, alarm));
        series.filter(|example| !example.expected.is_empty()).collect()
    }

    fn series(&self, rest: Option<usize>, alarm: usize) -> HazardExample {
        let name = |place: usize| self.profile.examples.get(place).map_or("", |example| &example.name);
        let step = |wait, place: usize, label: String| Step { wait, example: Some(place), label };
        let mut series = Vec::new();
        if let Some(rest) = rest {
            series.push(step(Span::ZERO, rest, name(rest).to_owned()));
        }
        let before = if rest.is_some() { BEFORE } else { Span::ZERO };
        series.push(step(before, alarm, name(alarm).to_owned()));
        if let Some(rest) = rest {
            series.push(step(STANDS, rest, format!("{} (2)", name(rest))));
        }
        series.push(Step { wait: STANDS, example: None, label: String::new() });
        let mut example = HazardExample { name: name(alarm).to_owned(), series, expected: Vec::new() };
        example.expected = self.play(&example);
        // A device that is mute for hours is another matter.
        example.expected.retain(|told: &Told| told.signal != SignalClass::Offline);
        example
    }

    fn alarms_at(&self, example: &Example) -> bool {
        self.readings(example).iter().any(|reading| {
            let point = self.points().find(|point| point.id == reading.point);
            point.into_iter().flat_map(rules_of).any(|(_, rule)| meets(rule, reading))
        })
    }
}
