//! `device-profiles/profile.schema.json`, with which an editor completes and underlines: it is current, it takes every profile that the
//! reader takes, and it refuses what somebody mistypes. The judge is another crate than the one that made it.

use super::{CATALOGUE, PROFILE, files, folder, parse, vocabulary};
use boon::{Compiler, SchemaIndex, Schemas};
use fengsui::profile::profile_schema;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::cell::Cell;

const FILE: &str = "profile.schema.json";

/// The first line of a profile: where its schema lies, for Taplo ("Even Better TOML").
const DIRECTIVE: &str = "#:schema ../profile.schema.json\n";

struct Judge {
    schemas: Schemas,
    schema: SchemaIndex,
}

impl Judge {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource(FILE, profile_schema(vocabulary())).unwrap();
        let schema = compiler.compile(FILE, &mut schemas).unwrap();
        Self { schemas, schema }
    }

    /// What is wrong with a profile; empty: nothing.
    fn wrong(&self, profile: &Value) -> String {
        self.schemas
            .validate(profile, self.schema)
            .map_err(|wrong| wrong.to_string())
            .err()
            .unwrap_or_default()
    }
}

fn json_of(toml: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Value>(toml).unwrap()).unwrap()
}

fn profiles() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(name, _)| name != "vocabulary.toml")
}

#[test]
fn the_schema_beside_the_profiles_is_current() {
    let path = folder().join(FILE);
    let fresh = format!("{}\n", serde_json::to_string_pretty(&profile_schema(vocabulary())).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == fresh, "run: UPDATE=1 cargo test --test it profiles::schema");
}

#[test]
fn every_shipped_profile_names_the_schema_and_fits_it() {
    let judge = Judge::new();
    let mut count = 0;
    for (name, text) in profiles() {
        assert!(text.starts_with(DIRECTIVE), "the first line of {name} must be {DIRECTIVE}");
        assert_eq!(judge.wrong(&json_of(&text)), "", "{name}");
        count += 1;
    }
    let models = CATALOGUE.profiles.keys().filter(|id| !id.as_str().contains('@')).count();
    assert_eq!(count, models, "a profile was not looked at");
}

