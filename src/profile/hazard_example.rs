//! FRAMES → READINGS, hazard examples: what a series of a profile's examples has to raise under the default rules, as it
//! is written down. Here it is data: who knows the rules plays the series and compares.
//!
//! A mistake in one costs the gateway nothing: the profile is used all the same, and `fengsui profile` tells of it. A
//! rule that a later vocabulary renames must not leave a detector unwatched.

use super::draft::{Problems, Spanned, suggest_or_list};
use super::example::Example;
use super::schema::ProfilePoint;
use super::vocabulary::Vocabulary;
use crate::model::{Change, LINK_POINT, Problem, Rule, RuleId, SignalClass, Span};
use schemars::JsonSchema;
use serde::Deserialize;

/// The class of the point `link`.
const LINK_CLASS: &str = "link_state";

/// The longest that may pass before a frame: the longest normal silence of a shipped profile is 25 h, and the longest delay
/// of a rule 1 h.
const WAIT_MAX: Span = Span::from_secs(48 * 3600);

/// What a series can bring about; the others need a person.
const CHANGES: [Change; 3] = [Change::Raised, Change::RaisedAgain, Change::Returned];

/// Stands behind `returned` where only a person's reset closes the hazard.
const LATCHED: &str = ", latched";

/// The units of waits, longest first, in milliseconds.
const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A series of frames and what it has to raise.
#[derive(Debug, Clone, PartialEq)]
pub struct HazardExample {
    /// What it shows.
    pub name: String,
    /// The frames in their order.
    pub series: Vec<Step>,
    /// What has to come of it, in any order.
    pub expected: Vec<Told>,
}

/// A frame of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What passes before it.
    pub wait: Span,
    /// The place of its example in [`super::Profile::examples`]; `None`: time passes and nothing comes.
    pub example: Option<usize>,
    /// What it is called in `expect`: the example's name, and from its second time on `(2)`.
    pub label: String,
}

/// A change of a hazard that a series brings about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The frame it follows, in the series.
    pub step: usize,
    /// How long after that frame.
    pub after: Span,
    /// On which point.
    pub point: String,
    /// Which lamp.
    pub signal: SignalClass,
    /// By which rule.
    pub rule: RuleId,
    /// What happened.
    pub change: Change,
    /// The condition is over and only a person's reset closes it.
    pub latched: bool,
}

/// The hazard examples of a file, and what is wrong with them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HazardExamples {
    /// Those that could be read.
    pub list: Vec<HazardExample>,
    /// For the person who writes the file.
    pub problems: Vec<Problem>,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct HazardExampleFile {
    /// 它说明什么 / what it shows
    name: Spanned<String>,
    /// 依次到来的示例，前面可写等待时间，如 "10s fire" / the examples as they come; "10s fire" waits before one
    series: Spanned<Vec<Spanned<String>>>,
    /// 应当发生什么，如 "fire +5s: smoke fire smoke-fire raised" / what has to come of it
    #[serde(default)]
    expect: Vec<Spanned<String>>,
}

/// What the lines of a series may speak of.
struct Known<'a> {
    examples: &'a [Example],
    points: &'a [ProfilePoint],
    vocabulary: &'a Vocabulary,
}

pub(super) fn build_hazard_examples(
    files: &[HazardExampleFile],
    examples: &[Example],
    points: &[ProfilePoint],
    vocabulary: &Vocabulary,
    mut problems: Problems,
) -> HazardExamples {
    let known = Known { examples, points, vocabulary };
    let mut list: Vec<HazardExample> = Vec::new();
    for file in files {
        if list.iter().any(|earlier| earlier.name == *file.name.get_ref()) {
            problems.error(
                file.name.span(),
                "这个名字已有 / the name is taken",
                "报警示例各用各的名字 / names of hazard examples are unique",
            );
        }
        if file.series.get_ref().is_empty() {
            problems.error(
                file.series.span(),
                "series 是空的 / the series is empty",
                "写 / write series = [\"at rest\", \"10s fire\"]",
            );
        }
        let before = problems.list.len();
        let series: Vec<Step> = known.series(file, &mut problems);
        // Lines name the frames of the series; with a broken one they would only repeat its problem.
        if problems.list.len() > before {
            continue;
        }
        let expected =
            file.expect.iter().filter_map(|line| known.told(line, &series, &mut problems)).collect();
        list.push(HazardExample { name: file.name.get_ref().clone(), series, expected });
    }
    HazardExamples { list, problems: problems.list }
}

