//! FRAMES → READINGS, drafting: what a field is, by its name (English, Chinese, pinyin) and by the values it had.

use super::super::vocabulary::{PointClass, Vocabulary};
use serde_json::Value;

type Words = &'static [&'static str];

const SMOKE: Words = &["smoke", "yan", "yanwu", "yangan", "烟"];
const BATTERY: Words = &["battery", "batt", "bat", "dianchi", "dianliang", "电池", "电量"];
const VOLT: Words = &["voltage", "volt", "volts", "vol", "mv", "v", "dianya", "电压"];
const TEMP: Words = &["temperature", "temp", "tem", "tmp", "t", "wendu", "温度"];
const PRESS: Words = &["pressure", "press", "mpa", "kpa", "yali", "shuiya", "压力", "水压", "压强"];
/// As a unit behind another word: `pipe_c`.
const CELSIUS: Words = &["c", "celsius", "℃"];
const PIPE: Words = &["pipe", "guandao", "管道"];
const LEVEL: Words = &["level", "depth", "yewei", "shuiwei", "shuishen", "液位", "水位", "水深"];
const PUMP: Words = &["pump", "shuibeng", "水泵", "泵"];
const HYDRANT: Words = &["hydrant", "xiaohuoshuan", "消火栓", "消防栓"];

/// A field whose name has a word of each group is of one of these classes. The first row that fits counts.
struct Row {
    groups: &'static [Words],
    /// Where it says one of a few states; empty: never.
    coded: &'static str,
    /// Where it is a number; empty: never.
    number: &'static str,
}

const fn row(groups: &'static [Words], coded: &'static str, number: &'static str) -> Row {
    Row { groups, coded, number }
}

/// A field with such a word is how much of it there is, not whether.
const AMOUNT: Words =
    &["density", "concentration", "level", "value", "percent", "ppm", "lel", "nongdu", "浓度", "值"];

/// A field with such a word is a state, and never taken for an amount: a gas alarm of 2 is no gas of 2 %.
const STATE: Words = &["alarm", "state", "status", "baojing", "zhuangtai", "报警", "告警", "状态"];

/// Classes of detectors: a small number without a word for an amount is a state there.
const DETECTORS: [&str; 5] = ["smoke_alarm", "heat_alarm", "manual_call_point", "arc", "panel_alarm"];

/// What a field says that is an alarm, whatever it is called.
const ALARM_WORDS: Words = &["alarm", "fire", "fire alarm", "fire_alarm", "alert", "报警", "火警", "告警"];

/// The state of an alarm whose kind the other fields tell.
const ALARM: &str = "alarm";
/// A temperature: the detector's own where there is a fire detector.
const TEMPERATURE: &str = "temperature";