/// One key of every kind is wrong: the reader refuses it, and so does the schema, at the same place.
#[test]
fn what_is_mistyped_is_underlined_where_it_stands() {
    const REGISTER: &str = "from = { json = \"t\" }";
    let judge = Judge::new();
    assert_eq!(judge.wrong(&json_of(PROFILE)), "");
    for (from, to, place) in [
        // a key that is unknown, in every kind of table
        ("[device]", "colour = 1\n[device]", "''"),
        ("[device]\n", "[device]\ncolour = 1\n", "'/device'"),
        ("[mqtt]\n", "[mqtt]\ntopix = 1\n", "'/mqtt'"),
        ("name = \"smoke\"", "name = \"smoke\"\nclas = 1", "'/point/0'"),
        ("{ json = \"smoke\" }", "{ jsn = \"smoke\" }", "'/point/0/from'"),
        ("en = \"Smoke\" }", "en = \"Smoke\", fr = \"Fumée\" }", "'/device/name'"),
        ("[mqtt]\n", "[mqtt]\neach = { way = \"a\" }\n", "'/mqtt/each'"),
        ("[mqtt]\n", "[time]\nunit = \"s\"\njsn = \"ts\"\n[mqtt]\n", "'/time'"),
        ("refused = true", "refused = true\nwhy = \"broken\"", "'/example/2'"),
        // a word that is not of its list
        ("\"smoke_alarm\"", "\"smoke_alram\"", "'/point/0/class'"),
        ("\"heat_temperature\"", "\"temperature\"", "'/point/1/class'"),
        ("\"℃\"", "\"C\"", "'/point/1/unit'"),
        ("\"℃\"", "\"MPa\"", "'/point/1/unit'"),
        ("1 = \"alarm\"", "1 = \"alrm\"", "'/point/0/codes/1'"),
        ("1 = \"alarm\"", "1 = \"running\"", "'/point/0/codes/1'"),
        ("1 = \"alarm\"", "1 = true", "'/point/0/codes/1'"),
        ("[mqtt]\n", "[mqtt]\npayload = \"jsn\"\n", "'/mqtt/payload'"),
        ("[mqtt]\n", "[mqtt]\npayload = { json = \"d\", encoding = \"binary\" }\n", "'/mqtt/payload"),
        ("[mqtt]\n", "[mqtt]\nbyte_order = \"ABC\"\n", "'/mqtt/byte_order'"),
        ("[mqtt]\n", "[time]\njson = \"t\"\nunit = \"us\"\n[mqtt]\n", "'/time/unit'"),
        ("[mqtt]\n", "[time]\njson = \"t\"\nunit = [\"s\", 1]\n[mqtt]\n", "'/time/unit"),
        ("[mqtt]\n", "[frame]\nchecksum = { kind = \"crc\", byte = -2 }\n[mqtt]\n", "'/frame/checksum/kind'"),
        ("{ json = \"t\" }", "{ json = \"t\", type = \"u15\" }", "'/point/1/from/type'"),
        ("\"℃\"", "\"℃\"\nsentinels = [{ raw = 0, means = \"nothing\" }]", "'/point/1/sentinels/0/means'"),
        (REGISTER, "from = { table = \"inputs\", address = 1 }", "'/point/1/from/table'"),
        // what is missing
        ("unit = \"℃\"\n", "", "'/point/1'"),
        ("class = \"smoke_alarm\"\n", "", "'/point/0'"),
        ("source = \"SD-100 manual rev C, p. 14\"\n", "", "'/device'"),
        ("\"SD-100 manual rev C, p. 14\"", "\"\"", "'/device/source'"),
        ("from = { json = \"smoke\" }\n", "", "'/point/0'"),
        ("codes = { 0 = \"normal\", 1 = \"alarm\" }\n", "", "'/point/0'"),
        ("from = { json = \"smoke\" }", "from = {}", "'/point/0/from'"),
        (REGISTER, "from = { table = \"input\" }", "'/point/1/from'"),
        ("[mqtt]\ntopics = [\"acme/{address}\"]\n", "", "''"),
        (", en = \"Smoke\" }", " }", "'/device/name'"),
        // what is of a wrong type, or does not belong there
        ("[\"acme/{address}\"]", "\"acme/{address}\"", "'/mqtt/topics'"),
        ("vendor = \"Acme\"", "vendor = 3", "'/device/vendor'"),
        ("refused = true", "refused = \"yes\"", "'/example/2/refused'"),
        ("\"℃\"", "\"℃\"\nscale = \"0.1\"", "'/point/1/scale'"),
        ("\"℃\"", "\"℃\"\nrange = [1]", "'/point/1/range'"),
        ("name = \"smoke\"", "name = \"Smoke\"", "'/point/0/name'"),
        ("codes = {", "unit = \"℃\"\ncodes = {", "'/point/0/unit'"),
        ("[mqtt]\n", "[modbus]\npoll_every_secs = 1\n[mqtt]\n", "'/mqtt'"),
        ("[mqtt]\n", "[mqtt]\ncodec = \"../evil.js\"\n", "'/mqtt/codec'"),
        ("smoke = \"alarm\"", "smoke = 1", "'/example/1/readings/smoke'"),
    ] {
        let text = PROFILE.replacen(from, to, 1);
        assert_ne!(text, PROFILE, "{from:?} is not in the profile");
        assert!(parse(&text).is_err(), "the reader takes {to:?}");
        let wrong = judge.wrong(&json_of(&text));
        assert!(wrong.contains(&format!("at {place}")), "{to:?} is not underlined at {place}: {wrong}");
    }
}

/// Calls `visit` with every schema inside, and where it is.
fn walk(schema: &Value, place: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(place, schema);
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        walk(part, &format!("{place}/{name}"), visit);
    }
    walk_if(&schema["additionalProperties"], place, visit);
    // In a table it is for Taplo alone.
    if schema["type"] == "array" {
        walk_if(&schema["items"], place, visit);
    }
    for part in schema["anyOf"].as_array().into_iter().flatten() {
        walk_if(part, place, visit);
    }
}

