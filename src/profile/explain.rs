//! FRAMES → READINGS, in plain words: which hazards a class of points can raise, after how long, and by which standard. For
//! `fengsui profile explain`, and for the catalogue's pages.

use super::vocabulary::PointClass;
use crate::model::{Condition, Rule, Span, Text};

/// What a class can raise, without its silence: how long a silence is normal is said once for the whole device.
pub fn hazards(class: &PointClass) -> impl Iterator<Item = &Rule> {
    class.rules.iter().filter(|rule| !matches!(rule.condition, Condition::Silent { .. }))
}

/// When, after how long, which hazard, how urgent, by which standard. The standard stands as it is cited, in Chinese.
pub fn sentence(rule: &Rule, class: &PointClass) -> Text {
    let when = when(rule, class);
    let delay = delay(rule);
    let (latch_zh, latch_en) =
        if rule.latching { ("，须由人复位", ", a person resets it") } else { ("", "") };
    let (basis, title) = (&rule.basis, &rule.title);
    Text::new(
        &format!(
            "{}{}报【{}】（{}{latch_zh}）依据：{basis}",
            when.zh,
            delay.zh,
            title.zh,
            rule.priority.zh()
        ),
        &format!(
            "{}{}: {} ({}{latch_en}); basis: {basis}",
            when.en,
            delay.en,
            title.en,
            rule.priority.name()
        ),
    )
}

fn when(rule: &Rule, class: &PointClass) -> Text {
    let named = |codes: &[crate::model::Code], pick: fn(&Text) -> &str, between: &str| {
        let name = |code| class.states.iter().find(|(known, _)| known == code).map(|(_, name)| pick(name));
        codes.iter().filter_map(name).collect::<Vec<_>>().join(between)
    };
    match &rule.condition {
        Condition::OneOf(codes) => Text::new(
            &format!("报“{}”时", named(codes, |text| &text.zh, "”或“")),
            &format!("when it says \"{}\"", named(codes, |text| &text.en, "\" or \"")),
        ),
        Condition::Is(true) => Text::new("为真时", "when true"),
        Condition::Is(false) => Text::new("为假时", "when false"),
        Condition::Unusable => Text::new("读数坏了时", "when it cannot be read"),
        limit => {
            let limit = limit.limit_text(class.quantity.unit());
            Text::new(&format!("{limit} 时"), &format!("when {limit}"))
        }
    }
}

/// `立即`, or how long it has to last.
pub fn delay(rule: &Rule) -> Text {
    if rule.on_delay == Span::ZERO {
        return Text::new("立即", ", at once");
    }
    let span = duration(rule.on_delay);
    Text::new(&format!("持续 {}后", span.zh), &format!(" for {}", span.en))
}

/// Seconds, minutes, hours or days, whichever a person would say.
pub fn duration(span: Span) -> Text {
    let seconds = span.as_millis() / 1000;
    let (count, zh, en) = match seconds {
        0..120 => (seconds, "秒", "s"),
        120..7200 => (seconds / 60, "分钟", "min"),
        7200..172_800 => (seconds / 3600, "小时", "h"),
        _ => (seconds / 86_400, "天", "days"),
    };
    Text::new(&format!("{count} {zh}"), &format!("{count} {en}"))
}
