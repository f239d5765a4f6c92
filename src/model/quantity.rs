//! NOUNS: physical quantities, each with ONE canonical unit inside the gateway, and the units that may be written
//! in a profile. A value is converted once, in `profile`; everything after it speaks the canonical unit.

/// A kind of thing that can be measured or reported. Closed: adding one is a change of the program's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Light obscuration in a smoke chamber, %/m.
    SmokeObscuration,
    /// Smoke density, dB/m.
    SmokeDensity,
    /// Temperature, ℃.
    Temperature,
    /// Combustible gas as a share of the lower explosive limit, %LEL.
    GasLel,
    /// Gas by volume fraction, ppm (CO).
    GasPpm,
    /// Residual (leakage) current, mA.
    ResidualCurrent,
    /// Load current, A.
    Current,
    /// Voltage, V.
    Voltage,
    /// Active power, W.
    Power,
    /// Energy, kWh.
    Energy,
    /// Frequency, Hz.
    Frequency,
    /// Water or air pressure, MPa.
    Pressure,
    /// Height of a liquid, m.
    Level,
    /// Flow, L/s.
    Flow,
    /// A share: battery, humidity, oxygen, contamination, tank level, %.
    Ratio,
    /// Received signal strength, dBm.
    Signal,
    /// Signal to noise ratio, dB.
    SignalToNoise,
    /// Angle, °.
    Angle,
    /// A count of events, no unit.
    Count,
    /// Elapsed time, s.
    Duration,
    /// Yes or no; no unit.
    Flag,
    /// One of a list of named states; no unit.
    State,
}

/// `canonical = raw × factor + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// Multiplied first.
    pub factor: f64,
    /// Added afterwards.
    pub offset: f64,
}

/// name, canonical unit, other accepted units with their factor and offset.
type Row = (Quantity, &'static str, &'static str, &'static [(&'static str, f64, f64)]);

const TABLE: &[Row] = &[
    (Quantity::SmokeObscuration, "smoke_obscuration", "%/m", &[]),
    (Quantity::SmokeDensity, "smoke_density", "dB/m", &[]),
    (
        Quantity::Temperature,
        "temperature",
        "℃",
        &[("°C", 1.0, 0.0), ("Cel", 1.0, 0.0), ("°F", 5.0 / 9.0, -160.0 / 9.0), ("K", 1.0, -273.15)],
    ),
    (Quantity::GasLel, "gas_lel", "%LEL", &[]),
    (Quantity::GasPpm, "gas_ppm", "ppm", &[]),
    (Quantity::ResidualCurrent, "residual_current", "mA", &[("A", 1000.0, 0.0)]),
    (Quantity::Current, "current", "A", &[("mA", 0.001, 0.0)]),
    (Quantity::Voltage, "voltage", "V", &[("mV", 0.001, 0.0), ("kV", 1000.0, 0.0)]),
    (Quantity::Power, "power", "W", &[("kW", 1000.0, 0.0)]),
    (Quantity::Energy, "energy", "kWh", &[("Wh", 0.001, 0.0)]),
    (Quantity::Frequency, "frequency", "Hz", &[]),
    (
        Quantity::Pressure,
        "pressure",
        "MPa",
        &[("kPa", 0.001, 0.0), ("Pa", 0.000_001, 0.0), ("bar", 0.1, 0.0), ("psi", 0.006_894_757, 0.0)],
    ),
    (Quantity::Level, "level", "m", &[("cm", 0.01, 0.0), ("mm", 0.001, 0.0)]),
    (Quantity::Flow, "flow", "L/s", &[("m³/h", 1.0 / 3.6, 0.0), ("L/min", 1.0 / 60.0, 0.0)]),
    (Quantity::Ratio, "ratio", "%", &[("1", 100.0, 0.0)]),
    (Quantity::Signal, "signal", "dBm", &[]),
    (Quantity::SignalToNoise, "signal_to_noise", "dB", &[]),
    (Quantity::Angle, "angle", "°", &[]),
    (Quantity::Count, "count", "", &[]),
    (Quantity::Duration, "duration", "s", &[("ms", 0.001, 0.0), ("min", 60.0, 0.0), ("h", 3600.0, 0.0)]),
    (Quantity::Flag, "flag", "", &[]),
    (Quantity::State, "state", "", &[]),
];

impl Quantity {
    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.0 == self).expect("the table holds every quantity: a test counts them")
    }

    /// The name used in `vocabulary.toml`, snake_case.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The one unit used inside the gateway; empty for flags, states and counts.
    pub fn unit(self) -> &'static str {
        self.row().2
    }

    /// The quantity of that name.
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// How to turn a value in `unit` into the canonical unit; `None` when the unit does not measure this quantity.
    pub fn conversion(self, unit: &str) -> Option<Linear> {
        let (_, _, canonical, others) = self.row();
        if *canonical == unit {
            return Some(Linear { factor: 1.0, offset: 0.0 });
        }
        others.iter().find(|(name, ..)| *name == unit).map(|&(_, factor, offset)| Linear { factor, offset })
    }

    /// Every unit that a profile may write for this quantity, the canonical one first.
    pub fn units(self) -> impl Iterator<Item = &'static str> {
        let (_, _, canonical, others) = self.row();
        std::iter::once(*canonical).chain(others.iter().map(|(name, ..)| *name))
    }

    /// All quantities, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// Whether values are numbers (and so have a unit or are counts), not flags or states.
    pub fn is_numeric(self) -> bool {
        !matches!(self, Self::Flag | Self::State)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantity_has_one_name_and_one_canonical_unit() {
        assert_eq!(TABLE.len(), Quantity::State as usize + 1, "a quantity is missing from the table");
        for quantity in Quantity::all() {
            assert_eq!(Quantity::parse(quantity.name()), Some(quantity));
            assert_eq!(quantity.conversion(quantity.unit()), Some(Linear { factor: 1.0, offset: 0.0 }));
        }
    }

    #[test]
    fn units_convert_to_the_canonical_one() {
        let convert = |quantity: Quantity, unit: &str, raw: f64| {
            let linear = quantity.conversion(unit).unwrap();
            raw * linear.factor + linear.offset
        };
        assert!((convert(Quantity::Pressure, "kPa", 140.0) - 0.14).abs() < 1e-12);
        assert!((convert(Quantity::Temperature, "°F", 212.0) - 100.0).abs() < 1e-9);
        assert!((convert(Quantity::ResidualCurrent, "A", 0.3) - 300.0).abs() < 1e-9);
        assert_eq!(Quantity::Pressure.conversion("mA"), None);
    }
}
