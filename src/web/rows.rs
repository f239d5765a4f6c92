//! WEB · what the templates print: the board and the plan, turned into rows of plain words.

use super::board::{Open, Snapshot, urgency};
use super::texts::Lang;
use super::wire;
use crate::model::{
    Contact, Device, Flaw, Hazard, Plan, Point, PointId, Reading, SignalClass, Signature, Span, Timestamp,
};
use std::collections::{HashMap, HashSet};

/// Cards on the monitor: more than a person can work through; the rest is counted below them.
pub(super) const CARDS_MAX: usize = 100;

/// A value of a device that is not watched for silence is old after this: its longest habit is a daily report; an hour
/// is room for a late one.
pub(super) const OLD_AFTER_DEFAULT: Span = Span::from_secs(25 * 3600);

/// The age above which a value of this device no longer counts as the present.
pub(super) fn old_after(device: &Device) -> Span {
    device.silent_after.unwrap_or(OLD_AFTER_DEFAULT)
}

/// China keeps one time, UTC+8, all year: the screen, the log and the CSV all speak it.
const BEIJING: Span = Span::from_secs(8 * 3600);

/// `01-15 10:30:05`, Beijing time.
pub(super) fn clock_text(at: Timestamp) -> String {
    let text = (at + BEIJING).to_string();
    format!("{} {}", text.get(5..10).unwrap_or(""), text.get(11..19).unwrap_or(""))
}

/// `2026-01-15T10:30:05+08:00`, for files.
pub(super) fn file_time(at: Timestamp) -> String {
    let text = (at + BEIJING).to_string();
    format!("{}+08:00", text.get(..19).unwrap_or(""))
}

/// A length of time in the two largest units a person needs.
pub(super) fn span_text(span: Span, lang: Lang) -> String {
    let t = lang.texts();
    let gap = if lang == Lang::Zh { "" } else { " " };
    let secs = span.as_millis().max(0) / 1000;
    let two = |a: i64, first: &str, b: i64, second: &str| {
        if b == 0 { format!("{a}{gap}{first}") } else { format!("{a}{gap}{first}{gap}{b}{gap}{second}") }
    };
    match secs {
        0..60 => format!("{secs}{gap}{}", t.second),
        60..3600 => two(secs / 60, t.minute, secs % 60, t.second),
        3600..86_400 => two(secs / 3600, t.hour, secs / 60 % 60, t.minute),
        _ => two(secs / 86_400, t.day, secs / 3600 % 24, t.hour),
    }
}

/// A moment that the page shows as a clock time.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) millis: i64,
    pub(super) text: String,
    /// Without the date.
    pub(super) hms: String,
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        let text = clock_text(at);
        Self { millis: at.as_millis(), hms: text.get(6..).unwrap_or("").to_owned(), text }
    }
}

/// Who did something.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) by: String,
    pub(super) at: Moment,
    pub(super) note: String,
}

impl From<&Signature> for Signed {
    fn from(signature: &Signature) -> Self {
        Self { by: signature.by.to_string(), at: signature.at.into(), note: signature.note.to_string() }
    }
}

/// One lamp of the strip.
#[derive(Debug)]
pub(super) struct Lamp {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) count: usize,
}

pub(super) fn lamps(snapshot: &Snapshot, lang: Lang) -> Vec<Lamp> {
    let lamp = |(class, count): (SignalClass, usize)| Lamp {
        name: class.name(),
        label: signal_label(class, lang),
        count,
    };
    snapshot.lamps().into_iter().map(lamp).collect()
}

pub(super) fn signal_label(class: SignalClass, lang: Lang) -> &'static str {
    if lang == Lang::Zh {
        return class.zh();
    }
    match class {
        SignalClass::Fire => "Fire",
        SignalClass::Activation => "Activated",
        SignalClass::Feedback => "Feedback",
        SignalClass::Supervisory => "Supervisory",
        SignalClass::Fault => "Fault",
        SignalClass::Disabled => "Disabled",
        SignalClass::Offline => "Offline",
        SignalClass::Test => "Test",
    }
}

/// One hazard.
#[derive(Debug, Clone)]
pub(super) struct HazardRow {
    pub(super) id: String,
    pub(super) signal: &'static str,
    pub(super) signal_label: &'static str,
    pub(super) priority: &'static str,
    pub(super) title: String,
    pub(super) reason: String,
    pub(super) raised_at: Moment,
    pub(super) lasting: String,
    pub(super) occurrences: u32,
    pub(super) returned_at: Option<Moment>,
    pub(super) late: bool,
    pub(super) sampled_at: Option<Moment>,
    pub(super) unrecorded: bool,
    /// Open, but the plan no longer has its point or its rule: nothing but a person will ever end it.
    pub(super) off_plan: bool,
    pub(super) acknowledged: Option<Signed>,
    pub(super) silenced: Option<Signed>,
    pub(super) closed: Option<Signed>,
}