const ROWS: &[Row] = &[
    row(&[BATTERY, &["low", "alarm", "state", "status", "欠", "低", "diya"]], "battery_low", ""),
    row(
        &[&["lowbattery", "batterylow", "lowpower", "undervoltage", "欠压", "低电", "qianya"]],
        "battery_low",
        "",
    ),
    row(&[BATTERY, VOLT], "", "battery_voltage"),
    row(&[&["vbat", "batv", "vbatt"]], "", "battery_voltage"),
    row(&[BATTERY], "battery_low", "battery"),
    row(&[&["tamper", "fangchai", "chaichu", "防拆", "拆除", "dismantle", "dismantled"]], "tamper", ""),
    row(
        &[&["residual", "leakage", "loudian", "shengyu", "漏电", "剩余电流", "rcd", "idn"]],
        "",
        "residual_current",
    ),
    row(
        &[&["cable", "wire", "xianlan", "xianwen", "线缆", "电缆", "导线", "线温"], TEMP],
        "",
        "cable_temperature",
    ),
    row(&[&["xianwen", "线温"]], "", "cable_temperature"),
    row(&[PIPE, TEMP], "", "pipe_temperature"),
    row(&[PIPE, CELSIUS], "", "pipe_temperature"),
    row(&[SMOKE, TEMP], "", "heat_temperature"),
    row(&[SMOKE, &["db"]], "", "smoke_density"),
    row(&[SMOKE, &["obscuration", "jianguang", "减光"]], "", "smoke_obscuration"),
    row(&[SMOKE, &["contamination", "dirty", "wuran", "污染"]], "", "contamination"),
    row(&[&["contamination", "wuran", "污染"]], "", "contamination"),
    row(&[SMOKE], "smoke_alarm", "smoke_level"),
    row(&[&["heat", "wengan", "感温", "温感"]], "heat_alarm", "heat_temperature"),
    row(&[TEMP], "heat_alarm", TEMPERATURE),
    row(&[&["humidity", "humi", "hum", "rh", "shidu", "湿度"]], "", "ambient_humidity"),
    row(
        &[&["leak", "waterleak", "loushui", "shuijin", "flood", "moisture", "漏水", "水浸"]],
        "water_leak",
        "",
    ),
    row(&[&["co", "carbonmonoxide", "yiyanghuatan", "一氧化碳"]], "gas_alarm", "carbon_monoxide"),
    row(&[&["oxygen", "o2", "yangqi", "氧气"]], "", "oxygen"),
    row(
        &[&["gas", "lel", "methane", "ch4", "ranqi", "jiawan", "燃气", "可燃", "甲烷"]],
        "gas_alarm",
        "combustible_gas",
    ),
    row(&[&["arc", "dianhu", "电弧"]], "arc", ""),
    row(
        &[&["button", "callpoint", "sos", "shoubao", "shoudong", "手报", "手动", "emergency"]],
        "manual_call_point",
        "",
    ),
    row(&[&["sounder", "siren", "shengguang", "jingdi", "声光", "警笛"]], "sounder_state", ""),
    row(&[&["mute", "muted", "silence", "silenced", "xiaoyin", "消音"]], "muted", ""),
    row(&[&["selftest", "test", "zijian", "自检", "测试"]], "self_test", ""),
    row(&[&["tilt", "qingxie", "倾斜"]], "hydrant_tilt", ""),
    row(&[&["impact", "collision", "zhuangji", "撞击"]], "hydrant_impact", ""),
    row(&[&["cap", "mengai", "闷盖"]], "hydrant_cap", ""),
    row(&[&["door", "contact", "fanghuomen", "防火门", "门"]], "fire_door", ""),
    row(&[&["valve", "famen", "阀"]], "valve_state", ""),
    row(&[PUMP, &["mode", "moshi", "模式", "方式"]], "pump_mode", ""),
    row(&[PUMP], "pump_state", ""),
    row(&[&["flowswitch", "水流指示"]], "flow_switch", ""),
    row(&[&["mains", "acfail", "zhudian", "主电"]], "mains_failure", ""),
    row(&[HYDRANT, PRESS], "", "hydrant_pressure"),
    row(&[PRESS], "", "pipe_pressure"),
    row(&[&["flow", "liuliang", "流量"]], "flow_switch", "flow"),
    row(&[LEVEL, &["pct", "percent", "百分"]], "", "tank_level"),
    row(&[LEVEL], "", "water_depth"),
    row(&[&["frequency", "freq", "pinlv", "频率"]], "", "frequency"),
    row(&[&["energy", "kwh", "dianneng", "电能", "电度"]], "", "energy"),
    row(&[&["power", "gonglv", "功率"]], "", "active_power"),
    row(&[VOLT], "", "phase_voltage"),
    row(&[&["ua", "ub", "uc"]], "", "phase_voltage"),
    row(&[&["current", "dianliu", "电流", "ia", "ib", "ic"]], "", "phase_current"),
    row(&[&["snr", "sinr", "xinzaobi", "信噪"]], "", "signal_to_noise"),
    row(&[&["rssi", "rsrp", "signal", "xinhao", "信号"]], "", "signal"),
    row(&[&["linkquality", "lqi", "csq", "链路"]], "", "link_quality"),
    row(&[&["fault", "error", "malfunction", "guzhang", "故障"]], "device_fault", ""),
    row(&[&["fire", "huojing", "火警"]], ALARM, ""),
    row(&[&["alarm", "alert", "baojing", "gaojing", "jingbao", "报警", "告警", "警报"]], ALARM, ""),
];

