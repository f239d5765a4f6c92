//! The two sites of the duty room's tests.

use fengsui::model::*;
use std::sync::Arc;

fn rule(
    id: &str,
    title: (&str, &str),
    signal: SignalClass,
    priority: Priority,
    condition: Condition,
    basis: &str,
) -> Arc<Rule> {
    Arc::new(Rule {
        id: RuleId::parse(id).unwrap(),
        condition,
        signal,
        priority,
        on_delay: Span::ZERO,
        off_delay: Span::ZERO,
        latching: signal == SignalClass::Fire,
        title: Text::new(title.0, title.1),
        basis: basis.into(),
    })
}

fn at_least(limit: f64) -> Condition {
    Condition::AtLeast { limit: Number::new(limit).unwrap(), deadband: Number::ZERO }
}

fn below(limit: f64) -> Condition {
    Condition::Below { limit: Number::new(limit).unwrap(), deadband: Number::ZERO }
}

fn point(
    device: &str,
    name: &str,
    label: (&str, &str),
    quantity: Quantity,
    decimals: u8,
    rules: Vec<Arc<Rule>>,
) -> Point {
    Point {
        id: PointId::new(&DeviceId::parse(device).unwrap(), name).unwrap(),
        class: ClassId::parse(name).unwrap(),
        name: Text::new(label.0, label.1),
        quantity,
        range: None,
        states: match quantity {
            Quantity::State => vec![
                ("normal".into(), Text::new("正常", "normal")),
                ("alarm".into(), Text::new("火警", "fire alarm")),
            ],
            _ => Vec::new(),
        },
        decimals,
        rules,
    }
}

fn device(id: &str, name: &str, place: &str, silent_after: Option<i64>, mut points: Vec<Point>) -> Device {
    let offline = rule(
        "offline",
        ("设备离线", "device offline"),
        SignalClass::Offline,
        Priority::Yellow,
        Condition::Silent { after: Span::from_secs(silent_after.unwrap_or(90)) },
        "本系统默认值",
    );
    points.push(Point {
        class: ClassId::parse("link_state").unwrap(),
        ..point(id, "link", ("在线状态", "link"), Quantity::Flag, 0, vec![offline])
    });
    // One device may be told something.
    let mute = DeviceCommand { name: "mute".into(), text: Text::new("消音", "Mute") };
    Device {
        id: DeviceId::parse(id).unwrap(),
        name: name.into(),
        place: place.into(),
        profile: ProfileId::parse("example/one").unwrap(),
        model: Text::new("示例", "example"),
        link: LinkId::parse("broker").unwrap(),
        silent_after: silent_after.map(Span::from_secs),
        commands: if id == "ef-01" { vec![mute] } else { Vec::new() },
        points,
    }
}

fn smoke(id: &str, name: &str, place: &str) -> Device {
    let fire = rule(
        "fire-smoke",
        ("感烟火警", "smoke fire alarm"),
        SignalClass::Fire,
        Priority::Red,
        Condition::OneOf(vec!["alarm".into()]),
        "GB 4715-2024",
    );
    let weak = rule(
        "battery-low",
        ("电池电量低", "battery low"),
        SignalClass::Fault,
        Priority::Yellow,
        below(20.0),
        "本系统默认值",
    );
    device(
        id,
        name,
        place,
        Some(90_000),
        vec![
            point(id, "smoke_state", ("烟雾", "smoke"), Quantity::State, 0, vec![fire]),
            point(id, "temperature", ("温度", "temperature"), Quantity::Temperature, 1, vec![]),
            point(id, "battery", ("电池", "battery"), Quantity::Ratio, 0, vec![weak]),
        ],
    )
}

/// A plan with every kind of device. `<script>` in a name is what a hostile plan would hold.
pub(crate) fn plan() -> Plan {
    let residual = |id: &str| {
        let alarm = rule(
            "residual-current-alarm",
            ("剩余电流报警", "residual current"),
            SignalClass::Supervisory,
            Priority::Orange,
            at_least(300.0),
            "GB 50116-2013 9.2.3",
        );
        device(
            id,
            "配电箱电气火灾探测器",
            "一层配电间",
            Some(60),
            vec![
                point(
                    id,
                    "residual_current",
                    ("剩余电流", "residual current"),
                    Quantity::ResidualCurrent,
                    0,
                    vec![alarm],
                ),
                point(
                    id,
                    "cable_temperature",
                    ("电缆温度", "cable temperature"),
                    Quantity::Temperature,
                    1,
                    vec![],
                ),
                point(id, "phase_voltage", ("A 相电压", "phase A voltage"), Quantity::Voltage, 1, vec![]),
            ],
        )
    };
    let pressure = |id: &str, name: &str| {
        let low = rule(
            "pressure-low",
            ("消火栓压力低", "hydrant pressure low"),
            SignalClass::Supervisory,
            Priority::Orange,
            below(0.14),
            "本系统默认值，参考 GB 50974-2014",
        );
        device(
            id,
            name,
            "泵房",
            Some(60),
            vec![point(id, "pressure", ("管网压力", "pipe pressure"), Quantity::Pressure, 3, vec![low])],
        )
    };
    let zone =
        |id: &str, name: &str, devices| Zone { id: ZoneId::parse(id).unwrap(), name: name.into(), devices };
    let contact = |role: &str, name: &str, phone: &str| Contact {
        role: role.into(),
        name: name.into(),
        phone: phone.into(),
    };
    Plan::new(vec![
        Site {
            id: SiteId::parse("sunshine").unwrap(),
            name: "阳光养老院".into(),
            address: "青石镇阳光路 18 号".into(),
            contacts: vec![
                contact("消防安全责任人", "王建国", "138 0000 0001"),
                contact("值班电话", "护理站", "0710-5550101"),
                contact("微型消防站", "李强", "138 0000 0002"),
            ],
            zones: vec![
                zone(
                    "f2",
                    "二层东区",
                    vec![
                        smoke("sd-203", "203 房间烟感", "203 房间床头上方"),
                        smoke("sd-204", "204 房间烟感", "204 房间床头上方"),
                        smoke("sd-205", "走廊烟感", "二层东走廊"),
                        smoke("sd-206", "206 房间烟感", "206 房间"),
                    ],
                ),
                zone(
                    "f1",
                    "一层",
                    vec![
                        residual("ef-01"),
                        smoke("sd-101", "厨房烟感", "厨房操作间"),
                        smoke("sd-102", "大厅烟感", "一层大厅"),
                    ],
                ),
                zone("pump", "消防泵房", vec![pressure("hy-01", "消火栓压力")]),
            ],
        },
        Site {
            id: SiteId::parse("clinic").unwrap(),
            name: "镇卫生院".into(),
            address: "青石镇卫生路 2 号".into(),
            contacts: vec![contact("院长", "赵敏", "138 0000 0003")],
            zones: vec![
                zone(
                    "ward",
                    "住院部 <script>alert(1)</script>",
                    vec![
                        smoke("sd-301", "病房烟感 <script>alert(2)</script>", "301 病房"),
                        smoke("sd-302", "302 病房烟感", "302 病房"),
                        residual("ef-02"),
                    ],
                ),
                zone(
                    "yard",
                    "院区",
                    vec![
                        pressure("hy-02", "室外消火栓"),
                        device(
                            "td-01",
                            "门诊手动报警按钮",
                            "门诊一层出口",
                            None,
                            vec![point(
                                "td-01",
                                "call_point",
                                ("手动报警", "call point"),
                                Quantity::State,
                                0,
                                vec![],
                            )],
                        ),
                    ],
                ),
            ],
        },
    ])
}
