//! Profiles of bytes: how their messages may be written, and what is said when they are wrong.

use super::{NOW, parse, pointed};
use fengsui::model::{Flaw, Quality, Timestamp};
use fengsui::profile::{Decoded, Profile};
use proptest::prelude::*;

/// `A5 5A`, a kind, a number in tenths, flags, CRC low byte first.
const BYTES: &str = r#"
[device]
vendor = "Acme"
model = "WP-1"
name = { zh = "水压", en = "Pressure" }
source = "WP-1 manual rev C, p. 14"
[mqtt]
topics = ["acme/{address}"]
payload = "hex"
byte_order = "AB"
[frame]
starts_with = "A55A"
checksum = { kind = "crc16_modbus", byte = -2, order = "BA" }
[[point]]
name = "pressure"
class = "pipe_pressure"
unit = "kPa"
scale = 0.1
from = { byte = 3, type = "u16" }
when = { byte = 2, is = [0x01, 0x02] }
[[point]]
name = "cap"
class = "hydrant_cap"
from = { byte = 5, bit = 1 }
codes = { 0 = "closed", 1 = "open" }
[[example]]
name = "rest"
input = "A5 5A 01 05 DC 00 09DE"
readings = { pressure = "0.15 MPa", cap = "closed" }
[[example]]
name = "open"
input = "0xA55A0202BC02119A"
readings = { pressure = "70 kPa", cap = "open" }
[[example]]
name = "a flipped bit"
input = "A5 5A 01 05 DC 01 09DE"
refused = true
"#;

fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

fn framed(content: &[u8]) -> Vec<u8> {
    let bytes = [&[0xA5, 0x5A], content].concat();
    let sum = crc(&bytes);
    [bytes.as_slice(), &sum].concat()
}

