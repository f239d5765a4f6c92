//! WIRE → FRAMES: Modbus, one task a bus: TCP, RTU over TCP, RTU on a serial line, and DTUs that dial in.
//!
//! First in the flow. It asks the units of a bus for their registers and puts one frame for each unit and round into
//! the channel. What to ask next is decided by a pure schedule; this file only connects, asks and waits.
//!
//! - A mute, slow or flapping unit never delays its neighbours by more than one short time-out: it is asked on a second
//!   connection (`schedule.rs`, `unit.rs`). That connection is trusted only while a healthy unit answers on it,
//!   for many gateways serve only one.
//! - A late answer never becomes the next one's: after a time-out or a mismatch a TCP connection is dropped, and a unit
//!   on a line is left alone until its answer cannot come any more (`connection.rs`).
//! - A serial line carries one question at a time, so it has the first connection only.
//! - An address that a unit does not have spoils nothing else (`gaps.rs`).
//! - When the channel is full, rounds are skipped and counted, never queued.

mod connection;
mod dial_in;
mod failures;
mod gaps;
mod mbap;
mod orders;
mod probe;
mod request;
mod rtu;
mod schedule;
mod serial;
#[cfg(test)]
mod simulation;
mod unit;
mod wire;

pub use dial_in::{Buses, DialInPort, Network, REGISTRATION_BYTES_MAX, REGISTRATION_WAIT, Slot, listen};
pub use probe::Probe;
pub use request::Request;
pub use serial::{Device, Parity, SerialSettings};
pub use wire::{DialIn, Framing, Wire};

use super::{Arrival, Intake, Orders};
use crate::clock::Clock;
use crate::metrics::{BusUnit, Link, Metrics};
use crate::model::{Body, DeviceId, Frame, LinkChange, LinkId, Order, RegisterTable, SourceIndex, Text};
use connection::Connection;
use orders::Waiting;
use schedule::{Ask, Finished, Lane, Load, Next, Schedule, Write};
use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use unit::Answer;

/// The usual time-out of an answer: the longest one, 125 registers, takes 255 bytes × 11 bit / 9600 baud = 0.3 s on the
/// serial line behind a gateway; three times that.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// The first wait between attempts to connect, doubled up to what the wire allows, each between half and the whole of it.
const CONNECT_AFTER_MIN: Duration = Duration::from_millis(250);

/// An idle second connection is given back after this: gateways have few (four to eight are usual).
const SIDE_IDLE_MAX: Duration = Duration::from_secs(5);

/// The longest wait without looking at the schedule again.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// One bus: a line with several units, however it is reached, or a device that speaks TCP itself.
#[derive(Debug, Clone)]
pub struct BusSettings {
    /// The link's id in the plan.
    pub link: LinkId,
    /// How it is reached.
    pub wire: Wire,
    /// How a serial line behaves, here or behind a serial server.
    pub line: LineSettings,
    /// The units behind it.
    pub units: Vec<UnitSettings>,
    /// The longest a unit may take to answer; [`TIMEOUT_DEFAULT`]. Healthy units are cut short at four times their
    /// usual answer time and then asked once more with the whole time-out, apart from their neighbours.
    pub timeout: Duration,
    /// How long to leave the server in peace after connecting; usually zero.
    pub pause_after_connect: Duration,
    /// Whether a second connection may be used. It is found out by itself when the server does not serve one; say no
    /// when a second connection breaks the first.
    pub second_connection: bool,
}

/// How a serial line behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineSettings {
    /// How long after its time-out an answer may still come. So long a unit that did not answer is not asked again, and
    /// so long a line must be silent after it was opened. An answer that is later than this, to a question of the same
    /// function and length, is taken for the next one's: nothing in RTU tells them apart.
    pub late_answer_max: Duration,
    /// The silence before each question, where the 3.5 characters of the standard are not enough or not known.
    pub turnaround: Duration,
    /// Whether the line gives back what is sent; `None`: it is found out.
    pub echo: Option<bool>,
}

/// As late again as the usual time-out.
pub const LATE_ANSWER_MAX_DEFAULT: Duration = Duration::from_secs(1);

impl Default for LineSettings {
    fn default() -> Self {
        Self { late_answer_max: LATE_ANSWER_MAX_DEFAULT, turnaround: Duration::ZERO, echo: None }
    }
}

