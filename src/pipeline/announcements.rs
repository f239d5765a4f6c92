//! THE LOOP, announcements: devices that announce themselves in Home Assistant's way and are not in the plan.
//!
//! One row of 待接入 for a device, whatever it announces: its entities come one by one and are gathered here, in memory,
//! bounded. They are retained at the broker and come again after a start.

use super::read::What;
use super::route::{Route, Router};
use crate::journal::Stray;
use crate::model::LinkId;
use crate::profile::announcement::{AnnouncedDevice, Announcement, ENTITIES_MAX, Entity, Proposal};
use std::collections::HashMap;
use std::sync::Arc;

/// Devices whose entities are gathered: a large house. At some 20 entities of 500 bytes each this is 2.5 MB. Past it a
/// device is proposed with what its newest message says.
const DEVICES_MAX: usize = 256;

/// What was announced, by link and device.
#[derive(Debug, Default)]
pub(super) struct Announcements(HashMap<(LinkId, String), (AnnouncedDevice, Vec<Entity>)>);

impl Announcements {
    /// Adds what a message says of a device and gives all that is known of it.
    fn gather(
        &mut self,
        link: &LinkId,
        device: AnnouncedDevice,
        new: Vec<Entity>,
    ) -> (AnnouncedDevice, Vec<Entity>) {
        let key = (link.clone(), device.key.clone());
        if !self.0.contains_key(&key) && self.0.len() >= DEVICES_MAX {
            return (device, new);
        }
        let (known, entities) = self.0.entry(key).or_insert_with(|| (device.clone(), Vec::new()));
        *known = device;
        for entity in new {
            let known = entities.iter().position(|old| old.key == entity.key);
            match known {
                Some(place) => entities[place] = entity,
                None if entities.len() < ENTITIES_MAX => entities.push(entity),
                None => {}
            }
        }
        (known.clone(), entities.clone())
    }

    /// Forgets an entity, or all of a device that announced itself at once.
    fn withdraw(&mut self, link: &LinkId, key: &str) {
        let below = format!("{key}/");
        for ((of, _), (_, entities)) in &mut self.0 {
            if of == link {
                entities.retain(|entity| entity.key != key && !entity.key.starts_with(&below));
            }
        }
        self.0.retain(|_, (_, entities)| !entities.is_empty());
    }
}

/// Reads a message that announces a device; `None`: it is none.
pub(super) fn read(
    router: &mut Router,
    known: &mut Announcements,
    link: &LinkId,
    topic: &str,
    bytes: &[u8],
) -> Option<What> {
    let (device, entities) = match Announcement::read(topic, bytes)? {
        Ok(Announcement::Of(device, entities)) => known.gather(link, device, entities),
        Ok(Announcement::Withdrawn { key }) => {
            known.withdraw(link, &key);
            return Some(What::PassedOver);
        }
        Err(problem) => return Some(What::Stranger(problem)),
    };
    // A device of the plan may go on announcing itself.
    let mut topics = entities.iter().filter_map(Entity::state_topic);
    if topics.any(|topic| matches!(router.topic(link, &Arc::from(topic)), Route::Known(..))) {
        return Some(What::PassedOver);
    }
    let Proposal { profile, address, text, untranslated } = Proposal::of(&device, &entities);
    let words: Vec<String> = untranslated.iter().map(|left| format!("未翻译：{left}")).collect();
    let name = if device.name.is_empty() { &device.key } else { &device.name };
    let reason = Stray::announced(name, &words, &profile, &address, &text);
    Some(What::Announced { key: format!("{link} homeassistant: {}", device.key), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(topic: &str, payload: &str) -> (AnnouncedDevice, Vec<Entity>) {
        match Announcement::read(topic, payload.as_bytes()).unwrap().unwrap() {
            Announcement::Of(device, entities) => (device, entities),
            Announcement::Withdrawn { .. } => panic!("{topic} withdraws"),
        }
    }

    #[test]
    fn entities_of_one_device_are_gathered_replaced_and_withdrawn() {
        let link = LinkId::parse("broker").unwrap();
        let mut announcements = Announcements::default();
        let mut gather = |object: &str, class: &str| {
            let payload = format!(r#"{{"dev":{{"ids":"x1"}},"stat_t":"a/x1","dev_cla":"{class}"}}"#);
            let topic = format!("homeassistant/binary_sensor/x1/{object}/config");
            let (device, entities) = announced(&topic, &payload);
            announcements.gather(&link, device, entities).1.len()
        };
        let counts = [gather("smoke", "smoke"), gather("low", "battery"), gather("smoke", "gas")];
        assert_eq!(counts, [1, 2, 2]);
        announcements.withdraw(&link, "binary_sensor/x1/smoke");
        assert_eq!(announcements.0.values().map(|(_, entities)| entities.len()).sum::<usize>(), 1);
        announcements.withdraw(&link, "binary_sensor/x1/low");
        assert!(announcements.0.is_empty());
    }

    #[test]
    fn a_flood_of_devices_is_bounded_and_each_is_still_proposed() {
        let link = LinkId::parse("broker").unwrap();
        let mut announcements = Announcements::default();
        for n in 0..DEVICES_MAX + 10 {
            let payload = format!(r#"{{"dev":{{"ids":"x{n}"}},"stat_t":"a/x{n}","dev_cla":"smoke"}}"#);
            let topic = format!("homeassistant/binary_sensor/x{n}/config");
            let (device, entities) = announced(&topic, &payload);
            assert_eq!(announcements.gather(&link, device, entities).1.len(), 1);
        }
        assert_eq!(announcements.0.len(), DEVICES_MAX);
    }
}
