//! FRAMES → READINGS, reading the files: what every file of this folder shares: two-language texts, the list of
//! problems, and the guess at what a misspelt word was meant to be.

use super::shape_read::shape;
use crate::model::{IdError, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::sync::Arc;

/// The largest vocabulary or profile file, in bytes. The largest shipped one is below 64 KiB; a megabyte is an
/// accident, and is refused before anything parses it.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;

/// A word is offered as a correction when at most this share of its letters (1 in 3) has to change; two letters in
/// any case, since two that changed places count as two.
const SUGGESTION_LETTERS_PER_EDIT: usize = 3;
const SUGGESTION_EDITS_ALWAYS: usize = 2;

/// `{ zh = "…", en = "…" }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TextFile {
    /// 中文 / in Chinese
    zh: String,
    /// 英文 / in English
    en: String,
}

impl TextFile {
    /// The same, with what tells this one from others behind it.
    pub(super) fn with(&self, more: &Self) -> Self {
        Self { zh: format!("{}（{}）", self.zh, more.zh), en: format!("{} ({})", self.en, more.en) }
    }

    pub(super) fn text(&self) -> Text {
        Text::new(&self.zh, &self.en)
    }
}

/// A value and where it stands in the file, so that a problem can point at it. Our own, because `toml::Spanned` has no JSON
/// Schema: to an editor it is the value alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(super) struct Spanned<T>(toml::Spanned<T>);

impl<T> Spanned<T> {
    pub(super) fn span(&self) -> Range<usize> {
        self.0.span()
    }

    pub(super) fn get_ref(&self) -> &T {
        self.0.get_ref()
    }
}

/// All that is wrong with one file, collected.
pub(super) struct Problems {
    file: Arc<str>,
    pub(super) list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.into(), list: Vec::new() }
    }

    /// None yet, of the same file.
    pub(super) fn fresh(&self) -> Self {
        Self { file: self.file.clone(), list: Vec::new() }
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.list.push(Problem::error(&self.file, Some(span), message, help));
    }

    pub(super) fn whole_file(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.list.push(Problem::error(&self.file, None, message, help));
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| !problem.warning)
    }
}

/// Reads a file into its serde shape; everything that is wrong with the shape is told at once. Unknown keys get a suggestion.
pub(super) fn read<T: DeserializeOwned>(text: &str, problems: &mut Problems) -> Option<T> {
    if text.len() > FILE_BYTES_MAX {
        problems.whole_file(
            format!("文件有 {0} 字节，上限 {FILE_BYTES_MAX} / the file has {0} bytes, the limit is {FILE_BYTES_MAX}", text.len()),
            "拆成几个文件，或检查是否放错了文件 / split it, or check that it is the right file",
        );
        return None;
    }
    shape(text, problems)
}

/// `是否想写 "x"？ / did you mean "x"?`, or nothing when no known word is near.
pub fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known)
        .map_or_else(String::new, |word| format!("是否想写 {word:?}？ / did you mean {word:?}?"))
}

/// The known word that was most likely meant.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let is_near = |edits: usize, word: &str| {
        let letters = word.chars().count();
        // Never more than half of it: "on" is no correction of "xy".
        edits <= (letters / SUGGESTION_LETTERS_PER_EDIT).max(SUGGESTION_EDITS_ALWAYS)
            && 2 * edits <= letters + 1
    };
    known
        .into_iter()
        .map(|word| (edits(written, word), word))
        .filter(|(edits, word)| is_near(*edits, word))
        .min()
        .map(|(_, word)| word.to_owned())
}

/// A suggestion, or the whole list when it is short enough to read.
pub(super) fn suggest_or_list<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let suggestion = suggest(written, known.clone());
    if suggestion.is_empty() {
        let words: Vec<_> = known.into_iter().collect();
        return one_of(&words);
    }
    suggestion
}

/// The whole list.
pub(super) fn one_of(words: &[&str]) -> String {
    let words = words.join(", ");
    format!("可用：{words} / use one of: {words}")
}

/// A text that is no id, and what an id is made of.
pub(super) fn no_id(error: &IdError) -> (String, &'static str) {
    (
        format!("{:?} 不能作标识 / {error}", error.text),
        "只用小写字母、数字、- 和 _，最长 64 个字符 / use lower-case letters, digits, - and _",
    )
}

/// Levenshtein distance, two rows at a time. Words of files are short.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut beside = i + 1;
        for (j, r) in right.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX);
            let cost = (diagonal + usize::from(l != *r)).min(above + 1).min(beside + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(j) {
                *cell = beside;
            }
            beside = cost;
        }
        if let Some(cell) = row.last_mut() {
            *cell = beside;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let cases =
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("adress", "address", 1)];
        for (left, right, count) in cases {
            assert_eq!(edits(left, right), count, "{left:?} → {right:?}");
        }
    }

    #[test]
    fn a_near_word_is_offered_and_a_far_one_is_not() {
        assert_eq!(
            suggest("residual_curent", ["flow", "residual_current"]),
            "是否想写 \"residual_current\"？ / did you mean \"residual_current\"?"
        );
        assert!(suggest("alram", ["normal", "alarm"]).ends_with(" / did you mean \"alarm\"?"));
        assert_eq!(suggest("xy", ["on", "flow", "residual_current"]), "");
    }
}
