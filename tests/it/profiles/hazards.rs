//! The hazard examples: what series of a device's frames raise under the default rules, and that nothing which a device can
//! raise is left unshown.

use super::{CATALOGUE, NOW, PROFILE, files, parse, pointed, vocabulary};
use fengsui::model::{Change, SignalClass};
use fengsui::pipeline::{Rehearsal, Why};
use fengsui::profile::Profile;
use proptest::prelude::*;
use std::sync::Arc;

/// A profile of a smoke detector with a thermometer, and these lines behind it.
fn with(hazards: &str) -> Profile {
    parse(&format!("{PROFILE}{hazards}")).unwrap()
}

/// What is told of a hazard example with this series and these lines.
fn told(series: &str, expect: &str) -> Vec<(String, String)> {
    let text =
        format!("{PROFILE}[[hazard_example]]\nname = \"x\"\nseries = [{series}]\nexpect = [{expect}]\n");
    let profile = parse(&text).unwrap();
    pointed(&text, &profile.hazard_examples.problems)
}

#[test]
fn every_alarm_that_an_example_meets_is_shown_with_what_comes_of_it() {
    let (mut alarming, mut shown, mut lines, mut due, mut wrong) = (0, 0, 0, 0, Vec::new());
    for profile in CATALOGUE.profiles.values() {
        let rehearsal = Rehearsal::new(profile, vocabulary()).unwrap();
        let examples = &profile.hazard_examples;
        wrong.extend(examples.problems.iter().map(|problem| format!("{}: {problem}", profile.id)));
        wrong.extend(rehearsal.unshown().iter().map(|due| format!("{}: {due:?} is not shown", profile.id)));
        for example in &examples.list {
            let compared = example.compare(&rehearsal.play(example));
            wrong.extend(compared.map(|text| format!("{} {:?}\n{text}", profile.id, example.name)));
        }
        if rehearsal.can_alarm() {
            alarming += 1;
            assert!(!examples.list.is_empty(), "{} shows no alarm", profile.id);
        }
        let expected = || examples.list.iter().flat_map(|example| &example.expected);
        let all = rehearsal.due();
        if all.iter().any(|due| due.self_clearing) {
            let returns = expected().any(|told| told.change == Change::Returned && !told.latched);
            assert!(returns, "{} shows no hazard that is over", profile.id);
        }
        shown += examples.list.len();
        lines += expected().count();
        due += all.len();
    }
    println!("{alarming} alarming profiles, {shown} hazard examples, {lines} lines, {due} rules");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A guard against a check that silently visits nothing: raise the figures with the catalogue.
    assert!(alarming >= 130 && lines >= 1207 && due >= 550, "the catalogue shrank");
    let written: usize = files()
        .iter()
        .map(|(_, text)| {
            text.lines()
                .filter(|line| ["[[hazard_example]]", "[[variant.hazard_example]]"].contains(line))
                .count()
        })
        .sum();
    assert!(shown == written && shown >= 319, "{shown} of {written} hazard examples were played");
}

#[test]
fn what_a_hazard_example_calls_a_fire_latches_and_is_raised_within_seconds() {
    let mut fires = 0;
    for profile in CATALOGUE.profiles.values() {
        for example in &profile.hazard_examples.list {
            for told in example.expected.iter().filter(|told| told.signal == SignalClass::Fire) {
                let place = format!("{} {:?}: {}", profile.id, example.name, example.line(told));
                match told.change {
                    Change::Returned => assert!(told.latched, "{place}"),
                    _ => {
                        fires += 1;
                        assert!(told.after.as_millis() <= 5000, "{place}");
                    }
                }
            }
        }
    }
    assert!(fires >= 60, "only {fires} fires are shown");
}

#[test]
fn a_series_tells_each_change_with_its_frame_and_how_long_after_it() {
    let profile = Arc::new(with(
        "[[hazard_example]]\nname = \"a fire, seen twice\"\n\
         series = [\"rest\", \"10s fire\", \"40s\", \"1m rest\", \"2m\", \"fire\"]\nexpect = []\n",
    ));
    assert_eq!(profile.hazard_examples.problems, []);
    let example = &profile.hazard_examples.list[0];
    let came = Rehearsal::new(&profile, vocabulary()).unwrap().play(example);
    let lines: Vec<String> = came.iter().map(|told| example.line(told)).collect();
    assert_eq!(
        lines,
        [
            "fire: smoke fire smoke-fire raised",
            "fire: temperature fire heat-temperature-fire raised",
            "fire +30s: temperature supervisory heat-temperature-warning raised",
            "rest (2): smoke fire smoke-fire returned, latched",
            "rest (2): temperature fire heat-temperature-fire returned, latched",
            "rest (2) +1m: temperature supervisory heat-temperature-warning returned",
            "fire (2): smoke fire smoke-fire raised_again",
            "fire (2): temperature fire heat-temperature-fire raised_again",
        ]
    );
    // Nothing was expected: every line is too much. And the order of the lines says nothing.
    assert_eq!(example.compare(&came).unwrap().matches("+ ").count(), 8);
    let mut expecting = example.clone();
    expecting.expected = came.iter().rev().cloned().collect();
    assert_eq!(expecting.compare(&came), None);
    // A change that came twice is not the one that was expected once.
    expecting.expected.pop();
    assert!(expecting.compare(&came).unwrap().starts_with("+ fire: smoke fire smoke-fire raised\n"));
}