/// One unit: one device.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitSettings {
    /// Whose registers they are.
    pub device: DeviceId,
    /// The unit id, 1 to 247, or 255 for a device that speaks TCP itself.
    pub unit: u8,
    /// What to read.
    pub reads: Vec<Read>,
}

/// One block of registers, read again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which table.
    pub table: RegisterTable,
    /// The first address, counted from 0.
    pub start: u16,
    /// How many words. More than one request carries (125, or 2000 bits) are read with several.
    pub count: u16,
    /// The period. Less than 100 ms counts as 100 ms.
    pub every: Duration,
    /// Fire depends on it: it goes first, and its period is stretched last.
    pub urgent: bool,
}

/// Polls the bus until it is cancelled or nobody listens any more. Never fails: an unreachable bus is a link that is
/// down, an unreadable register is a block that says why, and every order gets its one fate.
pub async fn run(
    bus: BusSettings,
    source: SourceIndex,
    intake: Intake,
    mut orders: Orders,
    clock: Clock,
    metrics: Metrics,
    cancel: CancellationToken,
) {
    let schedule =
        Schedule::new(&bus.units, bus.timeout, bus.second_connection && bus.wire.can_have_second());
    let schedule = if bus.wire.framing() == Framing::Rtu { schedule.of_a_line() } else { schedule };
    let state = State {
        schedule,
        waiting: Waiting::default(),
        sent: None,
        connected: false,
        reported: None,
        overloaded: false,
    };
    let bus = Bus {
        settings: bus,
        source,
        intake,
        clock,
        metrics,
        started_at: Instant::now(),
        state: Mutex::new(state),
        wake_main: Notify::new(),
        wake_side: Notify::new(),
    };
    // The lanes only ever end because the pipeline is gone.
    tokio::select! {
        () = cancel.cancelled() => {}
        Err(Gone) = bus.main_lane() => {}
        Err(Gone) = bus.side_lane() => {}
        Err(Gone) = bus.take_orders(&mut orders) => {}
    }
    bus.give_orders_up(orders).await;
}

/// The receiver of the channel is gone: the gateway is stopping.
struct Gone;

struct Bus {
    settings: BusSettings,
    source: SourceIndex,
    intake: Intake,
    clock: Clock,
    metrics: Metrics,
    started_at: Instant,
    state: Mutex<State>,
    wake_main: Notify,
    wake_side: Notify,
}

struct State {
    schedule: Schedule,
    /// Orders that wait for their turn, and one that was sent and has no answer yet.
    waiting: Waiting,
    sent: Option<Order>,
    /// The main lane has a connection.
    connected: bool,
    /// What the pipeline was told of the link last.
    reported: Option<bool>,
    /// The bus has no time for all that is asked of it; it was told.
    overloaded: bool,
}

impl Bus {
    async fn main_lane(&self) -> Result<Infallible, Gone> {
        let mut wait = CONNECT_AFTER_MIN;
        loop {
            match self.connect().await {
                Ok(mut connection) => {
                    wait = CONNECT_AFTER_MIN;
                    self.connected().await?;
                    self.serve(Lane::Main, &mut connection).await?;
                }
                Err(error) => {
                    self.disconnected(&error).await?;
                    tokio::select! {
                        () = tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
                        () = self.settings.wire.called() => {}
                    }
                    wait = (wait * 2).min(self.settings.wire.retry_after_max());
                }
            }
        }
    }

