//! A duty room filled with fixture values: two sites, every kind of value, every kind of hazard.

use fengsui::clock::Clock;
use fengsui::commands::{self, Done, Refused, Request, Requests};
use fengsui::journal::{Entry, Journal, Limits, Note, NoteKind, Stray, StrayKind, Write};
use fengsui::metrics::Metrics;
use fengsui::model::*;
use fengsui::series::Series;
use fengsui::web::board::Board;
use fengsui::web::{self, Health, LinkHealth, Room, SinkHealth};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Everything a test of the duty room needs; dropping it ends its tasks.
pub(crate) struct DutyRoom {
    pub(crate) router: axum::Router,
    pub(crate) journal: Journal,
    pub(crate) board: Arc<Board>,
    pub(crate) series: Series,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) password: String,
    pub(crate) stage: Stage,
    pub(crate) cancel: CancellationToken,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl Drop for DutyRoom {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Stands in for the pipeline: writes entries and answers commands.
#[derive(Clone)]
pub(crate) struct Stage {
    journal: Journal,
    clock: Clock,
    open: Arc<Mutex<Vec<Hazard>>>,
    /// Entries are numbered one after the other.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl Stage {
    pub(crate) async fn append(
        &self,
        readings: Vec<Reading>,
        changes: Vec<(Change, Hazard)>,
        notes: Vec<Note>,
    ) -> u64 {
        self.write(readings, changes, notes, Vec::new(), None).await
    }

    pub(crate) async fn stray(&self, stray: Stray) {
        self.write(Vec::new(), Vec::new(), Vec::new(), vec![stray], None).await;
    }

    async fn write(
        &self,
        readings: Vec<Reading>,
        changes: Vec<(Change, Hazard)>,
        notes: Vec<Note>,
        strays: Vec<Stray>,
        operator: Option<Signature>,
    ) -> u64 {
        let _alone = self.writing.lock().await;
        let entry = self.entry(readings, &changes, notes, operator);
        let facts = changes.iter().map(|(_, hazard)| fact(hazard)).collect();
        let write = Write { entry: Arc::new(entry), facts, receipts: Vec::new(), strays, restamp: None };
        let no = write.entry.no;
        self.journal.append(write).await.unwrap();
        no
    }

    fn entry(
        &self,
        readings: Vec<Reading>,
        changes: &[(Change, Hazard)],
        notes: Vec<Note>,
        operator: Option<Signature>,
    ) -> Entry {
        let at = self.clock.now();
        let transitions = changes.iter().map(|(change, hazard)| {
            {
                let mut open = self.open.lock().unwrap();
                open.retain(|other| other.id != hazard.id);
                if hazard.closed.is_none() {
                    open.push(hazard.clone());
                }
            }
            let cause = operator.clone().map_or(Cause::Deadline, Cause::Operator);
            Transition { hazard: hazard.clone(), change: *change, phase: phase(hazard), at, cause }
        });
        let transitions = transitions.collect();
        let no = *self.journal.recorded().borrow() + 1;
        Entry { no, at, recorded: true, readings, transitions, notes }
    }

    /// What is shown while the journal is broken; `append` it later with the same number.
    pub(crate) fn publish_unrecorded(&self, change: Change, hazard: Hazard) {
        let entry = self.entry(Vec::new(), &[(change, hazard)], Vec::new(), None);
        self.journal.publish_unrecorded(Arc::new(Entry { recorded: false, ..entry }));
    }

    async fn answer(&self, command: &Command) -> Result<Done, Refused> {
        let refuse = |refusal| Err(Refused::Rule(command.hazard.clone(), refusal));
        let found = self.open.lock().unwrap().iter().find(|hazard| hazard.id == command.hazard).cloned();
        let Some(mut hazard) = found else { return refuse(Refusal::NoSuchHazard) };
        let signed = Signature { by: command.by.clone(), at: self.clock.now(), note: command.note.clone() };
        let change = match command.kind {
            CommandKind::Acknowledge if hazard.acknowledged.is_some() => {
                return refuse(Refusal::AlreadyAcknowledged);
            }
            CommandKind::Silence if hazard.silenced.is_some() => return refuse(Refusal::AlreadySilenced),
            CommandKind::Reset if hazard.returned_at.is_none() => return refuse(Refusal::StillActive),
            CommandKind::Reset if hazard.acknowledged.is_none() => return refuse(Refusal::NotAcknowledged),
            CommandKind::Acknowledge => {
                hazard.acknowledged = Some(signed.clone());
                Change::Acknowledged
            }
            CommandKind::Silence => {
                hazard.silenced = Some(signed.clone());
                Change::Silenced
            }
            CommandKind::Reset => {
                hazard.closed = Some(signed.clone());
                Change::Reset
            }
        };
        let no = self.write(Vec::new(), vec![(change, hazard)], Vec::new(), Vec::new(), Some(signed)).await;
        Ok(Done { no, recorded: true })
    }

    async fn serve(self, mut requests: Requests) {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Command { command, reply } => {
                    let answer = self.answer(&command).await;
                    reply.send(answer).ok();
                }
                Request::Access(access) => {
                    let note = Note { kind: NoteKind::Access, subject: access.account, text: access.text };
                    self.append(vec![], vec![], vec![note]).await;
                }
                Request::Own(own) => {
                    let note = Note { kind: NoteKind::Journal, subject: own.subject, text: own.text };
                    self.append(vec![], vec![], vec![note]).await;
                }
            }
        }
    }
}

