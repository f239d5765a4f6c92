//! What the site plan may change about the vocabulary's rules: a limit, a delay, or whether a rule watches at all.
//!
//! A fire-class rule can be neither switched off, nor given a deadband, nor made slower.

use super::reader::Table;
use crate::model::{ClassId, Condition, Number, Quantity, Rule, SignalClass, Span};
use crate::profile::{PointClass, Profile, Vocabulary, suggest};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;

/// The longest delay, s: a day. A condition that lasts longer is no longer news.
const DELAY_SECS_MAX: i64 = 86_400;

/// What changes, without saying where.
#[derive(Debug, Clone, PartialEq)]
struct Changes {
    limit: Option<Number>,
    deadband: Option<Number>,
    on_delay: Option<Span>,
    off_delay: Option<Span>,
    enabled: bool,
}

/// `[[site.override]]` and `[[site.zone.override]]`: every point of a class.
#[derive(Debug)]
pub(super) struct ClassOverride<'a> {
    class: &'a ClassId,
    rule: String,
    changes: Changes,
    pub(super) span: Range<usize>,
    pub(super) used: Cell<bool>,
}

/// `[[site.zone.device.override]]`: one point of one device.
#[derive(Debug)]
pub(super) struct PointOverride<'a> {
    point: &'a str,
    rule: String,
    changes: Changes,
}

/// All that apply to one device. The nearest wins: device, then zone, then site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overrides<'a> {
    pub(super) site: &'a [ClassOverride<'a>],
    pub(super) zone: &'a [ClassOverride<'a>],
    pub(super) points: &'a [PointOverride<'a>],
}

impl<'a> ClassOverride<'a> {
    pub(super) fn read(table: Table<'_>, vocabulary: &'a Vocabulary) -> Option<Self> {
        let class = table.required("class", "residual_current");
        let known = class.as_ref().and_then(|class| vocabulary.class(class.get_ref()));
        if let (Some(class), None) = (&class, known) {
            let help = suggest_or_list(class.get_ref(), vocabulary.classes().map(|class| class.id.as_str()));
            let message = format!("未知的类别 / unknown class {:?}", class.get_ref());
            table.page.error(class.span(), message, help);
        }
        let read = read_changes(&table, known, known.and_then(|class| class.range));
        let span = table.span.clone();
        table.finish();
        let (rule, changes) = read?;
        Some(Self { class: &known?.id, rule, changes, span, used: Cell::new(false) })
    }
}

impl<'a> PointOverride<'a> {
    pub(super) fn read(table: Table<'_>, profile: &'a Profile, vocabulary: &'a Vocabulary) -> Option<Self> {
        let point = table.required("point", "residual-1");
        let shape = point
            .as_ref()
            .and_then(|point| profile.points.iter().find(|shape| shape.name == *point.get_ref()));
        if let (Some(point), None) = (&point, shape) {
            let help =
                suggest_or_list(point.get_ref(), profile.points.iter().map(|shape| shape.name.as_str()));
            let message = format!("{} 没有这个点 / it has no point {:?}", profile.id, point.get_ref());
            table.page.error(point.span(), message, help);
        }
        let class = shape.and_then(|shape| vocabulary.class(shape.class.as_str()));
        let range = shape.and_then(|shape| shape.range).or(class.and_then(|class| class.range));
        let read = read_changes(&table, class, range);
        table.finish();
        let (rule, changes) = read?;
        Some(Self { point: &shape?.name, rule, changes })
    }
}

impl Overrides<'_> {
    /// The rule as it watches this point; `None`: it does not.
    pub(super) fn apply(
        &self,
        rule: &Arc<Rule>,
        class: &ClassId,
        point: &str,
        silent_after: Option<Span>,
    ) -> Option<Arc<Rule>> {
        let of_class = |over: &&ClassOverride<'_>| over.class == class && over.rule == rule.id.as_str();
        let site = self.site.iter().filter(of_class).inspect(|over| over.used.set(true)).last();
        let zone = self.zone.iter().filter(of_class).inspect(|over| over.used.set(true)).last();
        let own = self.points.iter().rfind(|over| over.point == point && over.rule == rule.id.as_str());
        let silence = matches!(rule.condition, Condition::Silent { .. });
        let changes = [site.map(|o| &o.changes), zone.map(|o| &o.changes), own.map(|o| &o.changes)];
        if !silence && changes.iter().all(Option::is_none) {
            return Some(rule.clone());
        }
        let mut enabled = true;
        let mut changed = Rule::clone(rule);
        for change in changes.into_iter().flatten() {
            enabled = change.enabled;
            change.apply(&mut changed);
        }
        if let Condition::Silent { after } = &mut changed.condition {
            *after = silent_after?;
        }
        if enabled { Some(Arc::new(changed)) } else { None }
    }
}

impl Changes {
    fn apply(&self, rule: &mut Rule) {
        if let Condition::AtLeast { limit, deadband } | Condition::Below { limit, deadband } =
            &mut rule.condition
        {
            *limit = self.limit.unwrap_or(*limit);
            *deadband = self.deadband.unwrap_or(*deadband);
        }
        rule.on_delay = self.on_delay.unwrap_or(rule.on_delay);
        rule.off_delay = self.off_delay.unwrap_or(rule.off_delay);
        // The standard's clause no longer speaks for a figure that the site chose.
        if (self.limit.is_some() || self.on_delay.is_some()) && !rule.basis.starts_with(SITE_BASIS) {
            rule.basis = format!("{SITE_BASIS}（默认依据 {}）", rule.basis).into();
        }
    }
}

