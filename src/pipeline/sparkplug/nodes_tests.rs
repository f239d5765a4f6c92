//! The table of births: aliases, gaps, deaths, bounds.

use super::*;
use crate::model::Timestamp;
use proptest::prelude::*;

/// A payload written by hand: `(alias, name, datatype)` of each metric, each with the integer 1.
fn written(seq: Option<u8>, bd_seq: Option<u8>, metrics: &[(Option<u8>, &str, u8)]) -> Vec<u8> {
    let field =
        |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let mut payload = Vec::new();
    for (alias, name, datatype) in metrics {
        let mut metric = if name.is_empty() { Vec::new() } else { field(1, name.as_bytes()) };
        metric.extend(alias.iter().flat_map(|alias| [0x10, *alias]));
        if *datatype > 0 {
            metric.extend([0x20, *datatype]);
        }
        metric.extend([0x50, 1]);
        payload.extend(field(2, &metric));
    }
    if let Some(bd_seq) = bd_seq {
        payload.extend(field(2, &[field(1, b"bdSeq"), vec![0x20, 8, 0x58, bd_seq]].concat()));
    }
    // A varint of at most two bytes.
    payload.extend(seq.into_iter().flat_map(|seq| [0x18, seq | 0x80, seq >> 7]));
    payload
}

fn link() -> LinkId {
    LinkId::parse("broker").unwrap()
}

/// What a message says: the names, how many are unknown, and the words gap, incomplete, outdated.
fn take(nodes: &mut Nodes, topic: &str, bytes: &[u8]) -> String {
    let payload = Payload::decode(bytes).unwrap();
    let understood = nodes.take(&link(), &SparkplugTopic::parse(topic).unwrap(), &payload);
    let mut told: Vec<String> =
        understood.metrics.iter().map(|named| format!("{}:{:?}", named.name, named.datatype)).collect();
    told.extend((understood.unknown > 0).then(|| format!("{} unknown", understood.unknown)));
    let words =
        [(understood.gap, "gap"), (understood.incomplete, "incomplete"), (understood.outdated, "outdated")];
    told.extend(words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned()));
    told.join(" ")
}

#[test]
fn a_node_that_is_planned_no_more_is_forgotten_with_its_aliases() {
    let mut nodes = Nodes::default();
    take(&mut nodes, BIRTH, &written(Some(0), Some(1), &[]));
    take(&mut nodes, DEVICE_BIRTH, &written(Some(1), None, &[(Some(7), "Smoke/Alarm", 11)]));
    nodes.keep_only(|_, node| node == "g/e");
    assert_eq!(take(&mut nodes, DATA, &written(Some(2), None, &[(Some(7), "", 0)])), "Smoke/Alarm:Boolean");
    nodes.keep_only(|_, _| false);
    assert_eq!(nodes.metrics, 0);
    assert_eq!(take(&mut nodes, DATA, &written(Some(3), None, &[(Some(7), "", 0)])), "1 unknown incomplete");
}

const BIRTH: &str = "spBv1.0/g/NBIRTH/e";
const DEATH: &str = "spBv1.0/g/NDEATH/e";
const DEVICE_BIRTH: &str = "spBv1.0/g/DBIRTH/e/d";
const DATA: &str = "spBv1.0/g/DDATA/e/d";

#[test]
fn an_alias_has_the_name_and_the_type_of_its_birth() {
    let mut nodes = Nodes::default();
    take(&mut nodes, BIRTH, &written(Some(0), Some(1), &[(Some(1), "Uptime", 7)]));
    take(&mut nodes, DEVICE_BIRTH, &written(Some(1), None, &[(Some(2), "Smoke", 11), (None, "Heat", 3)]));
    let data = written(Some(2), None, &[(Some(2), "", 0), (None, "Heat", 0)]);
    assert_eq!(take(&mut nodes, DATA, &data), "Smoke:Boolean Heat:Int32");
    // The node's alias is no alias of its device, nor the other way round.
    assert_eq!(take(&mut nodes, DATA, &written(Some(3), None, &[(Some(1), "", 0)])), "1 unknown incomplete");
    let data = written(Some(4), None, &[(Some(1), "", 0), (Some(9), "Own name", 11)]);
    assert_eq!(take(&mut nodes, "spBv1.0/g/NDATA/e", &data), "Uptime:UInt32 Own name:Boolean");
}

#[test]
fn data_before_any_birth_is_incomplete_and_read_as_far_as_it_names_itself() {
    let mut nodes = Nodes::default();
    let data = written(Some(7), None, &[(Some(2), "", 0), (Some(3), "Smoke", 11)]);
    assert_eq!(take(&mut nodes, DATA, &data), "Smoke:Boolean 1 unknown incomplete");
}

