//! THE LOOP, told anew: another plan, other ways to decode it, other sources. One turn of the loop: every frame is read
//! by the old plan or by the new one, and nothing that stands is touched.

use super::{Binding, Desk, Pipeline, Router, WayBack};
use crate::journal::NoteKind;
use crate::model::{Event, LinkId, Plan, SourceIndex, Span, Text};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Notices that may wait for the loop: one at a time is given, and a note beside it.
pub const NOTICES_MAX: usize = 4;

/// What the loop is told by whoever reads the configuration.
#[derive(Debug)]
pub enum Notice {
    /// Another configuration is in force.
    Replan(Box<Replan>),
    /// A line of the duty log about the configuration.
    Note(Text),
}

/// Another configuration. The sources that go have ended, and all that they handed over was taken; those that come
/// start once it is answered.
#[derive(Debug)]
pub struct Replan {
    /// What is watched from now on.
    pub plan: Arc<Plan>,
    /// How its devices are found and read.
    pub bindings: Vec<Binding>,
    /// The links that there are from now on.
    pub links: BTreeSet<LinkId>,
    /// As [`super::Rhythm::commit_window`].
    pub commit_window: Span,
    /// Sources that have ended.
    pub gone: Vec<SourceIndex>,
    /// Sources that will start.
    pub come: Vec<WayBack>,
    /// What may be ordered from now on, and where orders go.
    pub desk: Desk,
    /// What changed and who asked, for the duty log.
    pub note: Text,
    /// Answered when it is in force.
    pub done: oneshot::Sender<()>,
}

/// The loop's end.
pub type Notices = mpsc::Receiver<Notice>;

impl Pipeline {
    /// A loop that can be told anew while it runs.
    #[must_use]
    pub fn with_notices(mut self, notices: Notices) -> Self {
        self.notices = notices;
        self
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Replan(replan) => self.replan(*replan),
            Notice::Note(text) => self.note(NoteKind::Plan, "plan", text),
        }
    }

    fn replan(&mut self, replan: Replan) {
        let Replan { plan, bindings, links, commit_window, gone, come, desk, note, done } = replan;
        self.open_batch();
        self.router = Router::new(bindings);
        let router = &self.router;
        self.memory.nodes.keep_only(|link, node| !router.sparkplug_below(link, node).is_empty());
        self.rhythm.commit_window = commit_window;
        self.orders.replan(desk);
        // What the old ones held is written all the same. Nobody is left to acknowledge it to: their far sides send it
        // again, and it is known then.
        for source in &gone {
            self.ways.remove(*source);
        }
        self.batch.let_go(&gone);
        self.queue
            .iter_mut()
            .for_each(|sealed| sealed.deliveries.retain(|held| !gone.contains(&held.source)));
        for way in come {
            self.ways.add(way);
        }
        self.step(&Event::Plan(plan), None);
        self.links.send_modify(|states| states.retain(|link, _| links.contains(link)));
        self.note(NoteKind::Plan, "plan", note);
        // Whoever asked may be gone; it is in force.
        done.send(()).ok();
    }
}
