//! FRAMES → READINGS, the vocabulary: the closed list of point classes, each with its quantity, names, states,
//! plausible range and the DEFAULT RULES that watch it, with the standard each figure comes from.

use super::draft::{Problems, Spanned, TextFile, no_id, read, suggest_or_list};
use crate::model::{
    ClassId, Code, Condition, Number, Priority, Problem, Quantity, Rule, RuleId, SignalClass, Span, Text,
};
use serde::Deserialize;
use std::collections::HashSet;

/// The format number in the file. A file of another format is refused, never guessed at.
const FORMAT: u32 = 1;

/// The longest on-delay of a fire rule: a person must hear of a fire within the 10 s that GB 26875.1-2011 4.1.2.1
/// gives the whole way to the centre.
const FIRE_ON_DELAY_MAX: Span = Span::from_secs(5);

/// The closed list of what a point can be. The default one is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vocabulary {
    classes: Vec<PointClass>,
    hazard_categories: Vec<HazardCategory>,
}

/// 隐患类别: a kind of hazard that the policy documents tell townships to look for.
#[derive(Debug, Clone, PartialEq)]
pub struct HazardCategory {
    /// What it is called there.
    pub name: Text,
    /// The classes whose points tell of it; empty: no sensor does.
    pub classes: Vec<ClassId>,
    /// What of it no sensor tells, and who must look.
    pub beyond_sensors: Text,
    /// Which document names it.
    pub source: String,
}

/// A kind of point: residual current, smoke alarm state, hydrant pressure …
#[derive(Debug, Clone, PartialEq)]
pub struct PointClass {
    /// Its id, as a profile names it.
    pub id: ClassId,
    /// What it measures.
    pub quantity: Quantity,
    /// What it is called.
    pub name: Text,
    /// The plausible range in the canonical unit; `None` for flags and states.
    pub range: Option<(f64, f64)>,
    /// Decimals a screen shows.
    pub decimals: u8,
    /// Its states with their names; empty unless the quantity is [`Quantity::State`].
    pub states: Vec<(Code, Text)>,
    /// The default rules, those for every class included. A [`Condition::Silent`] stands here with a zero span:
    /// how long a silence is normal is a property of the device, so `config` puts the figure in.
    pub rules: Vec<Rule>,
}

