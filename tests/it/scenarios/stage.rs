//! Plays a story: hands its lines to the engine and writes down what the engine says, as a duty log.

use super::script::{Draft, shown, span, time, value, words};
use fengsui::hazard::Engine;
use fengsui::model::{
    Cause, Change, Command, CommandKind, DeviceId, Event, Fact, Flaw, HazardId, LinkId, Outcome, PointId,
    Quality, Reading, RuleId, Span, Timestamp, Transition,
};
use std::collections::HashMap;

/// When stories begin, unless they say `begins 1970`: 2026-01-15T00:00:00Z.
const MODERN: Timestamp = Timestamp::from_secs(1_768_435_200);

struct Stage {
    engine: Option<Engine>,
    draft: Option<Draft>,
    /// The wall clock of 00:00; moved when the clock is stepped.
    base: Timestamp,
    now: Span,
    no: u64,
    last: HashMap<PointId, Reading>,
    ids: HashMap<String, HazardId>,
    ticking: bool,
    told: String,
}

/// The story with the engine's lines written anew.
pub(super) fn tell(story: &str) -> Result<String, String> {
    play(story, false)
}

/// The same with a tick each second that the story does not ask for.
pub(super) fn tell_with_ticks(story: &str) -> Result<String, String> {
    play(story, true)
}

fn play(story: &str, ticking: bool) -> Result<String, String> {
    let mut stage = Stage {
        engine: None,
        draft: Some(Draft::default()),
        base: MODERN,
        now: Span::ZERO,
        no: 0,
        last: HashMap::new(),
        ids: HashMap::new(),
        ticking,
        told: String::new(),
    };
    let mut plan_at = None;
    for (number, line) in story.lines().enumerate() {
        let fail = |problem: String| format!("line {}: {problem}: {line}", number + 1);
        if line.starts_with('>') {
            continue;
        }
        let is_timed = line.split_whitespace().next().and_then(time).is_some();
        if is_timed || (line.trim().is_empty() && plan_at.is_some()) {
            stage.put_in_force(plan_at.take());
        }
        if let Some(then) = line.split_whitespace().next().and_then(time) {
            if then < stage.now {
                return Err(fail("time runs backwards".into()));
            }
            stage.wait_until(then);
        }
        stage.told.push_str(line);
        stage.told.push('\n');
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
        } else if Draft::is_line(line) {
            stage.draft.get_or_insert_default().read(line).map_err(fail)?;
        } else if line == "begins 1970" {
            stage.base = Timestamp::EPOCH;
        } else if is_timed {
            plan_at = stage.line(&words(line)).map_err(fail)?;
        } else {
            return Err(fail("not understood".into()));
        }
    }
    stage.put_in_force(plan_at.take());
    Ok(stage.told)
}

impl Stage {
    fn at(&self) -> Timestamp {
        self.base + self.now
    }

    /// A plan that was read becomes the first plan, or replaces the one in force.
    fn put_in_force(&mut self, replaced_at: Option<Span>) {
        if self.engine.is_some() && replaced_at.is_none() {
            return;
        }
        let Some(draft) = self.draft.take() else { return };
        match &self.engine {
            None => self.engine = Some(Engine::restore(draft.plan(), Vec::new(), &[], self.at())),
            Some(_) => self.handle(&Event::Plan(draft.plan())),
        }
    }

