//! FRAMES → READINGS, reading the files: the shape of a file, and everything that is wrong with it at once. What cannot be
//! understood is told, taken out, and the rest is read again.

use super::draft::{Problems, nearest};
use super::shape_error;
use serde::de::DeserializeOwned;
use std::mem::{replace, take};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// The most mistakes of shape that are told of one file: more is another file.
const TOLD_MAX: usize = 32;

/// The shape, or `None` when something that a person meant is missing from it; unknown keys are told, and the rest is as it is.
pub(super) fn shape<T: DeserializeOwned>(text: &str, problems: &mut Problems) -> Option<T> {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(TOLD_MAX) {
        tell(text, error, problems);
    }
    if !errors.is_empty() {
        return None;
    }
    let mut is_whole = true;
    let mut taken_out = Vec::new();
    for _ in 0..TOLD_MAX {
        let error = match T::deserialize(toml::de::Deserializer::from(table.clone())) {
            Ok(shape) => return is_whole.then_some(shape),
            Err(error) => error,
        };
        let is_missing = error.message().starts_with("missing field");
        // What is missing because it was taken out was told already.
        if !is_missing || !taken_out.iter().any(|name| error.message().ends_with(&format!("`{name}`"))) {
            tell(text, &error, problems);
        }
        let span = error.span()?;
        // A misspelt key is read as what it was most likely meant to be.
        let meant = quoted_in(error.message()).and_then(|(key, known)| nearest(key, known));
        if let Some(meant) = meant.filter(|_| error.message().starts_with("unknown field"))
            && rename(table.get_mut(), &span, &meant)
        {
            continue;
        }
        is_whole &= error.message().starts_with("unknown field");
        match take_out(table.get_mut(), &span) {
            Some(name) => taken_out.push(name),
            None => return None,
        }
    }
    None
}

/// unknown field `adress`, expected one of `address`, `table` …: the key, and what was expected.
fn quoted_in(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

fn rename<'i>(table: &mut DeTable<'i>, span: &Range<usize>, meant: &str) -> bool {
    let is_it = |key: &Spanned<DeString<'_>>| key.span() == *span;
    if !table.contains_key(meant) && table.keys().any(is_it) {
        let with = |(key, value): (Spanned<DeString<'i>>, Spanned<DeValue<'i>>)| {
            let key = if is_it(&key) { Spanned::new(key.span(), meant.to_owned().into()) } else { key };
            (key, value)
        };
        *table = take(table).into_iter().map(with).collect();
        return true;
    }
    table.iter_mut().any(|(_, value)| rename_in(value, span, meant))
}

fn rename_in(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>, meant: &str) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => rename(table, span, meant),
        DeValue::Array(array) => array.iter_mut().any(|item| rename_in(item, span, meant)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => false,
    }
}

fn tell(text: &str, error: &toml::de::Error, problems: &mut Problems) {
    let (message, help) = shape_error::told(text, error.message());
    problems.error(error.span().unwrap_or(0..0), message, help);
}

/// Removes the key or the value that stands there, and names it; `None`: there is none.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let mut name = None;
    let keep = |(key, value): &(Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
        let keep = key.span() != *span && value.span() != *span;
        if !keep {
            name = Some(key.get_ref().to_string());
        }
        keep
    };
    *table = take(table).into_iter().filter(keep).collect();
    name.or_else(|| table.iter_mut().find_map(|(key, value)| take_out_of(key.get_ref(), value, span)))
}

fn take_out_of(name: &str, value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    match value.get_mut() {
        DeValue::Table(table) => take_out(table, span),
        DeValue::Array(array) => {
            let before = array.len();
            let items = replace(array, DeArray::new());
            *array = items.into_iter().filter(|item| item.span() != *span).collect();
            if array.len() < before {
                return Some(name.to_owned());
            }
            array.iter_mut().find_map(|item| take_out_of(name, item, span))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    }
}
