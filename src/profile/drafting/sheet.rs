//! FRAMES → READINGS, drafting: what is known of a model, and how it becomes the text of a profile whose examples pass.

use super::super::schema::Profile;
use super::super::vocabulary::Vocabulary;
use super::super::writing::{quoted, slug};
use super::choose::{Shown, choose};
use super::{CHECK, Drafted, Refused};
use crate::model::{ProfileId, Timestamp};
use std::collections::BTreeSet;
use std::fmt::Write;

/// When an example arrives that does not say it.
pub(super) const RECEIVED_AT: Timestamp = Timestamp::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z

/// Who makes the model, what it is called, and where the draft comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The maker; empty: unknown.
    pub vendor: String,
    /// The model number; empty: unknown.
    pub model: String,
    /// What it is, in Chinese; empty: its model number.
    pub zh: String,
    /// In English; empty: its model number.
    pub en: String,
    /// The manual or the code; empty: only what was captured.
    pub source: String,
}

/// One point of a draft.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    /// A slug; made unique.
    pub name: String,
    /// The id of its class.
    pub class: String,
    /// The unit on the wire; `None` for states, flags and counts.
    pub unit: Option<String>,
    /// By what the wire value is multiplied; `None`: 1.
    pub scale: Option<String>,
    /// What stands in the table behind `from =`.
    pub from: String,
    /// On which topic; `None`: on each, or there are none.
    pub topic: Option<usize>,
    /// Wire value → state, or `true`/`false` of a flag.
    pub codes: Vec<(String, String)>,
    /// What is a guess here.
    pub doubts: Vec<String>,
}

/// Something that arrived, or that is made up after it, and may become an example.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    pub(super) topic: usize,
    /// As an example writes it.
    pub(super) text: String,
    /// When it arrived, where that is known.
    pub(super) at: Option<Timestamp>,
    /// What it shows, if nobody ever received it.
    pub(super) made_up: Option<String>,
}

/// All of a draft.
#[derive(Debug, Clone, Default)]
pub(super) struct Sheet {
    pub(super) identity: Identity,
    /// Comments at the head.
    pub(super) head: Vec<String>,
    /// Patterns of `[mqtt]`; empty of registers.
    pub(super) topics: Vec<String>,
    /// `[modbus]`, or `[time]`.
    pub(super) link: String,
    pub(super) points: Vec<Point>,
    pub(super) inputs: Vec<Input>,
    /// An input of which nothing can be read.
    pub(super) refused: String,
    /// Comments behind the points.
    pub(super) left: Vec<String>,
}

/// A draft of points that a person gave one by one, with inputs for the examples. `link` is `[modbus]`; topics make `[mqtt]`.
///
/// # Errors
///
/// The points do not make a profile; why.
pub fn draft_points(
    identity: Identity,
    (topics, link): (Vec<String>, String),
    points: Vec<Point>,
    inputs: Vec<String>,
    refused: String,
    vocabulary: &Vocabulary,
) -> Result<Drafted, Refused> {
    let made_up = Some("拟造 made up".to_owned());
    let inputs =
        inputs.into_iter().map(|text| Input { topic: 0, text, at: None, made_up: made_up.clone() }).collect();
    let head = vec!["按问答生成 drafted by questions and answers".to_owned()];
    Sheet { identity, head, topics, link, points, inputs, refused, left: Vec::new() }.finish(vocabulary)
}

/// What the refused example is called.
const REFUSED_NAME: &str = "不是这台设备的报文 not this device's";

