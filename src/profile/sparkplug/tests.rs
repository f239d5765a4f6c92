//! Sparkplug B: payloads as the specification and the Tahu libraries write them, and whatever else comes.

use super::super::device_time::Taken;
use super::super::meaning::Raw;
use super::payload::{METRICS_MAX, flatten};
use super::protobuf::{put_bytes, put_varint};
use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(1_768_444_205); // 2026-01-15T02:30:05Z

fn fixed32(message: &mut Vec<u8>, field: u8, bits: u32) {
    put_varint(message, u64::from(field), 0);
    let place = message.len() - 2;
    message.truncate(place);
    message.extend([if field < 16 { field << 3 | 5 } else { panic!("one byte of key") }]);
    message.extend(bits.to_le_bytes());
}

/// A metric with name and type, and whatever `more` adds.
fn metric(name: &str, kind: DataType, more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, 1, name.as_bytes());
    put_varint(&mut bytes, 4, kind as u64);
    more(&mut bytes);
    bytes
}

fn payload_of(metrics: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, 1, 1_768_444_205_000);
    for metric in metrics {
        put_bytes(&mut bytes, 2, metric);
    }
    put_varint(&mut bytes, 3, 7);
    bytes
}

/// Every value of a payload: `name = value`.
fn told(bytes: &[u8]) -> Vec<String> {
    let payload = Payload::decode(bytes).unwrap();
    let mut values = Vec::new();
    for metric in &payload.metrics {
        flatten(&NamedMetric::of(metric).unwrap(), payload.timestamp, NOW, &mut values);
    }
    values.iter().map(|value| format!("{} = {}", value.name, value.raw)).collect()
}

#[test]
fn every_scalar_type_is_read_with_its_sign() {
    let int = |kind, bits: u64| {
        move |bytes: &mut Vec<u8>| {
            let _: DataType = kind;
            put_varint(bytes, if bits > u64::from(u32::MAX) { 11 } else { 10 }, bits)
        }
    };
    let bytes = payload_of(&[
        metric("i8", DataType::Int8, int(DataType::Int8, 0xFE)),
        metric("i8 of four bytes", DataType::Int8, int(DataType::Int8, 0xFFFF_FFFE)),
        metric("i16", DataType::Int16, int(DataType::Int16, 0xFFFE)),
        metric("i32", DataType::Int32, int(DataType::Int32, 0xFFFF_FFFE)),
        metric("i64", DataType::Int64, int(DataType::Int64, u64::MAX - 1)),
        metric("u32", DataType::UInt32, int(DataType::UInt32, 0xFFFF_FFFE)),
        metric("flag", DataType::Boolean, |bytes| put_varint(bytes, 14, 1)),
        metric("float", DataType::Float, |bytes| fixed32(bytes, 12, 23.5_f32.to_bits())),
        metric("text", DataType::String, |bytes| put_bytes(bytes, 15, "开".as_bytes())),
        metric("date", DataType::DateTime, |bytes| put_varint(bytes, 11, 1_768_444_205_000)),
        metric("file", DataType::File, |bytes| {
            put_varint(bytes, 14, 1);
            bytes.truncate(bytes.len() - 2);
            bytes.extend([0x82, 0x01, 0x01, 0xFF])
        }),
    ]);
    let expected = [
        "i8 = -2",
        "i8 of four bytes = -2",
        "i16 = -2",
        "i32 = -2",
        "i64 = -2",
        "u32 = 4294967294",
        "flag = true",
        "float = 23.5",
        "text = \"开\"",
        "date = 1768444205000",
        "file = 对象或数组",
    ];
    assert_eq!(told(&bytes), expected);
}

