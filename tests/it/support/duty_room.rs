//! A duty room filled with fixture values: two sites, every kind of value, every kind of hazard.

mod evening;
mod plan;

use fengsui::adopt::Adopt;
use fengsui::clock::Clock;
use fengsui::commands::{self, Done, Ordered, Refused, Request, Requests};
use fengsui::config::Config;
use fengsui::journal::{Entry, Journal, Limits, Note, NoteKind, QuarantineChange, Stray, Write};
use fengsui::metrics::Metrics;
use fengsui::model::*;
use fengsui::series::Series;
use fengsui::web::board::Board;
use fengsui::web::{self, Health, LinkHealth, Room, SinkHealth};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use evening::{calm, code, fill, hazard};
pub(crate) use plan::plan;

/// What captures without a sign-in.
pub(crate) const TOKEN: &str = "0123456789abcdef";

/// Everything a test of the duty room needs; dropping it ends its tasks.
pub(crate) struct DutyRoom {
    pub(crate) router: axum::Router,
    pub(crate) journal: Journal,
    pub(crate) board: Arc<Board>,
    pub(crate) series: Series,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) password: String,
    pub(crate) stage: Stage,
    /// Where frames would be captured.
    pub(crate) tap: fengsui::capture::Tap,
    /// What `app` would tell the page of the gateway itself.
    pub(crate) health: watch::Sender<Health>,
    pub(crate) cancel: CancellationToken,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl Drop for DutyRoom {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Stands in for the pipeline: writes entries and answers commands.
#[derive(Clone)]
pub(crate) struct Stage {
    journal: Journal,
    clock: Clock,
    open: Arc<Mutex<Vec<Hazard>>>,
    /// Entries are numbered one after the other.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl Stage {
    pub(crate) async fn append(
        &self,
        readings: Vec<Reading>,
        changes: Vec<(Change, Hazard)>,
        notes: Vec<Note>,
    ) -> u64 {
        self.write(readings, changes, notes, Vec::new(), None).await
    }

    pub(crate) async fn stray(&self, stray: Stray) {
        self.write(Vec::new(), Vec::new(), Vec::new(), vec![stray], None).await;
    }

    /// A frame of a planned device that could not be read, and who sent it.
    pub(crate) async fn unreadable(&self, frame: Quarantined, sample: &[u8]) {
        let stray = Stray {
            kind: fengsui::journal::StrayKind::Unreadable,
            key: frame.key().into(),
            device: frame.device.clone(),
            reason: frame.reason.clone(),
            sample: sample.into(),
            first_at: frame.at,
            last_at: frame.at,
            count: 1,
        };
        let _alone = self.writing.lock().await;
        let entry = self.entry(Vec::new(), &[], Vec::new(), None);
        let quarantine = vec![QuarantineChange::Keep(frame)];
        self.journal.append(Write { strays: vec![stray], quarantine, ..Write::of(entry) }).await.unwrap();
    }

    async fn write(
        &self,
        readings: Vec<Reading>,
        changes: Vec<(Change, Hazard)>,
        notes: Vec<Note>,
        strays: Vec<Stray>,
        operator: Option<Signature>,
    ) -> u64 {
        let _alone = self.writing.lock().await;
        let entry = self.entry(readings, &changes, notes, operator);
        let facts = changes.iter().map(|(_, hazard)| fact(hazard)).collect();
        let write = Write { facts, strays, ..Write::of(entry) };
        let no = write.entry.no;
        self.journal.append(write).await.unwrap();
        no
    }

    fn entry(
        &self,
        readings: Vec<Reading>,
        changes: &[(Change, Hazard)],
        notes: Vec<Note>,
        operator: Option<Signature>,
    ) -> Entry {
        let at = self.clock.now();
        let transitions = changes.iter().map(|(change, hazard)| {
            {
                let mut open = self.open.lock().unwrap();
                open.retain(|other| other.id != hazard.id);
                if hazard.closed.is_none() {
                    open.push(hazard.clone());
                }
            }
            let cause = operator.clone().map_or(Cause::Deadline, Cause::Operator);
            Transition { hazard: hazard.clone(), change: *change, phase: phase(hazard), at, cause }
        });
        let transitions = transitions.collect();
        let no = *self.journal.recorded().borrow() + 1;
        Entry { no, at, recorded: true, readings, transitions, notes }
    }

    /// What is shown while the journal is broken; `append` it later with the same number.
    pub(crate) fn publish_unrecorded(&self, change: Change, hazard: Hazard) {
        let entry = self.entry(Vec::new(), &[(change, hazard)], Vec::new(), None);
        self.journal.publish_unrecorded(Arc::new(Entry { recorded: false, ..entry }));
    }

    async fn answer(&self, command: &Command) -> Result<Done, Refused> {
        let refuse = |refusal| Err(Refused::Rule(command.hazard.clone(), refusal));
        let found = self.open.lock().unwrap().iter().find(|hazard| hazard.id == command.hazard).cloned();
        let Some(mut hazard) = found else { return refuse(Refusal::NoSuchHazard) };
        let signed = Signature { by: command.by.clone(), at: self.clock.now(), note: command.note.clone() };
        let change = match command.kind {
            CommandKind::Acknowledge if hazard.acknowledged.is_some() => {
                return refuse(Refusal::AlreadyAcknowledged);
            }
            CommandKind::Silence if hazard.silenced.is_some() => return refuse(Refusal::AlreadySilenced),
            CommandKind::Reset if hazard.returned_at.is_none() => return refuse(Refusal::StillActive),
            CommandKind::Reset if hazard.acknowledged.is_none() => return refuse(Refusal::NotAcknowledged),
            CommandKind::Acknowledge => {
                hazard.acknowledged = Some(signed.clone());
                Change::Acknowledged
            }
            CommandKind::Silence => {
                hazard.silenced = Some(signed.clone());
                Change::Silenced
            }
            CommandKind::Reset => {
                hazard.closed = Some(signed.clone());
                Change::Reset
            }
        };
        let no = self.write(Vec::new(), vec![(change, hazard)], Vec::new(), Vec::new(), Some(signed)).await;
        Ok(Done { no, recorded: true })
    }

    async fn serve(self, mut requests: Requests) {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Command { command, reply } => {
                    let answer = self.answer(&command).await;
                    reply.send(answer).ok();
                }
                Request::Order { wish, reply } => {
                    let text = Text::new(&format!("{} 下达命令", wish.by), "told a device something");
                    let note = Note { kind: NoteKind::Command, subject: wish.device.as_str().into(), text };
                    let no = self.append(vec![], vec![], vec![note]).await;
                    reply.send(Ok(Ordered { fate: Fate::Done, done: Done { no, recorded: true } })).ok();
                }
                Request::Access(access) => {
                    let note = Note { kind: NoteKind::Access, subject: access.account, text: access.text };
                    self.append(vec![], vec![], vec![note]).await;
                }
                // The real loop's work; see the tests of the whole gateway.
                Request::DecodeAgain(asked) => drop(asked.reply.send(Err(Refused::Busy))),
                Request::Own(own) => {
                    let note = Note { kind: NoteKind::Journal, subject: own.subject, text: own.text };
                    self.append(vec![], vec![], vec![note]).await;
                }
            }
        }
    }
}

