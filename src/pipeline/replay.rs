//! THE LOOP, played: frames of a file through the plan's profiles and rules at the frames' own times. No journal, no clock,
//! no acknowledgement: what the engine says is all that comes out.
//!
//! The same steps as the loop's, by the same functions, so that what a replay tells is what the duty room would have seen.

use super::read::{self, Memory, Said, What};
use super::{Binding, Heard, Router};
use crate::capture::Captured;
use crate::hazard::Engine;
use crate::journal::{LogLine, Logged};
use crate::model::{DeviceId, Event, Outcome, Plan, Reading, Timestamp};
use crate::profile::Decoded;
use std::sync::Arc;

/// What came of one frame.
#[derive(Debug, Default, PartialEq)]
pub struct Played {
    /// Whose it was; of several, the first.
    pub device: Option<DeviceId>,
    /// What it said.
    pub readings: Vec<Reading>,
    /// Why it, or parts of it, would be in quarantine, or among those who wait to be connected.
    pub problems: Vec<String>,
    /// The duty log's new lines.
    pub lines: Vec<LogLine>,
}

/// A gateway without a world.
#[derive(Debug)]
pub struct Player {
    engine: Engine,
    router: Router,
    memory: Memory,
    heard: Heard,
    no: u64,
}

impl Player {
    /// Nothing has happened before `at`.
    pub fn new(plan: Arc<Plan>, bindings: Vec<Binding>, at: Timestamp) -> Self {
        let engine = Engine::restore(plan, Vec::new(), &[], at);
        let memory = Memory::default();
        Self { engine, router: Router::new(bindings), memory, heard: Heard::default(), no: 0 }
    }

    /// Whose frame it is.
    pub fn devices(&mut self, frame: &Captured) -> Vec<DeviceId> {
        let devices = self.read(frame).into_iter().filter_map(|said| match said.what {
            What::Known(binding, _) => Some(binding.device.clone()),
            _ => None,
        });
        devices.collect()
    }

    /// Plays a frame at its own time; what fell due before it comes first. Frames must be in the order of their times.
    pub fn frame(&mut self, frame: &Captured) -> Played {
        let mut played = Played::default();
        for said in self.read(frame) {
            let body = said.part.as_ref().unwrap_or(&frame.body);
            let problem = match said.what {
                What::Known(binding, decoded) => {
                    self.told(&binding, &decoded, frame.at, frame.retained, &mut played);
                    read::refusal(body, &decoded)
                }
                What::Stranger(reason) | What::Unreadable(reason) => Some(reason),
                What::Announced { reason, .. } => reason.lines().next().map(str::to_owned),
                What::PassedOver => None,
                What::Gone => Some("计划里没有这个设备 / no device of the plan has this name".to_owned()),
            };
            played.problems.extend(problem);
        }
        played
    }

    /// Plays what was read of a device's frame.
    pub(super) fn told(
        &mut self,
        binding: &Binding,
        decoded: &Decoded,
        at: Timestamp,
        retained: bool,
        played: &mut Played,
    ) {
        let at = self.heard.receive(&binding.device, at).unwrap_or_else(|shared| shared);
        let samples = decoded.samples.iter();
        let readings = samples.filter_map(|sample| read::reading(binding, sample, at, retained));
        let readings = readings.filter(|reading| !(retained && self.engine.knows(reading)));
        let mut readings: Vec<Reading> = readings.collect();
        let link = decoded.link.and_then(|online| read::link_reading(&binding.device, online, at));
        readings.extend(link);
        for reading in readings {
            self.handle(at, &Event::Reading(reading.clone()), &mut played.lines);
            played.readings.push(reading);
        }
        played.device.get_or_insert_with(|| binding.device.clone());
    }

    /// What memory is needed for (the births of Sparkplug) is known as far as the file tells it.
    fn read(&mut self, frame: &Captured) -> Vec<Said> {
        let Captured { link, body, retained, at, .. } = frame;
        read::read(&mut self.router, &mut self.memory, link, body, *retained, *at)
    }

    /// Lets time pass: everything that falls due until then.
    pub fn wait_until(&mut self, at: Timestamp) -> Vec<LogLine> {
        let mut lines = Vec::new();
        self.handle(at, &Event::Tick, &mut lines);
        lines
    }

    fn handle(&mut self, at: Timestamp, event: &Event, lines: &mut Vec<LogLine>) {
        self.no += 1;
        let mut outcome = Outcome::default();
        self.engine.handle(at, self.no, event, &mut outcome);
        let line = |moved| LogLine { no: self.no, at, what: Logged::Transition(Box::new(moved)) };
        lines.extend(outcome.transitions.into_iter().map(|moved| LogLine { at: moved.at, ..line(moved) }));
    }
}