#[test]
fn arrays_data_sets_and_templates_are_opened() {
    let bytes_of = |content: &'static [u8]| {
        move |bytes: &mut Vec<u8>| {
            // Field 16, bytes: the key has two bytes.
            bytes.extend([0x82, 0x01, u8::try_from(content.len()).unwrap()]);
            bytes.extend(content);
        }
    };
    let row = |state: u64, name: &str| {
        let (mut first, mut second, mut row) = (Vec::new(), Vec::new(), Vec::new());
        put_varint(&mut first, 1, state);
        put_bytes(&mut second, 6, name.as_bytes());
        put_bytes(&mut row, 1, &first);
        put_bytes(&mut row, 1, &second);
        row
    };
    let mut set = Vec::new();
    put_varint(&mut set, 1, 2);
    put_bytes(&mut set, 2, b"state");
    put_bytes(&mut set, 2, b"name");
    put_varint(&mut set, 3, DataType::Int8 as u64);
    put_varint(&mut set, 3, DataType::String as u64);
    put_bytes(&mut set, 4, &row(0xFF, "a"));
    put_bytes(&mut set, 4, &row(2, "b"));
    let mut template = Vec::new();
    put_bytes(&mut template, 2, &metric("Alarm", DataType::Boolean, |bytes| put_varint(bytes, 14, 1)));
    let bytes = payload_of(&[
        metric("i16", DataType::Int16Array, bytes_of(&[0x30, 0x8A, 0x7D, 0x00])),
        metric("flags", DataType::BooleanArray, bytes_of(&[0x0C, 0, 0, 0, 0x34, 0xD0])),
        metric("texts", DataType::StringArray, bytes_of(b"ABC\0hello\0")),
        metric("cut", DataType::Int32Array, bytes_of(&[1, 2, 3])),
        metric("set", DataType::DataSet, |bytes| put_bytes(bytes, 17, &set)),
        metric("detector", DataType::Template, |bytes| put_bytes(bytes, 18, &template)),
    ]);
    let mut expected = vec!["i16[0] = -30160".to_owned(), "i16[1] = 125".to_owned()];
    // [false, false, true, true, false, true, false, false, true, true, false, true]: the specification's example.
    let flags = [false, false, true, true, false, true, false, false, true, true, false, true];
    expected.extend(flags.iter().enumerate().map(|(place, flag)| format!("flags[{place}] = {flag}")));
    expected.extend(
        [
            "texts[0] = \"ABC\"",
            "texts[1] = \"hello\"",
            "cut = 对象或数组",
            "set[0].state = -1",
            "set[0].name = \"a\"",
            "set[1].state = 2",
            "set[1].name = \"b\"",
            "detector/Alarm = true",
        ]
        .map(str::to_owned),
    );
    assert_eq!(told(&bytes), expected);
}

#[test]
fn null_quality_and_history_are_told_beside_the_value() {
    let property = |word: u64| {
        let (mut value, mut set) = (Vec::new(), Vec::new());
        put_varint(&mut value, 1, DataType::Int32 as u64);
        put_varint(&mut value, 3, word);
        put_bytes(&mut set, 1, b"Engineering Units");
        put_bytes(&mut set, 1, b"Quality");
        put_bytes(&mut set, 2, &[]);
        put_bytes(&mut set, 2, &value);
        set
    };
    let bytes = payload_of(&[
        metric("null", DataType::Int32, |bytes| put_varint(bytes, 7, 1)),
        metric("bad", DataType::Int32, |bytes| {
            put_varint(bytes, 10, 5);
            put_bytes(bytes, 9, &property(0))
        }),
        metric("good", DataType::Int32, |bytes| {
            put_varint(bytes, 10, 5);
            put_bytes(bytes, 9, &property(192))
        }),
        metric("stale", DataType::Int32, |bytes| {
            put_varint(bytes, 10, 5);
            put_bytes(bytes, 9, &property(500))
        }),
        metric("old", DataType::Int32, |bytes| {
            put_varint(bytes, 10, 5);
            put_varint(bytes, 5, 1);
            put_varint(bytes, 3, 1_768_444_200_000)
        }),
    ]);
    let payload = Payload::decode(&bytes).unwrap();
    assert_eq!((payload.seq, payload.timestamp), (Some(7), Some(1_768_444_205_000)));
    let mut values = Vec::new();
    for metric in &payload.metrics {
        flatten(&NamedMetric::of(metric).unwrap(), payload.timestamp, NOW, &mut values);
    }
    use crate::model::Flaw;
    let told: Vec<_> = values.iter().map(|value| (&*value.name, value.flaw, value.late)).collect();
    assert_eq!(
        told,
        [
            ("null", Some(Flaw::NoAnswer), false),
            ("bad", Some(Flaw::SensorFault), false),
            ("good", None, false),
            ("stale", None, true),
            ("old", None, true),
        ]
    );
    assert_eq!(values[0].raw, Raw::Null);
    assert_eq!(values[4].taken, Taken::At { time: Timestamp::from_secs(1_768_444_200), late: false });
}