/// How the basis of a figure begins that the site plan chose.
const SITE_BASIS: &str = "现场设定";

/// Reads and checks `rule` and what changes about it. The table is finished by the caller.
fn read_changes(
    table: &Table<'_>,
    class: Option<&PointClass>,
    range: Option<(f64, f64)>,
) -> Option<(String, Changes)> {
    let name = table.required("rule", "residual-current-alarm");
    let limit = table.number("limit");
    let deadband = table.number("deadband");
    let on_delay = table.integer("on_delay_secs", 0..=DELAY_SECS_MAX);
    let off_delay = table.integer("off_delay_secs", 0..=DELAY_SECS_MAX);
    let enabled = table.flag("enabled");
    let (class, name) = (class?, name?);
    let Some(rule) = class.rules.iter().find(|rule| rule.id.as_str() == *name.get_ref()) else {
        let help = suggest_or_list(name.get_ref(), class.rules.iter().map(|rule| rule.id.as_str()));
        let message = format!("{} 没有这条规则 / it has no rule {:?}", class.id, name.get_ref());
        table.page.error(name.span(), message, help);
        return None;
    };
    let nothing = limit.is_none()
        && deadband.is_none()
        && on_delay.is_none()
        && off_delay.is_none()
        && !table.has("enabled");
    if nothing {
        let help = "limit, deadband, on_delay_secs, off_delay_secs, enabled";
        table.page.error(table.span.clone(), "什么也没有改 / it changes nothing", help);
    }
    let check = Check { table, rule, quantity: class.quantity, range };
    // All four are looked at, whatever the first one says.
    let right = [
        check.enabled(enabled),
        limit.as_ref().is_none_or(|limit| check.limit(limit)),
        deadband.as_ref().is_none_or(|deadband| check.deadband(deadband)),
        on_delay.as_ref().is_none_or(|delay| check.on_delay(delay)),
    ];
    if right.contains(&false) {
        return None;
    }
    let number = |value: Option<Spanned<f64>>| value.and_then(|value| Number::new(value.into_inner()));
    let span = |value: Option<Spanned<i64>>| value.map(|value| Span::from_secs(value.into_inner()));
    let changes = Changes {
        limit: number(limit),
        deadband: number(deadband),
        on_delay: span(on_delay),
        off_delay: span(off_delay),
        enabled: enabled.unwrap_or(true),
    };
    Some((name.get_ref().to_string(), changes))
}

struct Check<'t, 'c> {
    table: &'c Table<'t>,
    rule: &'c Rule,
    quantity: Quantity,
    range: Option<(f64, f64)>,
}

impl Check<'_, '_> {
    fn refuse(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> bool {
        self.table.page.error(span, message, help);
        false
    }

    fn is_fire(&self) -> bool {
        self.rule.signal == SignalClass::Fire
    }

    fn has_limit(&self) -> bool {
        matches!(self.rule.condition, Condition::AtLeast { .. } | Condition::Below { .. })
    }

    fn enabled(&self, enabled: Option<bool>) -> bool {
        if enabled == Some(false) && self.is_fire() {
            return self.refuse(
                self.table.span_of("enabled"),
                format!("火警规则不能停用 / the fire rule {} cannot be switched off", self.rule.id),
                "删除这一行；误报请换设备或改位置 / remove this line; move or replace a detector that lies",
            );
        }
        true
    }

    fn limit(&self, limit: &Spanned<f64>) -> bool {
        if !self.has_limit() {
            let message = format!("规则没有限值 / the rule {} has no limit", self.rule.id);
            let help = "离线时间在 silent_after_secs / a silence is set by silent_after_secs";
            return self.refuse(limit.span(), message, help);
        }
        let value = *limit.get_ref();
        match self.range {
            Some((low, high)) if value < low || value > high => {
                let unit = self.quantity.unit();
                self.refuse(
                    limit.span(),
                    format!(
                        "限值在量程之外：规则永远或从不成立 / {value} {unit} is outside the plausible range"
                    ),
                    format!("允许 / allowed: {low}..={high} {unit}"),
                )
            }
            _ => true,
        }
    }

    fn deadband(&self, deadband: &Spanned<f64>) -> bool {
        if self.is_fire() {
            let message =
                format!("火警规则不能有回差 / the fire rule {} cannot have a deadband", self.rule.id);
            return self.refuse(deadband.span(), message, "删除这一行 / remove this line");
        }
        if !self.has_limit() || *deadband.get_ref() < 0.0 {
            return self.refuse(
                deadband.span(),
                "这里不能有这个回差 / no such deadband here",
                "deadband ≥ 0",
            );
        }
        true
    }

    fn on_delay(&self, delay: &Spanned<i64>) -> bool {
        let longest = self.rule.on_delay;
        if self.is_fire() && Span::from_secs(*delay.get_ref()) > longest {
            return self.refuse(
                delay.span(),
                format!("火警不能变慢 / the fire rule {} cannot be made slower", self.rule.id),
                format!("至多 / at most {longest}"),
            );
        }
        true
    }
}

pub(super) fn suggest_or_list<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let suggestion = suggest(written, known.iter().copied());
    if suggestion.is_empty() { format!("可用 / known: {}", known.join(", ")) } else { suggestion }
}
