//! The samples that every store gets: simulated quantities, the same for the same point and time in every run.

use fengsui::model::{DeviceId, Number, PointId, Quality, Reading, Timestamp, Value};

/// 2026-01-01: the past, because VictoriaMetrics refuses what lies more than two days ahead.
pub(crate) const BEGIN: i64 = 1_767_225_600_000;

/// The kinds of quantities that fire safety measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A room's temperature in steps of 0.1: a day's wave and a draught.
    Temperature,
    /// Water pressure in MPa, four decimals: a transmitter's noise on a slow drift, and a pump that starts.
    Pressure,
    /// Residual current in whole milliamperes, noisy.
    Residual,
    /// A detector's state: normal, and once in a while in alarm.
    State,
    /// A door: open a few times a day.
    Flag,
    /// A battery in whole per cent.
    Battery,
    /// A meter in steps of 0.01 that only grows.
    Counter,
    /// A radio's signal in whole dBm, noisy.
    Signal,
}

impl Class {
    pub(crate) const ALL: [Self; 8] = [
        Self::Temperature,
        Self::Pressure,
        Self::Residual,
        Self::State,
        Self::Flag,
        Self::Battery,
        Self::Counter,
        Self::Signal,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Pressure => "pressure",
            Self::Residual => "residual_current",
            Self::State => "smoke",
            Self::Flag => "door",
            Self::Battery => "battery",
            Self::Counter => "volume",
            Self::Signal => "rssi",
        }
    }

    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Temperature => "temperature, 0.1 °C",
            Self::Pressure => "pressure, noise of 0.0005 MPa",
            Self::Residual => "residual current, 1 mA, noisy",
            Self::State => "a detector's state",
            Self::Flag => "a door's flag",
            Self::Battery => "battery, 1 %",
            Self::Counter => "a counter, 0.01",
            Self::Signal => "radio signal, 1 dBm, noisy",
        }
    }
}

/// A small generator of numbers that is the same everywhere (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Evenly in `-half..=half`.
    pub(crate) fn about(&mut self, half: i64) -> i64 {
        (self.next() % (2 * half as u64 + 1)) as i64 - half
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

/// One point and how its quantity moves. A figure is kept as a whole number of its smallest steps.
#[derive(Debug, Clone)]
pub(crate) struct Signal {
    pub(crate) class: Class,
    pub(crate) point: PointId,
    dice: Dice,
    level: i64,
    ticks: i64,
}

impl Signal {
    pub(crate) fn new(class: Class, device: &str, seed: u64) -> Self {
        let device = DeviceId::parse(device).unwrap();
        let point = PointId::new(&device, class.name()).unwrap();
        let mut dice = Dice::new(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ class as u64);
        let level = match class {
            Class::Temperature => 230 + dice.about(30),
            Class::Pressure => 4500 + dice.about(500),
            Class::Residual => 120 + dice.about(60),
            Class::State | Class::Flag => 0,
            Class::Battery => 100,
            Class::Counter => 100_000 + dice.about(90_000),
            Class::Signal => -75 + dice.about(10),
        };
        Self { class, point, dice, level, ticks: 0 }
    }

    /// The next figure, as every store gets it: states and flags as 0 and 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.ticks += 1;
        let dice = &mut self.dice;
        match self.class {
            Class::Temperature => {
                if dice.once_in(12) {
                    self.level = (self.level + dice.about(1)).clamp(150, 350);
                }
                self.level as f64 / 10.0
            }
            Class::Pressure => {
                if dice.once_in(20) {
                    self.level = (self.level + dice.about(10)).clamp(3000, 6000);
                }
                (self.level + dice.about(3) + dice.about(2)) as f64 / 10_000.0
            }
            Class::Residual => (self.level + dice.about(2) + dice.about(2)) as f64,
            Class::State => f64::from(u8::from(dice.once_in(20_000))),
            Class::Flag => {
                if dice.once_in(2000) {
                    self.level = 1 - self.level;
                }
                self.level as f64
            }
            Class::Battery => (self.level - self.ticks / 50_000).max(0) as f64,
            Class::Counter => {
                if dice.once_in(3) {
                    self.level += (dice.next() % 4) as i64;
                }
                self.level as f64 / 100.0
            }
            Class::Signal => (self.level + dice.about(3) + dice.about(2)) as f64,
        }
    }
}

/// One sample, on its way to every store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Its place among the signals.
    pub(crate) point: usize,
    /// Milliseconds since 1970.
    pub(crate) time: i64,
    pub(crate) value: f64,
}

/// What must be found again: how many samples, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Tally {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
    }

    /// Stops the bench when something is missing.
    pub(crate) fn same(&self, found: Self, whose: &str) {
        assert_eq!(self.count, found.count, "{whose}: samples are missing, or there are too many");
        let off = (self.sum - found.sum).abs();
        assert!(off <= 1e-6 * (1.0 + self.sum.abs()), "{whose}: sum {} instead of {}", found.sum, self.sum);
    }
}

/// A plant of points that all speak in one rhythm.
#[derive(Debug, Clone)]
pub(crate) struct Plant {
    pub(crate) signals: Vec<Signal>,
    pub(crate) every: i64,
    /// How far a sample's time is from its rhythm, at most.
    jitter: i64,
    dice: Dice,
    round: i64,
    begin: i64,
}

impl Plant {
    pub(crate) fn new(signals: Vec<Signal>, begin: i64, every: i64, jitter: i64) -> Self {
        Self { signals, every, jitter, dice: Dice::new(7), round: 0, begin }
    }

    /// So many points, their classes in turn.
    pub(crate) fn mixed(points: usize, begin: i64, every: i64) -> Self {
        let signal = |n: usize| Signal::new(Class::ALL[n % 8], &format!("d{:04}", n / 8), n as u64);
        Self::new((0..points).map(signal).collect(), begin, every, 0)
    }

    /// When the next round is.
    pub(crate) fn now(&self) -> i64 {
        self.begin + self.round * self.every
    }

    /// One sample of each point, spread over the period as devices are that were switched on one after the other.
    pub(crate) fn round(&mut self, out: &mut Vec<Sample>) {
        let (base, count) = (self.now(), self.signals.len() as i64);
        for (point, signal) in self.signals.iter_mut().enumerate() {
            // 400 ms at least between two turns of one point, so that jitter never changes the order.
            let phase = point as i64 * (self.every * 9 / 10) / count;
            let off = if self.jitter == 0 { 0 } else { self.dice.about(self.jitter) };
            out.push(Sample { point, time: base + phase + off, value: signal.next() });
        }
        self.round += 1;
    }

    pub(crate) fn reading(&self, sample: &Sample) -> Reading {
        reading(&self.signals[sample.point], sample)
    }
}

/// The sample as the gateway has it.
pub(crate) fn reading(signal: &Signal, sample: &Sample) -> Reading {
    let value = match signal.class {
        Class::State => Value::Code(state(sample.value > 0.5)),
        Class::Flag => Value::Flag(sample.value > 0.5),
        _ => Value::Number(Number::new(sample.value).unwrap()),
    };
    Reading {
        point: signal.point.clone(),
        value,
        quality: Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: Timestamp::from_millis(sample.time),
        late: false,
    }
}

fn state(alarm: bool) -> fengsui::model::Code {
    // The profile hands out shared names; so do we.
    thread_local! {
        static STATES: [fengsui::model::Code; 2] = ["normal".into(), "alarm".into()];
    }
    STATES.with(|states| states[usize::from(alarm)].clone())
}