    /// Returns the time when a new plan begins: its lines follow.
    fn line(&mut self, words: &[String]) -> Result<Option<Span>, String> {
        let then = time(&words[0]).ok_or("no time")?;
        let rest: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        match rest[..] {
            ["tick"] => self.handle(&Event::Tick),
            ["facts"] => self.write_facts(),
            ["plan"] => {
                self.draft = Some(Draft::default());
                return Ok(Some(then));
            }
            ["restart"] => self.restart(),
            ["link", link, state] => {
                let link = LinkId::parse(link).map_err(|e| e.to_string())?;
                self.handle(&Event::Link { link, up: state == "up" });
            }
            ["platform", device, state] => {
                let device = DeviceId::parse(device).map_err(|e| e.to_string())?;
                self.handle(&Event::Presence { device, online: state == "online" });
            }
            ["clock", by] => {
                let (back, length) = by.split_at(1);
                let by = span(length).ok_or("no span")?;
                let by = if back == "-" { Span::from_millis(-by.as_millis()) } else { by };
                self.base = self.base + by;
                self.last.values_mut().for_each(|reading| reading.received_at = reading.received_at + by);
                self.handle(&Event::ClockStepped { by });
            }
            [verb @ ("ack" | "silence" | "reset"), what, "by", who, ref tail @ ..] => {
                let note = match tail {
                    ["note", note] => *note,
                    _ => "",
                };
                self.command(verb, what, who, note);
            }
            [point, "=", what, ref tail @ ..] => self.reading(point, what, tail)?,
            _ => return Err("not understood".into()),
        }
        Ok(None)
    }

    /// What the pipeline does: sleep until the engine's next deadline, then tick.
    fn wait_until(&mut self, then: Span) {
        loop {
            let due = self.engine.as_ref().and_then(Engine::next_deadline).map(|due| due.since(self.base));
            let second = Span::from_millis((self.now.as_millis() / 1000 + 1) * 1000);
            let next =
                if self.ticking { due.map_or(second, |due| due.min(second)) } else { due.unwrap_or(then) };
            // At the same moment a story's line goes first to the engine, which lets its deadlines run out itself.
            if next >= then || then.as_millis() > 86_400_000 * 4000 {
                break;
            }
            self.now = self.now.max(next);
            self.handle(&Event::Tick);
            assert!(
                self.engine.as_ref().unwrap().next_deadline().is_none_or(|due| due > self.at()),
                "a deadline that has passed is still asked for"
            );
        }
        self.now = then;
    }

    fn handle(&mut self, event: &Event) {
        self.no += 1;
        let mut out = Outcome::default();
        let (at, no) = (self.at(), self.no);
        let Some(engine) = &mut self.engine else { return };
        engine.handle(at, no, event, &mut out);
        for transition in &out.transitions {
            let key = format!("{}@{}", transition.hazard.rule, transition.hazard.point);
            self.ids.insert(key, transition.hazard.id.clone());
            let line = self.log_line(transition);
            self.write(&line);
        }
        if let Some(refusal) = out.refusal {
            let line = format!("{} 拒绝 {}", shown(self.now), refusal.zh());
            self.write(&line);
        }
    }

    fn write(&mut self, line: &str) {
        self.told.push_str("> ");
        self.told.push_str(line);
        self.told.push('\n');
    }

    fn log_line(&self, transition: &Transition) -> String {
        let hazard = &transition.hazard;
        let mut line = format!(
            "{} {} {} {} {}",
            shown(transition.at.since(self.base)),
            transition.change.zh(),
            hazard.signal.zh(),
            hazard.point,
            hazard.title.zh,
        );
        match transition.change {
            Change::Raised => line.push_str(&format!(" | {}", hazard.evidence.zh())),
            Change::RaisedAgain => line.push_str(&format!(" | 第 {} 次", hazard.occurrences)),
            Change::Acknowledged | Change::Silenced | Change::Reset | Change::Returned | Change::Ended => {}
        }
        if hazard.late && transition.change == Change::Raised {
            let when = hazard.sampled_at.map_or("不详".to_owned(), |at| shown(at.since(self.base)));
            line.push_str(&format!(" | 迟报，设备时间 {when}"));
        }
        match &transition.cause {
            Cause::Operator(signature) if signature.note.is_empty() => {
                line.push_str(&format!(" | {}", signature.by));
            }
            Cause::Operator(signature) => line.push_str(&format!(" | {}：{}", signature.by, signature.note)),
            Cause::Reading { value, flaw } if transition.change != Change::Raised => {
                let flaw = flaw.map_or(String::new(), |flaw| format!("（{}）", flaw.zh()));
                line.push_str(&format!(" | 读数 {value}{flaw}"));
            }
            Cause::Deadline if transition.change == Change::Returned => line.push_str(" | 延时到"),
            Cause::Reading { .. } | Cause::Deadline | Cause::Silence { .. } | Cause::Plan => {}
        }
        line
    }

