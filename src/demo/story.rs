//! THE DEMO, what happens: five small stories that a visitor can let run, start again or step through.

use super::world::{MUTE, World};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

/// One thing that the story does to the world.
#[derive(Debug, Clone, Copy)]
struct Act {
    after_secs: u64,
    device: &'static str,
    signal: &'static str,
    value: f64,
    over_secs: u64,
}

/// One chapter.
#[derive(Debug)]
pub struct Chapter {
    /// In the address: `/api/v1/demo/<id>`.
    pub id: &'static str,
    /// On the button.
    pub zh: &'static str,
    /// On the button, in English.
    pub en: &'static str,
    /// What happens.
    pub about_zh: &'static str,
    /// What happens, in English.
    pub about_en: &'static str,
    /// When it begins, counted from the start of the whole story.
    starts_at_secs: u64,
    acts: &'static [Act],
}

impl Chapter {
    /// The devices and signals that it moves.
    pub fn cast(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.acts.iter().map(|act| (act.device, act.signal))
    }
}

const fn act(after_secs: u64, device: &'static str, signal: &'static str, value: f64, over_secs: u64) -> Act {
    Act { after_secs, device, signal, value, over_secs }
}

/// The story. Devices and signals are those of `plan.toml` beside this file. Each chapter begins as long before its
/// hazard as the rule's delay asks: the battery, whose rule waits a minute, first; the fire when a visitor has had half
/// a minute to sign in. After [`STORY_SECS`] all five hazards stand.
pub const CHAPTERS: [Chapter; 5] = [
    Chapter {
        id: "residual",
        zh: "剩余电流超限",
        en: "Residual current",
        about_zh: "剩余电流缓慢上升，超过 300 mA",
        about_en: "residual current creeps up past 300 mA",
        starts_at_secs: 5,
        acts: &[act(0, "yg-rcd-1", "residual", 342.0, 12)],
    },
    Chapter {
        id: "smoke",
        zh: "烟感火警",
        en: "Smoke",
        about_zh: "203 房间烟感报警，随后自行恢复",
        about_en: "the detector in room 203 alarms and clears itself",
        starts_at_secs: 30,
        acts: &[
            act(0, "yg-smoke-203", "concentration", 0.42, 2),
            act(2, "yg-smoke-203", "smoke", 1.0, 0),
            act(12, "yg-smoke-203", "concentration", 0.0, 2),
            act(14, "yg-smoke-203", "smoke", 0.0, 0),
        ],
    },
    Chapter {
        id: "hydrant",
        zh: "消火栓失压",
        en: "Hydrant",
        about_zh: "室外消火栓水压跌破 0.14 MPa",
        about_en: "the outdoor hydrant drops under 0.14 MPa",
        starts_at_secs: 10,
        acts: &[act(0, "yg-hydrant-1", "pressure", 0.118, 6)],
    },
    Chapter {
        id: "mute",
        zh: "设备失联",
        en: "Mute unit",
        about_zh: "卫生院配电柜的 Modbus 设备失去应答",
        about_en: "a Modbus unit of the clinic goes mute",
        starts_at_secs: 38,
        acts: &[act(0, "wsy-meter-1", MUTE, 1.0, 0)],
    },
    Chapter {
        id: "battery",
        zh: "电池低电",
        en: "Battery",
        about_zh: "卫生院药房烟感电池电量低",
        about_en: "the battery of the pharmacy's detector runs low",
        starts_at_secs: 0,
        acts: &[act(0, "wsy-smoke-pharmacy", "battery", 16.0, 1)],
    },
];

/// How long the whole story takes until its last hazard stands: the battery's rule waits 60 s, the detector reports
/// every 5 s.
pub const STORY_SECS: u64 = 70;

/// Tells the story. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storyteller {
    world: World,
    running: Arc<[AtomicBool; CHAPTERS.len()]>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Storyteller {
    /// A teller who has not begun.
    pub fn new(world: World) -> Self {
        Self { world, running: Arc::default(), tasks: Arc::default() }
    }

    /// Which chapters are being told, in the order of [`CHAPTERS`].
    pub fn running(&self) -> [bool; CHAPTERS.len()] {
        std::array::from_fn(|index| self.running.get(index).is_some_and(|flag| flag.load(Ordering::Relaxed)))
    }

    /// Puts everything back to normal and tells the whole story from the start.
    pub fn restart(&self) {
        self.calm();
        for (index, chapter) in CHAPTERS.iter().enumerate() {
            self.spawn(index, Duration::from_secs(chapter.starts_at_secs));
        }
    }

    /// Stops the story; every device measures what is normal again. Hazards stay until a person closes them.
    pub fn calm(&self) {
        for task in self.lock_tasks().drain(..) {
            task.abort();
        }
        for flag in self.running.iter() {
            flag.store(false, Ordering::Relaxed);
        }
        super::devices::settle(&self.world);
    }

    /// Tells one chapter now. False: there is no such chapter.
    pub fn tell(&self, id: &str) -> bool {
        let Some(index) = CHAPTERS.iter().position(|chapter| chapter.id == id) else { return false };
        self.spawn(index, Duration::ZERO);
        true
    }

    fn spawn(&self, index: usize, delay: Duration) {
        let teller = self.clone();
        let task = tokio::spawn(async move {
            let Some((chapter, running)) = CHAPTERS.get(index).zip(teller.running.get(index)) else { return };
            sleep(delay).await;
            running.store(true, Ordering::Relaxed);
            let mut elapsed = 0;
            for act in chapter.acts {
                sleep(Duration::from_secs(act.after_secs.saturating_sub(elapsed))).await;
                elapsed = act.after_secs;
                teller.world.move_to(act.device, act.signal, act.value, Duration::from_secs(act.over_secs));
                sleep(Duration::from_secs(act.over_secs)).await;
                elapsed += act.over_secs;
            }
            running.store(false, Ordering::Relaxed);
        });
        let mut tasks = self.lock_tasks();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    fn lock_tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_story_moves_the_world_and_can_be_calmed() {
        let world = World::default();
        super::super::devices::settle(&world);
        let teller = Storyteller::new(world.clone());
        teller.restart();
        sleep(Duration::from_secs(STORY_SECS)).await;
        assert!(world.measure_or("yg-rcd-1", "residual", 0.0) > 330.0);
        assert!(world.measure_or("yg-hydrant-1", "pressure", 1.0) < 0.14);
        assert!(world.is_mute("wsy-meter-1"));
        assert!(world.measure_or("yg-smoke-203", "smoke", 1.0) < 0.5, "the detector cleared itself");
        assert_eq!(teller.running(), [false; CHAPTERS.len()], "the story is over");
        teller.calm();
        assert!(world.measure_or("yg-rcd-1", "residual", 999.0) < 200.0);
        assert!(!world.is_mute("wsy-meter-1"));
        assert!(!teller.tell("no-such-chapter"));
    }
}
