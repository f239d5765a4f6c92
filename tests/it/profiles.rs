//! The shipped vocabulary and profiles, and the reader of both: what is accepted, what is refused and how it is said,
//! and that nothing that arrives on a wire makes a decoder fail.

mod addresses;
mod bytes;
mod shape;
mod shared;
mod commands;
mod hazards;
mod languages;
mod named;
mod noise;
mod poll;
mod readme;
mod samples;
mod schema;
mod variants;
mod vectors;

use fengsui::model::{
    Condition, Flaw, Problem, ProfileId, Quality, RegisterBlock, RegisterTable, SignalClass, Span, Timestamp,
    Trouble, Value,
};
use fengsui::profile::{
    BITS_PER_READ_MAX, Catalogue, PAYLOAD_BYTES_MAX, Profile, REGISTERS_PER_READ_MAX, Vocabulary,
};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// 2026-01-15T02:30:05Z.
const NOW: Timestamp = Timestamp::from_secs(1_768_444_205);

/// The standards whose clause texts were read for this project. A rule may cite no other as its basis.
const VERIFIED: [&str; 3] =
    ["GB 50116-2013 9.2.3", "GB 55036-2022 3.0.3 / GB 50974-2014 7.2.8", "GB 50974-2014 5.2.2"];

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let (catalogue, problems) = Catalogue::parse(files().into_iter());
    let shown: Vec<String> = problems.iter().map(|problem| format!("{:?} {problem}", problem.span)).collect();
    assert!(problems.is_empty(), "{}", shown.join("\n"));
    catalogue
});

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("device-profiles")
}

/// Path (below the folder) and text of every TOML file.
fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder()];
    while let Some(current) = folders.pop() {
        for entry in std::fs::read_dir(current).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "toml") {
                let name = path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn vocabulary() -> &'static Vocabulary {
    &CATALOGUE.vocabulary
}

fn shipped(id: &str) -> &'static Profile {
    CATALOGUE.profiles.get(id).unwrap()
}

fn parse(text: &str) -> Result<Profile, Vec<Problem>> {
    Profile::parse(ProfileId::parse("test/profile").unwrap(), "profile.toml", text, vocabulary())
}

/// The word of the text that a problem points at, and the problem.
fn pointed(text: &str, problems: &[Problem]) -> Vec<(String, String)> {
    problems
        .iter()
        .map(|problem| (problem.span.clone().map_or("", |span| &text[span]).to_owned(), problem.to_string()))
        .collect()
}

// ---- the shipped files ----

#[test]
fn every_shipped_profile_is_there_and_counted() {
    let profiles = CATALOGUE.profiles.values();
    let (mut points, mut examples, mut failures) = (0, 0, Vec::new());
    for profile in profiles.clone() {
        points += profile.points.len();
        examples += profile.examples.len();
        failures.extend(profile.check_examples().into_iter().map(|failure| (profile.id.clone(), failure)));
        assert!(profile.source.len() > 20, "{} does not say where it comes from", profile.id);
        assert!(profile.silent_after.is_some(), "{} would be silent unnoticed", profile.id);
    }
    println!("{} profiles, {points} points, {examples} examples", profiles.len());
    assert_eq!(failures, []);
    // A guard against a check that silently visits nothing: raise the figures with the catalogue.
    assert!(profiles.len() >= 136 && points >= 745 && examples >= 840, "the catalogue shrank");
    let models = profiles.filter(|profile| !profile.id.as_str().contains('@')).count();
    assert_eq!(models + 1, files().len(), "a file was not read");
}

#[test]
fn every_class_whose_state_is_a_fire_has_a_state_that_denies_it() {
    let mut count = 0;
    for class in vocabulary().classes() {
        let states: Vec<&str> = class.states.iter().map(|(code, _)| &**code).collect();
        for rule in class.rules.iter().filter(|rule| rule.signal == SignalClass::Fire) {
            if let Condition::OneOf(codes) = &rule.condition {
                assert!(
                    states.contains(&"normal") && !codes.iter().any(|code| &**code == "normal"),
                    "{}",
                    class.id
                );
                count += 1;
            }
        }
    }
    assert!(count >= 4, "{count} rules were looked at");
}