/// Words of this length and longer are also found inside a longer one.
const INSIDE_BYTES_MIN: usize = 5;

/// A field's name in pieces.
struct Name {
    whole: String,
    pieces: Vec<String>,
}

impl Name {
    /// `waterPressure_2` is `water`, `pressure`, and as a whole `waterpressure`.
    fn of(key: &str) -> Self {
        let mut pieces: Vec<String> = vec![String::new()];
        let mut small = false;
        for c in key.chars() {
            let ends = !c.is_alphanumeric() || (c.is_uppercase() && small);
            if ends {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut().filter(|_| c.is_alphanumeric()) {
                piece.extend(c.to_lowercase());
            }
            small = c.is_lowercase() || c.is_ascii_digit();
        }
        let whole = pieces.concat();
        let bare = |piece: &String| piece.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let bares: Vec<String> = pieces.iter().map(bare).collect();
        pieces.extend(bares);
        pieces.retain(|piece| !piece.is_empty());
        Self { whole, pieces }
    }

    fn has(&self, word: &str) -> bool {
        let inside = word.len() >= INSIDE_BYTES_MIN || !word.is_ascii();
        self.pieces.iter().any(|piece| piece == word)
            || self.whole == word
            || (inside && self.whole.contains(word))
    }

    fn row(&self) -> Option<&'static Row> {
        ROWS.iter().find(|row| row.groups.iter().all(|words| words.iter().any(|word| self.has(word))))
    }
}

/// Whether a level of a topic says what is measured, and so is no device.
pub(super) fn is_known(word: &str) -> bool {
    Name::of(word).row().is_some()
}

/// What values a field had. A few odd ones (a sentinel, a fault in words) do not change what it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Coded,
    Numbers {
        /// In order.
        values: Vec<f64>,
        /// All are small whole numbers.
        small: bool,
    },
    /// Neither: numbers in quotes, or only null.
    Other,
}

/// The largest whole number that still looks like a code.
const CODE_MAX: f64 = 15.0;
/// More different words than this are no states.
const WORDS_MAX: usize = 12;

impl Shape {
    pub(super) fn of(values: &[Value]) -> Self {
        let values: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
        let mut numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
        numbers.sort_by(f64::total_cmp);
        let small = |number: &f64| number.fract() == 0.0 && (0.0..=CODE_MAX).contains(number);
        let small = numbers.iter().all(small);
        let quoted = |value: &&&Value| {
            value.as_str().is_some_and(|text| text.parse::<f64>().is_ok() && text.len() > 2)
        };
        let single = |value: &&Value| value.is_boolean() || value.is_string() || value.is_number();
        if values.is_empty() || !values.iter().all(single) {
            Self::Other
        } else if numbers.len() == values.len() {
            Self::Numbers { values: numbers, small }
        } else if values.iter().filter(quoted).count() * 2 > values.len() {
            Self::Other
        } else if small && values.len() <= WORDS_MAX {
            Self::Coded
        } else if numbers.len() * 2 > values.len() {
            Self::Numbers { values: numbers, small: false }
        } else {
            Self::Other
        }
    }

    /// `surely`: the name says that it is a state. Otherwise one of the numbers has to be 0 or 1.
    fn may_be_codes(&self, surely: bool) -> bool {
        match self {
            Self::Coded => true,
            Self::Numbers { values, small } => *small && (surely || values.iter().any(|value| *value <= 1.0)),
            Self::Other => false,
        }
    }
}