fn walk_if(part: &Value, place: &str, visit: &mut dyn FnMut(&str, &Value)) {
    if part.is_object() {
        walk(part, place, visit);
    }
}

#[test]
fn every_key_says_what_it_is_in_chinese_and_english() {
    let (root, mut keys) = (profile_schema(vocabulary()), 0);
    walk(&root, "", &mut |place, schema| {
        let one = &schema["items"];
        if schema["type"] == "array" && one["type"] == "object" {
            let itself = one["items"]["$ref"].as_str().and_then(|at| root.pointer(&at[1..]));
            assert_eq!(itself, Some(one), "{place}: Taplo would say nothing of its keys");
        }
        // An unknown key is a mistake wherever it stands.
        assert!(
            schema.get("properties").is_none() || schema["additionalProperties"] == json!(false),
            "{place}"
        );
        assert!(schema.get("$ref").is_none(), "{place}: an editor would lose what is beside a reference");
        assert!(schema.get("x-vocabulary").is_none(), "{place}: no words were put in");
        for (name, key) in schema["properties"].as_object().into_iter().flatten() {
            keys += 1;
            let said = key["description"].as_str().unwrap_or_default();
            let both = said.split_once(" / ");
            let chinese = |text: &str| text.chars().any(|c| ('一'..='鿿').contains(&c));
            let right =
                both.is_some_and(|(zh, en)| (chinese(zh) || zh.starts_with("true")) && !en.is_empty());
            assert!(right && !said.contains('\n'), "{place}/{name}: {said:?}");
        }
    });
    assert!(keys > 100, "only {keys} keys were found");
}

#[test]
fn a_class_is_completed_with_its_name_and_its_words() {
    let schema = profile_schema(vocabulary());
    let class = &schema["properties"]["point"]["items"]["properties"]["class"];
    let (ids, docs) = (&class["enum"], &class["x-taplo"]["docs"]["enumValues"]);
    assert_eq!(ids.as_array().unwrap().len(), vocabulary().classes().count());
    let place = ids.as_array().unwrap().iter().position(|id| id == "residual_current").unwrap();
    assert_eq!(docs[place], "剩余电流 / Residual current: mA, A");
}

/// Where every value of a profile stands, as JSON pointers.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, v)| (key.replace('~', "~0").replace('/', "~1"), v)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(place, v)| (place.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in inside {
        let at = format!("{at}/{key}");
        found.push(at.clone());
        pointers(value, &at, found);
    }
}

fn without(profile: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match profile.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(list)) => {
            list.remove(key.parse().unwrap());
        }
        _ => unreachable!("a parent is a table or a list"),
    }
}

/// An editor that underlines what is right would be switched off: whatever is changed in a shipped profile, if the reader still takes it,
/// so does the schema.
#[test]
fn what_the_reader_takes_is_not_underlined() {
    let judge = Judge::new();
    let shipped: Vec<Value> = profiles().map(|(_, text)| json_of(&text)).collect();
    let values = json!([0, -1, 1, 1.5, true, "x", "", "1", [], {}]);
    let taken = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1000));
    let changes = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..12);
    let outcome = runner.run(&changes, |(file, place, change)| {
        let mut profile = file.get(shipped.as_slice()).clone();
        let mut places = Vec::new();
        pointers(&profile, "", &mut places);
        let pointer = place.get(places.as_slice());
        match values.get(change) {
            Some(value) => *profile.pointer_mut(pointer).unwrap() = value.clone(),
            None => without(&mut profile, pointer),
        }
        let text = toml::to_string(&profile).unwrap();
        if parse(&text).is_ok() {
            taken.set(taken.get() + 1);
            prop_assert_eq!(judge.wrong(&profile), "", "{} in {}", pointer, text);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(taken.get() > 100, "the reader took only {} of the changed profiles", taken.get());
}