#[test]
fn the_vocabulary_covers_what_a_fire_gateway_watches() {
    let wanted = "smoke_alarm smoke_density heat_alarm heat_temperature combustible_gas gas_alarm carbon_monoxide \
        manual_call_point residual_current cable_temperature arc phase_current phase_voltage hydrant_pressure \
        pipe_pressure tank_level flow pump_state pump_mode fire_door hydrant_cap hydrant_tilt hydrant_impact battery \
        signal tamper device_fault ambient_temperature ambient_humidity oxygen link_state connection_state gateway_fault";
    let missing: Vec<&str> =
        wanted.split_whitespace().filter(|id| vocabulary().class(id).is_none()).collect();
    assert_eq!(missing, [] as [&str; 0]);
}

#[test]
fn fire_rules_latch_at_once_and_electrical_limits_are_no_fire() {
    let mut fire = 0;
    for class in vocabulary().classes() {
        for rule in class.rules.iter().filter(|rule| rule.signal == SignalClass::Fire) {
            fire += 1;
            assert!(rule.latching && rule.on_delay <= Span::from_secs(5), "{}", rule.id);
        }
    }
    assert!(fire >= 7, "only {fire} fire rules");
    for id in ["residual_current", "cable_temperature", "arc", "electrical_alarm"] {
        let rules = &vocabulary().class(id).unwrap().rules;
        assert!(rules.iter().all(|rule| rule.signal != SignalClass::Fire), "{id} raises fire");
    }
}

#[test]
fn a_figure_cites_only_a_standard_that_was_read() {
    let mut cited = 0;
    for rule in vocabulary().classes().flat_map(|class| &class.rules) {
        let has_figure = !matches!(rule.condition, Condition::OneOf(_) | Condition::Is(_));
        let is_ours = rule.basis.starts_with(if has_figure { "本系统默认值" } else { "设备上报" });
        cited += usize::from(!is_ours);
        assert!(is_ours || VERIFIED.contains(&&*rule.basis), "{} cites {}", rule.id, rule.basis);
    }
    assert!(cited >= 4, "the cited rules are gone");
    let residual = &vocabulary().class("residual_current").unwrap().rules;
    let alarm = residual.iter().find(|rule| rule.id.as_str() == "residual-current-alarm").unwrap();
    assert_eq!((&*alarm.basis, &*alarm.title.zh), ("GB 50116-2013 9.2.3", "剩余电流报警"));
    assert_eq!((alarm.condition.limit_text("mA"), alarm.on_delay), ("≥ 300 mA".into(), Span::from_secs(10)));
}

#[test]
fn every_measured_class_reports_an_unusable_reading() {
    for class in vocabulary().classes() {
        let unusable = class.rules.iter().filter(|rule| rule.condition == Condition::Unusable).count();
        let gateway_own = ["link_state", "connection_state", "gateway_fault"].contains(&class.id.as_str());
        assert_eq!(unusable, usize::from(!gateway_own), "{}", class.id);
    }
    let link = vocabulary().class("link_state").unwrap();
    assert_eq!(link.rules[0].condition, Condition::Silent { after: Span::ZERO });
}

#[test]
fn the_payload_of_the_bench_decodes() {
    let profile = shipped("fengsui/smoke-json");
    let payload = br#"{"smoke":0,"temperature":23.4,"battery":98,"rssi":-71}"#;
    let (kind, address) = profile
        .topics()
        .iter()
        .enumerate()
        .find_map(|(kind, topic)| Some((kind, topic.matches("site/home/device/sd-01/up")?)))
        .unwrap();
    let decoded = profile.decode_message(kind, payload, NOW);
    let shown: Vec<String> = decoded
        .samples
        .iter()
        .map(|sample| format!("{}={} {:?}", profile.points[sample.point].name, sample.value, sample.quality))
        .collect();
    assert_eq!(address, "sd-01");
    assert_eq!(shown, ["smoke=normal Good", "temperature=23.4 Good", "battery=98 Good", "rssi=-71 Good"]);
}

