//! Several samples in one message, and the 4-20 mA loop: what is history, what is the present, what is a broken wire.

use super::parse;
use fengsui::model::Timestamp;
use fengsui::profile::{Profile, parse_iso8601};
use proptest::prelude::*;

fn profile(samples: &str, points: &str, examples: &str) -> String {
    format!(
        "[device]\nvendor = \"v\"\nmodel = \"m\"\nname = {{ zh = \"型\", en = \"m\" }}\nsource = \"a test\"\n
[mqtt]\ntopics = [\"log/{{address}}\"]\n{samples}\n{points}\n{examples}
[[example]]\nname = \"bad\"\ninput = '{{'\nrefused = true\n"
    )
}

const OWN_TIME: &str =
    "[mqtt.samples]\njson = \"log\"\ntime = \"ts\"\nunit = \"s\"\n[time]\njson = \"now\"\nunit = \"s\"\n";

const PRESSURE: &str = "[[point]]\nname = \"pressure\"\nclass = \"pipe_pressure\"\nunit = \"kPa\"\nfrom = { json = \"p\", sample = \"p\" }\n
[[point]]\nname = \"water\"\nclass = \"cable_temperature\"\nunit = \"℃\"\nfrom = { sample = \"in.t\" }\n";

fn read(text: &str) -> Profile {
    parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn samples_with_their_own_times_are_history_and_the_newest_of_a_point_is_the_present() {
    let examples = r#"
[[example]]
name = "the message also tells the present"
received_at = "2026-01-15T02:30:05Z"
sampled_at = "2026-01-15T02:30:00Z"
input = '{"p":400,"now":1768444200,"log":[{"ts":1768444140,"p":380,"in":{"t":7}},{"ts":1768444080,"p":390},{"ts":1768444200,"in":{"t":8}}]}'
readings = { pressure = "0.4 MPa", water = "8 ℃" }
history = { pressure = ["0.39 MPa @ 2026-01-15T02:28:00Z", "0.38 MPa @ 2026-01-15T02:29:00Z"], water = ["7 ℃ @ 2026-01-15T02:29:00Z"] }

[[example]]
name = "samples alone"
received_at = "2026-01-15T02:30:05Z"
sampled_at = "2026-01-15T02:29:00Z"
input = '{"log":[{"ts":1768444080,"p":390},{"ts":1768444140,"p":380,"in":{"t":9}}]}'
readings = { pressure = "0.38 MPa", water = "9 ℃" }
history = { pressure = ["0.39 MPa @ 2026-01-15T02:28:00Z"] }
"#;
    assert_eq!(read(&profile(OWN_TIME, PRESSURE, examples)).check_examples(), []);
    // What an example expects of the past is looked at.
    let wrong = examples
        .replace("0.39 MPa @ 2026-01-15T02:28:00Z\", \"0.38", "0.39 MPa @ 2026-01-15T02:27:00Z\", \"0.38");
    let failures = read(&profile(OWN_TIME, PRESSURE, &wrong)).check_examples();
    assert!(
        failures.len() == 1 && failures[0].message.contains("the history of pressure is"),
        "{failures:?}"
    );
}

#[test]
fn samples_at_a_fixed_pace_count_back_from_the_messages_time() {
    let paced = |newest: &str| {
        format!(
            "[mqtt.samples]\njson = \"values\"\nevery_secs = 60\nnewest = \"{newest}\"\n[time]\njson = \"now\"\nunit = \"s\"\n"
        )
    };
    let points = "[[point]]\nname = \"pressure\"\nclass = \"pipe_pressure\"\nunit = \"kPa\"\nfrom = { sample = \"$\" }\n";
    let example = |input: &str| {
        format!(
            "[[example]]\nname = \"a\"\nreceived_at = \"2026-01-15T02:30:05Z\"\nsampled_at = \"2026-01-15T02:30:00Z\"\ninput = '{{\"now\":1768444200,\"values\":{input}}}'\n
readings = {{ pressure = \"0.4 MPa\" }}\nhistory = {{ pressure = [\"0.38 MPa @ 2026-01-15T02:28:00Z\", \"0.39 MPa @ 2026-01-15T02:29:00Z\"] }}\n"
        )
    };
    let once = points.replace("from =", "single_example = \"a test\"\nfrom =");
    for (newest, values) in [("last", "[380,390,400]"), ("first", "[400,390,380]")] {
        assert_eq!(read(&profile(&paced(newest), &once, &example(values))).check_examples(), [], "{newest}");
    }
}

#[test]
fn what_is_wrong_with_a_list_of_samples_spoils_only_itself_and_is_told() {
    let example = "[[example]]\nname = \"a\"\ninput = '{\"p\":400}'\nreadings = { pressure = \"0.4 MPa\" }\n";
    let profile = read(&profile(OWN_TIME, PRESSURE, example));
    let at = parse_iso8601("2026-01-15T02:30:05Z").unwrap();
    let decoded = |message: &str| profile.decode_message(0, message.as_bytes(), at);
    let present = |message: &str| decoded(message).samples.iter().filter(|sample| !sample.late).count();
    assert_eq!(present(r#"{"p":400,"log":7}"#), 1);
    assert_eq!(decoded(r#"{"p":400,"log":7}"#).problems, ["历史数据不是数组"]);
    assert!(decoded(r#"{"log":[]}"#).understood, "nothing was kept: no complaint");
    assert!(!decoded(r#"{"other":1}"#).understood);
    let no_time = decoded(r#"{"log":[{"p":390},{"ts":12,"p":391}]}"#);
    assert!(no_time.samples.iter().all(|sample| sample.flaw.is_some()), "{no_time:?}");
    let one_bad = decoded(r#"{"log":[{"ts":1768444140,"p":"high"},{"ts":1768444200,"p":390}]}"#);
    assert_eq!((one_bad.samples.len(), one_bad.problems.len()), (2, 1), "{one_bad:?}");
    let many = format!("{{\"log\":[{}]}}", vec![r#"{"ts":1768444140,"p":1}"#; 2000].join(","));
    let many = decoded(&many);
    assert_eq!((many.samples.len(), many.problems.len()), (1440, 1), "{:?}", many.problems);
    assert!(many.problems[0].contains("2000 项"), "{:?}", many.problems);
}

#[test]
fn a_list_of_samples_needs_its_times_and_a_point_that_reads_them() {
    let said = |samples: &str, points: &str| {
        let problems = parse(&profile(samples, points, "")).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (samples, why) in [
        ("[mqtt.samples]\njson = \"log\"\n", "a sample has a `time`"),
        ("[mqtt.samples]\njson = \"log\"\ntime = \"ts\"\n", "the time has no unit"),
        ("[mqtt.samples]\njson = \"log\"\nevery_secs = 60\n", "which sample is the newest?"),
        (
            "[mqtt.samples]\njson = \"log\"\nevery_secs = 0\nnewest = \"last\"\n",
            "do not follow each other so",
        ),
        ("[mqtt.samples]\ntime = \"ts\"\nunit = \"s\"\n", "the samples lie at `json` or at `codec`"),
        ("", "there are none"),
    ] {
        let said = said(samples, PRESSURE);
        assert!(said.contains(why), "{samples}: {said}");
    }
}

#[test]
fn a_loop_of_4_to_20_ma_measures_or_says_that_it_is_broken() {
    let text = |range: &str| {
        format!(
            "[device]\nvendor = \"v\"\nmodel = \"m\"\nname = {{ zh = \"型\", en = \"m\" }}\nsource = \"a test\"\n[modbus]\npoll_every_secs = 5\n
[[point]]\nname = \"pressure\"\nclass = \"pipe_pressure\"\nunit = \"MPa\"\ncurrent_loop = {{ scale = 0.001, at_4_ma = 0.0, at_20_ma = 1.6 }}\n{range}
from = {{ table = \"input\", address = 0, type = \"u16\" }}
[[example]]\nname = \"half\"\ninput = \"@0: 2EE0\"\nreadings = {{ pressure = \"0.8 MPa\" }}
[[example]]\nname = \"full\"\ninput = \"@0: 4E20\"\nreadings = {{ pressure = \"1.6 MPa\" }}
[[example]]\nname = \"a little above: the transmitter is saturated\"\ninput = \"@0: 5014\"\nreadings = {{ pressure = \"1.65 MPa\" }}
[[example]]\nname = \"neither\"\ninput = \"@0: 5140\"\nreadings = {{ pressure = \"1.68 MPa off_scale_high\" }}
[[example]]\nname = \"a broken wire\"\ninput = \"@0: 0000\"\nreadings = {{ pressure = \"sensor_fault\" }}
[[example]]\nname = \"a short\"\ninput = \"@0: 5208\"\nreadings = {{ pressure = \"sensor_fault\" }}
[[example]]\nname = \"none\"\ninput = \"@0+1: no_answer\"\nrefused = true\n"
        )
    };
    assert_eq!(read(&text("")).check_examples(), []);
    let unseen = text("").replace("sensor_fault", "0 MPa");
    let failures: Vec<String> =
        read(&unseen).check_examples().into_iter().map(|failure| failure.message).collect();
    assert!(failures.iter().any(|why| why.contains("with a broken loop")), "{failures:?}");
    let wrong = parse(&text("scale = 0.1")).unwrap_err();
    assert!(wrong[0].to_string().contains("a current loop has its own scale"), "{wrong:?}");
    let flat = parse(&text("").replace("at_20_ma = 1.6", "at_20_ma = 0.0")).unwrap_err();
    assert!(flat[0].to_string().contains("two different ends"), "{flat:?}");
}

proptest! {
    /// Whatever a list holds, the newest dated value of a point is the last of its samples and the only one that may be the present.
    #[test]
    fn of_samples_in_any_order_only_the_newest_is_the_present(
        times in prop::collection::vec(1_768_440_000_i64..1_768_444_200, 1..40), present: bool,
    ) {
        let example = "[[example]]\nname = \"a\"\ninput = '{\"p\":400}'\nreadings = { pressure = \"0.4 MPa\" }\n";
        let profile = read(&profile(OWN_TIME, PRESSURE, example));
        let list: Vec<String> = times.iter().map(|ts| format!("{{\"ts\":{ts},\"p\":{}}}", ts % 1000)).collect();
        let head = if present { "\"p\":400,\"now\":1768444200," } else { "" };
        let message = format!("{{{head}\"log\":[{}]}}", list.join(","));
        let at = Timestamp::from_secs(1_768_444_205);
        let samples = profile.decode_message(0, message.as_bytes(), at).samples;
        prop_assert_eq!(samples.len(), times.len() + usize::from(present));
        prop_assert!(samples.windows(2).all(|pair| pair[0].sampled_at <= pair[1].sampled_at));
        let newest = samples.last().unwrap().sampled_at;
        for sample in &samples {
            prop_assert!(sample.late || sample.sampled_at == newest);
        }
        prop_assert!(!present || samples.iter().filter(|sample| !sample.late).count() == 1);
    }
}