#[test]
fn a_new_birth_forgets_the_aliases_of_the_old_one() {
    let mut nodes = Nodes::default();
    take(&mut nodes, BIRTH, &written(Some(0), Some(1), &[]));
    take(&mut nodes, DEVICE_BIRTH, &written(Some(1), None, &[(Some(2), "Smoke", 11)]));
    take(&mut nodes, DEVICE_BIRTH, &written(Some(2), None, &[(Some(5), "Smoke", 11)]));
    assert_eq!(take(&mut nodes, DATA, &written(Some(3), None, &[(Some(2), "", 0)])), "1 unknown incomplete");
    take(&mut nodes, BIRTH, &written(Some(0), Some(2), &[]));
    assert_eq!(take(&mut nodes, DATA, &written(Some(1), None, &[(Some(5), "", 0)])), "1 unknown incomplete");
    assert_eq!(nodes.metrics, nodes.nodes.values().map(|node| node.metrics.len()).sum::<usize>());
}

#[test]
fn a_missing_message_is_a_gap_and_a_repeated_one_is_none() {
    let mut nodes = Nodes::default();
    take(&mut nodes, BIRTH, &written(Some(0), Some(1), &[]));
    let mut data = |seq| take(&mut nodes, DATA, &written(seq, None, &[]));
    assert_eq!([data(Some(1)), data(Some(1)), data(Some(2))], ["", "", ""]);
    assert_eq!(data(Some(4)), "gap incomplete");
    assert_eq!([data(Some(5)), data(None), data(Some(9))], ["", "", ""]);
    let mut nodes = Nodes::default();
    take(&mut nodes, BIRTH, &written(Some(255), Some(1), &[]));
    assert_eq!(take(&mut nodes, DATA, &written(Some(0), None, &[])), "", "after 255 comes 0");
}

#[test]
fn the_last_will_of_an_older_connection_kills_nobody() {
    let mut nodes = Nodes::default();
    take(&mut nodes, BIRTH, &written(Some(0), Some(4), &[(Some(1), "Smoke", 11)]));
    assert_eq!(take(&mut nodes, DEATH, &written(None, Some(3), &[])), "outdated");
    assert_eq!(
        take(&mut nodes, "spBv1.0/g/NDATA/e", &written(Some(1), None, &[(Some(1), "", 0)])),
        "Smoke:Boolean"
    );
    assert_eq!(take(&mut nodes, DEATH, &written(None, Some(4), &[])), "");
    let data = written(Some(2), None, &[(Some(1), "", 0)]);
    assert_eq!(take(&mut nodes, "spBv1.0/g/NDATA/e", &data), "1 unknown incomplete");
}

#[test]
fn a_node_is_asked_once_a_minute() {
    let mut nodes = Nodes::default();
    let topic = SparkplugTopic::parse(DATA).unwrap();
    take(&mut nodes, DATA, &written(Some(1), None, &[]));
    let at = |secs: i64| Timestamp::from_secs(1_800_000_000 + secs);
    let asked: Vec<bool> = [0, 1, 59, 60, 61].map(|secs| nodes.may_ask(&link(), &topic, at(secs))).into();
    assert_eq!(asked, [true, false, false, true, false]);
    nodes.shift(Span::from_secs(-1000));
    assert!(!nodes.may_ask(&link(), &topic, at(-939)), "the clock was set back, not the patience");
    assert!(nodes.may_ask(&link(), &topic, at(-940 + 60)));
}

proptest! {
    #[test]
    fn whatever_comes_the_table_is_bounded_and_counts_itself(
        messages in prop::collection::vec((0usize..6, 0u8..5, prop::collection::vec((prop::option::of(0u8..9), "[a-c]{0,1}", 0u8..13), 0..6)), 0..40)
    ) {
        let mut nodes = Nodes::default();
        let topics = [BIRTH, DEATH, DEVICE_BIRTH, DATA, "spBv1.0/g/DDEATH/e/d", "spBv1.0/g/DBIRTH/e/x"];
        for (topic, seq, metrics) in messages {
            let metrics: Vec<_> = metrics.iter().map(|(alias, name, datatype)| (*alias, name.as_str(), *datatype)).collect();
            take(&mut nodes, topics[topic], &written(Some(seq), Some(seq % 2), &metrics));
            prop_assert_eq!(nodes.metrics, nodes.nodes.values().map(|node| node.metrics.len()).sum::<usize>());
            prop_assert!(nodes.metrics <= METRICS_MAX);
        }
    }
}