// ---- the vocabulary's reader ----

const CLASS: &str = r#"
format = 1
[[class]]
id = "smoke_alarm"
quantity = "state"
name = { zh = "感烟", en = "Smoke" }
states = [{ code = "normal", zh = "正常", en = "normal" }, { code = "alarm", zh = "火警", en = "alarm" }]
[[class.rule]]
id = "smoke-fire"
one_of = ["alarm"]
signal = "fire"
priority = "red"
title = { zh = "火警", en = "Fire" }
basis = "本系统默认值"
"#;

#[test]
fn a_fire_rule_that_would_not_latch_is_refused() {
    assert!(Vocabulary::parse("v.toml", CLASS).is_ok());
    let text = format!("{CLASS}latching = false\ndeadband = 0.5\non_delay_secs = 600\n");
    let problems = pointed(&text, &Vocabulary::parse("v.toml", &text).unwrap_err());
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].0 == "false" && problems[0].1.contains("always latches"), "{problems:?}");
}

#[test]
fn a_wrong_vocabulary_says_everything_at_once() {
    let text = CLASS
        .replace("\"alarm\"]", "\"alram\"]")
        .replace("\"red\"", "\"rde\"")
        .replace("id = \"smoke_alarm\"", "id = \"Smoke\"");
    let problems = pointed(&text, &Vocabulary::parse("v.toml", &text).unwrap_err());
    assert_eq!(problems.len(), 1, "the class's own id comes first: {problems:?}");
    let text = text.replace("id = \"Smoke\"", "id = \"smoke\"");
    let problems = pointed(&text, &Vocabulary::parse("v.toml", &text).unwrap_err());
    let words: Vec<&str> = problems.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["\"rde\"", "\"alram\""]);
    assert!(problems[1].1.contains("did you mean \"alarm\"?"), "{problems:?}");
}

// ---- the profile's reader ----

const PROFILE: &str = r#"
[device]
vendor = "Acme"
model = "SD-100"
name = { zh = "烟感", en = "Smoke" }
source = "SD-100 manual rev C, p. 14"
[mqtt]
topics = ["acme/{address}"]
[[point]]
name = "smoke"
class = "smoke_alarm"
from = { json = "smoke" }
codes = { 0 = "normal", 1 = "alarm" }
[[point]]
name = "temperature"
class = "heat_temperature"
unit = "℃"
from = { json = "t" }
[[example]]
name = "rest"
input = '{"smoke":0,"t":20}'
readings = { smoke = "normal", temperature = "20 ℃" }
[[example]]
name = "fire"
input = '{"smoke":1,"t":70}'
readings = { smoke = "alarm", temperature = "158 °F" }
[[example]]
name = "bad"
input = ''
refused = true
"#;

#[test]
fn a_profile_with_many_mistakes_tells_all_of_them_with_their_place() {
    assert_eq!(parse(PROFILE).unwrap().check_examples(), []);
    let text = PROFILE
        .replace("heat_temperature", "heat_temprature")
        .replace("1 = \"alarm\"", "1 = \"alrm\"")
        .replace("acme/{address}", "acme/+")
        .replace("json = \"t\"", "json = \"t[\"")
        .replace("\"Acme\"", "\"\"");
    let problems = pointed(&text, &parse(&text).unwrap_err());
    let words: Vec<&str> = problems.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["\"\"", "\"acme/+\"", "\"alrm\"", "{ json = \"t[\" }", "\"heat_temprature\""]);
    assert!(problems[4].1.contains("did you mean \"heat_temperature\"?"), "{problems:?}");
}