impl Sheet {
    /// The file: its examples are chosen so that they show every point, and every state of it, and pass.
    pub(super) fn finish(mut self, vocabulary: &Vocabulary) -> Result<Drafted, Refused> {
        self.name_points();
        let id =
            format!("{}/{}", slug(&self.identity.vendor, "unknown"), slug(&self.identity.model, "device"));
        let parsed_id = ProfileId::parse(&id).map_err(|error| Refused::because(error.to_string()))?;
        let parse = |text: &str| {
            Profile::parse(parsed_id.clone(), "draft", text, vocabulary).map_err(|problems| {
                let seen = problems.iter().map(ToString::to_string).collect();
                let why = "拟出的型号文件不合格 / the draft is no profile".to_owned();
                Refused { why, seen }
            })
        };
        // A point that no message shows leaves: once for each at most.
        loop {
            self.drop_topics();
            // First without readings: what they are, only the draft itself can say.
            let bare = format!(
                "{}\n[[example]]\nname = \"a\"\ninput = {refused}\n[[example]]\nname = \"b\"\ninput = {refused}\nrefused = true\n",
                self.body(&[]),
                refused = quoted(&self.refused)
            );
            let profile = parse(&bare)?;
            let shown: Vec<Shown<'_>> =
                self.inputs.iter().filter_map(|input| Shown::of(input, &profile)).collect();
            let chosen = choose(&shown, &profile);
            let mut values: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); profile.points.len()];
            for (point, text, _) in chosen.iter().flat_map(|shown| &shown.readings) {
                if let Some(values) = values.get_mut(*point) {
                    values.insert(text);
                }
            }
            let is_dark = |(point, values): (&Point, &BTreeSet<&str>)| {
                values.is_empty() || point.states().any(|state| !values.contains(state))
            };
            if let Some(place) = self.points.iter().zip(&values).position(is_dark) {
                if !self.drop_time() {
                    self.drop_point(place)?;
                }
                continue;
            }
            let mut once = values.iter().enumerate().filter(|(_, values)| values.len() < 2);
            let once: Vec<usize> = once.by_ref().map(|(place, _)| place).collect();
            let mut text = self.body(&once);
            for (number, shown) in (1..).zip(&chosen) {
                text.push_str(&shown.example(number, &profile));
            }
            let (name, input) = (quoted(REFUSED_NAME), quoted(&self.refused));
            _ = write!(text, "\n[[example]]\nname = {name}\ninput = {input}\nrefused = true\n");
            let failures = parse(&text)?.check_examples();
            if failures.is_empty() {
                return Ok(Drafted { profile: id, text, told: self.left.clone() });
            }
            let seen = failures.into_iter().map(|failure| failure.message).collect();
            return Err(Refused {
                why: "拟出的示例对不上 / the draft's examples do not come out".to_owned(),
                seen,
            });
        }
    }

    /// Takes out topics on which nothing is read.
    fn drop_topics(&mut self) {
        let is_read = |place: usize, points: &[Point]| {
            points.iter().any(|point| point.topic.is_none_or(|topic| topic == place))
        };
        for place in
            (0..self.topics.len()).rev().filter(|place| !is_read(*place, &self.points)).collect::<Vec<_>>()
        {
            let topic = self.topics.remove(place);
            self.left.push(format!("主题上没有可读的 nothing to read on the topic: {topic}"));
            self.inputs.retain(|input| input.topic != place);
            for input in self.inputs.iter_mut().filter(|input| input.topic > place) {
                input.topic -= 1;
            }
            for topic in self
                .points
                .iter_mut()
                .filter_map(|point| point.topic.as_mut())
                .filter(|topic| **topic > place)
            {
                *topic -= 1;
            }
        }
    }

    /// A clock that spoils what it dates is left out before any point is; whether there was one.
    fn drop_time(&mut self) -> bool {
        let is_time = self.link.starts_with("[time]");
        if is_time {
            let why =
                "设备时间与收到的时间对不上，[time] 未收入 the device's clock is off, [time] was left out";
            self.left.push(why.to_owned());
            self.link.clear();
        }
        is_time
    }

    /// Takes out a point of which there is no example; it stays as a comment.
    fn drop_point(&mut self, place: usize) -> Result<(), Refused> {
        let point = self.points.remove(place);
        let why = format!("没有报文能示范 no message shows {} ({}): {}", point.name, point.class, point.from);
        if self.points.is_empty() {
            return Err(Refused { why, seen: self.left.clone() });
        }
        self.left.push(why);
        Ok(())
    }

    /// Slugs, each once.
    fn name_points(&mut self) {
        let mut taken: BTreeSet<String> = BTreeSet::from(["link".to_owned()]);
        for point in &mut self.points {
            let base = slug(&point.name, &slug(&point.class, "point"));
            let mut name = base.clone();
            let mut number = 1;
            while !taken.insert(name.clone()) {
                number += 1;
                name = format!("{base}-{number}");
            }
            point.name = name;
        }
    }

    /// All but the examples. `once`: the points of which only one value is shown.
    fn body(&self, once: &[usize]) -> String {
        let mut text = String::new();
        for line in &self.head {
            _ = writeln!(text, "# {}", one_line(line));
        }
        let Identity { vendor, model, zh, en, source } = &self.identity;
        let or = |text: &str, other: &str| {
            let text = if text.trim().is_empty() { other } else { text };
            quoted(text)
        };
        let model = if model.trim().is_empty() { "device" } else { model.as_str() };
        _ = writeln!(text, "\n[device]\nvendor = {}\nmodel = {}", or(vendor, "unknown"), quoted(model));
        _ = writeln!(text, "name = {{ zh = {}, en = {} }}", or(zh, model), or(en, model));
        let only = "what the device itself said; not compared with a manual";
        let unsure = if source.trim().is_empty() { format!("   {CHECK}") } else { String::new() };
        _ = writeln!(text, "source = {}{unsure}", or(source, only));
        text.push_str(
            "# silent_after_secs = 90000   # 最长的正常间隔：到时没有消息算离线 the longest normal silence\n",
        );
        if !self.topics.is_empty() {
            let topics: Vec<String> = self.topics.iter().map(|topic| quoted(topic)).collect();
            _ = writeln!(text, "\n[mqtt]\ntopics = [{}]", topics.join(", "));
        }
        if !self.link.is_empty() {
            _ = writeln!(text, "\n{}", self.link.trim());
        }
        for (place, point) in self.points.iter().enumerate() {
            text.push_str(&point.text(once.contains(&place)));
        }
        if !self.left.is_empty() {
            text.push('\n');
        }
        for line in &self.left {
            _ = writeln!(text, "# {}", one_line(line));
        }
        text
    }
}