#[test]
fn what_is_no_payload_is_refused_with_a_sentence() {
    for (bytes, what) in [
        (&b"{\"smoke\":true}"[..], "未知的字段类型"),
        (&[0x12, 0x05, 0x0A][..], "报文被截断"),
        (&[0xFF; 11][..], "整数过长"),
        (&[0x12, 0x03, 0x0A, 0x01, 0xFF][..], "指标名不是 UTF-8"),
    ] {
        let refusal = Payload::decode(bytes).unwrap_err();
        assert!(refusal.contains(what), "{bytes:02X?}: {refusal}");
    }
    let many: Vec<u8> = [0x12, 0x00].repeat(METRICS_MAX + 1);
    assert!(Payload::decode(&many).unwrap_err().contains("指标过多"));
    let mut deep = metric("m", DataType::Boolean, |bytes| put_varint(bytes, 14, 1));
    for _ in 0..6 {
        let mut template = Vec::new();
        put_bytes(&mut template, 2, &deep);
        deep = Vec::new();
        put_bytes(&mut deep, 18, &template);
    }
    assert!(Payload::decode(&payload_of(&[deep])).unwrap_err().contains("嵌套过深"));
}

#[test]
fn the_rebirth_command_is_a_payload_that_asks_for_a_rebirth() {
    let bytes = rebirth_command(NOW);
    let payload = Payload::decode(&bytes).unwrap();
    assert_eq!((payload.timestamp, payload.seq), (Some(1_768_444_205_000), None));
    assert_eq!(told(&bytes), ["Node Control/Rebirth = true"]);
}

#[test]
fn topics_are_taken_apart_and_commands_are_nobodys_data() {
    let topic = SparkplugTopic::parse("spBv1.0/care/DDATA/floor-2/smoke-203").unwrap();
    assert_eq!(
        (topic.address(), topic.node()),
        ("care/floor-2/smoke-203".to_owned(), "care/floor-2".to_owned())
    );
    assert_eq!(topic.command_topic(), "spBv1.0/care/NCMD/floor-2");
    assert_eq!(topic.to_string(), "spBv1.0/care/DDATA/floor-2/smoke-203");
    for other in [
        "spBv1.0/care/NCMD/floor-2",
        "spBv1.0/care/DCMD/floor-2/smoke-203",
        "spBv1.0/STATE/host",
        "spBv1.0/care/DDATA/floor-2",
        "spBv1.0/care/NDATA/floor-2/x",
        "spBv1.0/care/DDATA/floor-2/a/b",
        "spBv1.0//NDATA/x",
        "spBv1.0",
        "spAv1.0/care/NDATA/floor-2",
    ] {
        assert_eq!(SparkplugTopic::parse(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(payload) = Payload::decode(&bytes) {
            prop_assert!(payload.metrics.len() <= bytes.len());
        }
    }

    #[test]
    fn a_payload_with_a_flipped_byte_is_read_or_refused(place in 0usize..200, flip in 1u8..) {
        let mut bytes = payload_of(&[
            metric("Smoke/Alarm", DataType::Boolean, |bytes| put_varint(bytes, 14, 1)),
            metric("flags", DataType::BooleanArray, |bytes| { bytes.extend([0x82, 0x01, 6]); bytes.extend([0x0C, 0, 0, 0, 0x34, 0xD0]) }),
        ]);
        let place = place % bytes.len();
        bytes[place] ^= flip;
        if let Ok(payload) = Payload::decode(&bytes) {
            let mut values = Vec::new();
            for metric in payload.metrics.iter().filter_map(NamedMetric::of) {
                flatten(&metric, payload.timestamp, NOW, &mut values);
            }
            prop_assert!(values.len() <= 100);
        }
    }

    #[test]
    fn every_integer_comes_back(number: u64) {
        let bytes = payload_of(&[metric("n", DataType::UInt64, |bytes| put_varint(bytes, 11, number))]);
        #[expect(clippy::cast_precision_loss, reason = "as the decoder does it")]
        let expected = format!("n = {}", Raw::Number(number as f64));
        prop_assert_eq!(told(&bytes), [expected]);
    }
}
