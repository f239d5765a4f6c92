//! WIRE → FRAMES, the schedule in simulated time: random buses, random manners, and what they cost their neighbours.

use super::gaps::Stretch;
use super::request::Mismatch;
use super::schedule::{Ask, Lane, Next, Schedule, Write};
use super::unit::Answer;
use super::{Read, UnitSettings};
use crate::model::{DeviceId, RegisterTable};
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(1);

/// What it takes until there is a connection again after one was given up.
const RECONNECT: Duration = Duration::from_millis(5);

/// After so long every bus runs as it will run: the first questions of units that nobody knows yet are over, and a mute
/// unit has its breaker open.
const SETTLED: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Answers after so many milliseconds.
    Answers(u64),
    Mute,
    /// Leaves out every n-th answer.
    Flaps(u64),
    /// Answers something else.
    Lies,
    /// Its gateway says after so many milliseconds that it does not answer.
    Unreachable(u64),
    /// Refuses every question with that exception.
    Refuses(u8),
    /// Says that it is busy, and answers the next time.
    Busy,
    /// Answers after so many milliseconds, but is mute from 50 s to 100 s.
    Dies(u64),
}

/// A bus in simulated time: each lane has at most one question on its wire.
struct Bus {
    schedule: Schedule,
    settings: Vec<UnitSettings>,
    manners: Vec<Manner>,
    asked: Vec<u64>,
    now: Duration,
    wires: [Option<(Question, Duration, Answer, Duration)>; 2],
    free_at: [Duration; 2],
    /// Whole and unreadable rounds, with their times.
    rounds: Vec<Vec<(Duration, bool)>>,
    /// When each read of each unit was asked for: unit, start.
    polls: HashMap<(usize, u16), Vec<Duration>>,
    missed: Vec<u64>,
    /// When commands were queued, and how many questions went before each.
    written: Vec<(usize, Duration, bool)>,
}

#[derive(Debug, Clone, Copy)]
enum Question {
    Read(Ask),
    Write(Write),
}

fn unit(index: usize, reads: Vec<Read>) -> UnitSettings {
    let device = DeviceId::parse(&format!("unit-{index}")).unwrap();
    UnitSettings { device, unit: u8::try_from(index).unwrap(), reads }
}

fn read(index: usize, every: Duration, urgent: bool) -> Read {
    let start = u16::try_from(index * 20).unwrap();
    Read { table: RegisterTable::Holding, start, count: 4, every, urgent }
}

impl Bus {
    fn of(settings: Vec<UnitSettings>, manners: &[Manner], has_side: bool) -> Self {
        let count = manners.len();
        Self {
            schedule: Schedule::new(&settings, TIMEOUT, has_side),
            settings,
            manners: manners.to_vec(),
            asked: vec![0; count],
            now: Duration::ZERO,
            wires: [None, None],
            free_at: [Duration::ZERO; 2],
            rounds: vec![Vec::new(); count],
            polls: HashMap::new(),
            missed: vec![0; count],
            written: Vec::new(),
        }
    }

    /// Every unit with as many reads of one period.
    fn new(manners: &[Manner], reads: usize, has_side: bool) -> Self {
        let reads = || (0..reads).map(|index| read(index, PERIOD, false)).collect();
        Self::of((0..manners.len()).map(|index| unit(index, reads())).collect(), manners, has_side)
    }

    fn answer(&self, unit: usize, words: Answer) -> (Duration, Answer) {
        let millis = Duration::from_millis;
        let times = self.asked[unit];
        match self.manners[unit] {
            Manner::Answers(time) => (millis(time), words),
            Manner::Flaps(n) if !times.is_multiple_of(n) => (millis(5), words),
            Manner::Mute | Manner::Flaps(_) => (Duration::MAX, Answer::Silent),
            Manner::Lies => (millis(5), Answer::Wrong(Mismatch::Unit)),
            Manner::Unreachable(time) => (millis(time), Answer::Refused(0x0B)),
            Manner::Refuses(code) => (millis(5), Answer::Refused(code)),
            Manner::Busy if times.is_multiple_of(2) => (millis(5), words),
            Manner::Busy => (millis(5), Answer::Refused(6)),
            Manner::Dies(_) if (50..100).contains(&self.now.as_secs()) => (Duration::MAX, Answer::Silent),
            Manner::Dies(time) => (millis(time), words),
        }
    }