/// Of values that a class can have, so many: two thirds. The rest are sentinels, and readings off the scale.
fn most(values: &[f64], fits: impl Fn(f64) -> bool) -> bool {
    3 * values.iter().filter(|value| fits(**value)).count() >= 2 * values.len()
}

/// What the other fields and the topics say of the device.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    smoke: bool,
    heat: bool,
    gas: bool,
    button: bool,
    arc: bool,
}

impl Context {
    pub(super) fn of<'k>(names: impl Iterator<Item = &'k str>) -> Self {
        let mut context = Self::default();
        for name in names {
            // A temperature alone is no fire detector.
            match Name::of(name).row().filter(|row| row.number != TEMPERATURE).map(|row| row.coded) {
                Some("smoke_alarm") => context.smoke = true,
                Some("heat_alarm") => context.heat = true,
                Some("gas_alarm") => context.gas = true,
                Some("manual_call_point") => context.button = true,
                Some("arc") => context.arc = true,
                _ => {}
            }
        }
        context
    }

    fn alarm(self) -> &'static str {
        match self {
            Self { smoke: true, .. } => "smoke_alarm",
            Self { heat: true, .. } => "heat_alarm",
            Self { gas: true, .. } => "gas_alarm",
            Self { button: true, .. } => "manual_call_point",
            Self { arc: true, .. } => "arc",
            // On the safe side: an alarm of nobody knows what.
            _ => "panel_alarm",
        }
    }
}

/// A class, and how the number is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Guess {
    pub(super) class: String,
    pub(super) unit: Option<String>,
    pub(super) scale: Option<&'static str>,
    pub(super) doubt: Option<String>,
}

/// The first of the names (the field's own, then what it lies in) that says something decides.
pub(super) fn guess<'k>(
    names: impl Iterator<Item = &'k str>,
    (shape, values): (&Shape, &[Value]),
    context: Context,
    vocabulary: &Vocabulary,
) -> Option<Guess> {
    let names: Vec<&str> = names.collect();
    // A word of alarm says more than any name.
    let says_alarm = |value: &Value| {
        value.as_str().is_some_and(|text| ALARM_WORDS.contains(&text.to_lowercase().as_str()))
    };
    if *shape == Shape::Coded
        && values.iter().any(says_alarm)
        && names.first().is_none_or(|name| Name::of(name).row().is_none())
    {
        return Some(Guess { class: context.alarm().to_owned(), unit: None, scale: None, doubt: None });
    }
    // `battery.voltage` is more than `voltage`, and `alarm.smoke` more than `smoke`.
    let joined = names.iter().rev().take(2).copied().collect::<Vec<_>>().join("_");
    let own = names.first().copied().unwrap_or_default();
    let candidates = [own, joined.as_str()].into_iter().chain(names.iter().skip(1).copied());
    for name in candidates {
        let name = Name::of(name);
        let Some(row) = name.row() else { continue };
        let number = match row.number {
            TEMPERATURE if context.smoke || context.heat => "heat_temperature",
            TEMPERATURE => "ambient_temperature",
            class => class,
        };
        let coded = if row.coded == ALARM { context.alarm() } else { row.coded };
        let few = matches!(shape, Shape::Numbers { values, .. } if values.iter().all(|value| *value <= 1.0));
        let amount = AMOUNT.iter().any(|word| name.has(word));
        let measured = matches!(number, "battery" | "ambient_temperature" | "heat_temperature") && !few;
        let prefers_number = measured || (amount && !number.is_empty());
        let is_state = STATE.iter().any(|word| name.has(word));
        let surely = is_state || DETECTORS.contains(&coded);
        let is_number = matches!(shape, Shape::Numbers { .. }) && !is_state;
        if !coded.is_empty() && shape.may_be_codes(surely) && !(is_number && prefers_number) {
            return Some(Guess { class: coded.to_owned(), unit: None, scale: None, doubt: None });
        }
        if !number.is_empty()
            && (!is_state || coded.is_empty())
            && let Shape::Numbers { values, .. } = shape
            && let Some(guess) = number_of(number, &name, values, vocabulary)
        {
            return Some(guess);
        }
    }
    None
}

