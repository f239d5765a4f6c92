//! A profile that names a vendor's codec: its answer by the same paths as JSON, and what runs wild in quarantine.

use crate::profiles::vocabulary;
use crate::support::gateway::{BROKER, House, device};
use fengsui::model::{Problem, ProfileId};
use fengsui::profile::Profile;
use serde_json::json;

/// As a network server sends it on.
const PROFILE: &str = r#"
[device]
vendor = "hall"
model = "lora"
name = { zh = "无线感温", en = "wireless heat" }
source = "a test"

[mqtt]
topics = ["application/{app}/device/{address}/event/up"]
payload = { json = "data", encoding = "base64" }
codec = "heat.js"
port = "fPort"

[time]
codec = "at"
unit = "iso8601"

[[point]]
name = "smoke"
class = "smoke_alarm"
from = { codec = "smoke" }
when = { codec = "kind", is = "report" }
codes = { false = "normal", true = "alarm" }

[[point]]
name = "temperature"
class = "heat_temperature"
unit = "℃"
from = { codec = "probes[0].t" }

[[point]]
name = "rssi"
class = "signal"
unit = "dBm"
from = { json = "rssi" }

[[example]]
name = "smoke"
input = '{"data":"AQGc","fPort":85,"rssi":-70}'
received_at = "2026-01-15T02:30:05Z"
sampled_at = "2026-01-15T02:30:05Z"
readings = { smoke = "alarm", temperature = "15.6 ℃", rssi = "-70 dBm" }

[[example]]
name = "quiet"
input = '{"data":"AQDI","fPort":85}'
received_at = "2026-01-15T02:30:05Z"
sampled_at = "2026-01-15T02:30:05Z"
readings = { smoke = "normal", temperature = "20 ℃" }

[[example]]
name = "no uplink: what the network server says by itself"
input = '{"rssi":-90}'
readings = { rssi = "-90 dBm" }

[[example]]
name = "the codec says what is wrong"
input = '{"data":"AQDI","fPort":7,"rssi":-90}'
refused = true
"#;

const CODEC: &str = r#"
var kept = 0;
function decodeUplink(input) {
  if (input.fPort !== 85) return { errors: ["unknown FPort " + input.fPort], data: {} };
  if (input.bytes[0] === 0x66) for (;;) {}
  if (input.bytes[0] === 0x67) throw new Error("no such frame");
  if (input.bytes[0] === 0x68) return { data: { smoke: "x".repeat(100000000) } };
  kept += 1;
  return { data: { kind: "report", smoke: input.bytes[1] === 1, probes: [{ t: input.bytes[2] / 10 * kept }],
    at: new Date().toISOString() } };
}
"#;

fn read(text: &str, codec: &str) -> Result<Profile, Vec<Problem>> {
    let id = ProfileId::parse("hall/lora").unwrap();
    let beside = |name: &str| (name == "heat.js").then(|| codec.to_owned());
    Profile::parse_beside(id, "lora.toml", text, vocabulary(), &beside)
}

