//! `fengsui profile new` by questions and answers: what is asked of a person, a line each. The end of the input is an empty
//! line, for ever.

use crate::cli::known::say;
use crate::model::Quantity;
use crate::profile::drafting::{Identity, classes_of_word};
use crate::profile::{PointClass, Vocabulary};
use std::io::{BufRead, StdinLock};

/// How many classes a word is answered with.
const OFFERED_MAX: usize = 9;
/// The longest line that is read: the longest payload that becomes an example, and room.
const LINE_BYTES_MAX: usize = 64 << 10;

pub(super) struct Talk<'v> {
    input: StdinLock<'static>,
    pub(super) vocabulary: &'v Vocabulary,
    /// The input is at its end.
    ended: bool,
}

impl<'v> Talk<'v> {
    pub(super) fn new(vocabulary: &'v Vocabulary) -> Self {
        Self { input: std::io::stdin().lock(), vocabulary, ended: false }
    }

    /// A line without its blanks; empty at the end of the input.
    pub(super) fn ask(&mut self, question: &str) -> String {
        say(&format!("{question}\n> "));
        let mut line = Vec::new();
        let read = std::io::Read::take(&mut self.input, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        self.ended |= !matches!(read, Ok(1..));
        String::from_utf8_lossy(&line).trim().to_owned()
    }

    pub(super) fn or(&mut self, question: &str, otherwise: &str) -> String {
        let shown = if otherwise.is_empty() {
            question.to_owned()
        } else {
            format!("{question}（回车 Enter: {otherwise}）")
        };
        let answer = self.ask(&shown);
        if answer.is_empty() { otherwise.to_owned() } else { answer }
    }

    /// Which of a few; the first by default.
    pub(super) fn choice(&mut self, question: &str, words: &[&str]) -> usize {
        loop {
            let answer = self.ask(question);
            let numbered = answer
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(1))
                .filter(|at| *at < words.len());
            let named = words.iter().position(|word| word.eq_ignore_ascii_case(&answer));
            match numbered.or(named) {
                Some(place) => return place,
                None if answer.is_empty() => return 0,
                None => say("没有这一项 / no such choice\n"),
            }
        }
    }

    pub(super) fn identity(&mut self, identity: &mut Identity) {
        let Identity { vendor, model, zh, en, source } = identity;
        for (field, question) in [
            (vendor, "厂商 vendor"),
            (model, "型号 model number"),
            (zh, "中文名称 name in Chinese"),
            (en, "英文名称 name in English"),
            (source, "出处：说明书、版本、页码 source: manual, revision, page"),
        ] {
            if field.is_empty() {
                *field = self.ask(question);
            }
        }
    }

    /// A class by a word for it; `None`: the input is at its end.
    pub(super) fn class(&mut self) -> Option<&'v PointClass> {
        loop {
            let word = self.ask(
                "类别：中文或英文词，如 烟感、温度、battery class: a word for it（? 列出全部 lists all）",
            );
            let classes = match word.as_str() {
                "" if self.ended => return None,
                "?" | "？" | "" => self.vocabulary.classes().collect(),
                word => classes_of_word(word, self.vocabulary),
            };
            let classes: Vec<&PointClass> = match word.as_str() {
                "?" | "？" | "" => classes,
                _ => classes.into_iter().take(OFFERED_MAX).collect(),
            };
            match classes[..] {
                [] => say("没有这种类别，换一个词 / no class is called so, try another word\n"),
                [class] => {
                    say(&format!("= {} {}\n", class.id, class.name.zh));
                    return Some(class);
                }
                _ => {
                    let line = |(number, class): (usize, &&PointClass)| {
                        format!("  {number}) {} {} {}\n", class.id, class.name.zh, class.name.en)
                    };
                    say(&(1..).zip(&classes).map(line).collect::<String>());
                    let ids: Vec<&str> = classes.iter().map(|class| class.id.as_str()).collect();
                    return classes.get(self.choice("哪一个 which one（回车 Enter: 1）", &ids)).copied();
                }
            }
        }
    }

    pub(super) fn unit(&mut self, class: &PointClass) -> Option<String> {
        if !class.quantity.is_numeric() || class.quantity.unit().is_empty() {
            return None;
        }
        let units: Vec<&str> = class.quantity.units().collect();
        loop {
            let question = format!("线上的单位 unit on the wire: {}", units.join("  "));
            let unit = self.or(&question, class.quantity.unit());
            if units.contains(&unit.as_str()) {
                return Some(unit);
            }
            say("没有这个单位 / no such unit\n");
        }
    }

    pub(super) fn scale(&mut self) -> Option<String> {
        loop {
            let scale = self.ask("倍率：线上的值乘以它，如 0.1 scale（回车 Enter: 1）");
            match scale.parse::<f64>() {
                _ if scale.is_empty() => return None,
                Ok(number) if number.is_finite() && number != 0.0 => return Some(format!("{number:?}")),
                _ => say("倍率是一个数 / a scale is a number\n"),
            }
        }
    }

    /// `0=normal 1=alarm`; of a flag `0=false 1=true`.
    pub(super) fn codes(&mut self, class: &PointClass) -> Vec<(String, String)> {
        let states: Vec<String> = match class.quantity {
            Quantity::Flag => vec!["false".to_owned(), "true".to_owned()],
            _ => class.states.iter().map(|(code, _)| code.to_string()).collect(),
        };
        let first = states.first().map_or("", String::as_str);
        let alarm = if states.iter().any(|state| state == "alarm") {
            "alarm"
        } else {
            states.get(1).map_or("", String::as_str)
        };
        let usual = format!("0={first} 1={alarm}");
        loop {
            let answer = self.or(&format!("代码：线上的值=状态 codes: {}", states.join("  ")), &usual);
            let pair =
                |word: &str| word.split_once('=').map(|(raw, state)| (raw.to_owned(), state.to_owned()));
            let codes: Option<Vec<(String, String)>> = answer.split_whitespace().map(pair).collect();
            let fits = |codes: &Vec<(String, String)>| {
                let mut raws: Vec<&String> = codes.iter().map(|(raw, _)| raw).collect();
                raws.sort();
                raws.dedup();
                raws.len() == codes.len()
                    && codes.iter().all(|(raw, state)| !raw.is_empty() && states.contains(state))
            };
            match codes.filter(fits) {
                Some(codes) => return codes,
                None => say(
                    "写成 0=normal 1=alarm，状态用上面的词 / write 0=normal 1=alarm, with the states above\n",
                ),
            }
        }
    }

    /// Two numbers as they go over the wire.
    pub(super) fn numbers(&mut self, class: &PointClass) -> [f64; 2] {
        let usual = class.range.map_or("0 1".to_owned(), |(low, high)| {
            // Something within the range, and short.
            let middle = |share: f64| ((low + (high - low) * share) * 10.0).round() / 10.0;
            format!("{} {}", middle(0.3), middle(0.4))
        });
        loop {
            let answer =
                self.or("两个线上的值，作示例用 two values as on the wire, for the examples", &usual);
            let numbers: Vec<f64> = answer.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            match numbers[..] {
                [first, second] if first.is_finite() && second.is_finite() && first != second => {
                    return [first, second];
                }
                _ => say("写两个不同的数 / write two different numbers\n"),
            }
        }
    }
}