fn phase(hazard: &Hazard) -> Phase {
    if hazard.returned_at.is_some() { Phase::Returned } else { Phase::Active }
}

fn fact(hazard: &Hazard) -> Fact {
    let (phase, kept) =
        if hazard.closed.is_some() { (Phase::Normal, None) } else { (phase(hazard), Some(hazard)) };
    Fact { point: hazard.point.clone(), rule: hazard.rule.clone(), phase, hazard: kept.cloned() }
}

/// An empty duty room over this plan, at the time of the clock.
pub(crate) async fn room(plan: Plan, clock: Clock, extra: Option<axum::Router>) -> DutyRoom {
    room_in(Arc::new(tempfile::tempdir().unwrap()), plan, clock, extra).await
}

/// A duty room over a directory: a second one over the same directory is a restart.
pub(crate) async fn room_in(
    dir: Arc<tempfile::TempDir>,
    plan: Plan,
    clock: Clock,
    extra: Option<axum::Router>,
) -> DutyRoom {
    let metrics = Metrics::new();
    let (journal, _) = Journal::open(dir.path(), Limits::default(), metrics.clone()).unwrap();
    let series = Series::open(&journal).await.unwrap();
    let password = web::accounts::ensure_first_account(&journal, &clock).await.unwrap().unwrap_or_default();
    let (_, plan) = watch::channel(Arc::new(plan));
    let (door, requests) = commands::door();
    let (tell_health, health) = watch::channel(health(&clock));
    let board = Arc::new(Board::load(plan.clone(), &journal, &series).await.unwrap());
    let cancel = CancellationToken::new();
    let demo = extra.is_some();
    let tap = fengsui::capture::Tap::new(metrics.clone());
    let room = Room {
        journal: journal.clone(),
        series: series.clone(),
        plan,
        door,
        adopt: adopt(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        health,
        tap: tap.clone(),
        token: Some(TOKEN.into()),
        extra,
        demo,
    };
    let router = web::router(room, board.clone(), cancel.clone()).await;
    let stage = Stage {
        journal: journal.clone(),
        clock: clock.clone(),
        open: Arc::default(),
        writing: Arc::default(),
    };
    tokio::spawn(stage.clone().serve(requests));
    let (following, stop, source) = (board.clone(), cancel.clone(), journal.clone());
    tokio::spawn(async move { following.follow(&source, &stop).await });
    DutyRoom {
        router,
        journal,
        board,
        series,
        clock,
        metrics,
        password,
        stage,
        tap,
        health: tell_health,
        cancel,
        dir,
    }
}

/// The shipped models, over a plan that came from no file.
fn adopt() -> Adopt {
    let texts = [
        ("gateway.toml", "plan = \"plan.toml\"\n[broker]\nlisten = \"127.0.0.1:0\"\nanonymous = true\n"),
        ("plan.toml", "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n"),
    ];
    Adopt::new(&Config::from_texts(&texts, &|_| None).unwrap().0)
}

fn health(clock: &Clock) -> Health {
    let link = |name: &str, up, (zh, en)| LinkHealth {
        link: LinkId::parse(name).unwrap(),
        up,
        since: clock.now() - Span::from_secs(3600),
        reason: Text::new(zh, en),
    };
    Health {
        config: fengsui::commands::ConfigState::default(),
        set_aside: Vec::new(),
        backup: None,
        backup_late_after: None,
        links: vec![
            link("broker", true, ("已连接", "connected")),
            link("pump-room-bus", false, ("已连接，但没有从站应答", "connected, but no unit answers")),
        ],
        sinks: vec![
            SinkHealth { name: "series".into(), lag: 0, last_error: None, hours_left: None },
            SinkHealth {
                name: "influx".into(),
                lag: 214,
                last_error: Some(Text::new("应答 503：暂时不能接收", "answered 503: it cannot take it now")),
                hours_left: Some(96),
            },
        ],
    }
}
