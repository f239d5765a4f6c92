//! THE DEMO, what is being measured: the temperatures, pressures and currents of two buildings that do not exist.
//!
//! The simulated devices read it and speak over real sockets; the story moves it. The gateway never sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::time::{Duration, Instant};

/// Everything that can be measured, by device and signal. Cheap to clone; all clones are the same world.
#[derive(Debug, Clone, Default)]
pub struct World(Arc<Mutex<HashMap<(String, String), Signal>>>);

#[derive(Debug, Clone, Copy)]
struct Signal {
    from: f64,
    to: f64,
    start: Instant,
    over: Duration,
    noise: f64,
}

impl Signal {
    fn at(&self, now: Instant) -> f64 {
        let over = self.over.as_secs_f64();
        let share = if over <= 0.0 {
            1.0
        } else {
            (now.duration_since(self.start).as_secs_f64() / over).clamp(0.0, 1.0)
        };
        self.from + (self.to - self.from) * share
    }
}

impl World {
    /// Sets what is normal: the value and how much it trembles.
    pub fn settle(&self, device: &str, signal: &str, value: f64, noise: f64) {
        let resting = Signal { from: value, to: value, start: Instant::now(), over: Duration::ZERO, noise };
        self.lock().insert((device.to_owned(), signal.to_owned()), resting);
    }

    /// Moves a signal to a value, evenly over a time; at once when the time is zero.
    pub fn move_to(&self, device: &str, signal: &str, value: f64, over: Duration) {
        let now = Instant::now();
        let mut signals = self.lock();
        let key = (device.to_owned(), signal.to_owned());
        let (from, noise) = signals.get(&key).map_or((value, 0.0), |known| (known.at(now), known.noise));
        signals.insert(key, Signal { from, to: value, start: now, over, noise });
    }

    /// What a sensor would measure now: the value and its tremble; `None` for a signal that was never settled.
    pub fn measure(&self, device: &str, signal: &str) -> Option<f64> {
        let signals = self.lock();
        let signal = signals.get(&(device.to_owned(), signal.to_owned()))?;
        Some(signal.at(Instant::now()) + signal.noise * (fastrand::f64() * 2.0 - 1.0))
    }

    /// Like [`World::measure`], with a stand-in.
    pub fn measure_or(&self, device: &str, signal: &str, otherwise: f64) -> f64 {
        self.measure(device, signal).unwrap_or(otherwise)
    }

    /// Whether a device is switched off. Nobody hears it then.
    pub fn is_mute(&self, device: &str) -> bool {
        self.measure(device, MUTE).is_some_and(|mute| mute > 0.5)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Signal>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// The signal that switches a device off.
pub(super) const MUTE: &str = "mute";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_signal_moves_evenly_and_stays() {
        let world = World::default();
        world.settle("rcd-01", "residual", 100.0, 0.0);
        world.move_to("rcd-01", "residual", 300.0, Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(world.measure("rcd-01", "residual"), Some(200.0));
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(world.measure("rcd-01", "residual"), Some(300.0));
        assert_eq!(world.measure("rcd-01", "never"), None);
    }
}
