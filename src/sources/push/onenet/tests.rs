//! Tests of: posts of OneNET. The signatures and encrypted texts were made with another program (Python and OpenSSL).

use super::*;
use proptest::prelude::*;

const TOKEN: &str = "5ec78dbca0db5a7e49b603fe";

fn tokens() -> Vec<String> {
    vec!["another-token-of-it".to_owned(), TOKEN.to_owned()]
}

fn plain() -> OneNet {
    OneNet { address_field: None, aes_key: None }
}

fn read(form: &OneNet, body: &str) -> Vec<Heard> {
    let opened = open(body.as_bytes(), &tokens()).unwrap();
    assert_eq!(opened.token, 1);
    form.read(&opened).unwrap()
}

/// What the platform would post: `message` as a text.
fn post(message: &str) -> String {
    let mut md5 = Md5::new();
    md5.update(format!("{TOKEN}abcdefgh{message}"));
    let signature = STANDARD.encode(md5.finalize());
    serde_json::json!({ "msg": message, "nonce": "abcdefgh", "signature": signature, "id": "7" }).to_string()
}

#[test]
fn the_question_when_the_address_is_entered_is_answered_with_its_msg() {
    let ask = |signature: &str| {
        let query = [("msg", "a+b 验证"), ("nonce", "abcd0032"), ("signature", signature)];
        query.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    // As it is, with the + that became a space on its way, in the alphabet for addresses, and without its padding.
    for right in ["Uz93NG4RaDce+/4KXHbMOg==", "Uz93NG4RaDce /4KXHbMOg==", "Uz93NG4RaDce-_4KXHbMOg"] {
        assert_eq!(handshake(&ask(right), &tokens()), Some("a+b 验证"), "{right}");
    }
    for wrong in ["", "Uz93NG4RaDce+/4KXHbMOw==", "Uz93NG4RaDce", "*"] {
        assert_eq!(handshake(&ask(wrong), &tokens()), None, "{wrong}");
    }
    assert_eq!(handshake(&ask("Uz93NG4RaDce+/4KXHbMOg=="), &tokens()[..1]), None, "another token");
}

#[test]
fn a_data_point_of_the_old_kind_is_signed_as_it_is_written() {
    let message = r#"{"type":1,"dev_id":2016617,"ds_id":"3303_0_5700","at":1466133706841,"value":42,"imei":"860803030676429"}"#;
    let body =
        format!(r#"{{"msg":{message},"nonce":"HWyAL7jN","msg_signature":"OBIEynG3zPLgj2TXKr9Ubg=="}}"#);
    let heard = &read(&plain(), &body)[0];
    assert_eq!((heard.topic.as_str(), heard.payload.as_ref()), ("2016617/3303_0_5700", message.as_bytes()));
    assert_eq!(heard.name.as_deref(), Some(""), "it is dated: repeated, it is the same");
    let by_imei = OneNet { address_field: Some("imei".into()), aes_key: None };
    assert_eq!(read(&by_imei, &body)[0].topic, "860803030676429/3303_0_5700");
    let changed = body.replace(":42", ":43");
    assert!(matches!(open(changed.as_bytes(), &tokens()), Err(Closed::Signature)));
}

#[test]
fn what_is_encrypted_in_either_way_is_read() {
    let plain16 = r#"{"msg":"sbJk12MfmTHUtGqIS2UZ7SiJD8or3M4W0fCGvtGlgHfdlquTnhVtB5oBriSloaDmmYL4IQGm1ziDBpKhpzdX1hPsLGmZZ9XRxVZqTXtrc+8=","nonce":"abcdefgh","signature":"uTZrPs7Aa+/UUhWnX3zykw=="}"#;
    let encoded43 = r#"{"enc_msg":"6oPS9SVFx1Hk1TXZTEXSoYQW7Ocqu+3FE0XOUC8tXumWY8M1kUgUOaL3GbiMIUxCCHEMY3jb6SGTP0qDGj5KHNaTnkZMoTsSYTkRUHR5VsO6reYlpiakNZnqCh4Iqklg","nonce":"abcdefgh","msg_signature":"AtbNmw9erwYBgVqsu5QSgQ=="}"#;
    for (key, body) in
        [("AAlvB3jc2dlPq2nF", plain16), ("whBx2ZwAU5LOHVimPj1MPx56QRe3OsGGWRe4dr17crV", encoded43)]
    {
        let form = OneNet { address_field: None, aes_key: AesKey::parse(key) };
        assert_eq!(read(&form, body)[0].presence, Some(("2016617".to_owned(), false)), "{key}");
        let other = OneNet { address_field: None, aes_key: AesKey::parse("0123456789abcdef") };
        let opened = open(body.as_bytes(), &tokens()).unwrap();
        assert!(other.read(&opened).unwrap_err().0.zh.contains("解密"));
    }
    assert!(AesKey::parse("too short").is_none());
}

#[test]
fn a_thing_model_and_a_life_cycle_of_studio_are_read() {
    let property = r#"{"projectId":"990909090","productId":"00001","deviceName":"iot-0001","messageType":"notify","notifyType":"property","data":{"id":"12345","params":{"Power":{"value":"on","time":1524448722123},"WF":{"value":23.6,"time":1524448722123}}}}"#;
    let heard = &read(&plain(), &post(property))[0];
    assert_eq!((heard.topic.as_str(), heard.payload.as_ref()), ("iot-0001/property", property.as_bytes()));
    assert_eq!(heard.name.as_deref(), Some(""));
    let undated =
        r#"{"deviceName":"iot-0001","messageType":"notify","notifyType":"event","data":{"params":{}}}"#;
    assert_eq!(read(&plain(), &post(undated))[0].name.as_deref(), Some("7"), "the post's own id");
    for (status, online) in [("online", Some(true)), ("offline", Some(false)), ("activated", None)] {
        let life = format!(
            r#"{{"deviceName":"iot-0001","messageType":"lifeCycle","data":{{"status":"{status}","time":1524448722123}}}}"#
        );
        let heard = &read(&plain(), &post(&life))[0];
        assert_eq!(heard.topic, "iot-0001/lifeCycle");
        assert_eq!(heard.presence, online.map(|online| ("iot-0001".to_owned(), online)));
    }
}

#[test]
fn one_message_of_a_list_that_cannot_be_read_takes_no_other_along() {
    let list = r#"[{"type":1,"dev_id":1,"ds_id":"a","at":1,"value":1},{"dev_id":1},{"type":7,"dev_id":1}]"#;
    let topics: Vec<String> = read(&plain(), &post(list)).into_iter().map(|heard| heard.topic).collect();
    assert_eq!(topics, ["1/a", "unreadable", "1/type-7"]);
}

#[test]
fn what_is_no_post_of_onenet_is_told() {
    for bad in ["", "{}", r#"{"nonce":"a","msg":{}}"#, r#"{"nonce":"a","signature":"AA=="}"#, "[]"] {
        assert!(matches!(open(bad.as_bytes(), &tokens()), Err(Closed::Unreadable(_))), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_right_signature_on_anything_is_opened_and_read_or_refused(message in ".{0,120}") {
        let opened = open(post(&message).as_bytes(), &tokens()).unwrap();
        for key in [None, AesKey::parse("AAlvB3jc2dlPq2nF"), AesKey::parse("whBx2ZwAU5LOHVimPj1MPx56QRe3OsGGWRe4dr17crV")] {
            drop(OneNet { address_field: None, aes_key: key }.read(&opened));
        }
    }

    #[test]
    fn no_other_signature_opens(bytes in prop::array::uniform16(any::<u8>())) {
        let body = serde_json::json!({ "msg": "{}", "nonce": "n", "signature": STANDARD.encode(bytes) });
        prop_assert!(open(body.to_string().as_bytes(), &tokens()).is_err());
    }
}