#[test]
fn a_profile_reads_a_codecs_answer_by_the_same_paths_as_json() {
    let profile = read(PROFILE, CODEC).unwrap();
    assert_eq!(profile.check_examples(), []);
    // Bytes that stand for themselves, and the way of The Things Network's second version.
    let bare = PROFILE
        .replace(r#"payload = { json = "data", encoding = "base64" }"#, r#"payload = "hex""#)
        .replace(r#"port = "fPort""#, "port = 85")
        .replace("codes = { false", "single_example = \"one\"\ncodes = { false");
    let bare = bare.split("[[point]]\nname = \"rssi\"").next().unwrap().to_owned()
        + "[[example]]\nname = \"a\"\ninput = \"01 01 9C\"\nsampled_at = \"2026-01-01T00:00:00Z\"\nreadings = { smoke = \"alarm\", temperature = \"15.6 ℃\" }\n"
        + "[[example]]\nname = \"b\"\ninput = \"01 00 C8\"\nsampled_at = \"2026-01-01T00:00:00Z\"\nreadings = { smoke = \"normal\", temperature = \"20 ℃\" }\n"
        + "[[example]]\nname = \"c\"\ninput = \"67\"\nrefused = true\n";
    let older = "function Decoder(bytes, port) { if (bytes[0] === 0x67) throw 'bad';
        return { kind: 'report', smoke: !!bytes[1], probes: [{ t: bytes[2] / 10 }], at: new Date().toISOString() } }";
    for codec in [CODEC, older] {
        assert_eq!(read(&bare, codec).unwrap().check_examples(), [], "{codec}");
    }
}

#[test]
fn what_is_wrong_with_a_codec_is_said_at_its_name() {
    let said = |text: &str, codec: &str| {
        let problems = read(text, codec).unwrap_err();
        let first = &problems[0];
        (text[first.span.clone().unwrap_or(0..0)].to_owned(), first.to_string())
    };
    let (at, why) = said(&PROFILE.replace("\"heat.js\"", "\"other.js\""), CODEC);
    assert_eq!(at, "\"other.js\"");
    assert!(why.contains("there is no codec \"other.js\" here"), "{why}");
    let (_, why) = said(&PROFILE.replace("\"heat.js\"", "\"../heat.js\""), CODEC);
    assert!(why.contains("a codec is a file beside the profile"), "{why}");
    let (at, why) = said(PROFILE, "function decodeUplink( {");
    assert!(at == "\"heat.js\"" && why.contains("the codec itself is wrong: SyntaxError"), "{why}");
    let (_, why) = said(PROFILE, "function Encode() {}");
    assert!(why.contains("decodeUplink、Decode 或 Decoder"), "{why}");
    let (at, why) = said(&PROFILE.replace("port = \"fPort\"", "port = 300"), CODEC);
    assert!(at == "300" && why.contains("the port of a codec is a path or a number"), "{why}");
    let (_, why) = said(&PROFILE.replace("codec = \"heat.js\"\nport = \"fPort\"\n", ""), CODEC);
    assert!(why.contains("no codec is named"), "{why}");
    let json = PROFILE.replace("payload = { json = \"data\", encoding = \"base64\" }\n", "");
    let (at, why) = said(&json, CODEC);
    assert!(at == "\"heat.js\"" && why.contains("a codec reads bytes"), "{why}");
}

#[tokio::test]
async fn a_frame_on_which_a_codec_runs_wild_is_kept_and_the_next_one_raises_the_alarm() {
    let house = House::build(BROKER, &device("lora-1", "hall/lora", "broker", "address = \"lora-1\""));
    house.profile("hall/lora", PROFILE);
    std::fs::write(house.config().with_file_name("models").join("hall/heat.js"), CODEC).unwrap();
    let gateway = house.open().await;
    let mut pen = gateway.pen("lora-1").await;
    let topic = "application/7/device/lora-1/event/up";
    // 66, 67, 68: a loop, a throw, a hundred megabytes.
    for data in ["ZgAA", "ZwAA", "aAAA"] {
        pen.publish(topic, &json!({ "data": data, "fPort": 85 }).to_string()).await;
    }
    pen.publish(topic, &json!({ "data": "AQGc", "fPort": 85 }).to_string()).await;
    gateway.hazard("lora-1/smoke", "smoke-fire", |_| true).await;
    let kept = gateway.page("/api/v1/quarantine/frames?device=lora-1").await;
    for why in ["可能死循环", "解码脚本抛出：Error: no such frame", "解码脚本占用内存超过 32 MiB"]
    {
        assert!(kept.contains(why), "{why}: {kept}");
    }
    // A mended codec beside an unchanged profile is loaded while the gateway runs, and reads what was kept.
    let mended = CODEC.replace("for (;;) {}", "return { data: { probes: [{ t: 1 }] } };");
    std::fs::write(house.config().with_file_name("models").join("hall/heat.js"), mended).unwrap();
    let (status, told) = gateway.reload().await;
    assert_eq!(status, 200, "{told}");
    let (status, told) = gateway.post("/api/v1/quarantine/decode", &json!({ "device": "lora-1" })).await;
    assert_eq!((status, &told["decoded"], &told["kept"]), (200, &json!(1), &json!(2)), "{told}");
    gateway.stop().await;
}