fn phase(hazard: &Hazard) -> Phase {
    if hazard.returned_at.is_some() { Phase::Returned } else { Phase::Active }
}

fn fact(hazard: &Hazard) -> Fact {
    let (phase, kept) =
        if hazard.closed.is_some() { (Phase::Normal, None) } else { (phase(hazard), Some(hazard)) };
    Fact { point: hazard.point.clone(), rule: hazard.rule.clone(), phase, hazard: kept.cloned() }
}

/// An empty duty room over this plan, at the time of the clock.
pub(crate) async fn room(plan: Plan, clock: Clock, extra: Option<axum::Router>) -> DutyRoom {
    room_in(Arc::new(tempfile::tempdir().unwrap()), plan, clock, extra).await
}

/// A duty room over a directory: a second one over the same directory is a restart.
pub(crate) async fn room_in(
    dir: Arc<tempfile::TempDir>,
    plan: Plan,
    clock: Clock,
    extra: Option<axum::Router>,
) -> DutyRoom {
    let metrics = Metrics::new();
    let (journal, _) = Journal::open(dir.path(), Limits::default(), metrics.clone()).unwrap();
    let series = Series::open(&journal).await.unwrap();
    let password = web::accounts::ensure_first_account(&journal, &clock).await.unwrap().unwrap_or_default();
    let (_, plan) = watch::channel(Arc::new(plan));
    let (door, requests) = commands::door();
    let (_, health) = watch::channel(health(&clock));
    let board = Arc::new(Board::load(plan.clone(), &journal, &series).await.unwrap());
    let cancel = CancellationToken::new();
    let demo = extra.is_some();
    let room = Room {
        journal: journal.clone(),
        series: series.clone(),
        plan,
        door,
        clock: clock.clone(),
        metrics: metrics.clone(),
        health,
        extra,
        demo,
    };
    let router = web::router(room, board.clone(), cancel.clone()).await;
    let stage = Stage {
        journal: journal.clone(),
        clock: clock.clone(),
        open: Arc::default(),
        writing: Arc::default(),
    };
    tokio::spawn(stage.clone().serve(requests));
    let (following, stop, source) = (board.clone(), cancel.clone(), journal.clone());
    tokio::spawn(async move { following.follow(&source, &stop).await });
    DutyRoom { router, journal, board, series, clock, metrics, password, stage, cancel, dir }
}