impl HazardRow {
    pub(super) fn new(plan: &Plan, hazard: &Hazard, recorded: bool, now: Timestamp, lang: Lang) -> Self {
        let reason = if lang == Lang::Zh { hazard.evidence.zh() } else { hazard.evidence.en() };
        Self {
            id: hazard.id.to_string(),
            signal: hazard.signal.name(),
            signal_label: signal_label(hazard.signal, lang),
            priority: hazard.priority.name(),
            title: lang.pick(&hazard.title).to_owned(),
            reason,
            raised_at: hazard.raised_at.into(),
            lasting: span_text(now.since(hazard.raised_at), lang),
            occurrences: hazard.occurrences,
            returned_at: hazard.returned_at.map(Moment::from),
            late: hazard.late,
            sampled_at: hazard.sampled_at.filter(|_| hazard.late).map(Moment::from),
            unrecorded: !recorded,
            off_plan: hazard.closed.is_none() && !wire::is_planned(plan, hazard),
            acknowledged: hazard.acknowledged.as_ref().map(Signed::from),
            silenced: hazard.silenced.as_ref().map(Signed::from),
            closed: hazard.closed.as_ref().map(Signed::from),
        }
    }
}

/// Where a hazard is and whom to call.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) known: bool,
    pub(super) site: String,
    pub(super) address: String,
    pub(super) zone: String,
    pub(super) place: String,
    pub(super) device: String,
    pub(super) point_path: String,
    pub(super) contacts: Vec<Contact>,
    /// Points of the same site that are in fire alarm now; filled for cards.
    pub(super) fires: usize,
}

impl Place {
    pub(super) fn of(plan: &Plan, id: &PointId) -> Self {
        let point_path = format!("/points/{}/{}", id.device(), id.name());
        let Some((site, zone, device, _)) = plan.point(id) else {
            return Self { device: id.device().into(), point_path, ..Self::default() };
        };
        Self {
            known: true,
            site: site.name.to_string(),
            address: site.address.to_string(),
            zone: zone.name.to_string(),
            place: device.place.to_string(),
            device: device.name.to_string(),

            point_path,
            contacts: site.contacts.clone(),
            fires: 0,
        }
    }
}

/// The open hazards of one point: the most urgent on top, the others under it.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) top: HazardRow,
    pub(super) others: Vec<HazardRow>,
    pub(super) place: Place,
    pub(super) fire: bool,
    /// The first fire that is still open: pinned.
    pub(super) first: bool,
    /// The newest fire.
    pub(super) newest: bool,
}

/// All cards in their order, and what the fire strip says.
#[derive(Debug, Default)]
pub(super) struct Cards {
    pub(super) cards: Vec<Card>,
    pub(super) hidden: usize,
    pub(super) open: usize,
    pub(super) fires: usize,
    pub(super) first_fire: Option<FireLine>,
    pub(super) newest_fire: Option<FireLine>,
}

/// One line of the fire strip.
#[derive(Debug, Clone)]
pub(super) struct FireLine {
    pub(super) at: Moment,
    pub(super) place: Place,
    pub(super) title: String,
    pub(super) id: String,
}

pub(super) fn cards(plan: &Plan, snapshot: &Snapshot, now: Timestamp, lang: Lang) -> Cards {
    let is_fire = |open: &&Open| open.hazard.signal == SignalClass::Fire;
    let fires = || snapshot.open.values().filter(is_fire);
    let first = fires().min_by_key(|open| open.hazard.raised_at);
    let newest = fires().max_by_key(|open| open.hazard.last_raised_at);
    let line = |open: &Open, at: Timestamp| FireLine {
        at: at.into(),
        place: Place::of(plan, &open.hazard.point),
        title: lang.pick(&open.hazard.title).to_owned(),
        id: open.hazard.id.to_string(),
    };
    let mut by_point: HashMap<&PointId, Vec<&Open>> = HashMap::new();
    for open in snapshot.open.values() {
        by_point.entry(&open.hazard.point).or_default().push(open);
    }
    let mut groups: Vec<Vec<&Open>> = by_point.into_values().collect();
    for group in &mut groups {
        group.sort_by_key(|open| urgency(&open.hazard));
    }
    let holds = |group: &[&Open], fire: Option<&Open>| {
        fire.is_some_and(|fire| group.iter().any(|open| open.hazard.id == fire.hazard.id))
    };
    // The first fire, then the newest, then by urgency; what nobody has acknowledged before what somebody has.
    groups.sort_by_key(|group| {
        let top = group.first().map(|open| {
            let (not_fire, priority, newest, id) = urgency(&open.hazard);
            (not_fire, open.hazard.acknowledged.is_some(), priority, newest, id)
        });
        (!holds(group, first), !holds(group, newest), top)
    });
    let hidden = groups.len().saturating_sub(CARDS_MAX);
    groups.truncate(CARDS_MAX);
    let site_of = |point: &PointId| plan.device(point.device()).map(|(site, ..)| &site.id);
    let fires_at = |point: &PointId| {
        let at: HashSet<_> =
            fires().map(|open| &open.hazard.point).filter(|p| site_of(p) == site_of(point)).collect();
        at.len()
    };
    let cards = groups.iter().filter_map(|group| {
        let (top, others) = group.split_first()?;
        let row = |open: &Open| HazardRow::new(plan, &open.hazard, open.recorded, now, lang);
        Some(Card {
            top: row(top),
            others: others.iter().map(|open| row(open)).collect(),
            place: Place { fires: fires_at(&top.hazard.point), ..Place::of(plan, &top.hazard.point) },
            fire: top.hazard.signal == SignalClass::Fire,
            first: holds(group, first),
            newest: holds(group, newest),
        })
    });
    Cards {
        cards: cards.collect(),
        hidden,
        open: snapshot.open.len(),
        fires: fires().count(),
        first_fire: first.map(|open| line(open, open.hazard.raised_at)),
        newest_fire: newest
            .filter(|newest| first.is_none_or(|first| first.hazard.id != newest.hazard.id))
            .map(|open| line(open, open.hazard.last_raised_at)),
    }
}

