//! BESIDE THE FLOW · tests of what an unknown sender may be, over every shipped model.

use super::guess::{ALIKE_MAX, CANDIDATES_MAX};
use super::*;
use crate::model::Timestamp;
use crate::profile::{ExampleInput, ProfileLink};

const GATEWAY: &str = "plan = \"plan.toml\"\n[broker]\nlisten = \"127.0.0.1:0\"\nanonymous = true\n\
    [[modbus]]\nname = \"bus\"\nurl = \"tcp://127.0.0.1:502\"\n";

fn in_force(devices: &str) -> InForce {
    let plan = format!(
        "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n[[site.zone]]\nid = \"z\"\nname = \"z\"\n{devices}"
    );
    match Config::from_texts(&[("gateway.toml", GATEWAY), ("plan.toml", &plan)], &|_| None) {
        Ok((config, _)) => InForce::of(&config),
        Err(report) => panic!("{report:?}"),
    }
}

fn sent(payload: &[u8]) -> Vec<Sent> {
    vec![Sent { payload: payload.to_vec(), at: Timestamp::from_secs(1_800_000_000) }]
}

#[test]
fn a_sender_is_told_by_link_topic_and_part() {
    let of = |key: &str| Sender::of(key).map(|sender| (sender.link.to_string(), sender.topic, sender.part));
    let broker = |topic: &str, part: Option<&str>| {
        Some(("broker".to_owned(), topic.to_owned(), part.map(ToOwned::to_owned)))
    };
    assert_eq!(of("broker a/b c/d"), broker("a/b c/d", None));
    assert_eq!(of("broker a/b#12"), broker("a/b", Some("12")));
    for nobody in ["", "broker", "broker ", "A/B c", "broker homeassistant: 0x1"] {
        assert_eq!(of(nobody), None, "{nobody:?}");
    }
}

/// Its own messages are what a model is found by: most often among the first, and always when a person names it.
#[test]
fn every_model_reads_its_own_examples_when_they_come_from_a_stranger() {
    let in_force = in_force("");
    let (mut tried, mut among_the_first) = (0, 0);
    for profile in in_force.library.profiles.values() {
        let ProfileLink::Mqtt { topics } = &profile.link else { continue };
        // Sparkplug needs the names of a birth; a message of several devices is asked for below.
        if profile.is_sparkplug() || profile.is_shared() {
            continue;
        }
        let example =
            profile.examples.iter().find(|example| profile.decode_example(example).samples.len() > 1);
        let Some(example) = example else { continue };
        let ExampleInput::Message(payload) = &example.input else { continue };
        let topic = topics[example.topic].topic_of("x-1", "any");
        let sender = Sender { link: LinkId::parse("broker").unwrap(), topic, part: None };
        let found = in_force.candidates(&sender, &sent(payload), None);
        assert!(found.fitting.len() <= CANDIDATES_MAX && found.alike.len() <= ALIKE_MAX);
        tried += 1;
        among_the_first += usize::from(found.fitting.iter().any(|one| one.profile == profile.id.as_str()));
        let named = in_force.candidates(&sender, &sent(payload), Some(profile.id.as_str()));
        let first = &named.fitting[0];
        assert_eq!((&*first.profile, &*first.address), (profile.id.as_str(), "x-1"), "{}", sender.topic);
        assert!(first.understood >= 1 && !first.readings.is_empty(), "{}: {first:?}", profile.id);
        assert_eq!(in_force.address_of(profile.id.as_str(), &sender, &sent(payload)).as_deref(), Some("x-1"));
    }
    assert!(tried >= 20, "only {tried} models were tried");
    assert!(
        among_the_first * 10 >= tried * 9,
        "{among_the_first} of {tried} are among the first {CANDIDATES_MAX}"
    );
}

#[test]
fn a_message_of_several_devices_is_read_as_its_first_one() {
    let in_force = in_force("");
    let shared = in_force.library.profiles.values().filter(|profile| profile.is_shared());
    let mut tried = 0;
    for profile in shared {
        let read = |example: &&crate::profile::Example| !profile.decode_example(example).samples.is_empty();
        let Some(example) = profile.examples.iter().find(read) else { continue };
        let ExampleInput::Message(payload) = &example.input else { continue };
        let topic = profile.topics()[example.topic].topic_of("gw-1", "any");
        let sender = Sender { link: LinkId::parse("broker").unwrap(), topic, part: None };
        let named = in_force.candidates(&sender, &sent(payload), Some(profile.id.as_str()));
        let first = &named.fitting[0];
        assert_eq!(first.profile, profile.id.as_str());
        assert!(!first.address.is_empty() && first.address != "gw-1", "{first:?}");
        tried += 1;
    }
    assert!(tried >= 1, "no shipped model tells of several devices");
}