#[test]
fn what_an_example_meets_and_every_limit_of_fire_has_to_be_shown() {
    let profile = Arc::new(with(""));
    let rehearsal = Rehearsal::new(&profile, vocabulary()).unwrap();
    let due: Vec<(String, Why)> =
        rehearsal.unshown().into_iter().map(|due| (format!("{} {}", due.point, due.rule), due.why)).collect();
    let met = Why::Example("fire".to_owned());
    assert_eq!(
        due,
        [
            ("smoke smoke-fire".to_owned(), met.clone()),
            ("temperature heat-temperature-warning".to_owned(), met.clone()),
            ("temperature heat-temperature-fire".to_owned(), met),
        ]
    );
    let cool = Arc::new(parse(&PROFILE.replace("\"t\":70", "\"t\":20")).unwrap());
    let due = Rehearsal::new(&cool, vocabulary()).unwrap().unshown();
    assert!(due.iter().any(|due| due.why == Why::FireLimit), "{due:?}");
}

/// A rule that a later vocabulary renames must not leave a detector unwatched.
#[test]
fn a_mistake_in_a_hazard_example_costs_the_gateway_nothing() {
    let profile = with(
        "[[hazard_example]]\nname = \"x\"\nseries = [\"rest\", \"fire\"]\n\
         expect = [\"fire: smoke fire a-rule-of-last-year raised\"]\n",
    );
    assert_eq!(profile.hazard_examples.problems.len(), 1);
    assert_eq!(profile.check_examples(), []);
    assert!(profile.decode_message(0, br#"{"smoke":1,"t":20}"#, NOW).understood);
}

#[test]
fn every_mistake_in_a_hazard_example_says_where_it_is_and_what_was_meant() {
    let series = "\"rest\", \"10s fire\"";
    for (line, said) in [
        ("fire: smok fire smoke-fire raised", "did you mean \"smoke\"?"),
        ("fire: smoke fire smoke-fires raised", "did you mean \"smoke-fire\"?"),
        (
            "fire: smoke fire heat-temperature-fire raised",
            "no default rule \"heat-temperature-fire\" watches smoke",
        ),
        ("fire: smoke fire smoke-fire raisd", "did you mean \"raised\"?"),
        ("fire: smoke fire smoke-fire reset", "use one of: raised, raised_again, returned"),
        ("fire: smoke fault smoke-fire raised", "smoke-fire is fire, not \"fault\""),
        ("fier: smoke fire smoke-fire raised", "did you mean \"fire\"?"),
        ("fire (2): smoke fire smoke-fire raised", "use one of: rest, fire"),
        ("fire +5x: smoke fire smoke-fire raised", "no frame of the series"),
        ("rest: smoke fire smoke-fire returned", "write: returned, latched"),
        ("fire: smoke fire smoke-fire raised, latched", "remove: , latched"),
        ("fire", "write: frame: point signal rule change"),
    ] {
        let told = told(series, &format!("{line:?}"));
        let place = (told.len(), told.first().map(|(word, _)| word.as_str()));
        assert_eq!(place, (1, Some(format!("{line:?}").as_str())), "{told:?}");
        assert!(told[0].1.contains(said), "{line}: {told:?}");
    }
    for (series, said) in [
        ("\"rest\", \"10s fyre\"", "did you mean \"fire\"?"),
        ("\"rest\", \"10 s fire\"", "no [[example]] of this file is called \"10 s fire\""),
        ("\"10s\", \"fire\"", "is called \"\""),
        ("\"rest\", \"49h fire\"", "the wait is too long"),
        ("", "the series is empty"),
    ] {
        let told = told(series, "");
        assert!(told.len() == 1 && told[0].1.contains(said), "{series}: {told:?}");
    }
    let twice = "[[hazard_example]]\nname = \"x\"\nseries = [\"rest\"]\n".repeat(2);
    assert!(with(&twice).hazard_examples.problems[0].message.contains("the name is taken"));
}

proptest! {
    #[test]
    fn no_text_makes_a_hazard_example_fail(
        frame in "(rest|fire|bad|[0-9dhms]{0,6}|\\PC{0,8}| ){0,4}",
        line in "(rest|fire|:|\\+| |[0-9]{0,25}[dhms]|smoke|smoke-fire|raised|, latched|\\PC{0,6}){0,9}",
    ) {
        let quoted = |text: &str| text.replace(['\\', '"'], "").replace(char::is_control, " ");
        let (frame, line) = (quoted(&frame), quoted(&line));
        for (place, problem) in told(&format!("\"rest\", \"{frame}\""), &format!("\"{line}\"")) {
            prop_assert!(!place.is_empty() && !problem.is_empty());
        }
    }
}