/// One site of the grid.
#[derive(Debug)]
pub(super) struct SiteRow {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) contacts: Vec<Contact>,
    pub(super) devices: usize,
    /// Devices that are heard and not reported offline.
    pub(super) online: usize,
    pub(super) open: usize,
    pub(super) zones: Vec<ZoneRow>,
}

/// One zone.
#[derive(Debug)]
pub(super) struct ZoneRow {
    pub(super) name: String,
    pub(super) devices: Vec<DeviceRow>,
}

/// One device.
#[derive(Debug)]
pub(super) struct DeviceRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) place: String,
    /// Nobody watches whether it falls silent.
    pub(super) unwatched: bool,
    pub(super) silent_after: i64,
    pub(super) old_after: i64,
    pub(super) heard_at: i64,
    /// The lamp and the priority of its most urgent hazard; empty without one.
    pub(super) signal: &'static str,
    pub(super) priority: &'static str,
    pub(super) signal_label: &'static str,
    pub(super) stale: bool,
    pub(super) points: Vec<PointRow>,
    /// Points that its profile knows and that this device, which is heard, has never sent: folded away, not hidden.
    pub(super) unheard: Vec<PointRow>,
    /// What concerns the device itself and is in order: battery, radio. In small type under the others.
    pub(super) upkeep: Vec<PointRow>,
}

/// One value.
#[derive(Debug)]
pub(super) struct PointRow {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) name: String,
    pub(super) value: String,
    pub(super) unit: &'static str,
    /// `good`, `uncertain`, `bad`, `absent`, or `none`: nothing was ever received.
    pub(super) quality: &'static str,
    /// What is wrong with it, in words.
    pub(super) mark: String,
    pub(super) at: i64,
    pub(super) age: String,
    /// Older than [`old_after`], whatever else its device says.
    pub(super) old: bool,
    pub(super) priority: &'static str,
    upkeep: bool,
}

/// Classes of points that say how the device is, not what it watches.
const UPKEEP_CLASSES: [&str; 9] = [
    "battery",
    "battery_voltage",
    "battery_low",
    "contamination",
    "link_quality",
    "self_test",
    "signal",
    "signal_to_noise",
    "tamper",
];

/// The class of the point that stands for the device being heard at all; the tile itself shows that.
const HEARD_CLASS: &str = "link_state";

pub(super) fn sites(plan: &Plan, snapshot: &Snapshot, now: Timestamp, lang: Lang) -> Vec<SiteRow> {
    plan.sites
        .iter()
        .map(|site| {
            let ids: Vec<&str> =
                site.zones.iter().flat_map(|zone| &zone.devices).map(|device| device.id.as_str()).collect();
            let zones: Vec<ZoneRow> = site
                .zones
                .iter()
                .map(|zone| ZoneRow {
                    name: zone.name.to_string(),
                    devices: zone
                        .devices
                        .iter()
                        .map(|device| device_row(device, snapshot, now, lang))
                        .collect(),
                })
                .collect();
            let online = |device: &&DeviceRow| !device.stale && device.signal != SignalClass::Offline.name();
            SiteRow {
                name: site.name.to_string(),
                address: site.address.to_string(),
                contacts: site.contacts.clone(),
                devices: ids.len(),
                online: zones.iter().flat_map(|zone| &zone.devices).filter(online).count(),
                open: snapshot.open.values().filter(|open| ids.contains(&open.hazard.point.device())).count(),
                zones,
            }
        })
        .collect()
}