#[test]
fn a_stranger_of_nobodys_topic_is_told_which_models_have_such_content() {
    let in_force = in_force("");
    let topic = "home/attic/42".to_owned();
    let sender = Sender { link: LinkId::parse("broker").unwrap(), topic, part: None };
    let message = br#"{"smoke":0,"temperature":21.5,"battery":98}"#;
    let found = in_force.candidates(&sender, &sent(message), None);
    assert!(found.fitting.is_empty() && !found.alike.is_empty(), "{found:?}");
    // A flood of bytes is tried with as many models as the limit lets through, and no more.
    let large = vec![b'x'; 200 * 1024];
    assert!(in_force.candidates(&sender, &sent(&large), None).fitting.is_empty());
}

#[test]
fn ids_are_new_and_fit_to_be_ids() {
    let smoke = |id: &str| {
        format!(
            "[[site.zone.device]]\nid = \"{id}\"\nname = \"n\"\nprofile = \"fengsui/smoke-json\"\nlink = \"broker\"\naddress = \"{id}\"\n"
        )
    };
    let in_force = in_force(&(smoke("sd-1") + &smoke("sd-1-2")));
    for (like, id) in [
        ("0x00158D0001A2B3C4", "0x00158d0001a2b3c4"),
        ("sd-1", "sd-1-3"),
        ("sd--1/", "sd-1-3"),
        ("烟感", "device"),
        ("", "device"),
        ("group/node/dev 7", "group-node-dev-7"),
    ] {
        assert_eq!(in_force.free_id(like), id, "{like}");
    }
    assert_eq!(in_force.free_id(&"a".repeat(500)).len(), 36);
    assert_eq!((&*in_force.free_zone_id("s", "二层"), &*in_force.free_zone_id("s", "Z")), ("zone", "z-2"));
    let sender = Sender::of("broker site/a/device/sd-1/up").unwrap();
    assert_eq!(in_force.planned(&sender).map(DeviceId::as_str), Some("sd-1"));
    assert_eq!(in_force.planned(&Sender::of("broker site/a/device/sd-2/up").unwrap()), None);
}

#[test]
fn only_devices_whose_profile_differs_are_offered_to_be_read_again() {
    let hall = |class: &str| {
        format!(
            "[device]\nvendor = \"hall\"\nmodel = \"a\"\nname = {{ zh = \"a\", en = \"a\" }}\nsource = \"a test\"\n[mqtt]\ntopics = [\"hall/{{address}}\"]\n\
            [[point]]\nname = \"level\"\nclass = \"{class}\"\nunit = \"%\"\nfrom = {{ json = \"v\" }}\n\
            [[example]]\nname = \"a\"\ninput = '{{\"v\":1}}'\nreadings = {{ level = \"1 %\" }}\n[[example]]\nname = \"b\"\ninput = '{{\"v\":2}}'\nreadings = {{ level = \"2 %\" }}\n\
            [[example]]\nname = \"c\"\ninput = '{{'\nrefused = true\n"
        )
    };
    let plan = "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"s\"\n[[site.zone]]\nid = \"z\"\nname = \"z\"\n\
        [[site.zone.device]]\nid = \"one\"\nname = \"n\"\nprofile = \"hall/a\"\nlink = \"broker\"\naddress = \"one\"\n\
        [[site.zone.device]]\nid = \"two\"\nname = \"n\"\nprofile = \"fengsui/smoke-json\"\nlink = \"broker\"\naddress = \"two\"\n";
    let config = |class: &str| {
        let (gateway, profile) = (format!("profiles_dir = \"models\"\n{GATEWAY}"), hall(class));
        let texts = [("gateway.toml", &*gateway), ("plan.toml", plan), ("models/hall/a.toml", &*profile)];
        match Config::from_texts(&texts, &|_| None) {
            Ok((config, _)) => config,
            Err(report) => panic!("{report:?}"),
        }
    };
    let adopt = Adopt::new(&config("battery"));
    adopt.take(&config("battery"));
    assert!(adopt.renewed().is_empty(), "the same files again");
    adopt.take(&config("contamination"));
    assert_eq!(adopt.renewed().iter().map(DeviceId::as_str).collect::<Vec<_>>(), ["one"]);
    adopt.decoded(DeviceId::parse("two").ok().as_ref());
    assert_eq!(adopt.renewed().len(), 1);
    adopt.decoded(DeviceId::parse("one").ok().as_ref());
    assert!(adopt.renewed().is_empty());
}