impl Vocabulary {
    /// Parses `vocabulary.toml`. All that is wrong with it is told at once.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(file);
        let vocabulary =
            read::<VocabularyFile>(text, &mut problems).map(|shape| build(&shape, &mut problems));
        match vocabulary {
            Some(vocabulary) if !problems.has_errors() => Ok(vocabulary),
            _ => Err(problems.list),
        }
    }

    /// The class of that id.
    pub fn class(&self, id: &str) -> Option<&PointClass> {
        self.classes.iter().find(|class| class.id.as_str() == id)
    }

    /// The hazard categories in the order of the documents.
    pub fn hazard_categories(&self) -> impl Iterator<Item = &HazardCategory> {
        self.hazard_categories.iter()
    }

    /// All classes in the order of the file.
    pub fn classes(&self) -> impl Iterator<Item = &PointClass> {
        self.classes.iter()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    format: Spanned<u32>,
    class: Vec<ClassFile>,
    /// Rules for every class that does not say `shared_rules = false`.
    #[serde(default)]
    rule: Vec<RuleFile>,
    #[serde(default)]
    hazard_category: Vec<HazardCategoryFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HazardCategoryFile {
    name: TextFile,
    classes: Vec<Spanned<String>>,
    beyond_sensors: TextFile,
    source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassFile {
    id: Spanned<String>,
    quantity: Spanned<String>,
    name: TextFile,
    range: Option<Spanned<[f64; 2]>>,
    #[serde(default)]
    decimals: u8,
    #[serde(default)]
    states: Vec<StateFile>,
    #[serde(default = "yes")]
    shared_rules: bool,
    #[serde(default)]
    rule: Vec<RuleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    code: Spanned<String>,
    zh: String,
    en: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    id: Spanned<String>,
    at_least: Option<f64>,
    below: Option<f64>,
    one_of: Option<Vec<Spanned<String>>>,
    is: Option<bool>,
    #[serde(default)]
    silent: bool,
    #[serde(default)]
    unusable: bool,
    deadband: Option<Spanned<f64>>,
    #[serde(default)]
    on_delay_secs: u32,
    #[serde(default)]
    off_delay_secs: u32,
    signal: Spanned<String>,
    priority: Spanned<String>,
    latching: Option<Spanned<bool>>,
    title: TextFile,
    basis: Spanned<String>,
}

fn yes() -> bool {
    true
}

fn build(file: &VocabularyFile, problems: &mut Problems) -> Vocabulary {
    if *file.format.get_ref() != FORMAT {
        problems.error(
            file.format.span(),
            format!("未知的格式 {0} / format {0} is unknown", file.format.get_ref()),
            format!("本程序只认识格式 {FORMAT} / this program reads format {FORMAT}"),
        );
    }
    let mut class_ids = HashSet::new();
    let mut rule_ids = HashSet::new();
    let shared: Vec<(&RuleFile, Option<Rule>)> =
        file.rule.iter().map(|rule| (rule, build_rule(rule, None, &mut rule_ids, problems))).collect();
    let mut classes = Vec::new();
    for class in &file.class {
        if !class_ids.insert(class.id.get_ref()) {
            problems.error(
                class.id.span(),
                format!("类别 {0:?} 出现了两次 / class {0:?} is there twice", class.id.get_ref()),
                "改名或删去一个 / rename or remove one",
            );
        }
        if let Some(mut built) = build_class(class, &mut rule_ids, problems) {
            if class.shared_rules {
                built.rules.extend(shared.iter().filter_map(|(_, rule)| rule.clone()));
            }
            classes.push(built);
        }
    }
    for (rule, _) in &shared {
        if !rule.unusable {
            problems.error(
                rule.id.span(),
                "对所有类别的规则只能是 `unusable = true` / a rule for every class can only be `unusable = true`",
                "其他规则写在各自的类别下面 / put other rules below their class",
            );
        }
    }
    let hazard_categories =
        file.hazard_category.iter().map(|one| build_hazard_category(one, &classes, problems)).collect();
    Vocabulary { classes, hazard_categories }
}

fn build_hazard_category(
    file: &HazardCategoryFile,
    classes: &[PointClass],
    problems: &mut Problems,
) -> HazardCategory {
    if file.source.get_ref().trim().is_empty() {
        problems.error(file.source.span(), "没有出处 / the source is empty", "写明文件 / name the document");
    }
    let known = || classes.iter().map(|class| class.id.as_str());
    let mut of_category = Vec::new();
    for id in &file.classes {
        match classes.iter().find(|class| class.id.as_str() == id.get_ref()) {
            Some(class) => of_category.push(class.id.clone()),
            None => problems.error(
                id.span(),
                format!("未知的类别 / class {:?} is unknown", id.get_ref()),
                suggest_or_list(id.get_ref(), known()),
            ),
        }
    }
    HazardCategory {
        name: file.name.text(),
        classes: of_category,
        beyond_sensors: file.beyond_sensors.text(),
        source: file.source.get_ref().clone(),
    }
}

fn build_class(
    file: &ClassFile,
    rule_ids: &mut HashSet<String>,
    problems: &mut Problems,
) -> Option<PointClass> {
    let id = parse_id(&file.id, ClassId::parse, problems)?;
    let Some(quantity) = Quantity::parse(file.quantity.get_ref()) else {
        let names: Vec<_> = Quantity::all().map(Quantity::name).collect();
        problems.error(
            file.quantity.span(),
            format!("未知的物理量 {0:?} / quantity {0:?} is unknown", file.quantity.get_ref()),
            suggest_or_list(file.quantity.get_ref(), names),
        );
        return None;
    };
    let range = file.range.as_ref().map(|range| (range.get_ref()[0], range.get_ref()[1]));
    match (&file.range, range) {
        (Some(written), Some((low, high))) if low.is_nan() || high.is_nan() || low >= high => {
            problems.error(
                written.span(),
                "范围是空的 / the range is empty",
                "写 [最低, 最高] / write [lowest, highest]",
            );
        }
        (None, _) if quantity.is_numeric() => {
            problems.error(
                file.id.span(),
                "数值类别要写合理范围 / a numeric class needs a plausible range",
                "加 range = [最低, 最高] / add range = [lowest, highest]",
            );
        }
        _ => {}
    }
    let states = build_states(file, quantity, problems);
    let mut class = PointClass {
        id,
        quantity,
        name: file.name.text(),
        range,
        decimals: file.decimals,
        states,
        rules: Vec::new(),
    };
    for rule in &file.rule {
        class.rules.extend(build_rule(rule, Some(&class), rule_ids, problems));
    }
    Some(class)
}

fn build_states(file: &ClassFile, quantity: Quantity, problems: &mut Problems) -> Vec<(Code, Text)> {
    if (quantity == Quantity::State) == file.states.is_empty() {
        problems.error(
            file.id.span(),
            "只有物理量是 \"state\" 的类别有 `states`，而且必须有 / a class has states exactly when its quantity is \"state\"",
            "加上或删去 `states` / add or remove `states`",
        );
    }
    let mut seen = HashSet::new();
    for state in &file.states {
        if !seen.insert(state.code.get_ref()) {
            problems.error(
                state.code.span(),
                format!("状态 {0:?} 出现了两次 / state {0:?} is there twice", state.code.get_ref()),
                "改名或删去一个 / rename or remove one",
            );
        }
    }
    file.states
        .iter()
        .map(|state| (state.code.get_ref().as_str().into(), Text::new(&state.zh, &state.en)))
        .collect()
}

fn build_rule(
    file: &RuleFile,
    class: Option<&PointClass>,
    rule_ids: &mut HashSet<String>,
    problems: &mut Problems,
) -> Option<Rule> {
    if !rule_ids.insert(file.id.get_ref().clone()) {
        problems.error(
            file.id.span(),
            format!("规则 {0:?} 出现了两次 / rule {0:?} is there twice", file.id.get_ref()),
            "给其中一条改名 / rename one",
        );
    }
    let id = parse_id(&file.id, RuleId::parse, problems);
    let signal =
        parse_word(&file.signal, SignalClass::parse, SignalClass::ALL.map(SignalClass::name), problems);
    let priority = parse_word(&file.priority, Priority::parse, Priority::ALL.map(Priority::name), problems);
    let condition = build_condition(file, class, problems);
    if file.basis.get_ref().trim().is_empty() {
        problems.error(
            file.basis.span(),
            "依据是空的 / the basis is empty",
            "写标准号和条款，或写本系统默认值；由设备自己判定的写设备上报 / cite standard and clause, or write 本系统默认值, or 设备上报 where the device itself decides",
        );
    }
    let (id, signal, priority, condition) = (id?, signal?, priority?, condition?);
    let rule = Rule {
        id,
        condition,
        signal,
        priority,
        on_delay: Span::from_secs(i64::from(file.on_delay_secs)),
        off_delay: Span::from_secs(i64::from(file.off_delay_secs)),
        latching: file.latching.as_ref().map_or(signal == SignalClass::Fire, |written| *written.get_ref()),
        title: file.title.text(),
        basis: file.basis.get_ref().as_str().into(),
    };
    check_fire(file, &rule, problems);
    Some(rule)
}

/// Fire is latched, undelayed and not dead-banded: an invariant of the gateway, so no file may say otherwise.
fn check_fire(file: &RuleFile, rule: &Rule, problems: &mut Problems) {
    if rule.signal != SignalClass::Fire {
        return;
    }
    if !rule.latching {
        let span = file.latching.as_ref().map_or_else(|| file.id.span(), Spanned::span);
        problems.error(
            span,
            "火警规则必须锁存，由人复位 / a fire rule always latches",
            "删去 `latching = false` / remove `latching = false`",
        );
    }
    if let Some(deadband) = file.deadband.as_ref().filter(|deadband| *deadband.get_ref() != 0.0) {
        problems.error(
            deadband.span(),
            "火警规则不能有回差 / a fire rule has no deadband",
            "删去 `deadband` / remove `deadband`",
        );
    }
    if rule.on_delay > FIRE_ON_DELAY_MAX {
        problems.error(
            file.id.span(),
            format!("火警规则最多延时 {FIRE_ON_DELAY_MAX}，这里是 {0} / a fire rule waits at most {FIRE_ON_DELAY_MAX}, not {0}", rule.on_delay),
            "缩短 on_delay_secs / shorten on_delay_secs",
        );
    }
}

fn build_condition(
    file: &RuleFile,
    class: Option<&PointClass>,
    problems: &mut Problems,
) -> Option<Condition> {
    let chosen = [
        file.at_least.is_some(),
        file.below.is_some(),
        file.one_of.is_some(),
        file.is.is_some(),
        file.silent,
        file.unusable,
    ];
    if chosen.into_iter().filter(|chosen| *chosen).count() != 1 {
        problems.error(
            file.id.span(),
            "每条规则有且只有一个条件 / a rule needs exactly one condition",
            "写 at_least、below、one_of、is、silent、unusable 之一 / write one of at_least, below, one_of, is, silent, unusable",
        );
        return None;
    }
    let quantity = class.map(|class| class.quantity);
    let mut wrong = |message: &str, help: &str| problems.error(file.id.span(), message, help);
    if file.unusable {
        return Some(Condition::Unusable);
    }
    if file.silent {
        return Some(Condition::Silent { after: Span::ZERO });
    }
    if let Some(flag) = file.is {
        if quantity != Some(Quantity::Flag) {
            wrong(
                "`is` 只用于物理量为 \"flag\" 的类别 / `is` needs a class whose quantity is \"flag\"",
                "状态用 one_of，数值用 at_least 或 below / use one_of for states, at_least or below for numbers",
            );
        }
        return Some(Condition::Is(flag));
    }
    if let Some(codes) = &file.one_of {
        check_codes(codes, class, problems);
        return Some(Condition::OneOf(codes.iter().map(|code| code.get_ref().as_str().into()).collect()));
    }
    if !quantity.is_some_and(Quantity::is_numeric) {
        wrong(
            "限值只用于数值类别 / a limit needs a numeric class",
            "状态用 one_of，开关量用 is / use one_of for states, is for flags",
        );
    }
    let limit = Number::new(file.at_least.or(file.below)?);
    let deadband = Number::new(file.deadband.as_ref().map_or(0.0, |deadband| *deadband.get_ref()));
    let (Some(limit), Some(deadband)) = (limit, deadband.filter(|deadband| *deadband >= Number::ZERO)) else {
        wrong(
            "限值须是有限的数，回差不能是负数 / limits are finite, and a deadband is not negative",
            "改正数值 / mend the figure",
        );
        return None;
    };
    let out_of_reach = class
        .and_then(|class| class.range)
        .is_some_and(|(low, high)| limit.get() <= low || limit.get() > high);
    if out_of_reach {
        wrong(
            "限值在合理范围之外，这条规则永远不会成立 / the limit is outside the plausible range: this rule could never be met",
            "改限值，或改类别的 range / change the limit, or the range of the class",
        );
    }
    Some(match file.below {
        Some(_) => Condition::Below { limit, deadband },
        None => Condition::AtLeast { limit, deadband },
    })
}

fn check_codes(codes: &[Spanned<String>], class: Option<&PointClass>, problems: &mut Problems) {
    let states: Vec<&str> =
        class.map(|class| class.states.iter().map(|(code, _)| &**code).collect()).unwrap_or_default();
    for code in codes {
        if !states.contains(&code.get_ref().as_str()) {
            problems.error(
                code.span(),
                format!(
                    "{0:?} 不是这个类别的状态 / state {0:?} is not a state of this class",
                    code.get_ref()
                ),
                suggest_or_list(code.get_ref(), states.clone()),
            );
        }
    }
    if codes.is_empty() {
        problems.whole_file(
            "有一条规则的 one_of 是空的 / a rule has an empty one_of",
            "至少写一个状态 / name at least one state",
        );
    }
}

pub(super) fn parse_id<T>(
    written: &Spanned<String>,
    parse: impl Fn(&str) -> Result<T, crate::model::IdError>,
    problems: &mut Problems,
) -> Option<T> {
    parse(written.get_ref())
        .map_err(|error| {
            let (message, help) = no_id(&error);
            problems.error(written.span(), message, help);
        })
        .ok()
}

/// A word of a closed list, or a problem with a suggestion.
pub(super) fn parse_word<T, const N: usize>(
    written: &Spanned<String>,
    parse: impl Fn(&str) -> Option<T>,
    known: [&'static str; N],
    problems: &mut Problems,
) -> Option<T> {
    let parsed = parse(written.get_ref());
    if parsed.is_none() {
        problems.error(
            written.span(),
            format!("这里不认识 {0:?} / {0:?} is unknown here", written.get_ref()),
            suggest_or_list(written.get_ref(), known),
        );
    }
    parsed
}