pub(super) fn device_row(device: &Device, snapshot: &Snapshot, now: Timestamp, lang: Lang) -> DeviceRow {
    // A register that was not answered is a reading too, and nothing was heard.
    // Nor does what others say of a device make it heard.
    let own = device.points.iter().filter(|point| point.class.as_str() != HEARD_CLASS);
    let last = own.filter_map(|point| snapshot.last.get(&point.id));
    let heard = last.filter(|r| r.flaw != Some(Flaw::NoAnswer)).map(|r| r.received_at).max();
    let open: Vec<_> =
        snapshot.open.values().filter(|open| open.hazard.point.device() == device.id.as_str()).collect();
    let worst = open.iter().map(|open| &open.hazard).min_by_key(|hazard| urgency(hazard));
    let stale = is_silent(device, heard, now);
    let shown = device.points.iter().filter(|point| point.class.as_str() != HEARD_CLASS).map(|point| {
        let priority = open
            .iter()
            .filter(|open| open.hazard.point == point.id)
            .min_by_key(|open| urgency(&open.hazard))
            .map_or("", |open| open.hazard.priority.name());
        point_row(device, point, snapshot.last.get(&point.id), priority, now, lang)
    });
    let (unheard, points): (Vec<_>, Vec<_>) =
        shown.partition(|row| heard.is_some() && row.quality == "none" && row.priority.is_empty());
    let (upkeep, points) = points.into_iter().partition(|row| row.upkeep && row.priority.is_empty());
    DeviceRow {
        id: device.id.to_string(),
        name: device.name.to_string(),
        place: device.place.to_string(),
        unwatched: device.silent_after.is_none(),
        silent_after: device.silent_after.map_or(0, Span::as_millis),
        old_after: old_after(device).as_millis(),
        heard_at: heard.map_or(0, Timestamp::as_millis),
        signal: worst.map_or("", |hazard| hazard.signal.name()),
        priority: worst.map_or("", |hazard| hazard.priority.name()),
        signal_label: worst.map_or("", |hazard| signal_label(hazard.signal, lang)),
        stale,
        points,
        unheard,
        upkeep,
    }
}

/// Whether its silence is too long, or nothing was ever heard of it.
fn is_silent(device: &Device, heard: Option<Timestamp>, now: Timestamp) -> bool {
    heard.is_none_or(|heard| device.silent_after.is_some_and(|after| now.since(heard) > after))
}

pub(super) fn point_row(
    device: &Device,
    point: &Point,
    last: Option<&Reading>,
    priority: &'static str,
    now: Timestamp,
    lang: Lang,
) -> PointRow {
    let t = lang.texts();
    let row = PointRow {
        id: point.id.to_string(),
        path: format!("/points/{}/{}", point.id.device(), point.id.name()),
        name: lang.pick(&point.name).to_owned(),
        value: "—".to_owned(),
        unit: "",
        quality: "none",
        mark: t.never_heard.to_owned(),
        at: 0,
        age: String::new(),
        old: false,
        priority,
        upkeep: UPKEEP_CLASSES.contains(&point.class.as_str()),
    };
    let Some(reading) = last else { return row };
    let quality = wire::quality_name(reading);
    let mut marks: Vec<&str> = Vec::new();
    if reading.late {
        marks.push(t.late);
    }
    match (reading.flaw, quality) {
        (Some(flaw), _) => marks.push(if lang == Lang::Zh { flaw.zh() } else { wire::flaw_en(flaw) }),
        (None, "bad" | "absent") => marks.push(t.quality_bad),
        (None, "uncertain") => marks.push(t.quality_uncertain),
        (None, _) => {}
    }
    let at = wire::value_time(reading);
    PointRow {
        value: lang.pick(&wire::value_text(Some(point), &reading.value)).to_owned(),
        unit: if quality == "absent" { "" } else { point.unit() },
        quality,
        mark: marks.join(" · "),
        at: at.as_millis(),
        age: format!("{}{}", span_text(now.since(at), lang), t.ago),
        old: now.since(at) > old_after(device),
        ..row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_show_beijing_time() {
        let at = Timestamp::from_millis(1_768_444_205_250);
        assert_eq!(clock_text(at), "01-15 10:30:05");
        assert_eq!(file_time(at), "2026-01-15T10:30:05+08:00");
    }

    #[test]
    fn a_length_of_time_is_two_units_long() {
        let shown = |secs| span_text(Span::from_secs(secs), Lang::Zh);
        assert_eq!([5, 65, 3600, 90_000].map(shown), ["5秒", "1分5秒", "1小时", "1天1小时"]);
        assert_eq!(span_text(Span::from_secs(65), Lang::En), "1 min 5 s");
    }
}