#[test]
fn units_are_required_and_checked_against_the_quantity() {
    for (from, to, said) in [
        ("unit = \"℃\"\n", "", "a number needs its unit"),
        ("unit = \"℃\"", "unit = \"MPa\"", "\"MPa\" is no unit of temperature"),
        ("unit = \"℃\"", "unit = \"℃\"\nscale = 0", "a scale is not 0"),
        ("unit = \"℃\"", "unit = \"℃\"\nrange = [50, 10]", "the range is empty"),
        ("unit = \"℃\"", "unit = \"℃\"\ncodes = { 0 = \"normal\" }", "a number has no codes"),
        ("json = \"t\"", "table = \"input\", address = 0", "found by `json` or `codec`, or is plain `text`"),
        ("name = \"temperature\"", "name = \"link\"", "is taken"),
        ("[mqtt]", "[mqtt]\ntopix = 1", "unknown field `topix`"),
        ("refused = true", "refused = false", "a profile proves itself by examples"),
        ("temperature = \"20 ℃\"", "temprature = \"20 ℃\"", "did you mean \"temperature\"?"),
    ] {
        let text = PROFILE.replacen(from, to, 1);
        assert_ne!(text, PROFILE, "{from:?} is not in the profile");
        let problems = pointed(&text, &parse(&text).unwrap_err());
        assert!(problems.iter().any(|(_, problem)| problem.contains(said)), "{to:?}: {problems:?}");
    }
}

#[test]
fn an_example_that_lies_or_leaves_something_out_is_found() {
    for (from, to, said) in [
        ("\"20 ℃\"", "\"21 ℃\"", "expected \"21 ℃\""),
        ("\"158 °F\"", "\"20 ℃\"", "temperature = \"70 ℃\", expected \"20 ℃\""),
        ("smoke = \"alarm\"", "smoke = \"normal\"", "smoke = \"alarm\", expected \"normal\""),
        (", temperature = \"20 ℃\" }", " }", "temperature = \"20 ℃\" is not expected"),
        (
            "'{\"smoke\":1,\"t\":70}'",
            "'{\"smoke\":1,\"t\":20}'",
            "temperature = \"20 ℃\", expected \"158 °F\"",
        ),
        ("input = ''", "input = '{\"smoke\":0}'", "it should be refused, but was read"),
        ("1 = \"alarm\" }", "1 = \"alarm\", 2 = \"fault\" }", "no example shows smoke = \"fault\""),
        (
            "unit = \"℃\"",
            "unit = \"℃\"\nsentinels = [{ raw = -200, means = \"not_fitted\" }]",
            "\"not_fitted\"",
        ),
    ] {
        let text = PROFILE.replacen(from, to, 1);
        assert_ne!(text, PROFILE, "{from:?} is not in the profile");
        let failures: Vec<String> =
            parse(&text).unwrap().check_examples().into_iter().map(|failure| failure.message).collect();
        assert!(failures.iter().any(|failure| failure.contains(said)), "{to:?}: {failures:?}");
    }
}

#[test]
fn a_broken_profile_is_a_problem_and_the_rest_goes_on() {
    let mut with_broken = files();
    with_broken.push(("acme/broken.toml".into(), "[device".into()));
    with_broken.push(("Acme/SD 100.toml".into(), PROFILE.into()));
    with_broken.push(("acme/sd-100.toml".into(), PROFILE.into()));
    let (catalogue, problems) = Catalogue::parse(with_broken.into_iter());
    let named: Vec<&str> = problems.iter().map(|problem| &*problem.file).collect();
    assert_eq!(named, ["acme/broken.toml", "Acme/SD 100.toml"]);
    assert_eq!(catalogue.profiles.len(), CATALOGUE.profiles.len() + 1);
    let (empty, problems) = Catalogue::parse([("acme/sd-100.toml".into(), PROFILE.into())].into_iter());
    assert!(empty.profiles.is_empty() && problems[0].message.contains("vocabulary is missing"));
}

// ---- decoding: bad input ----

fn decoded(payload: &[u8]) -> fengsui::profile::Decoded {
    shipped("fengsui/smoke-json").decode_message(0, payload, NOW)
}

