//! A TOML table that is read key by key, so that ALL its problems are found: serde stops at the first.
//!
//! Each question names the key and what it must be; what was never asked for is an unknown key at the end.

use crate::model::{IdError, Problem};
use crate::profile::suggest;
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One file's problems, shared by all its tables while they are read.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) file: Arc<str>,
    problems: RefCell<Vec<Problem>>,
}

impl Page {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.into(), problems: RefCell::default() }
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::error(&self.file, Some(span), message, help));
    }

    pub(super) fn warning(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::warning(&self.file, Some(span), message, help));
    }

    pub(super) fn whole_file(&self, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::error(&self.file, None, message, help));
    }

    /// The problems in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
        problems
    }

    /// Parses the text and hands its root table to `read`. A syntax error stops this file, and only this one.
    pub(super) fn parse<T>(&self, text: &str, read: impl FnOnce(&Table<'_>) -> T) -> Option<T> {
        match DeTable::parse(text) {
            Ok(root) => {
                let table = Table::new(self, root.get_ref(), 0..0);
                let value = read(&table);
                table.finish();
                Some(value)
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                self.error(span, format!("不是合法的 TOML / not valid TOML: {}", error.message()), "");
                None
            }
        }
    }
}

/// One table of a file.
#[derive(Debug)]
pub(super) struct Table<'t> {
    pub(super) page: &'t Page,
    /// Where its header stands.
    pub(super) span: Range<usize>,
    table: &'t DeTable<'t>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'t> Table<'t> {
    fn new(page: &'t Page, table: &'t DeTable<'t>, span: Range<usize>) -> Self {
        Self { page, span, table, asked: RefCell::default() }
    }

    fn get(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.page.error(
            value.span(),
            format!("“{key}” 的类型不对 / {key:?} is of the wrong type: {found}"),
            format!("应为 / must be {wanted}"),
        );
    }

    /// Takes note that a key is known here although nobody reads it: somebody else has a better complaint.
    pub(super) fn pass_over(&self, key: &'static str) {
        self.asked.borrow_mut().push(key);
    }

    /// Whether a key is there, whatever it holds.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the value of a key stands; the header when the key is missing.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// A text, if the key is there.
    pub(super) fn text(&self, key: &'static str) -> Option<Spanned<&'t str>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
            _ => {
                self.wrong_type(key, value, "a text in quotes");
                None
            }
        }
    }

    /// A text that must be there and not be empty. `example` is shown when it is not.
    pub(super) fn required(&self, key: &'static str, example: &str) -> Option<Spanned<&'t str>> {
        if !self.table.contains_key(key) {
            self.asked.borrow_mut().push(key);
            self.page.error(
                self.span.clone(),
                format!("缺少 “{key}” / {key:?} is missing"),
                format!("例如 / for example: {key} = {example:?}"),
            );
            return None;
        }
        let text = self.text(key)?;
        if text.get_ref().trim().is_empty() {
            let help = format!("例如 / for example: {key} = {example:?}");
            self.page.error(text.span(), format!("“{key}” 是空的 / {key:?} is empty"), help);
            return None;
        }
        Some(text)
    }

    /// An id that must be there.
    pub(super) fn id<T: FromStr<Err = IdError>>(
        &self,
        key: &'static str,
        example: &str,
    ) -> Option<Spanned<T>> {
        let text = self.required(key, example)?;
        self.parse_id(key, &text)
    }

    /// Takes a text for an id, or says why it is none.
    pub(super) fn parse_id<T: FromStr<Err = IdError>>(
        &self,
        key: &str,
        text: &Spanned<&str>,
    ) -> Option<Spanned<T>> {
        match text.get_ref().parse() {
            Ok(id) => Some(Spanned::new(text.span(), id)),
            Err(IdError { text: refused, reason }) => {
                self.page.error(
                    text.span(),
                    format!("“{key}” 不能是 {refused:?} / {refused:?} is no id: {reason}"),
                    "只用小写字母、数字、- 和 _，最长 64 个字符 / lower-case letters, digits, '-' and '_', at most 64",
                );
                None
            }
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        flag
    }

    /// A whole number within limits.
    pub(super) fn integer(&self, key: &'static str, allowed: RangeInclusive<i64>) -> Option<Spanned<i64>> {
        let value = self.get(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| allowed.contains(number));
        if number.is_none() {
            let (low, high) = (allowed.start(), allowed.end());
            self.page.error(
                value.span(),
                format!("“{key}” 超出范围 / {key:?} is out of range"),
                format!("允许 / allowed: {low}..={high}"),
            );
        }
        number.map(|number| Spanned::new(value.span(), number))
    }

    /// A finite number; whole numbers are taken too.
    pub(super) fn number(&self, key: &'static str) -> Option<Spanned<f64>> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => {
                self.wrong_type(key, value, "a number");
                return None;
            }
        };
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        if number.is_none() {
            self.wrong_type(key, value, "a finite number");
        }
        number.map(|number| Spanned::new(value.span(), number))
    }

    /// `[key]`.
    pub(super) fn table(&self, key: &'static str) -> Option<Table<'t>> {
        let value = self.get(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, &format!("a table: [{key}]"));
        }
        table.map(|table| Table::new(self.page, table, value.span()))
    }

    /// A list of texts; empty when the key is not there.
    pub(super) fn texts(&self, key: &'static str) -> Vec<Spanned<&'t str>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of texts: [\"…\"]");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Spanned::new(item.span(), text.as_ref())),
                _ => self.wrong_type(key, item, "a text in quotes"),
            }
        }
        texts
    }

    /// Every table in this one, whatever its key is.
    pub(super) fn into_tables(self) -> Vec<(Spanned<&'t str>, Table<'t>)> {
        let mut tables = Vec::new();
        for (key, value) in self.table.iter() {
            let name = Spanned::new(key.span(), key.get_ref().as_ref());
            match value.get_ref().as_table() {
                Some(table) => tables.push((name, Table::new(self.page, table, key.span()))),
                None => self.wrong_type(name.get_ref(), value, "a table"),
            }
        }
        tables
    }

    /// `[[key]]`, as often as it stands there.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Table<'t>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("a list of tables: [[{key}]], with two brackets"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table::new(self.page, table, item.span())),
                None => self.wrong_type(key, item, &format!("a table: [[{key}]]")),
            }
        }
        tables
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.into_inner();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) {
                continue;
            }
            let suggestion = suggest(name, asked.iter().copied());
            let help = if suggestion.is_empty() {
                let mut known = asked.clone();
                known.sort_unstable();
                known.dedup();
                format!("这里可以写 / known here: {}", known.join(", "))
            } else {
                suggestion
            };
            self.page.error(key.span(), format!("未知的键 / unknown key {name:?}"), help);
        }
    }
}