    async fn side_lane(&self) -> Result<Infallible, Gone> {
        loop {
            // The question is put back until there is a connection for it.
            let next = {
                let mut state = self.lock();
                let room = self.intake.capacity() > 0;
                let next = state.schedule.next(Lane::Side, self.now(), room);
                match next {
                    Next::Ask(Ask { unit, .. }) | Next::Write(Write { unit, .. }) => {
                        state.schedule.put_back(unit);
                        if state.connected { None } else { Some(WAIT_MAX) }
                    }
                    Next::Wait(until) => Some(until),
                }
            };
            if let Some(until) = next {
                self.wait(Lane::Side, until).await;
                continue;
            }
            match self.connect_side().await {
                Some(mut connection) => self.serve(Lane::Side, &mut connection).await?,
                None => {
                    let mut state = self.lock();
                    state.schedule.side_failed(self.now());
                    tracing::warn!(link = %self.settings.link, "The server serves no second connection; units that do not answer are asked on the first one.");
                }
            }
            self.wake_main.notify_one();
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        let BusSettings { wire, line, timeout, pause_after_connect, .. } = &self.settings;
        Connection::open(wire, line, *timeout, *pause_after_connect).await
    }

    /// A second connection on which a healthy unit has answered.
    async fn connect_side(&self) -> Option<Connection> {
        let mut connection = self.connect().await.ok()?;
        let Some(canary) = self.lock().schedule.canary(self.now()) else { return Some(connection) };
        let unit = self.settings.units.get(canary.unit)?;
        let (answer, _) = connection.ask(unit.unit, request(&canary), canary.timeout).await;
        answer.keeps_connection().then_some(connection)
    }

    /// Asks what the schedule wants until the connection is not to be used any longer.
    async fn serve(&self, lane: Lane, connection: &mut Connection) -> Result<(), Gone> {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.schedule.next(lane, self.now(), self.intake.capacity() > 0);
                self.count_missed(&mut state);
                next
            };
            let ask = match next {
                Next::Wait(until) if lane == Lane::Side && until > self.now() + SIDE_IDLE_MAX => {
                    return Ok(());
                }
                Next::Wait(until) => {
                    self.wait(lane, until).await;
                    continue;
                }
                Next::Write(write) => {
                    if !self.write(connection, &write).await? {
                        return Ok(());
                    }
                    continue;
                }
                Next::Ask(ask) => ask,
            };
            let (answer, took) = self.ask(lane, connection, &ask).await;
            let keep = connection.keeps(&answer);
            let (finished, change, load) = {
                let mut state = self.lock();
                let (_, finished) = state.schedule.answered(&ask, answer, took, self.now());
                self.hold(&mut state, connection, ask.unit);
                let load = self.judge_load(&mut state);
                let change = state.judge_link();
                if change == Some(true) {
                    state.schedule.link_restored(self.now());
                }
                (finished, change, load)
            };
            // Whatever the answer changed may be work for the other lane.
            self.wake(if lane == Lane::Main { Lane::Side } else { Lane::Main });
            if let Some(finished) = finished {
                self.deliver(finished).await?;
            }
            if let Some(up) = change {
                let reason = if up {
                    Text::new("从站恢复应答", "a unit answers again")
                } else {
                    Text::new("已连接，但没有从站应答", "connected, but no unit answers")
                };
                self.report(up, reason).await?;
            } else if let Some(reason) = load {
                self.report(true, reason).await?;
            }
            if !keep {
                return Ok(());
            }
        }
    }

    async fn ask(&self, lane: Lane, connection: &mut Connection, ask: &Ask) -> (Answer, Duration) {
        let Some(unit) = self.settings.units.get(ask.unit).filter(|_| ask.at.count > 0) else {
            return (Answer::Short, Duration::ZERO);
        };
        self.metrics.modbus_polls.inc();
        let mut answer = connection.ask(unit.unit, request(ask), ask.timeout).await;
        // A server may close a connection that was idle for long; that says nothing about the unit.
        if answer.0 == Answer::Broken
            && connection.has_answered()
            && let Ok(fresh) = self.connect().await
        {
            *connection = fresh;
            answer = connection.ask(unit.unit, request(ask), ask.timeout).await;
        }
        for (late, times) in connection.take_late() {
            // Only units of the plan were ever asked.
            let Some(late) = self.settings.units.iter().find(|unit| unit.unit == late) else { continue };
            failures::count_late(&self.metrics, &self.settings.link, &late.device, times);
        }
        if !matches!(answer.0, Answer::Words(_)) {
            failures::count(&self.metrics, &self.settings.link, &unit.device, &answer.0);
            let (link, device, unit, at) = (&self.settings.link, &unit.device, unit.unit, ask.at);
            tracing::debug!(%link, %device, unit, table = ?ask.table, start = at.start, count = at.count,
                timeout_ms = ask.timeout.as_millis(), ?lane, answer = ?answer.0, "A poll failed.");
        }
        answer
    }

    /// A unit that still owes an answer on this connection has no turn before that cannot come any more.
    fn hold(&self, state: &mut State, connection: &Connection, unit: usize) {
        let owes = self.settings.units.get(unit).and_then(|unit| connection.held_until(unit.unit));
        if let Some(until) = owes {
            let left = until.saturating_duration_since(Instant::now());
            state.schedule.hold(unit, self.now() + left);
        }
    }

    async fn connected(&self) -> Result<(), Gone> {
        let change = {
            let mut state = self.lock();
            let was_lost = !std::mem::replace(&mut state.connected, true);
            if was_lost {
                state.schedule.link_restored(self.now());
            }
            state.judge_link()
        };
        self.wake_side.notify_one();
        match change {
            Some(true) => self.report(true, Text::new("已连接", "connected")).await,
            _ => Ok(()),
        }
    }

    async fn disconnected(&self, error: &io::Error) -> Result<(), Gone> {
        let (change, lost) = {
            let mut state = self.lock();
            let was_connected = std::mem::replace(&mut state.connected, false);
            let is_first = state.reported.is_none();
            let change = state.judge_link();
            let lost = if was_connected || is_first { state.schedule.link_lost() } else { Vec::new() };
            (change, lost)
        };
        if change.is_some() {
            self.report(false, self.settings.wire.why_down(error)).await?;
        }
        for round in lost {
            self.deliver(round).await?;
        }
        Ok(())
    }

    /// Slots that passed unused: in all, and for each unit.
    fn count_missed(&self, state: &mut State) {
        for (unit, missed) in state.schedule.take_missed() {
            self.metrics.modbus_skipped.inc_by(missed);
            let Some(unit) = self.settings.units.get(unit) else { continue };
            let label = BusUnit::of(self.settings.link.as_str(), unit.device.as_str());
            self.metrics.modbus_missed.get_or_create(&label).inc_by(missed);
        }
    }

    /// Tells how busy the bus is; what to say of the link when that became too much, or enough again.
    fn judge_load(&self, state: &mut State) -> Option<Text> {
        let Load { percent, overloaded } = state.schedule.take_load(self.now())?;
        let link = &self.settings.link;
        self.metrics.modbus_busy_percent.get_or_create(&Link::named(link.as_str())).set(i64::from(percent));
        if !state.connected || std::mem::replace(&mut state.overloaded, overloaded) == overloaded {
            return None;
        }
        if !overloaded {
            tracing::info!(%link, percent, "The bus has time for all its polls again.");
            return Some(Text::new("总线不再过载", "the bus is no longer overloaded"));
        }
        tracing::warn!(%link, percent, "The bus is overloaded: ordinary polls are made less often. Poll less often, or use a second bus; fengsui_modbus_missed says which units.");
        let zh = "总线过载：普通数据读取变慢，请延长轮询周期或分成两条总线";
        Some(Text::new(
            zh,
            "the bus is overloaded: ordinary polls are made less often; poll less often, or use a second bus",
        ))
    }

    async fn report(&self, up: bool, reason: Text) -> Result<(), Gone> {
        let change = LinkChange { link: self.settings.link.clone(), up, reason };
        self.intake.send(Arrival::Link(change)).await.map_err(|_| Gone)
    }

    /// Waits when the channel became full meanwhile: one frame a lane, everything else is skipped and counted.
    async fn deliver(&self, finished: Finished) -> Result<(), Gone> {
        let Some(unit) = self.settings.units.get(finished.unit) else { return Ok(()) };
        let frame = Frame {
            source: self.source,
            link: self.settings.link.clone(),
            body: Body::Registers { device: unit.device.clone(), blocks: finished.blocks },
            received_at: self.clock.now(),
            retained: false,
            delivery: None,
        };
        self.intake.send(Arrival::Frame(frame)).await.map_err(|_| Gone)
    }

    async fn wait(&self, lane: Lane, until: Duration) {
        let time = until.saturating_sub(self.now()).min(WAIT_MAX);
        let wake = if lane == Lane::Main { &self.wake_main } else { &self.wake_side };
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = wake.notified() => {}
        }
    }

    fn wake(&self, lane: Lane) {
        if lane == Lane::Main { self.wake_main.notify_one() } else { self.wake_side.notify_one() }
    }

    fn now(&self) -> Duration {
        self.started_at.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

fn request(ask: &Ask) -> Request {
    Request::Read { table: ask.table, start: ask.at.start, count: ask.at.count }
}

impl State {
    /// Whether the link's state differs from what was told; takes the new one over.
    fn judge_link(&mut self) -> Option<bool> {
        let up = self.connected && !self.schedule.all_mute();
        (self.reported.replace(up) != Some(up)).then_some(up)
    }
}
