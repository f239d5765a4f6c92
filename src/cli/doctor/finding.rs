//! One thing that the doctor found: what, what it means, what to do; in plain words and under a name that never changes.

use super::super::known::LINE_END;
use crate::backup::local;
use crate::model::{Text, Timestamp};
use serde_json::{Value, json};

/// How bad it is. The worst one is the doctor's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Somebody should look at it.
    Warning,
    /// Something is lost, or will be.
    Serious,
}

impl Grade {
    /// 0, 1, 2.
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Warning => 1,
            Self::Serious => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Serious => "serious",
        }
    }

    fn mark(self) -> char {
        match self {
            Self::Good => '✔',
            Self::Warning => '!',
            Self::Serious => '✘',
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its lasting name, for programs: `disk-full`.
    pub id: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// Which follower, file or device, where there may be several.
    pub about: Option<String>,
    /// Since when, as far as it is known.
    pub since: Option<Timestamp>,
    /// What it is.
    pub what: Text,
    /// What it means; empty: nothing to add.
    pub means: Text,
    /// What to do; empty: nothing.
    pub todo: Text,
}

impl Finding {
    pub(super) fn new(grade: Grade, id: &'static str, zh: &str, en: &str) -> Self {
        let nothing = || Text::new("", "");
        Self {
            id,
            grade,
            about: None,
            since: None,
            what: Text::new(zh, en),
            means: nothing(),
            todo: nothing(),
        }
    }

    pub(super) fn means(mut self, zh: &str, en: &str) -> Self {
        self.means = Text::new(zh, en);
        self
    }

    pub(super) fn todo(mut self, zh: &str, en: &str) -> Self {
        self.todo = Text::new(zh, en);
        self
    }

    pub(super) fn about(mut self, about: &str) -> Self {
        self.about = Some(about.to_owned());
        self
    }

    pub(super) fn since(mut self, at: Option<Timestamp>) -> Self {
        self.since = at;
        self
    }

    pub(super) fn json(&self) -> Value {
        let text = |text: &Text| json!({ "zh": &*text.zh, "en": &*text.en });
        json!({
            "id": self.id,
            "grade": self.grade.name(),
            "about": self.about,
            "since_ms": self.since.map(Timestamp::as_millis),
            "what": text(&self.what),
            "means": text(&self.means),
            "todo": text(&self.todo),
        })
    }

    /// One line; with English, a second one beneath.
    pub(super) fn line(&self, english: bool) -> String {
        let since = self.since.map(local);
        let mut line = format!("{} {}", self.grade.mark(), self.what.zh);
        if let Some(since) = &since {
            line += &format!("（自 {since}）");
        }
        if !self.means.zh.is_empty() {
            line += &format!("。{}", self.means.zh);
        }
        if !self.todo.zh.is_empty() {
            line += &format!("。→ {}", self.todo.zh);
        }
        if self.grade > Grade::Good {
            line += &format!(" [{}]", self.id);
        }
        line += LINE_END;
        if english {
            line += &format!("    {}", self.what.en);
            if let Some(since) = &since {
                line += &format!(" (since {since})");
            }
            for part in [&self.means.en, &self.todo.en].into_iter().filter(|part| !part.is_empty()) {
                line += &format!(". {part}");
            }
            line += LINE_END;
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_that_says_what_to_do() {
        let finding = Finding::new(Grade::Serious, "disk-full", "磁盘已满", "the disk is full")
            .means("新的记录写不进去", "nothing can be recorded")
            .todo("清理磁盘", "free space");
        assert_eq!(finding.line(false), "✘ 磁盘已满。新的记录写不进去。→ 清理磁盘 [disk-full]\n");
        assert!(finding.line(true).ends_with("    the disk is full. nothing can be recorded. free space\n"));
        assert_eq!(finding.json()["id"], "disk-full");
    }
}
