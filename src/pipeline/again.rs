//! THE LOOP, beside step 1: frames of the quarantine decoded again, after somebody mended their profile or plan.
//!
//! History only. Their readings go into the journal at their own times, marked late, and so to the series and to every
//! store; no rule sees them, so nothing is raised, cleared or heard of, and they are nobody's newest value, also after a
//! restart ([`Entry::is_history`](crate::journal::Entry::is_history)). The readings and the frames' leaving are one commit, so
//! that each reading is there once, whatever happens in between.

use super::read::{self, Memory, Said, What};
use super::{Pipeline, Quarantined};
use crate::commands::{DecodeAgain, Refused};
use crate::journal::{NoteKind, QuarantineChange};
use crate::model::{DecodedAgain, Reading, Text};

impl Pipeline {
    pub(super) fn decode_again(&mut self, request: DecodeAgain) {
        if let Some(refused) = self.not_now() {
            drop(request.reply.send(Err(refused)));
            return;
        }
        let mut told = DecodedAgain::default();
        let mut changes = Vec::new();
        let mut readings = Vec::new();
        for frame in request.frames {
            let before = readings.len();
            let (more, left) = self.decode_one(frame, &mut readings);
            told += DecodedAgain {
                decoded: usize::from(left),
                kept: usize::from(!left),
                readings: readings.len() - before,
            };
            changes.extend(more);
        }
        if changes.is_empty() {
            drop(request.reply.send(Ok(told)));
            return;
        }
        // An entry of its own: what is written with it leaves the quarantine, and must not be given up for want of memory.
        if !self.batch.is_empty() {
            self.seal(self.clock.now());
        }
        self.open_batch();
        self.metrics.readings.inc_by(readings.len() as u64);
        self.batch.readings = readings;
        self.batch.changes = changes;
        // Wherever there are readings, for it is the note that marks the entry as history.
        if told.decoded > 0 || told.readings > 0 {
            self.note(NoteKind::History, "quarantine", line(&request.by, &request.what, told));
        }
        self.batch.answers.push((request.reply, told));
        self.seal(self.clock.now());
    }

    /// While entries are only in memory nobody can say what has left the quarantine, and while the clock is unset the whole
    /// entry would be dated anew, readings of the past included.
    fn not_now(&self) -> Option<Refused> {
        if self.degraded || self.faulty {
            let (zh, en) =
                ("日志暂时无法写入，恢复后再试", "the journal cannot be written; try again once it can");
            return Some(Refused::NotNow { zh, en });
        }
        let (zh, en) = ("系统时钟还没有校准，校准后再试", "the clock is not set; try again once it is");
        self.unset.is_some().then_some(Refused::NotNow { zh, en })
    }

    /// What is to be done with a frame, if anything, and whether it leaves. Parts of it that cannot be read, or that nobody
    /// planned, stay as frames of their own.
    fn decode_one(
        &mut self,
        frame: Quarantined,
        readings: &mut Vec<Reading>,
    ) -> (Vec<QuarantineChange>, bool) {
        let (mut changes, mut stays) = (Vec::new(), None);
        // Of what was in memory when it came nobody knows any more: it is read by itself.
        let memory = &mut Memory::default();
        let mut said = read::read(&mut self.router, memory, &frame.link, &frame.body, true, frame.at);
        // A device's own frame: what it says of others was read when it came. And while a message cannot be read as a whole,
        // nothing is taken of its parts, or each attempt would take them once more.
        let whole = |said: &Said| matches!(said.what, What::Unreadable(_)) && said.part.is_none();
        if frame.device.is_some() || said.iter().any(whole) {
            said.retain(|said| said.part.is_none());
        }
        for said in said {
            let mut here = match &said.part {
                None => frame.clone(),
                // What was read of the whole was read of no part.
                Some(part) => Quarantined { id: 0, had: "".into(), body: part.clone(), ..frame.clone() },
            };
            let reason = match said.what {
                What::Known(binding, decoded) => {
                    let fresh = decoded.samples.iter().filter(|sample| !read::could_be_mended(sample));
                    let fresh = fresh.filter_map(|sample| read::reading(&binding, sample, frame.at, true));
                    readings.extend(fresh.filter(|reading| !here.had(reading.point.name())));
                    let now_had = read::had(&binding, &decoded);
                    let more = now_had.split(' ').filter(|name| !here.had(name));
                    let had: Vec<&str> =
                        here.had.split(' ').chain(more).filter(|name| !name.is_empty()).collect();
                    here.had = had.join(" ").into();
                    (here.device, here.planned) = (Some(binding.device.clone()), true);
                    read::refusal(&here.body, &decoded)
                }
                // It was a planned device's and its plan is gone: why it could not be read then says more.
                What::Stranger(_) if frame.device.is_some() => Some(here.reason.to_string()),
                What::Stranger(reason) => {
                    (here.device, here.planned) = (None, false);
                    Some(reason)
                }
                What::Unreadable(reason) => {
                    (here.device, here.planned) = (None, true);
                    Some(reason)
                }
                // It announces itself again at the next connection.
                What::PassedOver | What::Announced { .. } => None,
                What::Gone => Some(here.reason.to_string()),
            };
            let Some(reason) = reason else { continue };
            here.reason = reason.into();
            match said.part {
                Some(_) => changes.push(QuarantineChange::Keep(here)),
                None => stays = Some(here),
            }
        }
        match stays {
            Some(same) if same == frame => {}
            Some(otherwise) => {
                changes.push(QuarantineChange::Renew(otherwise));
            }
            None => {
                changes.push(QuarantineChange::Release(frame.id));
                return (changes, true);
            }
        }
        (changes, false)
    }
}

/// What the duty log says.
fn line(by: &str, what: &str, told: DecodedAgain) -> Text {
    let DecodedAgain { decoded, kept, readings } = told;
    let (still, still_en) = match kept {
        0 => (String::new(), String::new()),
        _ => (format!("，{kept} 条仍读不懂"), format!(", {kept} still cannot be read")),
    };
    Text::new(
        &format!(
            "{by} 重新解码了 {what} 的隔离报文：{decoded} 条已解出{still}；{readings} 个读数补进历史，不触发报警"
        ),
        &format!(
            "{by} decoded quarantined frames of {what} again: {decoded} could be read{still_en}; {readings} readings went into the history and raise no alarm"
        ),
    )
}
