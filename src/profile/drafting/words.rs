//! FRAMES → READINGS, drafting: the words by which a field is known, in English, Chinese and pinyin, and the classes they mean.

pub(super) type Words = &'static [&'static str];

pub(super) const SMOKE: Words = &["smoke", "yan", "yanwu", "yangan", "烟"];
pub(super) const BATTERY: Words = &["battery", "batt", "bat", "dianchi", "dianliang", "电池", "电量"];
pub(super) const VOLT: Words = &["voltage", "volt", "volts", "vol", "mv", "v", "dianya", "电压"];
pub(super) const TEMP: Words = &["temperature", "temp", "tem", "tmp", "t", "wendu", "温度"];
pub(super) const PRESS: Words =
    &["pressure", "press", "mpa", "kpa", "yali", "shuiya", "压力", "水压", "压强"];
/// As a unit behind another word: `pipe_c`.
pub(super) const CELSIUS: Words = &["c", "celsius", "℃"];
pub(super) const PIPE: Words = &["pipe", "guandao", "管道"];
pub(super) const LEVEL: Words = &["level", "depth", "yewei", "shuiwei", "shuishen", "液位", "水位", "水深"];
pub(super) const PUMP: Words = &["pump", "shuibeng", "水泵", "泵"];
pub(super) const HYDRANT: Words = &["hydrant", "xiaohuoshuan", "消火栓", "消防栓"];

/// A field whose name has a word of each group is of one of these classes. The first row that fits counts.
pub(super) struct Row {
    pub(super) groups: &'static [Words],
    /// Where it says one of a few states; empty: never.
    pub(super) coded: &'static str,
    /// Where it is a number; empty: never.
    pub(super) number: &'static str,
}

pub(super) const fn row(groups: &'static [Words], coded: &'static str, number: &'static str) -> Row {
    Row { groups, coded, number }
}

/// A field with such a word is how much of it there is, not whether.
pub(super) const AMOUNT: Words =
    &["density", "concentration", "level", "value", "percent", "ppm", "lel", "nongdu", "浓度", "值"];

/// A field with such a word is a state, and never taken for an amount: a gas alarm of 2 is no gas of 2 %.
pub(super) const STATE: Words = &["alarm", "state", "status", "baojing", "zhuangtai", "报警", "告警", "状态"];

/// Classes of detectors: a small number without a word for an amount is a state there.
pub(super) const DETECTORS: [&str; 5] =
    ["smoke_alarm", "heat_alarm", "manual_call_point", "arc", "panel_alarm"];

/// What a field says that is an alarm, whatever it is called.
pub(super) const ALARM_WORDS: Words =
    &["alarm", "fire", "fire alarm", "fire_alarm", "alert", "报警", "火警", "告警"];

/// The state of an alarm whose kind the other fields tell.
pub(super) const ALARM: &str = "alarm";
/// A temperature: the detector's own where there is a fire detector.
pub(super) const TEMPERATURE: &str = "temperature";

pub(super) const ROWS: &[Row] = &[
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