    fn ask(&mut self, lane: Lane) -> Option<Duration> {
        let question = match self.schedule.next(lane, self.now, true) {
            Next::Wait(until) => return Some(until),
            Next::Ask(ask) => Question::Read(ask),
            Next::Write(write) => Question::Write(write),
        };
        let (unit, timeout, words) = match question {
            Question::Read(ask) => (ask.unit, ask.timeout, Answer::Words(vec![0; usize::from(ask.at.count)])),
            Question::Write(write) => {
                self.schedule.unqueue_write(write.unit);
                (write.unit, write.timeout, Answer::Words(Vec::new()))
            }
        };
        assert!(timeout <= TIMEOUT);
        for (other, ..) in self.wires.iter().flatten() {
            assert_ne!(other.unit(), unit, "a unit is asked one question at a time");
        }
        self.asked[unit] += u64::from(!self.is_nothing(question));
        if let Question::Read(Ask { at: Stretch { start, count: 1.. }, .. }) = question {
            self.polls.entry((unit, start)).or_default().push(self.now);
        }
        let (time, answer) = self.answer(unit, words);
        let (time, answer) = if time > timeout { (timeout, Answer::Silent) } else { (time, answer) };
        let time = if self.is_nothing(question) { Duration::ZERO } else { time };
        self.wires[lane as usize] = Some((question, self.now + time, answer, time));
        None
    }

    fn is_nothing(&self, question: Question) -> bool {
        matches!(question, Question::Read(Ask { at: Stretch { count: 0, .. }, .. }))
    }

    fn run_until(&mut self, end: Duration) {
        while self.now < end {
            let mut next = end;
            for lane in [Lane::Main, Lane::Side] {
                if self.wires[lane as usize].is_some() {
                    continue;
                }
                let free_at = self.free_at[lane as usize];
                if free_at > self.now {
                    next = next.min(free_at);
                } else if let Some(until) = self.ask(lane) {
                    assert!(until > self.now, "waiting for a time that has passed");
                    next = next.min(until);
                }
            }
            for (_, done, ..) in self.wires.iter().flatten() {
                next = next.min(*done);
            }
            self.now = next;
            for lane in 0..2 {
                if let Some((question, _, answer, took)) =
                    self.wires[lane].take_if(|(_, done, ..)| *done <= next)
                {
                    self.settle(lane, question, answer, took);
                }
            }
            for (unit, missed) in self.schedule.take_missed() {
                self.missed[unit] += missed;
            }
        }
    }

    fn settle(&mut self, lane: usize, question: Question, answer: Answer, took: Duration) {
        if !answer.keeps_connection() {
            self.free_at[lane] = self.now + RECONNECT;
        }
        match question {
            Question::Write(write) => {
                let answered = answer.keeps_connection();
                self.schedule.wrote(&write, answered, took, self.now);
                self.written.push((write.unit, self.now, answered));
            }
            Question::Read(ask) => {
                let (_, finished) = self.schedule.answered(&ask, answer, took, self.now);
                if let Some(finished) = finished {
                    let whole = finished.blocks.iter().all(|block| block.words.is_ok());
                    self.rounds[finished.unit].push((self.now, whole));
                }
            }
        }
    }

    /// By how much of its period each poll of that unit came too early or too late, at worst, once the bus has settled.
    fn worst_lateness(&self, unit: usize) -> f64 {
        let mut worst: f64 = 0.0;
        for read in &self.settings[unit].reads {
            let times = &self.polls[&(unit, read.start)];
            let after = times.iter().copied().filter(|time| *time >= SETTLED).collect::<Vec<_>>();
            assert!(!after.is_empty(), "never polled");
            for pair in after.windows(2) {
                let period = (pair[1] - pair[0]).as_secs_f64() / read.every.as_secs_f64();
                worst = worst.max((period - 1.0).abs());
            }
            // None was left out at the end either.
            worst =
                worst.max((self.now - after[after.len() - 1]).as_secs_f64() / read.every.as_secs_f64() - 1.0);
        }
        worst
    }
}

