//! FRAMES → READINGS, for an editor: the JSON Schema of a profile file, out of the types that read one, so that keys, words and units are
//! completed and underlined while somebody writes. It says less than the reader: what depends on the rest of the file (a path in a payload
//! of bytes, an address beyond the last register, an example that comes out otherwise) only `fengsui profile check` and `test` say.
//!
//! Draft 7, and all in one piece: the TOML language server of most editors knows no newer draft, and loses the description of a key whose
//! schema is a reference.

use super::bytes::{ByteOrder, ByteType, Encoding};
use super::command::WRITABLE;
use super::device_time::TimeUnit;
use super::draft::Spanned;
use super::frame::ChecksumKind;
use super::registers::{WordOrder, WordType};
use super::schema::ProfileFile;
use super::schema_mqtt::Payload;
use super::schema_point::SENSES;
use super::schema_register::{TABLES, table_name};
use super::vocabulary::{PointClass, Vocabulary};
use crate::model::{Quantity, RegisterTable};
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema as schema};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::marker::PhantomData;

/// The slugs of `model::id`.
pub(super) const SLUG: &str = "^[a-z0-9_-]{1,64}$";

/// `"0..3"`.
pub(super) const BITS: &str = r"^\s*[0-9]+\s*\.\.\s*[0-9]+\s*$";

/// A codec's file, beside the profile.
pub(super) const CODEC_FILE: &str = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*\.js$";

/// The key that marks a word of the vocabulary until [`profile_schema`] puts the words in.
const VOCABULARY: &str = "x-vocabulary";

/// The JSON Schema of a profile file that uses this vocabulary.
pub fn profile_schema(vocabulary: &Vocabulary) -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<ProfileFile>();
    RecursiveTransform(without_null).transform(&mut schema);
    RecursiveTransform(|part: &mut Schema| put_words_in(part, vocabulary)).transform(&mut schema);
    let mut schema = schema.to_value();
    say_inside_lists(&mut schema, "#");
    if let Some(point) = schema.pointer_mut("/properties/point/items").and_then(Value::as_object_mut) {
        point.insert("dependencies".to_owned(), json!({ "class": { "allOf": class_rules(vocabulary) } }));
    }
    schema
}

/// TOML has no null: what may be left out is left out.
fn without_null(schema: &mut Schema) {
    // TOML knows one integer and one float.
    schema.remove("format");
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(kind) = schema.get_mut("type") {
        let left: Vec<Value> =
            kind.as_array().into_iter().flatten().filter(|name| *name != "null").cloned().collect();
        match <[Value; 1]>::try_from(left) {
            Ok([only]) => *kind = only,
            Err(several) if several.is_empty() => {}
            Err(several) => *kind = Value::Array(several),
        }
    }
    let Some(Value::Array(mut ways)) = schema.remove("anyOf") else { return };
    ways.retain(|way| way.get("type").is_none_or(|kind| kind != "null"));
    match <[Value; 1]>::try_from(ways) {
        Ok([Value::Object(only)]) => {
            for (key, value) in only {
                // What is said of the field is nearer than what is said of its type.
                if schema.get(&key).is_none() {
                    schema.insert(key, value);
                }
            }
        }
        Ok(only) => _ = schema.insert("anyOf".to_owned(), json!(only)),
        Err(several) => _ = schema.insert("anyOf".to_owned(), Value::Array(several)),
    }
}

/// Taplo's language server (0.8; its issues 278 and 788) looks for what a key means one list too deep: of a key in `[[point]]` inside a list of points
/// in the point, of `topics` in its first topic. So both say it there. To a validator neither means anything.
fn say_inside_lists(schema: &mut Value, at: &str) {
    let is_list = schema["type"] == "array";
    let description = schema.get("description").cloned();
    let Value::Object(keys) = schema else { return };
    if let Some(one) = keys.get_mut("items").and_then(Value::as_object_mut).filter(|_| is_list) {
        if one.get("type").is_some_and(|kind| kind == "object") {
            one.insert("items".to_owned(), json!({ "$ref": format!("{at}/items") }));
        }
        if let Some(description) = description {
            one.entry("description").or_insert(description);
        }
    }
    for (key, part) in keys {
        say_inside_lists(part, &format!("{at}/{key}"));
    }
}

fn put_words_in(schema: &mut Schema, vocabulary: &Vocabulary) {
    let Some(marker) = schema.remove(VOCABULARY) else { return };
    let words = match marker.as_str() {
        Some("class") => {
            let docs: Vec<String> = vocabulary.classes().map(class_text).collect();
            // Where Taplo finds what each word of a list means.
            schema.insert("x-taplo".to_owned(), json!({ "docs": { "enumValues": docs } }));
            vocabulary.classes().map(|class| class.id.as_str().to_owned()).collect()
        }
        Some("state") => each_once(vocabulary.classes().flat_map(states)),
        _ => {
            let units = Quantity::all().flat_map(Quantity::units).filter(|unit| !unit.is_empty());
            each_once(units.map(str::to_owned))
        }
    };
    schema.insert("enum".to_owned(), json!(words));
}

fn states(class: &PointClass) -> impl Iterator<Item = String> {
    class.states.iter().map(|(code, _)| code.to_string())
}

/// In their order, without those that were there before.
fn each_once(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut once = Vec::new();
    for word in words {
        if !once.contains(&word) {
            once.push(word);
        }
    }
    once
}