impl Known<'_> {
    fn series(&self, file: &HazardExampleFile, problems: &mut Problems) -> Vec<Step> {
        let mut series: Vec<Step> = Vec::new();
        for written in file.series.get_ref() {
            let text = written.get_ref().trim();
            let place = |name: &str| self.examples.iter().position(|example| example.name == name);
            // A name may begin with what looks like a time.
            let (wait, name) = match (place(text), text.split_once(' ')) {
                (Some(_), _) => (Some(Span::ZERO), text),
                (None, Some((wait, name))) if parse_wait(wait).is_some() => (parse_wait(wait), name.trim()),
                (None, _) if parse_wait(text).is_some() => (parse_wait(text), ""),
                _ => (Some(Span::ZERO), text),
            };
            let example = place(name);
            if example.is_none() && (!name.is_empty() || series.is_empty()) {
                let names = self.examples.iter().map(|example| example.name.as_str());
                problems.error(
                    written.span(),
                    format!("本文件没有叫 {name:?} 的示例 / no [[example]] of this file is called {name:?}"),
                    suggest_or_list(name, names),
                );
                continue;
            }
            let wait = wait.unwrap_or(Span::ZERO);
            if wait > WAIT_MAX {
                problems.error(
                    written.span(),
                    "等待太久 / the wait is too long",
                    format!("最多 {WAIT_MAX} / at most {WAIT_MAX}"),
                );
            }
            let seen = series.iter().filter(|step| example.is_some() && step.example == example).count();
            let label = if seen == 0 { name.to_owned() } else { format!("{name} ({})", seen + 1) };
            series.push(Step { wait, example, label });
        }
        series
    }

    /// `smouldering +5s: smoke fire smoke-fire raised`.
    fn told(&self, line: &Spanned<String>, series: &[Step], problems: &mut Problems) -> Option<Told> {
        let mut refuse = |message: String, help: String| problems.error(line.span(), message, help);
        // A frame's name may have a ':' of its own; what follows has none.
        let parts = line.get_ref().rsplit_once(':').map(|(when, what)| (when.trim(), what.trim()));
        let words: Vec<&str> = parts
            .map_or_else(Vec::new, |(_, what)| what.trim_end_matches(LATCHED).split_whitespace().collect());
        let (Some((when, what)), [point, signal, rule, change]) = (parts, words.as_slice()) else {
            refuse(
                "这一行没有说出隐患的变化 / this says no change of a hazard".to_owned(),
                "写成“示例: 测点 信号 规则 变化” / write: frame: point signal rule change, as \"fire +5s: smoke fire smoke-fire raised\""
                    .to_owned(),
            );
            return None;
        };
        let (step, after) = match place_in(series, when) {
            Some(place) => place,
            None => {
                let labels: Vec<&str> = labels(series).map(|(_, label)| label).collect();
                refuse(
                    format!("series 里没有 {when:?} / no frame of the series is {when:?}"),
                    suggest_or_list(when, labels),
                );
                return None;
            }
        };
        let mut names: Vec<&str> = self.points.iter().map(|point| point.name.as_str()).collect();
        names.push(LINK_POINT);
        let Some(rules) = self.rules(point) else {
            refuse(
                format!("型号文件没有测点 {point:?} / the profile has no point {point:?}"),
                suggest_or_list(point, names),
            );
            return None;
        };
        let ids = || rules.iter().map(|rule| rule.id.as_str());
        let Some(known) = rules.iter().find(|known| known.id.as_str() == *rule) else {
            refuse(
                format!("{point} 没有默认规则 {rule:?} / no default rule {rule:?} watches {point}"),
                suggest_or_list(rule, ids().collect::<Vec<_>>()),
            );
            return None;
        };
        let Some(parsed) = CHANGES.into_iter().find(|known| known.name() == *change) else {
            refuse(
                format!(
                    "{change:?} 不是一串报文会带来的变化 / {change:?} is no change that a series brings about"
                ),
                suggest_or_list(change, CHANGES.map(Change::name)),
            );
            return None;
        };
        if *signal != known.signal.name() {
            let help = suggest_or_list(signal, [known.signal.name()]);
            refuse(
                format!(
                    "{rule} 是 {}，不是 {signal:?} / {rule} is {}, not {signal:?}",
                    known.signal, known.signal
                ),
                help,
            );
            return None;
        }
        let latched = parsed == Change::Returned && known.latching;
        if latched != what.ends_with(LATCHED) {
            let help = if latched { "写 / write: returned, latched" } else { "删去 / remove: , latched" };
            refuse(
                match latched {
                    true => format!(
                        "{rule} 会锁存：恢复后仍须人工复位 / {rule} latches: it returns, and stands until a person resets it"
                    ),
                    false => "只有锁存规则恢复时才写 latched / only a latching rule that returned is latched"
                        .to_owned(),
                },
                help.to_owned(),
            );
            return None;
        }
        Some(Told {
            step,
            after,
            point: (*point).to_owned(),
            signal: known.signal,
            rule: known.id.clone(),
            change: parsed,
            latched,
        })
    }

    /// The default rules of a point.
    fn rules(&self, point: &str) -> Option<&[Rule]> {
        let class = self.points.iter().find(|known| known.name == point).map(|known| known.class.as_str());
        let class = class.or((point == LINK_POINT).then_some(LINK_CLASS))?;
        self.vocabulary.class(class).map(|class| class.rules.as_slice())
    }
}

