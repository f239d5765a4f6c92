//! WIRE → FRAMES, HTTP, `format = "ctwing"`: the reports of China Telecom's CTWing AEP.
//!
//! Known from the reports that public receivers were written for: `messageType` is `dataReport`, `eventReport`,
//! `commandResponse` or `deviceOnlineOfflineReport` (`eventType` 1 online, 0 offline); `deviceId` is in all of them,
//! `IMEI` only in the first two; `timestamp` is in ms; a product without a thing model has its bytes as
//! `payload.APPdata` in base64. No public source tells how such a report would be signed: the platform shows
//! a token, in the posted address or a header.

use super::field::{level, level_at, parse, text_at};
use super::{Heard, Unreadable};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

/// The report of one device, or a list of them.
pub(super) fn read(address_field: &str, body: &Bytes) -> Result<Vec<Heard>, Unreadable> {
    if body.trim_ascii_start().starts_with(b"[") {
        let reports: Vec<&RawValue> = parse(body)?;
        // One that cannot be read is kept, and takes none of its neighbours along.
        let each = reports.into_iter().map(|report| report.get().as_bytes());
        return Ok(each
            .map(|text| one(address_field, text).unwrap_or_else(|_| Heard::unreadable(text)))
            .collect());
    }
    Ok(vec![one(address_field, body)?])
}

fn one(address_field: &str, report: &[u8]) -> Result<Heard, Unreadable> {
    let value: Value = parse(report)?;
    let address = level_at(&value, address_field)?;
    let kind = text_at(&value, "messageType").ok_or_else(|| {
        Unreadable::new("报文里没有 messageType", "the report has no messageType; is it one of CTWing AEP?")
    })?;
    let topic = format!("{address}/{}", level(&kind)?);
    // With its time, a report that is posted again is the same byte by byte; without one nothing names it.
    let name = text_at(&value, "timestamp").map(|time| {
        let number = |key| text_at(&value, key).unwrap_or_default();
        format!("{time} {} {} {}", number("upPacketSN"), number("upDataSN"), number("taskId"))
    });
    let presence = match (kind.as_str(), value.get("eventType").and_then(Value::as_i64)) {
        ("deviceOnlineOfflineReport", Some(1)) => Some((address, true)),
        ("deviceOnlineOfflineReport", Some(0)) => Some((address, false)),
        _ => None,
    };
    let bytes = text_at(&value, "payload.APPdata").and_then(|text| STANDARD.decode(text).ok());
    let payload = bytes.map_or_else(|| Bytes::copy_from_slice(report), Bytes::from);
    Ok(Heard { topic, payload, name, presence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_text(text: &str) -> Vec<Heard> {
        read("deviceId", &Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_report_of_bytes_gives_the_bytes_and_one_of_a_thing_model_gives_the_whole_report() {
        let bytes = r#"{"upPacketSN":-1,"upDataSN":-1,"topic":"v1/up/ad","timestamp":1650554828842,"tenantId":"2000033629","serviceId":"","protocol":"lwm2m","productId":"15114816","payload":{"APPdata":"AQFWMS4w"},"messageType":"dataReport","deviceType":"","deviceId":"40edca19b0124480864366de4621de99","assocAssetId":"","IMSI":"undefined","IMEI":"862592051651472"}"#;
        let heard = &read_text(bytes)[0];
        assert_eq!(heard.topic, "40edca19b0124480864366de4621de99/dataReport");
        assert_eq!(heard.payload.as_ref(), [1, 1, 0x56, 0x31, 0x2e, 0x30]);
        assert_eq!(heard.name.as_deref(), Some("1650554828842 -1 -1 "));
        let by_imei = read("IMEI", &Bytes::copy_from_slice(bytes.as_bytes())).unwrap();
        assert_eq!(by_imei[0].topic, "862592051651472/dataReport");
        let thing = r#"{"timestamp":1630403930495,"serviceId":1,"payload":{"liquid_level":402},"messageType":"dataReport","deviceId":"5e5a"}"#;
        let heard = &read_text(&format!("[{thing},{thing}]"))[1];
        assert_eq!((heard.topic.as_str(), heard.payload.as_ref()), ("5e5a/dataReport", thing.as_bytes()));
    }

    #[test]
    fn online_and_offline_are_the_platforms_word_about_the_device() {
        for (kind, online) in [(1, true), (0, false)] {
            let text = format!(
                r#"{{"timestamp":1589444231825,"tenantId":"10461180","protocol":"lwm2m","productId":"10053421","messageType":"deviceOnlineOfflineReport","iccid":"undefined","eventType":{kind},"deviceId":"44d0"}}"#
            );
            assert_eq!(read_text(&text)[0].presence, Some(("44d0".to_owned(), online)));
        }
        let event = r#"{"timestamp":1619523767263,"serviceId":1002,"messageType":"eventReport","eventType":0,"eventContent":{"battery_state":1},"deviceId":"d013","IMEI":"161941770261953"}"#;
        let heard = &read_text(event)[0];
        assert_eq!((heard.topic.as_str(), &heard.presence), ("d013/eventReport", &None));
    }

    #[test]
    fn what_is_no_report_is_told() {
        let kept = &read_text("[1]")[0];
        assert_eq!((kept.topic.as_str(), kept.payload.as_ref()), ("unreadable", b"1".as_slice()));
        for bad in ["", "{}", "[1", r#"{"deviceId":"a"}"#, r#"{"deviceId":"a/b","messageType":"dataReport"}"#]
        {
            assert!(read("deviceId", &Bytes::copy_from_slice(bad.as_bytes())).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in ".{0,200}") {
            drop(read("deviceId", &Bytes::from(text)));
        }
    }
}