/// Python and C programs write what they could not measure as NaN, which is no JSON: the fire beside it must be heard.
#[test]
fn what_is_no_number_spoils_only_itself() {
    for word in ["NaN", "nan", "-nan", "Infinity", "-Infinity", "inf", "-INF"] {
        let payload = format!(r#"{{"smoke":1,"note":"a \": NaN, b","temperature": {word}}}"#);
        let decoded = decoded(payload.as_bytes());
        let named = |name: &str| {
            let points = &shipped("fengsui/smoke-json").points;
            decoded.samples.iter().find(|sample| points[sample.point].name == name).unwrap()
        };
        assert_eq!(named("smoke").value, Value::Code("alarm".into()), "{payload}");
        assert_eq!(named("temperature").flaw, Some(Flaw::Unreadable), "{payload}");
        assert_eq!(decoded.problems.len(), 1, "{payload}: {:?}", decoded.problems);
    }
    let unknown = decoded(br#"{"smoke":NaN}"#);
    assert_eq!((unknown.samples.len(), unknown.samples[0].flaw), (1, Some(Flaw::Unreadable)));
    for payload in [r#"{"smoke":nanometer}"#, r#"{"smoke":1,"a":[NaN,"#, r#"{NaN:1}"#, "Infinity,", "-"] {
        assert!(!decoded(payload.as_bytes()).understood, "{payload}");
    }
}

/// A detector that cannot be read watches nobody: that is told soon, and louder than another point's fault.
#[test]
fn a_fire_point_that_cannot_be_read_is_a_fault_within_a_minute() {
    let unusable = |class: &fengsui::profile::PointClass| {
        let rules: Vec<_> =
            class.rules.iter().filter(|rule| rule.condition == Condition::Unusable).cloned().collect();
        assert!(rules.len() <= 1, "{}", class.id);
        rules.into_iter().next()
    };
    let mut fire = 0;
    for class in vocabulary().classes() {
        if class.rules.iter().any(|rule| rule.signal == SignalClass::Fire) {
            fire += 1;
            let rule = unusable(class).unwrap_or_else(|| panic!("{} has none", class.id));
            assert!(
                rule.on_delay <= Span::from_secs(60) && rule.signal == SignalClass::Fault,
                "{}",
                class.id
            );
        }
    }
    assert_eq!(fire, 9, "classes that decide on fire");
    assert_eq!(unusable(vocabulary().class("battery").unwrap()).unwrap().on_delay, Span::from_secs(300));
}

#[test]
fn what_cannot_be_understood_is_refused_with_a_reason() {
    let long = vec![b'x'; 10 << 20];
    let cases: [(&[u8], &str); 9] = [
        (br#"{"smoke":NaN"#, "JSON"),
        (b"", "JSON"),
        (b"smoke=1", "JSON"),
        (br#"{"smoke":1"#, "JSON"),
        (br#"{"smoke":1} extra"#, "JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"[1,2]", "字段"),
        (b"42", "字段"),
        (&long, "过长"),
    ];
    for (payload, reason) in cases {
        let decoded = decoded(payload);
        let start = String::from_utf8_lossy(&payload[..payload.len().min(20)]).into_owned();
        assert!(!decoded.understood && decoded.samples.is_empty(), "{start}");
        assert!(decoded.problems[0].contains(reason), "{start}: {:?}", decoded.problems);
    }
    assert!(
        !shipped("fengsui/smoke-json").decode_message(7, b"{}", NOW).understood,
        "a topic it does not have"
    );
}

#[test]
fn a_bad_field_spoils_only_itself() {
    let payload =
        r#"{"unknown":{"deep":[1]},"smoke":1,"temperature":"hot","battery":1e999,"rssi":[1],"tamper":"x"}"#;
    let decoded = decoded(payload.as_bytes());
    let profile = shipped("fengsui/smoke-json");
    assert!(decoded.understood);
    for sample in &decoded.samples {
        let name = profile.points[sample.point].name.as_str();
        if name == "smoke" {
            assert_eq!((&sample.value, sample.quality), (&Value::Code("alarm".into()), Quality::Good));
        } else {
            let said = (&sample.value, sample.quality, sample.flaw);
            assert_eq!(said, (&Value::Absent, Quality::Bad, Some(Flaw::Unreadable)), "{name}");
        }
    }
    assert_eq!((decoded.samples.len(), decoded.problems.len()), (5, 4));
}

#[test]
fn an_unknown_smoke_code_is_never_taken_for_rest() {
    let decoded = decoded(br#"{"smoke":7}"#);
    assert_eq!(decoded.samples[0].flaw, Some(Flaw::Unreadable));
    assert_eq!(decoded.problems, ["smoke：未知代码 7"]);
}

#[test]
fn a_burning_sensor_reads_off_its_scale_and_keeps_its_value() {
    let decoded = decoded(br#"{"temperature":480}"#);
    let sample = &decoded.samples[0];
    assert_eq!((sample.value.to_string().as_str(), sample.quality), ("480", Quality::Bad));
    assert_eq!(sample.flaw, Some(Flaw::OffScaleHigh));
}

#[test]
fn a_clock_of_1970_or_2099_flags_the_sample_and_keeps_the_value() {
    for ts in ["12000", "4070908800000", "\"yesterday\"", "1e300", "-5"] {
        let decoded = decoded(format!(r#"{{"ts":{ts},"smoke":1,"temperature":-200}}"#).as_bytes());
        let smoke = &decoded.samples[0];
        assert_eq!(smoke.value, Value::Code("alarm".into()), "{ts}");
        let flaws = (smoke.quality, smoke.flaw, smoke.sampled_at, smoke.late);
        assert_eq!(flaws, (Quality::Uncertain, Some(Flaw::ClockSuspect), None, false), "{ts}");
        let flaws = (decoded.samples[1].quality, decoded.samples[1].flaw);
        assert_eq!(flaws, (Quality::Bad, Some(Flaw::NotFitted)), "the worse flaw stays");
    }
}

#[test]
fn a_plain_text_payload_is_one_value() {
    let text = PROFILE
        .replace("[\"acme/{address}\"]", "[\"acme/{address}/smoke\", \"acme/{address}/t\"]")
        .replace("{ json = \"smoke\" }", "{ text = true, topic = 0 }")
        .replace("{ json = \"t\" }", "{ text = true, topic = 1 }")
        .replace("0 = \"normal\"", "false = \"normal\"")
        .replace("1 = \"alarm\"", "true = \"alarm\"");
    let text = text.split("[[example]]").next().unwrap().to_owned()
        + "[[example]]\nname = \"a\"\ninput = \"true\"\nreadings = { smoke = \"alarm\" }\n\
           [[example]]\nname = \"b\"\ninput = \"\"\nrefused = true\n";
    let profile = parse(&text).unwrap();
    let value =
        |kind, payload: &str| profile.decode_message(kind, payload.as_bytes(), NOW).samples[0].value.clone();
    assert_eq!(value(0, "true\n"), Value::Code("alarm".into()));
    assert_eq!(value(1, " 21.5 ").to_string(), "21.5");
    for (kind, payload) in [(0, ""), (0, "maybe"), (1, "warm"), (1, "NaN"), (1, "inf")] {
        assert!(!profile.decode_message(kind, payload.as_bytes(), NOW).understood, "{payload:?}");
    }
}

// ---- registers ----

#[test]
fn a_refused_block_spoils_its_own_points_only() {
    let profile = shipped("eastron/sdm120");
    let blocks: Vec<RegisterBlock> = profile
        .poll_plan()
        .into_iter()
        .enumerate()
        .map(|(place, read)| RegisterBlock {
            table: read.table,
            start: read.start,
            count: read.count,
            words: if place == 0 { Err(Trouble::Exception(4)) } else { Ok(vec![0; read.count.into()]) },
        })
        .collect();
    assert_eq!(blocks.len(), 2);
    let decoded = profile.decode_registers(&blocks, NOW);
    let good = decoded.samples.iter().filter(|sample| sample.quality == Quality::Good).count();
    let unanswered = decoded.samples.iter().filter(|sample| sample.flaw == Some(Flaw::NoAnswer)).count();
    assert_eq!((decoded.samples.len(), good, unanswered), (5, 2, 3));
    assert_eq!(decoded.problems, ["寄存器 input@0 起 14 个：设备返回异常码 4"]);
}

#[test]
fn the_poll_plan_merges_as_far_as_holes_and_limits_allow() {
    let plan = |id: &str| -> Vec<(RegisterTable, u16, u16)> {
        shipped(id).poll_plan().into_iter().map(|read| (read.table, read.start, read.count)).collect()
    };
    assert_eq!(
        plan("eastron/sdm630"),
        [(RegisterTable::Input, 0, 12), (RegisterTable::Input, 52, 2), (RegisterTable::Input, 70, 4)]
    );
    assert_eq!(plan("waveshare/modbus-rtu-io-8ch"), [(RegisterTable::Discrete, 0, 8)]);
    assert_eq!(plan("fengsui/electrical-modbus"), [(RegisterTable::Input, 0, 11)]);
    assert_eq!(plan("fengsui/smoke-json"), []);
}

/// A Modbus profile with one u16 point at each of these addresses.
fn scattered(addresses: &[u16], hole_limit: u16, read_max: u16) -> Profile {
    let points: String = addresses
        .iter()
        .enumerate()
        .map(|(place, address)| {
            format!(
                "[[point]]\nname = \"p{place}\"\nclass = \"residual_current\"\nunit = \"mA\"\n\
                 from = {{ table = \"holding\", address = {address}, type = \"u16\" }}\n"
            )
        })
        .collect();
    let text = format!(
        "[device]\nvendor = \"a\"\nmodel = \"b\"\nname = {{ zh = \"甲\", en = \"a\" }}\nsource = \"a test\"\n\
         [modbus]\npoll_every_secs = 1\nhole_limit = {hole_limit}\nread_max = {read_max}\n{points}\
         [[example]]\nname = \"a\"\ninput = \"@{}: 0001\"\n\
         [[example]]\nname = \"b\"\ninput = \"@0+1: no_answer\"\nrefused = true\n",
        addresses[0]
    );
    parse(&text).unwrap()
}

proptest! {
    #[test]
    fn every_point_is_in_one_read_and_no_read_is_too_long(
        addresses in proptest::collection::btree_set(0u16..2000, 1..40),
        hole_limit in 0u16..20,
        read_max in 4u16..=2000,
    ) {
        let addresses: Vec<u16> = addresses.into_iter().collect();
        let profile = scattered(&addresses, hole_limit, read_max);
        let plan = profile.poll_plan();
        for address in &addresses {
            let covering = plan.iter().filter(|r| r.start <= *address && *address < r.start + r.count).count();
            prop_assert_eq!(covering, 1);
        }
        for read in &plan {
            prop_assert!(read.count <= read_max.min(REGISTERS_PER_READ_MAX).min(BITS_PER_READ_MAX));
            let inside: Vec<u16> = addresses.iter().copied()
                .filter(|a| read.start <= *a && *a < read.start + read.count).collect();
            prop_assert!(inside.windows(2).all(|pair| pair[1] - pair[0] - 1 <= hole_limit));
        }
        let blocks: Vec<RegisterBlock> = plan.iter().map(|read| RegisterBlock {
            table: read.table, start: read.start, count: read.count,
            words: Ok((0..read.count).map(|word| read.start + word).collect()),
        }).collect();
        for sample in profile.decode_registers(&blocks, NOW).samples {
            prop_assert_eq!(sample.value.to_string(), addresses[sample.point].to_string());
        }
    }
}

#[test]
fn the_longest_message_and_the_deepest_one_are_read_in_one_go() {
    let deep = "[".repeat(PAYLOAD_BYTES_MAX / 2 - 50);
    let message = format!(r#"{{"junk":{deep}{},"smoke":1}}"#, "]".repeat(deep.len()));
    assert!(message.len() <= PAYLOAD_BYTES_MAX);
    assert_eq!(decoded(message.as_bytes()).samples[0].value, Value::Code("alarm".into()));
}