/// The frames of a series with what they are called.
fn labels(series: &[Step]) -> impl Iterator<Item = (usize, &str)> {
    let frames = series.iter().enumerate().filter(|(_, step)| step.example.is_some());
    frames.map(|(place, step)| (place, step.label.as_str()))
}

/// `quiet`, `quiet (2)`, `quiet +5m`: which frame, and how long after it.
fn place_in(series: &[Step], when: &str) -> Option<(usize, Span)> {
    let find = |label: &str| labels(series).find(|(_, known)| *known == label).map(|(place, _)| place);
    if let Some(place) = find(when) {
        return Some((place, Span::ZERO));
    }
    let (label, wait) = when.rsplit_once('+')?;
    Some((find(label.trim())?, parse_wait(wait.trim())?))
}

/// `90s`, `5m`, `1h30m`, `2d`, `500ms`.
fn parse_wait(text: &str) -> Option<Span> {
    let (mut millis, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let (digits, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let (_, length) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let number: i64 = digits.parse().ok()?;
        millis = millis.checked_add(number.checked_mul(length)?)?;
        rest = behind;
    }
    (!text.is_empty()).then(|| Span::from_millis(millis))
}

fn wait_text(span: Span) -> String {
    let mut rest = span.as_millis();
    let mut text = String::new();
    for (name, length) in UNITS {
        if rest >= length {
            text.push_str(&format!("{}{name}", rest / length));
            rest %= length;
        }
    }
    text
}

impl HazardExample {
    /// As a block of the file that has these examples.
    pub fn text(&self, examples: &[Example]) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let steps = self.series.iter().map(|step| {
            let name = step.example.and_then(|place| examples.get(place)).map_or("", |example| &example.name);
            quoted(format!("{} {name}", wait_text(step.wait)).trim())
        });
        let steps: Vec<String> = steps.collect();
        let lines: Vec<String> =
            self.expected.iter().map(|told| format!("    {},\n", quoted(&self.line(told)))).collect();
        format!(
            "[[hazard_example]]\nname = {}\nseries = [{}]\nexpect = [\n{}]\n",
            quoted(&self.name),
            steps.join(", "),
            lines.concat()
        )
    }

    /// A change as `expect` has it.
    pub fn line(&self, told: &Told) -> String {
        let label = self.series.get(told.step).map_or("", |step| step.label.as_str());
        let after = wait_text(told.after);
        let after = if after.is_empty() { after } else { format!(" +{after}") };
        let latched = if told.latched { LATCHED } else { "" };
        let Told { point, signal, rule, change, .. } = told;
        [
            &format!("{label}{after}:"),
            point,
            signal.name(),
            rule.as_str(),
            &format!("{}{latched}", change.name()),
        ]
        .join(" ")
    }

    /// What is expected beside what came, line by line: `- ` is missing, `+ ` is too much; `None`: they are the same. The
    /// order of the lines in the file says nothing, for each names its frame.
    pub fn compare(&self, came: &[Told]) -> Option<String> {
        let mut missing: Vec<&Told> = self.expected.iter().collect();
        let (mut text, mut differs) = (String::new(), false);
        for told in came {
            let found = missing.iter().position(|expected| *expected == told);
            if let Some(place) = found {
                missing.remove(place);
            }
            differs |= found.is_none();
            text.push_str(if found.is_some() { "  " } else { "+ " });
            text.push_str(&self.line(told));
            text.push('\n');
        }
        for told in &missing {
            text.push_str(&format!("- {}\n", self.line(told)));
        }
        (differs || !missing.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wait_is_written_as_people_write_it() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("1500ms500ms", 2)]
        {
            assert_eq!(parse_wait(text), Some(Span::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "5 m", "5m3", "-5m", "5x", "99999999999999999999d", "quiet"] {
            assert_eq!(parse_wait(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_wait_that_is_written_is_read_again(millis in 1..10_000_000_000i64) {
            let span = Span::from_millis(millis);
            prop_assert_eq!(parse_wait(&wait_text(span)), Some(span));
        }

        #[test]
        fn no_text_makes_the_reader_of_waits_fail(text in "\\PC{0,20}|[0-9dhms]{0,30}") {
            if let Some(span) = parse_wait(&text) {
                prop_assert!(span >= Span::ZERO);
            }
        }
    }
}