impl Point {
    /// The states that its codes name; an example has to show each.
    fn states(&self) -> impl Iterator<Item = &str> {
        self.codes.iter().map(|(_, means)| means.as_str()).filter(|means| !is_flag(means))
    }

    fn text(&self, once: bool) -> String {
        let mut text = String::from("\n[[point]]\n");
        if !self.doubts.is_empty() {
            _ = writeln!(text, "{CHECK}: {}", one_line(&self.doubts.join("； ")));
        }
        _ = writeln!(text, "name = {}\nclass = {}", quoted(&self.name), quoted(&self.class));
        if let Some(unit) = self.unit.as_ref().filter(|unit| !unit.is_empty()) {
            _ = writeln!(text, "unit = {}", quoted(unit));
        }
        if let Some(scale) = &self.scale {
            _ = writeln!(text, "scale = {scale}");
        }
        let topic = self.topic.map(|topic| format!(", topic = {topic}")).unwrap_or_default();
        _ = writeln!(text, "from = {{ {}{topic} }}", self.from);
        if !self.codes.is_empty() {
            let code = |(raw, means): &(String, String)| {
                let means = if is_flag(means) { means.clone() } else { quoted(means) };
                format!("{} = {means}", quoted(raw))
            };
            let codes: Vec<String> = self.codes.iter().map(code).collect();
            _ = writeln!(text, "codes = {{ {} }}", codes.join(", "));
        }
        if once {
            text.push_str("single_example = \"只收到过这一个值 only this value was seen\"\n");
        }
        text
    }
}

fn is_flag(means: &str) -> bool {
    matches!(means, "true" | "false")
}

/// The longest comment, in characters.
const COMMENT_CHARS_MAX: usize = 300;

/// A stranger's text in a comment or a name.
pub(super) fn one_line(text: &str) -> String {
    text.chars().take(COMMENT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