/// `感烟探测 / Smoke detector: normal, alarm`.
fn class_text(class: &PointClass) -> String {
    let words: Vec<String> = match class.quantity {
        Quantity::State => states(class).collect(),
        Quantity::Flag => vec!["true".to_owned(), "false".to_owned()],
        quantity => quantity.units().filter(|unit| !unit.is_empty()).map(str::to_owned).collect(),
    };
    let colon = if words.is_empty() { "" } else { ": " };
    format!("{} / {}{colon}{}", class.name.zh, class.name.en, words.join(", "))
}

/// What the class of a point says of its other keys: one condition for all classes that say the same.
fn class_rules(vocabulary: &Vocabulary) -> Vec<Value> {
    let mut rules: Vec<(Value, Vec<&str>)> = Vec::new();
    for class in vocabulary.classes() {
        let rule = class_rule(class);
        match rules.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, classes)) => classes.push(class.id.as_str()),
            None => rules.push((rule, vec![class.id.as_str()])),
        }
    }
    let rules = rules.into_iter();
    rules
        .map(|(rule, classes)| json!({ "if": { "properties": { "class": { "enum": classes } } }, "then": rule }))
        .collect()
}

fn class_rule(class: &PointClass) -> Value {
    let no_number =
        json!({ "unit": false, "scale": false, "offset": false, "range": false, "current_loop": false });
    let mut keys = no_number;
    match class.quantity {
        Quantity::State => {
            let states: Vec<String> = states(class).collect();
            keys["otherwise"] = json!({ "enum": states });
            keys["codes"] = json!({ "minProperties": 1, "additionalProperties": { "enum": states } });
            json!({ "required": ["codes"], "properties": keys })
        }
        Quantity::Flag => {
            keys["otherwise"] = json!(false);
            keys["codes"] = json!({ "additionalProperties": { "type": "boolean" } });
            json!({ "properties": keys })
        }
        quantity => {
            let units: Vec<&str> = quantity.units().filter(|unit| !unit.is_empty()).collect();
            let unit = if units.is_empty() { json!(false) } else { json!({ "enum": units }) };
            let required = if units.is_empty() { json!([]) } else { json!(["unit"]) };
            let keys = json!({ "unit": unit, "codes": { "maxProperties": 0 }, "otherwise": false });
            json!({ "required": required, "properties": keys })
        }
    }
}

/// The schema of a closed list of words, which stand as texts in the file so that a wrong one is told with its place.
macro_rules! words {
    ($($name:ty: $words:expr;)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema!({ "type": "string", "enum": $words })
            }
        }
    )*};
}

words! {
    WordOrder: WordOrder::ALL.map(WordOrder::name);
    ByteOrder: ByteOrder::NAMES;
    ByteType: ByteType::ALL.map(ByteType::name);
    ChecksumKind: ChecksumKind::ALL.map(ChecksumKind::name);
    TimeUnit: TimeUnit::ALL.map(TimeUnit::name);
    RegisterTable: TABLES.map(|(name, _)| name);
    WritableTable: WRITABLE.map(table_name);
    NumberType: number_types();
    SenseWord: SENSES.map(|(word, _)| word);
    NewestWord: ["first", "last"];
    WholeMessage: ["message"];
}

/// The tables that a command may write to.
pub(super) enum WritableTable {}

/// The type of a number in registers or in bytes.
pub(super) enum NumberType {}

/// What a sentinel means.
pub(super) enum SenseWord {}

/// Which of several samples is the newest.
pub(super) enum NewestWord {}

/// `of = "message"`.
pub(super) enum WholeMessage {}

fn number_types() -> Vec<String> {
    let (words, bytes) = (WordType::ALL.map(WordType::name), ByteType::ALL.map(ByteType::name));
    each_once(words.into_iter().chain(bytes).map(str::to_owned))
}

/// A schema that is written by hand.
macro_rules! written {
    ($($(#[$doc:meta])* $name:ident: $schema:tt;)*) => {$(
        $(#[$doc])*
        pub(super) enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema!($schema)
            }
        }
    )*};
}

written! {
    /// A class of the vocabulary.
    ClassWord: { "type": "string", VOCABULARY: "class" };
    /// A state of any class of the vocabulary; which ones of a class are its own says [`class_rules`].
    StateWord: { "type": "string", VOCABULARY: "state" };
    /// A unit of any quantity; the same.
    UnitWord: { "type": "string", VOCABULARY: "unit" };
    /// A single value.
    Scalar: { "type": ["string", "number", "boolean"] };
    /// `port = 85`, `port = "fPort"`.
    PortWord: { "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 255 }, { "type": "string" }] };
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// `"s"` or `["s", "ms"]`.
pub(super) struct OneOrMore<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// `payload = "hex"`, `payload = { json = "data", encoding = "base64" }`.
impl JsonSchema for Payload {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Payload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Raw bytes are no text and so never inside JSON.
        let encodings = Encoding::ALL.into_iter().filter(|encoding| *encoding != Encoding::Binary);
        let encodings: Vec<&str> = encodings.map(Encoding::name).collect();
        let inside = schema!({
            "type": "object",
            "properties": {
                "json": {
                    "type": "string",
                    "description": "字节在 JSON 中的路径 / where the bytes are in the JSON",
                },
                "encoding": {
                    "type": "string",
                    "enum": encodings,
                    "description": "字节的写法 / how they are written",
                },
            },
            "required": ["json", "encoding"],
            "additionalProperties": false,
        });
        schema!({ "anyOf": [{ "type": "string", "enum": Payload::NAMES }, inside] })
    }
}
