//! FRAMES → READINGS, drafting: what register words could mean, and the profile of those that a person picked.

use super::super::registers::{WordOrder, WordType};
use super::super::schema_register::{parse_table, table_name};
use super::super::vocabulary::{PointClass, Vocabulary};
use super::sheet::{Identity, Input, Point, Sheet};
use super::{Drafted, Refused, classes_of_word, codes};
use crate::model::{RegisterBlock, RegisterTable};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The types that a draft knows. Others exist (see the README) and are written by hand.
pub const REGISTER_TYPES: [&str; 5] = ["u16", "i16", "u32", "i32", "f32"];

/// Registers that were read one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which table.
    pub table: RegisterTable,
    /// The first address, from 0.
    pub start: u16,
    /// The words.
    pub words: Vec<u16>,
}

/// One value that a person picked.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterPick {
    /// Which table.
    pub table: RegisterTable,
    /// The address, from 0.
    pub address: u16,
    /// How it lies there; `None` of coils and discrete inputs.
    pub kind: Option<WordType>,
    /// In which order, where it was said.
    pub order: Option<WordOrder>,
    /// One bit of it.
    pub bit: Option<u8>,
    /// By what it is multiplied.
    pub scale: Option<String>,
    /// The id of its class.
    pub class: String,
    /// Its unit on the wire; the class's own unless it was said.
    pub unit: Option<String>,
    /// What a word that means several classes could mean as well.
    pub also: Vec<String>,
    /// Wire value → state (or `true`/`false`) as a person gave them; empty: they are guessed.
    pub codes: Vec<(String, String)>,
    /// More numbers on the wire of which examples are made up.
    pub more: Vec<f64>,
}

impl RegisterPick {
    /// Reads `holding@4 f32 CDAB temperature`: table and address, type, order, `x0.1`, `bit=5`, class or a word for one, unit.
    ///
    /// # Errors
    ///
    /// What is wrong with it and how it is written.
    pub fn parse(text: &str, vocabulary: &Vocabulary) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (table, address) = words.next().and_then(|place| place.split_once('@')).unwrap_or_default();
        let table = parse_table(table)
            .ok_or("表是 holding、input、coil 或 discrete，如 holding@4 / the table before the @")?;
        let address: u16 =
            address.parse().map_err(|_| format!("地址写错了 / {address:?} is no address: holding@4"))?;
        let mut pick = Self {
            table,
            address,
            kind: None,
            order: None,
            bit: None,
            scale: None,
            class: String::new(),
            unit: None,
            also: Vec::new(),
            codes: Vec::new(),
            more: Vec::new(),
        };
        let is_bit_table = matches!(table, RegisterTable::Coil | RegisterTable::Discrete);
        for word in words {
            let scale = word.strip_prefix(['x', '×', '*']).and_then(|scale| scale.parse::<f64>().ok());
            let kind = WordType::parse(word).filter(|_| REGISTER_TYPES.contains(&word));
            if let Some(kind) = kind.filter(|_| !is_bit_table && pick.kind.is_none()) {
                pick.kind = Some(kind);
            } else if let Some(order) = WordOrder::parse(&word.to_uppercase()) {
                pick.order = Some(order);
            } else if let Some(scale) = scale.filter(|scale| scale.is_finite() && *scale != 0.0) {
                pick.scale = Some(format!("{scale:?}"));
            } else if let Some(bit) =
                word.strip_prefix("bit=").and_then(|bit| bit.parse().ok()).filter(|bit| *bit < 16)
            {
                pick.bit = Some(bit);
            } else if pick.class.is_empty() {
                let classes = classes_of_word(word, vocabulary);
                let class = classes
                    .first()
                    .ok_or_else(|| format!("没有这种类别 / no class for {word:?}: 见 README 的类别表"))?;
                pick.class = class.id.to_string();
                pick.also = classes.iter().skip(1).map(|class| class.id.to_string()).collect();
            } else if pick.unit.is_none() {
                pick.unit = Some(word.to_owned());
            } else {
                return Err(format!("多余的词 / a word too much: {word:?}"));
            }
        }
        if pick.class.is_empty() {
            return Err("写上类别，如 holding@4 f32 CDAB temperature / say the class".to_owned());
        }
        if pick.kind.is_none() && !is_bit_table {
            let types = REGISTER_TYPES.join(" ");
            return Err(format!("写上类型 / say the type: {types}"));
        }
        if pick.bit.is_some() && pick.kind != Some(WordType::U16) {
            return Err("bit= 只用于 u16 / bit= goes with u16".to_owned());
        }
        pick.check(vocabulary)?;
        Ok(pick)
    }

    fn check(&self, vocabulary: &Vocabulary) -> Result<(), String> {
        let class =
            vocabulary.class(&self.class).ok_or_else(|| format!("没有类别 / no class {}", self.class))?;
        match &self.unit {
            Some(unit) if class.quantity.conversion(unit).is_none() => {
                let units: Vec<&str> = class.quantity.units().collect();
                Err(format!("{unit} 不是 {} 的单位 / its units are: {}", self.class, units.join(", ")))
            }
            _ if self.scale.is_some() && !class.quantity.is_numeric() => {
                Err(format!("{} 不是数字，没有倍率 / it is no number and has no scale", self.class))
            }
            _ => Ok(()),
        }
    }

    /// Whether all of it lies within these addresses of a table that is read anyway.
    pub fn is_in(&self, range: &std::ops::RangeInclusive<u16>) -> bool {
        let last = self.address.saturating_add(self.width() - 1);
        range.contains(&self.address) && range.contains(&last)
    }

    /// How many words it takes.
    pub fn width(&self) -> u16 {
        self.kind.map_or(1, WordType::words)
    }

    fn from(&self) -> String {
        let mut from = format!("table = \"{}\", address = {}", table_name(self.table), self.address);
        if let Some(kind) = self.kind {
            _ = write!(from, ", type = \"{}\"", kind.name());
        }
        if let Some(order) = self.written_order() {
            _ = write!(from, ", order = \"{}\"", order.name());
        }
        if let Some(bit) = self.bit {
            _ = write!(from, ", bit = {bit}");
        }
        from
    }

    fn written_order(&self) -> Option<WordOrder> {
        self.order.or_else(|| (self.width() > 1).then_some(WordOrder::Abcd))
    }

    fn words<'s>(&self, seen: &'s [Seen]) -> Option<&'s [u16]> {
        seen.iter().filter(|block| block.table == self.table).find_map(|block| {
            let from = usize::from(self.address.checked_sub(block.start)?);
            block.words.get(from..from + usize::from(self.width()))
        })
    }

    /// The number on the wire.
    fn raw(&self, words: &[u16]) -> Option<f64> {
        let order = self.order.unwrap_or(WordOrder::Abcd);
        let number = self.kind.unwrap_or(WordType::U16).decode(words, order)?;
        match (self.bit, words.first()) {
            (Some(bit), Some(word)) => Some(f64::from(word >> bit & 1)),
            _ => Some(number),
        }
    }

    /// The words with another number in them.
    fn with(&self, words: &[u16], raw: f64) -> Option<Vec<u16>> {
        match (self.bit, words.first()) {
            (Some(bit), Some(word)) => {
                Some(vec![if raw == 0.0 { word & !(1 << bit) } else { word | 1 << bit }])
            }
            _ => encode(raw, self.kind.unwrap_or(WordType::U16), self.order.unwrap_or(WordOrder::Abcd)),
        }
    }
}

