//! What happens at the two sites: a quiet evening, and one in which much goes wrong.

use super::DutyRoom;
use fengsui::journal::{Note, NoteKind, Stray, StrayKind};
use fengsui::model::*;

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