    fn write_facts(&mut self) {
        let facts = self.engine.as_ref().map(Engine::facts).unwrap_or_default();
        for Fact { point, rule, phase, hazard } in &facts {
            let seen = match hazard {
                None => "",
                Some(hazard) if hazard.acknowledged.is_some() => " 已确认",
                Some(_) => " 未确认",
            };
            let line = format!("{} 状态 {rule}@{point} {}{seen}", shown(self.now), phase.name());
            self.write(&line);
        }
        if facts.is_empty() {
            let line = format!("{} 状态 一切正常", shown(self.now));
            self.write(&line);
        }
    }

    fn restart(&mut self) {
        let Some(engine) = &self.engine else { return };
        let last: Vec<Reading> = self.last.values().cloned().collect();
        let plan = engine.plan().clone();
        self.engine = Some(Engine::restore(plan, engine.facts(), &last, self.at()));
    }

    fn command(&mut self, verb: &str, what: &str, who: &str, note: &str) {
        let open = self.engine.as_ref().map(Engine::facts).unwrap_or_default();
        let (rule, point) = what.split_once('@').unwrap_or((what, ""));
        let named = |fact: &Fact| fact.rule == RuleId::parse(rule).unwrap() && fact.point.as_str() == point;
        let open = open.into_iter().find(named).and_then(|fact| fact.hazard).map(|hazard| hazard.id);
        let id = open.or_else(|| self.ids.get(what).cloned());
        let kind = match verb {
            "ack" => CommandKind::Acknowledge,
            "silence" => CommandKind::Silence,
            _ => CommandKind::Reset,
        };
        self.handle(&Event::Command(Command {
            hazard: id.unwrap_or_else(|| HazardId::from_text("0.none")),
            kind,
            by: who.into(),
            note: note.into(),
        }));
    }

    /// `POINT = VALUE [uncertain | bad FLAW] [late] [sampled TIME]`
    fn reading(&mut self, point: &str, what: &str, tail: &[&str]) -> Result<(), String> {
        let mut reading = Reading {
            point: PointId::parse(point).map_err(|e| e.to_string())?,
            value: value(what),
            quality: Quality::Good,
            flaw: None,
            sampled_at: None,
            received_at: self.at(),
            late: false,
        };
        let mut tail = tail.iter();
        while let Some(&word) = tail.next() {
            match word {
                "bad" => reading.quality = Quality::Bad,
                "uncertain" => reading.quality = Quality::Uncertain,
                "late" => reading.late = true,
                "sampled" => {
                    let text = tail.next().ok_or("sampled TIME")?;
                    reading.sampled_at = Some(self.base + time(text).ok_or("sampled TIME")?);
                }
                name => {
                    let flaw = Flaw::ALL.into_iter().find(|flaw| flaw.name() == name);
                    reading.flaw = Some(flaw.ok_or_else(|| format!("{name:?} is no flaw"))?);
                }
            }
        }
        self.handle(&Event::Reading(reading.clone()));
        // What the series keeps: the newest by the time it is filed under.
        if self.last.get(&reading.point).is_none_or(|last| reading.time() >= last.time()) {
            self.last.insert(reading.point.clone(), reading);
        }
        Ok(())
    }
}

#[test]
fn a_story_that_is_not_understood_says_where() {
    assert!(tell("00:10 nonsense").unwrap_err().starts_with("line 1: not understood"));
    assert!(tell("00:10 tick\n00:05 tick").unwrap_err().starts_with("line 2: time runs backwards"));
}
