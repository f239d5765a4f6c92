//! NOUNS: something wrong with a file that a person wrote: what, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One thing wrong with a config, plan, vocabulary or profile file. All of a file's problems are told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the person named it.
    pub file: Arc<str>,
    /// The bytes of the file that are wrong; `None`: the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
    /// A warning leaves the file usable; an error does not.
    pub warning: bool,
}

impl Problem {
    /// An error at a place.
    pub fn error(
        file: &Arc<str>,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { file: file.clone(), span, message: message.into(), help: help.into(), warning: false }
    }

    /// A warning at a place.
    pub fn warning(
        file: &Arc<str>,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { warning: true, ..Self::error(file, span, message, help) }
    }
}

/// One line, without the source text; `cli` draws the caret.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.message)?;
        if !self.help.is_empty() {
            write!(f, " ({})", self.help)?;
        }
        Ok(())
    }
}