/// The words of a number, of the [`REGISTER_TYPES`]; `None`: it does not fit, or the type is another.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
pub fn encode(raw: f64, kind: WordType, order: WordOrder) -> Option<Vec<u16>> {
    let within = |low: f64, high: f64| (low..=high).contains(&raw) && raw.fract() == 0.0;
    let bits: u32 = match kind {
        WordType::U16 if within(0.0, 65_535.0) => raw as u32,
        WordType::I16 if within(-32_768.0, 32_767.0) => u32::from((raw as i32 & 0xFFFF) as u16),
        WordType::U32 if within(0.0, f64::from(u32::MAX)) => raw as u32,
        WordType::I32 if within(f64::from(i32::MIN), f64::from(i32::MAX)) => raw as i32 as u32,
        WordType::F32 if raw.is_finite() => (raw as f32).to_bits(),
        _ => return None,
    };
    let mut words =
        if kind.words() == 2 { vec![(bits >> 16) as u16, bits as u16] } else { vec![bits as u16] };
    if matches!(order, WordOrder::Cdab | WordOrder::Dcba) {
        words.reverse();
    }
    if matches!(order, WordOrder::Badc | WordOrder::Dcba) {
        words.iter_mut().for_each(|word| *word = word.swap_bytes());
    }
    Some(words)
}