/// Classes of which another one is tried when the values do not fit.
const INSTEAD: [(&str, &str); 5] = [
    ("battery", "battery_voltage"),
    ("combustible_gas", "gas_ppm"),
    ("water_depth", "tank_level"),
    ("signal", "link_quality"),
    ("smoke_level", "contamination"),
];

/// Units in the order in which they are tried; those of other quantities are tried as the table of quantities has them.
const RARE_UNITS: [&str; 6] = ["bar", "psi", "°F", "K", "1", "kV"];

fn number_of(class: &str, name: &Name, values: &[f64], vocabulary: &Vocabulary) -> Option<Guess> {
    let instead = INSTEAD.iter().find(|(first, _)| *first == class).map(|(_, second)| *second);
    // 3.6 is no state of charge but a cell's voltage.
    let classes = if class == "battery" && most(values, |value| value > 1.0 && value < 5.0) {
        [instead, Some(class)]
    } else {
        [Some(class), instead]
    };
    let classes: Vec<&PointClass> =
        classes.into_iter().flatten().filter_map(|id| vocabulary.class(id)).collect();
    for scale in [None, Some("0.1"), Some("0.01"), Some("0.001")] {
        for class in &classes {
            let (least, greatest) = class.range?;
            let times: f64 = scale.and_then(|scale| scale.parse().ok()).unwrap_or(1.0);
            let said = |unit: &&str| {
                !unit.is_empty() && name.pieces.iter().any(|piece| *piece == unit.to_lowercase())
            };
            let mut units: Vec<&str> =
                class.quantity.units().filter(|unit| !RARE_UNITS.contains(unit) || said(unit)).collect();
            units.sort_by_key(|unit| !said(unit));
            let fits = |unit: &&str| {
                class.quantity.conversion(unit).is_some_and(|by| {
                    most(values, |raw| (least..=greatest).contains(&(raw * times * by.factor + by.offset)))
                })
            };
            if let Some(unit) = units.iter().copied().find(fits) {
                let sure = said(&unit) && scale.is_none();
                let doubt = (!sure && !unit.is_empty())
                    .then(|| format!("单位和倍率是猜的 unit and scale are a guess: {unit}"));
                return Some(Guess {
                    class: class.id.to_string(),
                    unit: Some(unit.to_owned()),
                    scale,
                    doubt,
                });
            }
        }
    }
    None
}

/// The classes that a word may mean, in Chinese, pinyin or English, the likeliest first: for a person who types one.
pub fn classes_of_word<'v>(word: &str, vocabulary: &'v Vocabulary) -> Vec<&'v PointClass> {
    let typed = word.trim().to_lowercase();
    if typed.is_empty() {
        return Vec::new();
    }
    if let Some(class) = vocabulary.class(&typed.replace([' ', '-'], "_")) {
        return vec![class];
    }
    let mut ids: Vec<&str> = Vec::new();
    if let Some(row) = Name::of(word).row() {
        let temperatures =
            ["ambient_temperature", "heat_temperature", "cable_temperature", "pipe_temperature"];
        match row.number {
            TEMPERATURE => ids.extend(temperatures),
            number => ids.extend([row.coded, number]),
        }
    }
    let named = |class: &&PointClass| {
        let words = [class.id.as_str(), &*class.name.zh, &*class.name.en].map(str::to_lowercase);
        words.iter().any(|word| word.contains(&typed))
    };
    let by_row = ids.into_iter().filter_map(|id| vocabulary.class(id));
    let mut found: Vec<&PointClass> = Vec::new();
    for class in by_row.chain(vocabulary.classes().filter(named)) {
        if !found.iter().any(|known| known.id == class.id) {
            found.push(class);
        }
    }
    found
}