fn upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The same profile for another way to write the bytes, with its examples in it.
fn written(payload: &str, write: &dyn Fn(&[u8]) -> String) -> Profile {
    let [rest, open, bad] = [&[1, 0x05, 0xDC, 0][..], &[2, 0x02, 0xBC, 2], &[1, 0x05, 0xDC, 0]].map(framed);
    let bad = [&bad[..bad.len() - 1], &[0]].concat();
    let text = BYTES
        .replace("payload = \"hex\"", payload)
        .replace("\"A5 5A 01 05 DC 00 09DE\"", &format!("'{}'", write(&rest)))
        .replace("\"0xA55A0202BC02119A\"", &format!("'{}'", write(&open)))
        .replace("\"A5 5A 01 05 DC 01 09DE\"", &format!("'{}'", write(&bad)));
    let profile = parse(&text).unwrap_or_else(|problems| panic!("{:?}", pointed(&text, &problems)));
    assert_eq!(profile.check_examples(), [], "{payload}");
    profile
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[test]
fn the_same_bytes_are_read_in_every_way_to_write_them() {
    written("payload = \"hex\"", &upper);
    written("payload = \"hex\"", &|bytes| format!("0x{}", upper(bytes).to_lowercase()));
    written("payload = \"binary\"", &upper);
    written("payload = \"base64\"", &base64);
    written("payload = { json = \"data\", encoding = \"base64\" }", &|bytes| {
        format!(r#"{{"fPort":2,"data":"{}"}}"#, base64(bytes))
    });
    written("payload = { json = \"a.b[0]\", encoding = \"hex\" }", &|bytes| {
        format!(r#"{{"a":{{"b":["{}"]}}}}"#, upper(bytes))
    });
}

#[test]
fn what_is_wrong_with_bytes_is_said_and_nothing_of_them_is_believed() {
    let profile = written("payload = \"hex\"", &upper);
    let inside = written("payload = { json = \"data\", encoding = \"hex\" }", &|bytes| {
        format!(r#"{{"data":"{}"}}"#, upper(bytes))
    });
    let flipped = upper(&framed(&[1, 0x05, 0xDC, 0])).replacen('D', "E", 1);
    for (payload, said) in [
        ("", "开头应为 A55A"),
        ("A55", "奇数"),
        ("A5 5A 01 XX", "不是十六进制"),
        ("A55A01", "校验和错误"),
        ("A5 5a", "校验和错误"),
        (&*flipped, "校验和错误"),
        // Another kind of message, and nothing else of this model in it.
        (&*upper(&framed(&[7])), "报文过短：至少 6 字节，收到 5"),
    ] {
        let decoded = profile.decode_message(0, payload.as_bytes(), NOW);
        assert!(!decoded.understood && decoded.samples.is_empty(), "{payload}");
        assert!(decoded.problems[0].contains(said), "{payload}: {:?}", decoded.problems);
        let json = format!(r#"{{"data":"{payload}"}}"#);
        let decoded = inside.decode_message(0, json.as_bytes(), NOW);
        assert!(!decoded.understood && decoded.problems[0].contains(said), "{json}: {:?}", decoded.problems);
    }
    for (json, said) in [(r#"{"data":7}"#, "应为 hex 文本"), (r#"{"data":null}"#, "字段"), ("A55A", "JSON")]
    {
        let decoded = inside.decode_message(0, json.as_bytes(), NOW);
        assert!(!decoded.understood && decoded.problems[0].contains(said), "{json}: {:?}", decoded.problems);
    }
}

#[test]
fn bytes_that_end_too_early_spoil_what_lies_behind_their_end_only() {
    let text = BYTES.replace("checksum =", "# checksum =").replace("is = [0x01, 0x02]", "is = 5");
    let text = text.split("[[example]]").next().unwrap().to_owned()
        + "[[example]]\nname = \"a\"\ninput = \"A55A05 0102\"\nreadings = { cap = \"unreadable\" }\n\
           [[example]]\nname = \"b\"\ninput = \"\"\nrefused = true\n";
    let profile = parse(&text).unwrap_or_else(|problems| panic!("{:?}", pointed(&text, &problems)));
    let decoded = profile.decode_message(0, b"A55A050102", NOW);
    assert!(decoded.understood);
    let said: Vec<_> = decoded.samples.iter().map(|sample| (sample.quality, sample.flaw)).collect();
    assert_eq!(said, [(Quality::Good, None), (Quality::Bad, Some(Flaw::Unreadable))]);
    assert_eq!(decoded.problems, ["cap：报文过短：至少 6 字节，收到 5"]);
}

#[test]
fn a_wrong_profile_of_bytes_is_told_where_it_is_wrong() {
    for (from, to, said) in [
        ("\"hex\"", "\"hexx\"", "did you mean \"hex\"?"),
        ("payload = \"hex\"", "payload = { json = \"d\" }", "how they are written"),
        ("payload = \"hex\"", "payload = { json = \"d\", encoding = \"binary\" }", "how they are written"),
        ("payload = \"hex\"", "", "this payload has no bytes"),
        ("byte_order = \"AB\"", "", "needs its order"),
        ("byte_order = \"AB\"", "byte_order = \"ABC\"", "is unknown here"),
        ("byte = 5, bit = 1", "byte = 5, bit = 8", "the bits do not fit the type"),
        ("byte = 5, bit = 1", "byte = 5, type = \"i8\", bit = 1", "the bits do not fit the type"),
        ("byte = 5, bit = 1", "byte = 5, json = \"a\"", "found by `json` or `codec`, or is plain `text`"),
        ("byte = 5, bit = 1", "bit = 1", "found by `json` or `codec`, or is plain `text`"),
        ("byte = 5, bit = 1", "json = \"a\"", "this payload is no JSON"),
        ("byte = 5, bit = 1", "byte = 99999999", "outside every message"),
        ("type = \"u16\"", "type = \"u15\"", "did you mean"),
        ("is = [0x01, 0x02]", "is = []", "`is` is one value"),
        ("is = [0x01, 0x02]", "is = { a = 1 }", "`is` is one value"),
        ("when = { byte = 2,", "when = {", "looks at `json`, `codec` or `byte`"),
        ("starts_with = \"A55A\"", "starts_with = \"A55\"", "no row of bytes"),
        ("crc16_modbus", "crc16", "is unknown here"),
        ("[frame]", "[frame]\nlength = { byte = 2, type = \"f32\" }", "a length is an unsigned number"),
    ] {
        let text = BYTES.replacen(from, to, 1);
        assert_ne!(text, BYTES, "{from:?} is not in the profile");
        let problems = pointed(&text, &parse(&text).unwrap_err());
        assert!(problems.iter().any(|(_, problem)| problem.contains(said)), "{to:?}: {problems:?}");
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_under_a_checksum_is_refused(content in prop::collection::vec(any::<u8>(), 4..40), bit: usize) {
        let profile = parse(&BYTES.replace("\"hex\"", "\"binary\"").replace("\"0xA55A0202BC02119A\"", "\"A5\"")).unwrap();
        let mut bytes = framed(&content);
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let decoded = profile.decode_message(0, &bytes, NOW);
        prop_assert!(!decoded.understood && decoded.samples.is_empty());
        prop_assert!(decoded.problems[0].contains("校验和") || decoded.problems[0].contains("开头"));
    }
}

/// `7B 7B`, command 92, the length of the body, the body, its sum, `7D 7D`: an electrical-fire monitor's report, with the residual
/// current at byte 52 of the body and the first of four temperatures behind it.
#[test]
fn a_frame_in_braces_with_a_sum_of_its_inside_is_read_and_a_sensor_that_is_not_fitted_is_not_cold() {
    let text = r#"
[device]
vendor = "v"
model = "m"
name = { zh = "型", en = "m" }
source = "a test"

[mqtt]
topics = ["up/{address}"]
payload = "hex"
byte_order = "BA"

[frame]
starts_with = "7B7B92"
ends_with = "7D7D"
length = { byte = 3, type = "u16", order = "AB", plus = 9 }
checksum = { kind = "crc16_modbus", byte = -4, first = 2 }

[[point]]
name = "residual"
class = "residual_current"
unit = "mA"
from = { byte = 57, type = "f32", order = "DCBA" }

[[point]]
name = "cable-1"
class = "cable_temperature"
unit = "℃"
from = { byte = 61, type = "f32", order = "DCBA" }
sentinels = [{ raw = -200, means = "not_fitted" }]

[[example]]
name = "none"
input = ""
readings = {}

[[example]]
name = "bad"
input = "00"
refused = true
"#;
    let profile = parse(text).unwrap();
    let frame = |residual: f32, cable: f32| {
        let mut body = vec![0; 388];
        body[52..56].copy_from_slice(&residual.to_le_bytes());
        body[56..60].copy_from_slice(&cable.to_le_bytes());
        let inside = [&[0x92, 0x01, 0x84], &body[..]].concat();
        [&[0x7B, 0x7B], &inside[..], &crc(&inside), &[0x7D, 0x7D]].concat()
    };
    let read = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        profile.decode_message(0, hex.as_bytes(), Timestamp::EPOCH)
    };
    let shown = |decoded: &Decoded| -> Vec<String> {
        decoded.samples.iter().map(|sample| profile.shown(sample)).collect()
    };
    assert_eq!(shown(&read(&frame(320.5, 41.25))), ["320.5 mA", "41.25 ℃"]);
    assert_eq!(shown(&read(&frame(12.0, -200.0))), ["12 mA", "not_fitted"]);
    let mut broken = frame(320.5, 41.25);
    broken[58] ^= 1;
    assert!(read(&broken).problems[0].contains("校验和错误"), "{:?}", read(&broken));
}
