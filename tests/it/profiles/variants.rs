//! Variants of a model: another firmware, another way to be reached, in one file.

use super::vocabulary;
use fengsui::model::{Problem, ProfileId};
use fengsui::profile::{Catalogue, Profile, ProfileLink};

const FILE: &str = r#"
[device]
vendor = "v"
model = "SD-1"
name = { zh = "烟感", en = "smoke" }
source = "manual rev A"
verified = "2026-10-02, Li, on the bench"
silent_after_secs = 3600

[mqtt]
topics = ["site/{address}/up"]

[[point]]
name = "smoke"
class = "smoke_alarm"
from = { json = "smoke" }
when = { json = "kind", is = 1 }
codes = { 0 = "normal", 1 = "alarm" }

[[point]]
name = "battery"
class = "battery"
unit = "%"
from = { json = "bat" }

[[example]]
name = "alarm"
input = '{"kind":1,"smoke":1,"bat":90}'
readings = { smoke = "alarm", battery = "90 %" }

[[example]]
name = "rest"
input = '{"kind":1,"smoke":0,"bat":91}'
readings = { smoke = "normal", battery = "91 %" }

[[example]]
name = "bad"
input = '{'
refused = true

[[variant]]
name = "firmware-2"
text = { zh = "固件 2.x", en = "firmware 2.x" }
firmware = "2.0 and later"
source = "manual rev B, p. 4"
without = ["battery"]
point = [
    { name = "smoke", codes = { 0 = "normal", 2 = "alarm" } },
    { name = "battery-voltage", class = "battery_voltage", unit = "mV", from = { json = "mv" } },
]

[[variant.example]]
name = "alarm"
input = '{"kind":1,"smoke":2,"mv":2900}'
readings = { smoke = "alarm", battery-voltage = "2.9 V" }

[[variant.example]]
name = "rest"
input = '{"kind":1,"smoke":0,"mv":3000}'
readings = { smoke = "normal", battery-voltage = "3 V" }

[[variant.example]]
name = "bad"
input = '{'
refused = true

[[variant]]
name = "rs485"
text = { zh = "RS-485", en = "RS-485" }
point = [{ name = "smoke", from = { table = "input", address = 0, type = "u16" } }]

[variant.modbus]
poll_every_secs = 2

[[variant.example]]
name = "alarm"
input = "@0: 0001"
readings = { smoke = "alarm" }

[[variant.example]]
name = "rest"
input = "@0: 0000"
readings = { smoke = "normal" }

[[variant.example]]
name = "mute"
input = "@0+1: no_answer"
refused = true
"#;

fn read(text: &str) -> Result<(Profile, Vec<Profile>), Vec<Problem>> {
    Profile::parse_all(ProfileId::parse("v/sd-1").unwrap(), "v/sd-1.toml", text, vocabulary(), &|_| None)
}

#[test]
fn a_variant_says_what_is_different_and_has_the_rest_of_its_file() {
    let (model, variants) = read(FILE).unwrap();
    let [firmware, rs485] = &variants[..] else { panic!("{variants:?}") };
    for profile in [&model, firmware, rs485] {
        assert_eq!(profile.check_examples(), [], "{}", profile.id);
        assert_eq!(profile.silent_after.map(|span| span.as_millis()), Some(3_600_000));
    }
    let names = |profile: &Profile| profile.points.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!((firmware.id.as_str(), rs485.id.as_str()), ("v/sd-1@firmware-2", "v/sd-1@rs485"));
    assert_eq!(&*firmware.model.zh, "烟感（固件 2.x）");
    assert_eq!(
        (firmware.firmware.as_deref(), &*firmware.source),
        (Some("2.0 and later"), "manual rev B, p. 4")
    );
    assert_eq!(names(firmware), ["smoke", "battery-voltage"]);
    // What was tried on another firmware, or by another way, says nothing of this one.
    assert_eq!((firmware.verified.as_deref(), &*rs485.source), (None, "manual rev A"));
    assert!(matches!(rs485.link, ProfileLink::Modbus { .. }));
    // Reached otherwise it has the points that it names, and no condition that looked at a message.
    assert_eq!(names(rs485), ["smoke"]);
}

#[test]
fn what_is_wrong_with_a_variant_is_told_where_it_stands() {
    let said = |from: &str, to: &str| {
        assert!(FILE.contains(from), "{from}");
        let text = FILE.replacen(from, to, 1);
        let problems = read(&text).unwrap_err();
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        (text[problems[0].span.clone().unwrap_or(0..0)].to_owned(), all.join("\n"))
    };
    for (from, to, at, why) in [
        (
            "name = \"rs485\"",
            "name = \"firmware-2\"",
            "\"firmware-2\"",
            "is no name of a variant, or is taken",
        ),
        ("name = \"rs485\"", "name = \"RS 485\"", "\"RS 485\"", "is no name of a variant"),
        ("without = [\"battery\"]", "without = [\"batery\"]", "\"batery\"", "did you mean \"battery\"?"),
        ("class = \"battery_voltage\", ", "", "\"battery-voltage\"", "is new here and is not whole"),
        (
            "codes = { 0 = \"normal\", 2 = \"alarm\" }",
            "codes = { 0 = \"norml\" }",
            "\"norml\"",
            "did you mean",
        ),
        (
            "readings = { smoke = \"alarm\", battery-voltage",
            "readings = { smoke = \"alarm\", battery",
            "battery",
            "the profile has no point \"battery\"",
        ),
    ] {
        let (pointed, all) = said(from, to);
        assert!(all.contains(why) && pointed == at, "{to}: {pointed}: {all}");
    }
    // A mistake in the model is told once, not again for each of its variants.
    let (_, all) = said("class = \"smoke_alarm\"", "class = \"smoke_alrm\"");
    assert_eq!(all.lines().count(), 1, "{all}");
}

#[test]
fn a_file_of_the_site_replaces_the_model_with_all_its_variants() {
    let vocabulary = std::fs::read_to_string("device-profiles/vocabulary.toml").unwrap();
    let alone = FILE.split("[[variant]]").next().unwrap();
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("device-profiles/vocabulary.toml", &vocabulary),
        file("device-profiles/v/sd-1.toml", FILE),
        file("device-profiles/v/sd-10.toml", FILE),
    ];
    let (catalogue, problems) = Catalogue::parse(files.clone().into_iter());
    assert_eq!((catalogue.profiles.len(), problems.len()), (6, 0));
    let (catalogue, problems) =
        Catalogue::parse(files.into_iter().chain([file("site/models/v/sd-1.toml", alone)]));
    let ids: Vec<&str> = catalogue.profiles.keys().map(ProfileId::as_str).collect();
    assert_eq!(ids, ["v/sd-1", "v/sd-10", "v/sd-10@firmware-2", "v/sd-10@rs485"]);
    assert_eq!(problems.len(), 0);
    // An @ in a file's name would be a variant's.
    let (catalogue, problems) =
        Catalogue::parse([file("vocabulary.toml", &vocabulary), file("v/sd-1@x.toml", alone)].into_iter());
    assert_eq!((catalogue.profiles.len(), problems.len()), (0, 1));
}
