//! FRAMES → READINGS, vendors' JavaScript, tested: each way in, each way out, and nothing kept between.

use super::*;
use serde_json::{Value, json};

fn decode_at(script: &str, bytes: &[u8], port: Option<u8>, at: Timestamp) -> Result<Value, Refused> {
    let variables = json!({ "site": "3" });
    let codec = Codec::new(script)?;
    let answer =
        codec.decode(&Uplink { bytes, port, received_at: at, recv_time: None, variables: &variables })?;
    Ok(serde_json::from_str(&answer).unwrap())
}

fn decode(script: &str, bytes: &[u8]) -> Result<Value, Refused> {
    decode_at(script, bytes, Some(85), Timestamp::from_secs(1_768_444_205))
}

#[test]
fn each_of_the_three_ways_of_calling_a_codec_is_found_the_newest_first() {
    let old = "function Decoder(bytes, port) { return { way: 'Decoder', bytes, port } }";
    let middle = "function Decode(fPort, bytes, variables) { return { way: 'Decode', bytes, port: fPort, variables } }";
    let new = "function decodeUplink(input) { return { data: { way: 'TS013', ...input } } }";
    assert_eq!(decode(old, &[1, 255]), Ok(json!({ "way": "Decoder", "bytes": [1, 255], "port": 85 })));
    let both = format!("{old}\n{middle}");
    assert_eq!(
        decode(&both, &[1, 255]),
        Ok(json!({ "way": "Decode", "bytes": [1, 255], "port": 85, "variables": { "site": "3" } }))
    );
    let all = format!("{old}\n{middle}\n{new}");
    assert_eq!(
        decode(&all, &[1, 255]),
        Ok(json!({ "data": {
            "way": "TS013", "bytes": [1, 255], "fPort": 85, "recvTime": "2026-01-15T02:30:05.000Z", "variables": { "site": "3" },
        } }))
    );
}

#[test]
fn a_codec_may_be_a_constant_or_exported() {
    for script in [
        "const decodeUplink = (input) => ({ n: input.bytes.length });",
        "let decodeUplink = function (input) { return { n: input.bytes.length } }",
        "module.exports = { decodeUplink: (input) => ({ n: input.bytes.length }) };",
        "exports.decodeUplink = function (input) { return { n: input.bytes.length } };",
        "var driver; driver = (() => ({ decodeUplink: (input) => ({ n: input.bytes.length }) }))();",
        "\u{feff}'use strict'; function decodeUplink(input) { return { n: input.bytes.length } }",
    ] {
        assert_eq!(decode(script, &[1, 2, 3]), Ok(json!({ "n": 3 })), "{script}");
    }
}

#[test]
fn scripts_written_for_a_page_run_as_they_are() {
    // Undeclared variables, octal numbers, console, and an answer of undefined: nothing strict.
    let sloppy = "function Decoder(b, p) { for (i = 0; i < b.length; i++) { console.log(i) } last = 010; return { i: i, last: last } }";
    assert_eq!(decode(sloppy, &[1, 2]), Ok(json!({ "i": 2, "last": 8 })));
    assert_eq!(decode("function Decoder() {}", &[]), Ok(Value::Null));
    assert_eq!(
        decode("function Decoder() { return { a: NaN, b: undefined, c: -0 } }", &[]),
        Ok(json!({ "a": null, "c": 0 }))
    );
}

#[test]
fn nothing_is_kept_from_one_frame_to_the_next() {
    let codec = Codec::new(
        "var count = 0; Array.prototype.seen = Array.prototype.seen || 0;
         function Decoder(bytes) { count++; total = (typeof total === 'undefined' ? 0 : total) + 1;
             Array.prototype.seen++; module.seen = (module.seen || 0) + 1;
             return [count, total, Array.prototype.seen, module.seen, Math.random()] }",
    )
    .unwrap();
    let nothing = json!({});
    let uplink = Uplink {
        bytes: &[],
        port: None,
        received_at: Timestamp::from_secs(0),
        recv_time: None,
        variables: &nothing,
    };
    let first = codec.decode(&uplink).unwrap();
    assert!(first.starts_with("[1,1,1,1,0."), "{first}");
    assert_eq!(codec.decode(&uplink).unwrap(), first);
}

#[test]
fn the_present_of_a_codec_is_the_time_of_its_uplink() {
    let script = "function Decoder() { return [Date.now(), new Date().getTime(), new Date(5).getTime(), Date.UTC(1970, 0),
        typeof Date(), new Date() instanceof Date, new Date(0).toISOString(), new Date().constructor === Date] }";
    assert_eq!(
        decode_at(script, &[], None, Timestamp::from_millis(1234)),
        Ok(json!([1234, 1234, 5, 0, "string", true, "1970-01-01T00:00:00.000Z", true]))
    );
}