impl Question {
    fn unit(&self) -> usize {
        match self {
            Self::Read(ask) => ask.unit,
            Self::Write(write) => write.unit,
        }
    }
}

fn sick() -> impl Strategy<Value = Manner> {
    prop_oneof![
        3 => Just(Manner::Mute),
        2 => (2u64..6).prop_map(Manner::Flaps),
        // Slow, and short enough for the gaps of the shortest period: 5/4 of it in 0.45 × 500 ms.
        1 => (80u64..170).prop_map(Manner::Answers),
        1 => Just(Manner::Lies),
        1 => (5u64..300).prop_map(Manner::Unreachable),
        1 => prop::sample::select(vec![1u8, 2, 3, 4, 5, 6, 7, 8, 10]).prop_map(Manner::Refuses),
        1 => Just(Manner::Busy),
        2 => (1u64..15).prop_map(Manner::Dies),
    ]
}

fn healthy() -> impl Strategy<Value = Manner> {
    (1u64..15).prop_map(Manner::Answers)
}

/// Reads of a unit, each with a period of its own.
fn reads() -> impl Strategy<Value = Vec<Read>> {
    prop::collection::vec((prop::sample::select(vec![500u64, 1000, 2000, 5000, 10_000]), any::<bool>()), 1..3)
        .prop_map(|reads| {
            let each = |(index, (every, urgent)): (usize, (u64, bool))| {
                read(index, Duration::from_millis(every), urgent)
            };
            reads.into_iter().enumerate().map(each).collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn healthy_units_keep_their_period_whatever_sick_ones_do(
        healthy in prop::collection::vec((healthy(), reads()), 1..9),
        sick in prop::collection::vec((sick(), reads()), 0..5),
        has_side in any::<bool>(),
        rotate in 0usize..12,
    ) {
        let is_healthy = |manner: &Manner| matches!(manner, Manner::Answers(..15));
        let mut all = [healthy, sick].concat();
        let places = all.len();
        all.rotate_left(rotate % places);
        let manners: Vec<Manner> = all.iter().map(|(manner, _)| *manner).collect();
        // A slow unit that fire depends on is no sick one: it takes the time it needs.
        let units = all.into_iter().enumerate().map(|(index, (manner, mut reads))| {
            if !is_healthy(&manner) {
                reads.iter_mut().for_each(|read| read.urgent = false);
            }
            unit(index, reads)
        });
        let mut bus = Bus::of(units.collect(), &manners, has_side);
        bus.run_until(Duration::from_secs(150));
        // A tenth of the shortest period, and one read of a neighbour that is under way: nobody cuts it short.
        let longest = manners.iter().filter_map(|manner| match manner {
            Manner::Answers(millis) if is_healthy(manner) => u32::try_from(*millis).ok(),
            _ => None,
        });
        let allowed = 0.1 + f64::from(longest.max().unwrap_or(0)) / 500.0 + f64::EPSILON * 8.0;
        for (index, manner) in manners.iter().enumerate() {
            if is_healthy(manner) {
                prop_assert!(bus.worst_lateness(index) <= allowed, "unit {index} of {manners:?}: {}", bus.worst_lateness(index));
                prop_assert!(bus.rounds[index].iter().all(|(_, whole)| *whole), "unit {index} lost a block");
            } else {
                let last = bus.rounds[index].last().map(|(at, _)| *at);
                prop_assert!(last >= Some(Duration::from_secs(75)), "{manner:?} starves: {last:?}");
            }
        }
        // Whatever it was, once it is over every unit is back within the longest pause between two probes.
        for manner in &mut bus.manners {
            *manner = Manner::Answers(5);
        }
        bus.run_until(Duration::from_secs(150 + 75));
        for (index, rounds) in bus.rounds.iter().enumerate() {
            let is_back = rounds.last().is_some_and(|(_, whole)| *whole);
            prop_assert!(is_back || manners[index] == Manner::Refuses(1), "unit {index} never came back");
        }
    }
}

/// So many units, each with one ordinary read, and an urgent one if it is one of the first `urgent`.
fn panel(manners: &[Manner], urgent: usize, has_side: bool) -> Bus {
    let reads = |index: usize| {
        let ordinary = read(1, PERIOD, false);
        if index < urgent { vec![read(0, PERIOD, true), ordinary] } else { vec![ordinary] }
    };
    let units = (0..manners.len()).map(|index| unit(index, reads(index)));
    Bus::of(units.collect(), manners, has_side)
}

/// How often a read was asked for between the settling of the bus and now.
fn polls(bus: &Bus, unit: usize, read: u16) -> usize {
    bus.polls[&(unit, read * 20)].iter().filter(|time| **time >= SETTLED).count()
}

#[test]
fn nine_units_keep_their_period_beside_a_mute_one_on_one_lane() {
    let mut manners = vec![Manner::Answers(40); 10];
    manners[3] = Manner::Mute;
    let mut bus = Bus::new(&manners, 1, false);
    bus.run_until(Duration::from_secs(300));
    for index in (0..10).filter(|index| *index != 3) {
        assert!(bus.worst_lateness(index) <= 0.1, "{}", bus.worst_lateness(index));
    }
    // Probes after 1, 2, 4 … 60 s, and it is told of each.
    assert!((8..=14).contains(&bus.rounds[3].len()), "{:?}", bus.rounds[3]);
    bus.manners[3] = Manner::Answers(40);
    bus.run_until(Duration::from_secs(361));
    assert!(bus.rounds[3].last().unwrap().1, "one answer closes the breaker");
}

#[test]
fn on_an_overloaded_bus_fire_is_read_in_its_period_and_the_rest_is_stretched_evenly() {
    // 10 × 90 ms of ordinary and 4 × 90 ms of urgent reads a second: 126 %.
    let mut bus = panel(&[Manner::Answers(90); 10], 4, false);
    bus.run_until(Duration::from_secs(10));
    bus.schedule.take_load(bus.now);
    bus.run_until(Duration::from_secs(220));
    let load = bus.schedule.take_load(bus.now).unwrap();
    assert!(load.overloaded && load.percent >= 95, "{load:?}");
    for unit in 0..4 {
        assert!(
            polls(&bus, unit, 0).abs_diff(200) <= 1,
            "unit {unit}: {} urgent polls in 200 s",
            polls(&bus, unit, 0)
        );
        let times = &bus.polls[&(unit, 0)];
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= PERIOD * 12 / 10, "{longest:?}");
    }
    // What is left of the bus, 64 %, is shared by ten.
    let ordinary: Vec<usize> = (0..10).map(|unit| polls(&bus, unit, 1)).collect();
    let fair = 200.0 * 0.64 / 0.9;
    assert!(
        ordinary.iter().all(|polls| (f64::from(u32::try_from(*polls).unwrap()) / fair - 1.0).abs() < 0.1),
        "{ordinary:?}"
    );
    assert!(
        bus.missed.iter().all(|missed| *missed > 40),
        "each missed poll is counted for its unit: {:?}",
        bus.missed
    );
}

#[test]
fn a_bus_with_time_for_everything_is_not_called_overloaded() {
    let mut bus = panel(&[Manner::Answers(60); 10], 4, false);
    bus.run_until(Duration::from_secs(60));
    let load = bus.schedule.take_load(bus.now).unwrap();
    assert!(!load.overloaded && (80..90).contains(&load.percent), "{load:?}");
    assert_eq!(bus.missed.iter().sum::<u64>(), 0);
    assert_eq!(bus.schedule.take_load(bus.now), None);
}

#[test]
fn a_slow_unit_that_fire_depends_on_is_read_and_ordinary_reads_give_way() {
    let mut manners = vec![Manner::Answers(20); 6];
    manners[0] = Manner::Answers(600);
    let mut bus = panel(&manners, 2, false);
    // The slow unit has an urgent read only.
    bus = {
        bus.settings[0].reads.truncate(1);
        Bus::of(bus.settings, &manners, false)
    };
    bus.run_until(Duration::from_secs(220));
    assert!(polls(&bus, 0, 0) >= 195, "{}", polls(&bus, 0, 0));
    assert!(polls(&bus, 1, 0) >= 195, "{}", polls(&bus, 1, 0));
    assert!(bus.rounds.iter().flatten().filter(|(at, _)| *at >= SETTLED).all(|(_, whole)| *whole));
}

#[test]
fn a_unit_too_slow_for_any_gap_is_read_once_a_minute_and_delays_one_poll() {
    let mut manners = vec![Manner::Answers(20); 5];
    manners[0] = Manner::Answers(45);
    let mut bus = Bus::new(&manners, 1, false);
    bus.run_until(SETTLED);
    // It grows slow while it is known: 700 ms fit no gap of a second with 5 units.
    bus.manners[0] = Manner::Answers(170);
    bus.run_until(SETTLED * 2);
    bus.manners[0] = Manner::Answers(330);
    bus.run_until(SETTLED * 3);
    bus.manners[0] = Manner::Answers(700);
    bus.run_until(Duration::from_secs(600));
    for unit in 1..5 {
        let late =
            bus.polls[&(unit, 0)].windows(2).filter(|pair| pair[1] - pair[0] > PERIOD * 11 / 10).count();
        assert!(late <= 12, "unit {unit} was late {late} times in ten minutes");
    }
    let seen = bus.rounds[0].iter().filter(|(at, _)| *at > SETTLED * 3).count();
    assert!(seen >= 4, "{seen}");
}

#[test]
fn a_unit_that_nobody_waits_beside_is_given_the_whole_time_out() {
    for has_side in [true, false] {
        let mut bus = Bus::new(&[Manner::Answers(950), Manner::Mute, Manner::Mute], 1, has_side);
        bus.run_until(Duration::from_secs(120));
        assert!(bus.rounds[0].iter().filter(|(_, whole)| *whole).count() >= 30, "{:?}", bus.rounds[0]);
    }
}

#[test]
fn reads_of_neighbours_are_spread_over_the_period() {
    let mut bus = Bus::new(&[Manner::Answers(1); 4], 1, true);
    bus.run_until(Duration::from_millis(990));
    let times: Vec<u128> = bus.rounds.iter().map(|rounds| rounds[0].0.as_millis()).collect();
    assert_eq!(times, [1, 151, 301, 451]);
}

#[test]
fn a_bus_of_mute_units_is_asked_every_few_seconds_because_nobody_is_disturbed() {
    let mut bus = Bus::new(&[Manner::Mute; 3], 1, true);
    bus.run_until(Duration::from_secs(60));
    assert!(bus.schedule.all_mute());
    assert!(bus.rounds.iter().all(|rounds| rounds.len() >= 8), "{:?}", bus.rounds);
}

#[test]
fn without_room_rounds_are_skipped_and_counted() {
    let mut bus = Bus::new(&[Manner::Answers(1); 2], 1, true);
    let later = Duration::from_secs(10);
    assert!(matches!(bus.schedule.next(Lane::Main, later, false), Next::Wait(until) if until > later));
    assert_eq!(bus.schedule.take_missed(), [(0, 11), (1, 10)]);
    assert_eq!(bus.schedule.take_missed(), []);
}

#[test]
fn a_lost_link_is_told_of_every_unit_and_the_round_begun_is_forgotten() {
    let mut bus = Bus::new(&[Manner::Answers(1); 3], 2, true);
    assert!(bus.ask(Lane::Main).is_none());
    let lost = bus.schedule.link_lost();
    assert_eq!(lost.iter().map(|round| round.blocks.len()).collect::<Vec<_>>(), [2, 2, 2]);
    let (question, _, answer, took) = bus.wires[0].take().unwrap();
    bus.settle(0, question, answer, took);
    assert!(bus.rounds.iter().all(Vec::is_empty));
    bus.run_until(Duration::from_secs(5));
    assert!(bus.rounds.iter().all(|rounds| rounds.len() >= 4));
}

#[test]
fn each_exception_has_its_consequence() {
    // After a minute: how often a unit that refuses everything so was asked, and whether it is taken for mute.
    let asked = |code: u8| {
        let mut bus = Bus::new(&[Manner::Answers(5), Manner::Refuses(code)], 1, true);
        bus.run_until(Duration::from_secs(60));
        assert!(bus.worst_lateness(0) <= 0.1, "exception {code}");
        assert!(bus.rounds[1].iter().all(|(_, whole)| !whole));
        (bus.asked[1], bus.rounds[1].len())
    };
    let (questions, rounds) = asked(1);
    assert!(questions <= 2 && rounds >= 59, "01 is remembered and told each round: {questions}, {rounds}");
    for code in [2, 3] {
        let (questions, rounds) = asked(code);
        assert!(questions <= 7 * 7 && rounds >= 59, "{code} is halved and left alone: {questions}, {rounds}");
    }
    for code in [4, 7, 8, 9] {
        let (questions, rounds) = asked(code);
        assert!(questions == 60 && rounds >= 59, "{code} is told and asked again: {questions}, {rounds}");
    }
    for code in [5, 6] {
        let (questions, rounds) = asked(code);
        assert!(
            (230..=240).contains(&questions) && rounds >= 59,
            "{code} is asked again soon: {questions}, {rounds}"
        );
    }
    for code in [0x0A, 0x0B] {
        let (questions, _) = asked(code);
        assert!(questions <= 10, "{code}: the gateway speaks, so the unit is probed: {questions}");
    }
}

#[test]
fn a_unit_that_is_busy_is_read_all_the_same() {
    let mut bus = Bus::new(&[Manner::Busy, Manner::Answers(5)], 1, false);
    bus.run_until(Duration::from_secs(30));
    assert!(
        bus.rounds[0].len() >= 29 && bus.rounds[0].iter().all(|(_, whole)| *whole),
        "{:?}",
        bus.rounds[0]
    );
    assert_eq!(bus.asked[0], 60);
}

#[test]
fn a_command_waits_for_one_question_and_delays_no_fire() {
    let mut bus = panel(&[Manner::Answers(40); 10], 8, false);
    bus.run_until(SETTLED);
    let mut waited = Vec::new();
    for second in 0..60 {
        let at = SETTLED + Duration::from_millis(second * 1000 + second * 37 % 1000);
        bus.run_until(at);
        bus.schedule.queue_write(usize::try_from(second % 10).unwrap());
        let before = bus.written.len();
        while bus.written.len() == before {
            bus.run_until(bus.now + Duration::from_millis(1));
        }
        waited.push(bus.now - at);
    }
    // The question on the wire, one more if fire depends on it, and the command itself.
    assert!(waited.iter().max().unwrap() <= &Duration::from_millis(40 * 3 + 1), "{waited:?}");
    for unit in 0..8 {
        let times = &bus.polls[&(unit, 0)];
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= PERIOD * 11 / 10, "unit {unit}: {longest:?}");
    }
}

#[test]
fn a_command_to_a_mute_unit_is_tried_once_and_delays_nobody() {
    for has_side in [true, false] {
        let mut manners = vec![Manner::Answers(30); 6];
        manners[2] = Manner::Mute;
        let mut bus = panel(&manners, 2, has_side);
        bus.run_until(SETTLED);
        bus.schedule.queue_write(2);
        bus.run_until(SETTLED + Duration::from_secs(10));
        assert_eq!(bus.written.len(), 1, "never repeated by itself");
        let (unit, at, answered) = bus.written[0];
        assert!(unit == 2 && !answered && at <= SETTLED + Duration::from_secs(3), "{at:?}");
        for index in [0, 1, 3, 4, 5] {
            assert!(bus.worst_lateness(index) <= 0.1);
        }
    }
}