/// Drafts the profile of the picks, with an example as it was read; `made_up`: nobody read it.
///
/// # Errors
///
/// A pick was not read, or the picks make no profile.
pub fn draft_registers(
    identity: Identity,
    seen: &[Seen],
    picks: &[RegisterPick],
    made_up: bool,
    vocabulary: &Vocabulary,
) -> Result<Drafted, Refused> {
    let mut sheet = Sheet { identity, ..Sheet::default() };
    sheet.head.push(
        "由读到的寄存器草拟：逐项对照说明书 drafted from registers as read: compare with the manual"
            .to_owned(),
    );
    sheet.link = "[modbus]\npoll_every_secs = 10\naddress_base = 0   # 地址照线上的数，从 0 起 addresses as they go on the wire".to_owned();
    let mut dump = Dump::new();
    let mut silent: Vec<String> = Vec::new();
    for pick in picks {
        let words = pick.words(seen).ok_or_else(|| {
            Refused::because(format!(
                "没有读到 {}@{}，用 --range 放大范围 / it was not read: widen --range",
                table_name(pick.table),
                pick.address
            ))
        })?;
        lay(&mut dump, pick, words);
        silent.push(format!("{}@{}+{}: no_answer", table_name(pick.table), pick.address, words.len()));
    }
    let mut variants: Vec<(String, String)> = Vec::new();
    for pick in picks {
        let class = vocabulary.class(&pick.class).ok_or_else(|| Refused::because(pick.class.clone()))?;
        let words = pick.words(seen).unwrap_or_default();
        let (point, unseen) = point(pick, class, pick.raw(words).unwrap_or(0.0));
        let more = pick.more.iter().map(|raw| (Value::from(*raw), raw.to_string()));
        for (value, means) in unseen.into_iter().chain(more) {
            let Some(other) = value.as_f64().and_then(|raw| pick.with(words, raw)) else { continue };
            let mut changed = dump.clone();
            lay(&mut changed, pick, &other);
            let what = format!("拟造 made up: {}@{} = {means}", table_name(pick.table), pick.address);
            variants.push((written(&changed), what));
        }
        sheet.points.push(point);
    }
    let whose = made_up.then(|| "拟造 made up".to_owned());
    sheet.inputs.push(Input { topic: 0, text: written(&dump), at: None, made_up: whose });
    let made_up =
        variants.into_iter().map(|(text, what)| Input { topic: 0, text, at: None, made_up: Some(what) });
    sheet.inputs.extend(made_up);
    sheet.refused = silent.join("; ");
    sheet.finish(vocabulary)
}

fn point(pick: &RegisterPick, class: &PointClass, raw: f64) -> (Point, Vec<(Value, String)>) {
    let mut doubts = vec![format!("读到 as read: {raw}")];
    if !pick.also.is_empty() {
        doubts.push(format!("也可能是类别 or of the class {}", pick.also.join(", ")));
    }
    let mut point = Point {
        name: class.id.to_string(),
        class: class.id.to_string(),
        scale: pick.scale.clone(),
        from: pick.from(),
        ..Point::default()
    };
    let mut unseen = Vec::new();
    if class.quantity.is_numeric() {
        let unit = pick.unit.clone().unwrap_or_else(|| class.quantity.unit().to_owned());
        point.unit = Some(unit);
        // As a table of numbers has it, not as a code.
        if !raw.is_finite() {
            doubts.push("读到的不是数 what was read is no number".to_owned());
        }
    } else if !pick.codes.is_empty() {
        point.codes.clone_from(&pick.codes);
        let other =
            |(raw, means): &(String, String)| Some((Value::from(raw.parse::<f64>().ok()?), means.clone()));
        unseen = pick.codes.iter().filter_map(other).collect();
    } else {
        let value = Value::from(raw);
        let codes = codes::codes(class, &[value], false);
        doubts.push("代码含义是猜的 the meaning of the codes is a guess".to_owned());
        if !codes.unknown.is_empty() {
            doubts.push(format!("这些值还没有含义 no meaning yet: {}", codes.unknown.join(", ")));
        }
        point.codes = codes.codes;
        unseen = codes.unseen;
    }
    point.doubts = doubts;
    (point, unseen)
}

/// The words of all picks by table and address: picks may overlap.
type Dump = BTreeMap<(RegisterTable, u16), u16>;

fn lay(dump: &mut Dump, pick: &RegisterPick, words: &[u16]) {
    for (address, word) in (pick.address..=u16::MAX).zip(words) {
        dump.insert((pick.table, address), *word);
    }
}

/// A dump as an example writes it: `holding@4: 0000 41BC; input@0: 0001`.
fn written(dump: &Dump) -> String {
    let mut text = String::new();
    let mut next: Option<(RegisterTable, u32)> = None;
    for ((table, address), word) in dump {
        if next == Some((*table, u32::from(*address))) {
            _ = write!(text, " {word:04X}");
        } else {
            let between = if text.is_empty() { "" } else { "; " };
            _ = write!(text, "{between}{}@{address}: {word:04X}", table_name(*table));
        }
        next = Some((*table, u32::from(*address) + 1));
    }
    text
}

/// The words of blocks that answered.
impl Seen {
    /// The blocks of a reading round that have words.
    pub fn of(blocks: &[RegisterBlock]) -> Vec<Self> {
        let word = |block: &RegisterBlock| {
            let words = block.words.as_ref().ok()?.clone();
            Some(Self { table: block.table, start: block.start, words })
        };
        blocks.iter().filter_map(word).collect()
    }
}