#[test]
fn the_words_of_the_network_server_are_what_date_makes_of_them() {
    let codec = Codec::new("function decodeUplink(input) { return [input.recvTime, Date.now()] }").unwrap();
    let nothing = json!({});
    let at = |recv_time| {
        let received_at = Timestamp::from_millis(7);
        codec.decode(&Uplink { bytes: &[], port: None, received_at, recv_time, variables: &nothing }).unwrap()
    };
    assert_eq!(at(None), r#"["1970-01-01T00:00:00.007Z",7]"#);
    assert_eq!(at(Some("2023-07-19T07:51:25.508306410Z")), r#"["2023-07-19T07:51:25.508Z",7]"#);
    assert_eq!(at(Some("2024-11-20T23:59:46.000+05:00")), r#"["2024-11-20T18:59:46.000Z",7]"#);
    assert_eq!(at(Some("yesterday")), "[null,7]");
}

#[test]
fn a_date_is_written_as_node_writes_it() {
    let script = "function Decoder() { let at = new Date(2024, 10, 21, 1, 2, 44); let noon = new Date(2024, 0, 2, 12, 0, 5);
        return [at.toLocaleString(), noon.toLocaleTimeString(), noon.toLocaleDateString('en-US'), new Date(NaN).toLocaleString()] }";
    assert_eq!(
        decode(script, &[]),
        Ok(json!(["11/21/2024, 1:02:44 AM", "12:00:05 PM", "1/2/2024", "Invalid Date"]))
    );
}

#[test]
fn a_codec_that_throws_says_what() {
    let thrown = |script: &str| match decode(script, &[1]) {
        Err(Refused::Threw(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(thrown("function Decoder() { throw new Error('unknown port') }"), "Error: unknown port");
    assert_eq!(thrown("function Decoder() { throw 'a word' }"), "a word");
    assert_eq!(thrown("function Decoder() { throw { code: 7 } }"), r#"{"code":7}"#);
    assert!(thrown("function Decoder() { return missing.field }").starts_with("ReferenceError: "));
    assert!(thrown("function Decoder() { return Decoder() }").contains("stack"));
    assert!(thrown("function Decoder() { let a = {}; a.a = a; return a }").starts_with("TypeError: "));
    assert!(thrown("function Decoder() { throw new Error('x'.repeat(100000)) }").chars().count() <= 300);
}

#[test]
fn what_runs_wild_is_stopped_by_work_and_bytes_and_the_next_frame_decodes() {
    let wild = |body: &str| decode(&format!("function Decoder(bytes) {{ {body} }}"), &[1]);
    assert_eq!(wild("while (true) {}"), Err(Refused::TooMuchWork));
    assert_eq!(
        wild("for (;;) { try { for (;;) {} } catch (e) {} finally { continue } }"),
        Err(Refused::TooMuchWork)
    );
    assert_eq!(wild("return /(a+)+b/.test('a'.repeat(40))"), Err(Refused::TooMuchWork));
    assert_eq!(wild("return 'x'.repeat(100000000)"), Err(Refused::TooMuchMemory));
    assert_eq!(
        wild("let a = []; for (;;) a.push('x'.repeat(10000) + a.length)"),
        Err(Refused::TooMuchMemory)
    );
    assert_eq!(wild("return new Uint8Array(1e9)"), Err(Refused::TooMuchMemory));
    assert_eq!(wild("return 'x'.repeat(300000)"), Err(Refused::AnswerTooLong(300_002)));
    // Every step of it is a built-in call over megabytes, which no count sees: the processor time ends it.
    let heavy = "let b = new Uint8Array(8000000); for (;;) b.fill(3)";
    assert_eq!(wild(heavy), Err(Refused::TooMuchWork));
    assert_eq!(wild("return bytes"), Ok(json!([1])));
    assert_eq!(Codec::new("for (;;) {}"), Err(Refused::TooMuchWork));
}

#[test]
fn nothing_of_the_host_is_there() {
    let script = "function Decoder() { return ['require', 'process', 'fetch', 'std', 'os', 'setTimeout', 'Deno', 'print', 'load',
        'XMLHttpRequest', 'WebAssembly'].filter((name) => typeof globalThis[name] !== 'undefined') }";
    assert_eq!(decode(script, &[]), Ok(json!([])));
    assert!(matches!(
        decode("async function Decoder() { return import('fs') }", &[]),
        Ok(_) | Err(Refused::Threw(_))
    ));
}

#[test]
fn a_wrong_file_is_told_when_it_is_read() {
    assert!(
        matches!(Codec::new("function Decoder( {"), Err(Refused::Script(why)) if why.starts_with("SyntaxError: "))
    );
    assert!(
        matches!(Codec::new("const fs = require('fs')"), Err(Refused::Script(why)) if why.contains("require"))
    );
    assert_eq!(Codec::new("function decode() {}"), Err(Refused::NoFunction));
    assert_eq!(
        Codec::new("x".repeat(SCRIPT_BYTES_MAX + 1)),
        Err(Refused::ScriptTooLong(SCRIPT_BYTES_MAX + 1))
    );
}

#[test]
fn buffer_reads_what_nodes_reads() {
    let script = r"function Decoder(bytes) {
        const b = Buffer.from(bytes);
        return [b.readUInt8(0), b.readInt8(0), b.readUInt16BE(0), b.readUInt16LE(0), b.readInt16BE(0), b.readUInt32LE(0), b.readInt32BE(0),
            b.readUIntBE(1, 3), b.readIntLE(1, 3), b.readFloatLE(4), b.readDoubleBE(8), b.readBigUInt64LE(0).toString(), b.readUint16BE(2),
            b.toString('hex', 0, 4), b.slice(1, 3).toString('base64'), b.subarray(1, 3).length, Buffer.isBuffer(b.slice(1)), b.length]
    }";
    let bytes = [0xfe, 0x01, 0x80, 0xff, 0, 0, 0xc0, 0x3f, 0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18];
    assert_eq!(
        decode(script, &bytes),
        Ok(json!([
            254,
            -2,
            65025,
            510,
            -511,
            4_286_579_198_u32,
            -33_455_873,
            98_559,
            -32_767,
            1.5,
            std::f64::consts::PI,
            "4593671624204485118",
            33023,
            "fe0180ff",
            "AYA=",
            2,
            true,
            16
        ]))
    );
}

#[test]
fn buffer_writes_and_speaks_the_encodings_of_nodes() {
    let script = r"function Decoder() {
        const b = Buffer.alloc(6);
        b.writeUInt16LE(0x1234, 0); b.writeInt8(-2, 2); b.writeUIntBE(0x010203, 3, 3);
        return [b.toString('hex'), Buffer.from('aGVsbG8', 'base64').toString(), Buffer.from('fffe0g', 'hex').length,
            Buffer.from('烽燧', 'utf8').toString('hex'), Buffer.from([0xe7, 0x83, 0xbd, 0xff]).toString(),
            Buffer.concat([Buffer.from('a'), Buffer.from([98])]).toString('ascii'), JSON.stringify(Buffer.from([1])),
            Buffer.from('abc').equals(Buffer.from('abc')), Buffer.from('abcabc').indexOf('ca'), new Buffer('ab').length, Buffer.from('abc').reverse().toString(),
            atob('aGk='), btoa('hi'), new TextDecoder().decode(new Uint8Array([0xc3, 0xa9])), Buffer.from([1, 2, 3, 4]).swap16().toString('hex')]
    }";
    assert_eq!(
        decode(script, &[]),
        Ok(json!([
            "3412fe010203",
            "hello",
            2,
            "e783bde787a7",
            "烽\u{fffd}",
            "ab",
            r#"{"type":"Buffer","data":[1]}"#,
            true,
            2,
            2,
            "cba",
            "hi",
            "aGk=",
            "é",
            "02010403"
        ]))
    );
    let beyond = "function Decoder(bytes) { return Buffer.from(bytes).readUInt16BE(1) }";
    assert!(matches!(decode(beyond, &[1, 2]), Err(Refused::Threw(what)) if what.starts_with("RangeError: ")));
}

proptest::proptest! {
    #[test]
    fn any_bytes_and_any_script_are_an_answer_or_a_reason(script in ".{0,200}", bytes in proptest::collection::vec(0_u8.., 0..64)) {
        let nothing = json!({});
        let uplink = Uplink { bytes: &bytes, port: None, received_at: Timestamp::from_secs(0), recv_time: None, variables: &nothing };
        let echo = Codec::new("function Decoder(bytes) { return bytes }").unwrap();
        assert_eq!(serde_json::from_str::<Vec<u8>>(&echo.decode(&uplink).unwrap()).unwrap(), bytes);
        if let Ok(codec) = Codec::new(script) {
            codec.decode(&uplink).ok();
        }
    }
}

#[test]
fn the_engines_own_words_for_a_mistake_are_those_of_node() {
    let said = |body: &str| {
        decode(
            &format!("function Decoder(bytes) {{ try {{ {body} }} catch (e) {{ return e.message }} }}"),
            &[1],
        )
    };
    for (body, words) in [
        ("var a; return a.size", "Cannot read properties of undefined (reading 'size')"),
        ("null.x = 1", "Cannot set properties of null (setting 'x')"),
        ("const a = 1; a = 2", "Assignment to constant variable."),
        ("new Array(-1)", "Invalid array length"),
        ("JSON.parse('{')", "Expected property name or '}' in JSON at position 1"),
        ("throw new Error('my own')", "my own"),
        ("missing()", "missing is not defined"),
    ] {
        assert_eq!(said(body), Ok(json!(words)), "{body}");
    }
}