fn health(clock: &Clock) -> Health {
    let link = |name: &str, up, reason: &str| LinkHealth {
        link: LinkId::parse(name).unwrap(),
        up,
        since: clock.now() - Span::from_secs(3600),
        reason: reason.to_owned(),
    };
    Health {
        links: vec![
            link("broker", true, "MQTT 127.0.0.1:1883"),
            link("pump-room-bus", false, "Modbus TCP: no answer from 3 units"),
        ],
        sinks: vec![
            SinkHealth { name: "series".into(), lag: 0, last_error: None },
            SinkHealth {
                name: "influx".into(),
                lag: 214,
                last_error: Some("503 Service Unavailable".into()),
            },
        ],
    }
}

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
    Device {
        id: DeviceId::parse(id).unwrap(),
        name: name.into(),
        place: place.into(),
        profile: ProfileId::parse("example/one").unwrap(),
        model: Text::new("示例", "example"),
        link: LinkId::parse("broker").unwrap(),
        silent_after: silent_after.map(Span::from_secs),
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

pub(crate) fn number(id: &str, value: f64, at: Timestamp) -> Reading {
    Reading {
        point: PointId::parse(id).unwrap(),
        value: Value::Number(Number::new(value).unwrap()),
        quality: Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: at,
        late: false,
    }
}

pub(crate) fn code(id: &str, code: &str, at: Timestamp) -> Reading {
    Reading { value: Value::Code(code.into()), ..number(id, 0.0, at) }
}

/// A hazard as the engine would raise it: by the first rule of the point.
pub(crate) fn hazard(plan: &Plan, no: u64, id: &str, value: Value, at: Timestamp) -> Hazard {
    let id = PointId::parse(id).unwrap();
    let (.., point) = plan.point(&id).unwrap();
    let rule = &point.rules[0];
    let state_name = match &value {
        Value::Code(code) => point.state_name(code).cloned(),
        _ => None,
    };
    Hazard {
        id: HazardId::derive(no, &id, &rule.id),
        point: id.clone(),
        rule: rule.id.clone(),
        signal: rule.signal,
        priority: rule.priority,
        latching: rule.latching,
        title: rule.title.clone(),
        evidence: Evidence {
            value,
            flaw: None,
            unit: point.unit().into(),
            point_name: point.name.clone(),
            state_name,
            condition: rule.condition.clone(),
            on_delay: rule.on_delay,
            basis: rule.basis.clone(),
        },
        raised_at: at,
        sampled_at: None,
        late: false,
        occurrences: 1,
        last_raised_at: at,
        returned_at: None,
        acknowledged: None,
        silenced: None,
        closed: None,
    }
}

/// A quiet evening: an hour of charts, and every device heard.
pub(crate) fn calm(now: Timestamp, plan: &Plan) -> Vec<Reading> {
    let ago = |secs| now - Span::from_secs(secs);
    let mut readings = Vec::new();
    for i in 0..360_u32 {
        let at = ago(3600 - i64::from(i) * 10);
        let creep = 120.0 + f64::from(i) * 0.62 + f64::from(i * 7 % 11);
        if !(150..180).contains(&i) {
            readings.push(number("ef-01/residual_current", creep, at));
        }
        readings.push(number("hy-01/pressure", 0.31 - f64::from(i % 5) * 0.002, at));
    }
    for (i, (_, _, device)) in plan.devices().enumerate() {
        let secs = i64::try_from(i).unwrap() * 7 + 3;
        for point in &device.points {
            let id = point.id.as_str();
            match point.class.as_str() {
                "smoke_state" | "call_point" => readings.push(code(id, "normal", ago(secs))),
                "temperature" => {
                    readings.push(number(id, 21.4 + f64::from(u32::try_from(i).unwrap()) / 10.0, ago(secs)))
                }
                "battery" => readings.push(number(id, 87.0, ago(secs))),
                "cable_temperature" => readings.push(number(id, 34.5, ago(secs))),
                "phase_voltage" => readings.push(number(id, 229.7, ago(secs))),
                _ => {}
            }
        }
    }
    readings
}

/// An evening in the township: two fires, a residual current, a silent unit, a late report, a closed one, strays.
pub(crate) async fn fill(room: &DutyRoom, plan: &Plan) {
    let now = room.clock.now();
    let ago = |secs| now - Span::from_secs(secs);
    let mut readings = calm(now, plan);
    readings.push(code("sd-203/smoke_state", "alarm", ago(95)));
    readings.push(code("sd-204/smoke_state", "alarm", ago(31)));
    readings.push(Reading {
        quality: Quality::Bad,
        flaw: Some(Flaw::OffScaleHigh),
        ..number("sd-205/temperature", 912.0, ago(12))
    });
    readings.push(Reading {
        value: Value::Absent,
        quality: Quality::Bad,
        flaw: Some(Flaw::NotFitted),
        ..number("ef-02/cable_temperature", 0.0, ago(5))
    });
    readings.push(number("sd-206/battery", 11.0, ago(400)));
    readings.push(number("hy-02/pressure", 0.22, ago(1900)));
    readings.retain(|reading| reading.point.device() != "sd-302");
    let note = |kind, zh: &str, en: &str| Note { kind, subject: "gateway".into(), text: Text::new(zh, en) };
    room.stage.append(readings, vec![], vec![note(NoteKind::Started, "网关启动", "gateway started")]).await;

    let alarm = || Value::Code("alarm".into());
    let value = |v| Value::Number(Number::new(v).unwrap());
    let first = hazard(plan, 2, "sd-203/smoke_state", alarm(), ago(95));
    let residual = Hazard {
        returned_at: Some(ago(300)),
        acknowledged: Some(Signature { by: "陈晓".into(), at: ago(500), note: "已派电工".into() }),
        occurrences: 3,
        ..hazard(plan, 2, "ef-01/residual_current", value(342.0), ago(1200))
    };
    let silent = hazard(plan, 2, "hy-02/link", Value::Absent, ago(1800));
    let closed = Hazard {
        returned_at: Some(ago(7000)),
        acknowledged: Some(Signature { by: "陈晓".into(), at: ago(7100), note: "".into() }),
        ..hazard(plan, 2, "hy-01/pressure", value(0.12), ago(7200))
    };
    let battery = hazard(plan, 2, "sd-206/battery", value(11.0), ago(400));
    let raised = [silent, residual, closed.clone(), battery, first].map(|hazard| (Change::Raised, hazard));
    room.stage.append(vec![], raised.into(), vec![]).await;
    let by = Signature {
        by: "陈晓".into(), at: ago(6500), note: "水泵已启动，压力恢复 <b>0.31</b>".into()
    };
    room.stage.append(vec![], vec![(Change::Reset, Hazard { closed: Some(by), ..closed })], vec![]).await;
    let second = hazard(plan, 4, "sd-204/smoke_state", alarm(), ago(31));
    let late = Hazard {
        late: true,
        sampled_at: Some(ago(4000)),
        returned_at: Some(ago(10)),
        ..hazard(plan, 4, "sd-301/smoke_state", alarm(), ago(60))
    };
    room.stage.append(vec![], vec![(Change::Raised, late), (Change::Raised, second)], vec![]).await;
    let stray = |kind, key: &str, device: Option<&str>, reason: &str, sample: &[u8]| Stray {
        kind,
        key: key.into(),
        device: device.map(|id| DeviceId::parse(id).unwrap()),
        reason: reason.into(),
        sample: sample.into(),
        first_at: ago(900),
        last_at: ago(20),
        count: 42,
    };
    room.stage
        .stray(stray(
            StrayKind::Unknown,
            "zigbee2mqtt/0x00158d00aabbccdd",
            None,
            "现场计划里没有这个主题的设备",
            br#"{"smoke":false,"name":"<script>alert(3)</script>"}"#,
        ))
        .await;
    room.stage
        .stray(stray(
            StrayKind::Unreadable,
            "zigbee2mqtt/sd-102",
            Some("sd-102"),
            "不是 JSON：第 1 行第 1 列",
            &[0x40, 0x40, 0x01, 0xff],
        ))
        .await;
    while !room.series.step().await.unwrap().idle {}
}
