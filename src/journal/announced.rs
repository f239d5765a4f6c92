//! THE LOG: a device that announced itself, as a stray's reason. It carries a drafted profile, which a person copies from
//! the page; nothing of it is ever used by itself.

use super::entry::Stray;

/// The first words of such a reason.
const ANNOUNCES: &str = "设备自报（Home Assistant）";

/// Between its parts: on a line of its own, which no single-line part can hold.
const RULE: &str = "\n――――\n";

/// The longest reason of this kind in bytes: a profile of 60 points has 12 KB. What is longer is kept without its draft.
const REASON_BYTES_MAX: usize = 32 * 1024;

/// The parts of such a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced<'r> {
    /// What a person reads first.
    pub words: &'r str,
    /// The drafted profile's id, `vendor/model`.
    pub profile: &'r str,
    /// What stands for the device in its topics; may be empty.
    pub address: &'r str,
    /// The drafted profile file; empty when nothing could be translated.
    pub text: &'r str,
}

impl Stray {
    /// The reason of an announcement. `words` are more lines for a person; `profile` and `address` are single lines.
    pub fn announced(name: &str, words: &[String], profile: &str, address: &str, text: &str) -> String {
        // A line that is a rule by itself would be taken for one.
        let line = |text: &str| text.replace(['\n', '\r', '―'], " ");
        let head: Vec<String> = std::iter::once(format!("{ANNOUNCES}：{}", line(name)))
            .chain(words.iter().map(|word| line(word)))
            .collect();
        let reason = |text: &str| [&*head.join("\n"), &line(profile), &line(address), text].join(RULE);
        let whole = reason(text);
        if whole.len() <= REASON_BYTES_MAX { whole } else { reason("") }
    }

    /// The parts of the reason of an announcement; `None` for every other stray.
    pub fn announcement(&self) -> Option<Announced<'_>> {
        if !self.reason.starts_with(ANNOUNCES) {
            return None;
        }
        let mut parts = self.reason.splitn(4, RULE);
        let (words, profile, address) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Announced { words, profile, address, text: parts.next()? })
    }

    /// The reason as a person reads it: without the draft.
    pub fn reason_words(&self) -> &str {
        self.announcement().map_or(&*self.reason, |announced| announced.words)
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::StrayKind;
    use super::*;
    use crate::model::Timestamp;
    use proptest::prelude::*;

    fn stray(reason: &str) -> Stray {
        Stray {
            kind: StrayKind::Unknown,
            key: "broker t".into(),
            device: None,
            reason: reason.into(),
            sample: Vec::new(),
            first_at: Timestamp::EPOCH,
            last_at: Timestamp::EPOCH,
            count: 1,
        }
    }

    proptest! {
        #[test]
        fn an_announcement_is_read_back_whatever_the_stranger_calls_itself(
            name: String, word in "[a\n―]{0,6}", profile in "[a-z]{1,8}/[a-z]{1,8}", address in "[\\PC&&[^―]]{0,20}", text: String
        ) {
            let stray = stray(&Stray::announced(&name, &[word, "――――".to_owned()], &profile, &address, &text));
            let announced = stray.announcement().unwrap();
            prop_assert_eq!((announced.profile, announced.address, announced.text), (&*profile, &*address, &*text));
            prop_assert!(announced.words.starts_with(ANNOUNCES) && announced.words.lines().count() >= 3);
            prop_assert_eq!(stray.reason_words(), announced.words);
            prop_assert_eq!(stray.guess(), None);
        }
    }

    #[test]
    fn a_draft_that_is_too_long_is_left_out_and_the_words_stay() {
        let text = "x".repeat(REASON_BYTES_MAX);
        let stray = stray(&Stray::announced("烟感", &[], "a/b", "sd-1", &text));
        assert_eq!(stray.announcement().unwrap().text, "");
        assert!(stray.reason_words().ends_with("烟感"));
    }
}
