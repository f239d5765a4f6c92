//! `plan.toml` + profiles + vocabulary → the [`Plan`] in force and the [`Binding`]s that say how devices are reached.

use super::gateway::{Gateway, LinkKind};
use super::library::Library;
use super::overrides::{ClassOverride, Overrides, PointOverride};
use super::reader::{Page, Table};
use super::system;
use crate::model::{
    Condition, Contact, Device, DeviceCommand, DeviceId, LINK_POINT, LinkId, Plan, Point, PointId, Problem,
    ProfileId, Rule, SignalClass, Site, SiteId, Span, Zone, ZoneId,
};
use crate::profile::{Command, PointClass, Profile, ProfileLink, suggest};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use toml::Spanned;

/// The class of the point `link` in the vocabulary.
pub(super) const LINK_CLASS: &str = "link_state";

/// The longest silence that may be declared normal, s: 31 days. A device that is heard less often is not watched.
const SILENT_AFTER_SECS_MAX: i64 = 31 * 86_400;
/// The shortest, s: two polls at the usual 5 s.
const SILENT_AFTER_SECS_MIN: i64 = 10;

/// How one device of the plan is reached and understood.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Which device.
    pub device: DeviceId,
    /// By which link.
    pub link: LinkId,
    /// What stands for `{address}` in the profile's topics; empty on Modbus.
    pub address: String,
    /// The Modbus unit id; `None` on MQTT. Which ones are allowed: `ModbusSettings::unit_fault`.
    pub unit: Option<u8>,
    /// How its bytes become readings.
    pub profile: Arc<Profile>,
    /// The device's points, index-aligned with `profile.points`. The implicit point `link` is not among them.
    pub points: Vec<PointId>,
    /// What people may tell it to do, of what its profile can.
    pub commands: Vec<Command>,
    /// The implicit point `link`, that stands for the device being heard at all.
    pub link_point: PointId,
}

/// What the plan is built from.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    pub(super) gateway: &'a Gateway,
    /// False when gateway.toml has a link that could not be read: then no link is called unknown.
    pub(super) links_complete: bool,
    pub(super) library: &'a Library,
}

/// What came of it.
pub(super) struct Built {
    pub(super) plan: Plan,
    pub(super) bindings: Vec<Binding>,
}

/// Reads the plan. What could be understood is built even when there are errors; they are in `problems`.
pub(super) fn build(source: &Source<'_>, problems: &mut Vec<Problem>) -> Option<Built> {
    let page = Page::new(source.file);
    let sites = page.parse(source.text, |root| {
        let builder = Builder {
            source,
            page: &page,
            links: source.gateway.links().collect(),
            devices: RefCell::default(),
            addresses: RefCell::default(),
            bindings: RefCell::default(),
            shared: RefCell::default(),
        };
        let sites = builder.sites(root);
        (sites, builder.bindings.into_inner())
    });
    let system = system::site(source.gateway, &source.library.vocabulary, &page);
    problems.extend(page.into_problems());
    let (mut sites, bindings) = sites?;
    sites.push(system);
    Some(Built { plan: Plan::new(sites), bindings })
}

struct Builder<'a> {
    source: &'a Source<'a>,
    page: &'a Page,
    links: BTreeMap<&'a LinkId, LinkKind>,
    devices: RefCell<HashSet<DeviceId>>,
    /// Who has which address: (link, topic filter or "unit", address).
    addresses: RefCell<HashMap<(LinkId, String, String), DeviceId>>,
    bindings: RefCell<Vec<Binding>>,
    /// The rules of a class as the vocabulary has them: one copy for all points that keep them.
    shared: RefCell<HashMap<String, Vec<Arc<Rule>>>>,
}

/// What a device got from its profile and its own lines, on the way to its points.
struct Draft<'a> {
    id: DeviceId,
    profile: &'a Arc<Profile>,
    /// It lives behind a platform, which says whether it hears it.
    platform: bool,
    silent_after: Option<Span>,
    overrides: Overrides<'a>,
}

impl<'a> Builder<'a> {
    fn sites(&self, root: &Table<'a>) -> Vec<Site> {
        let mut seen = HashSet::new();
        let tables = root.tables("site");
        if tables.is_empty() {
            self.page.whole_file(
                "没有站点 / there is no site",
                "[[site]] id = \"…\" name = \"…\" address = \"…\"",
            );
        }
        tables.into_iter().filter_map(|table| self.site(table, &mut seen)).collect()
    }

    fn site(&self, table: Table<'a>, seen: &mut HashSet<SiteId>) -> Option<Site> {
        let id: Option<Spanned<SiteId>> = table.id("id", "sunshine");
        if let Some(id) = &id {
            if id.get_ref().as_str() == system::SITE {
                let message =
                    "站点不能叫 gateway：那是本网关自己 / the site id \"gateway\" is the gateway itself";
                self.page.error(id.span(), message, "换一个 id / choose another id");
            } else if !seen.insert(id.get_ref().clone()) {
                self.repeated(id);
            }
        }
        let name = table.required("name", "阳光养老院");
        let address = table.required("address", "某县某镇某路 8 号");
        let contacts: Vec<Contact> =
            table.tables("contact").into_iter().filter_map(|table| self.contact(table)).collect();
        if contacts.is_empty() {
            self.page.warning(
                table.span.clone(),
                "没有联系人：报警时不知道打给谁 / no contact: nobody to call",
                "[[site.contact]] role = \"值班室\" name = \"…\" phone = \"…\"",
            );
        }
        let overrides = self.class_overrides(&table);
        let mut zone_ids = HashSet::new();
        let zones = table.tables("zone");
        let zones: Vec<Zone> =
            zones.into_iter().filter_map(|zone| self.zone(zone, &mut zone_ids, &overrides)).collect();
        self.unused(&overrides);
        table.finish();
        Some(Site {
            id: id?.into_inner(),
            name: (*name?.get_ref()).into(),
            address: (*address?.get_ref()).into(),
            contacts,
            zones,
        })
    }

    fn repeated<T: std::fmt::Display>(&self, id: &Spanned<T>) {
        let message = format!("id 重复 / the id \"{}\" is used twice", id.get_ref());
        self.page.error(id.span(), message, "每个 id 只能用一次 / every id once");
    }

    fn contact(&self, table: Table<'a>) -> Option<Contact> {
        let role = table.required("role", "值班室");
        let name = table.text("name").map_or("", Spanned::into_inner);
        let phone = table.text("phone").map_or("", Spanned::into_inner);
        if phone.trim().is_empty() {
            let message = "联系人没有电话 / this contact has no phone";
            self.page.warning(table.span.clone(), message, "phone = \"…\"");
        }
        table.finish();
        Some(Contact { role: (*role?.get_ref()).into(), name: name.into(), phone: phone.into() })
    }

    fn class_overrides(&self, table: &Table<'a>) -> Vec<ClassOverride<'a>> {
        let tables = table.tables("override").into_iter();
        tables.filter_map(|table| ClassOverride::read(table, &self.source.library.vocabulary)).collect()
    }

    fn unused(&self, overrides: &[ClassOverride<'_>]) {
        for over in overrides.iter().filter(|over| !over.used.get()) {
            self.page.warning(
                over.span.clone(),
                "这里没有这一类的点 / no point of this class here: the override has no effect",
                "删除，或检查 class / remove it, or check the class",
            );
        }
    }

    fn zone(
        &self,
        table: Table<'a>,
        seen: &mut HashSet<ZoneId>,
        site_overrides: &[ClassOverride<'a>],
    ) -> Option<Zone> {
        let id: Option<Spanned<ZoneId>> = table.id("id", "floor-1");
        if let Some(id) = &id
            && !seen.insert(id.get_ref().clone())
        {
            self.repeated(id);
        }
        let name = table.required("name", "一层走廊");
        let overrides = self.class_overrides(&table);
        let devices = table.tables("device").into_iter();
        let devices = devices.filter_map(|device| self.device(device, site_overrides, &overrides)).collect();
        self.unused(&overrides);
        table.finish();
        Some(Zone { id: id?.into_inner(), name: (*name?.get_ref()).into(), devices })
    }

    fn device(
        &self,
        table: Table<'a>,
        site_overrides: &[ClassOverride<'a>],
        zone_overrides: &[ClassOverride<'a>],
    ) -> Option<Device> {
        let id = self.device_id(&table);
        let name = table.required("name", "203 房间烟感");
        let place = table.text("place").map_or("", Spanned::into_inner);
        let profile = self.profile(&table);
        let link = self.link(&table, profile.as_ref().map(Spanned::get_ref));
        let reached = self.reached(&table, id.as_ref(), profile.as_ref(), link.as_ref());
        let silent_after = table
            .integer("silent_after_secs", SILENT_AFTER_SECS_MIN..=SILENT_AFTER_SECS_MAX)
            .map(|secs| Span::from_secs(secs.into_inner()));
        let commands = self.commands(&table, profile.as_ref().map(Spanned::get_ref));
        let points = self.point_overrides(&table, profile.as_ref().map(Spanned::get_ref));
        table.finish();
        let (id, profile) = (id?, profile?.into_inner());
        let draft = Draft {
            id: id.clone(),
            profile,
            platform: link.as_ref().and_then(|link| self.links.get(link)) == Some(&LinkKind::Push),
            silent_after: silent_after.or(profile.silent_after),
            overrides: Overrides { site: site_overrides, zone: zone_overrides, points: &points },
        };
        let span = table_span(&name);
        let (points, binding_points) = self.points(&draft)?;
        self.watch_silence(&draft, &points, span);
        let (link, (address, unit)) = (link?, reached?);
        let link_point = PointId::new(&id, LINK_POINT).ok()?;
        self.bindings.borrow_mut().push(Binding {
            device: id.clone(),
            link: link.clone(),
            address,
            unit,
            profile: profile.clone(),
            points: binding_points,
            commands: commands.clone(),
            link_point,
        });
        Some(Device {
            id,
            name: (*name?.get_ref()).into(),
            place: place.into(),
            profile: profile.id.clone(),
            model: profile.model.clone(),
            link,
            silent_after: draft.silent_after,
            commands: commands.iter().map(allowed).collect(),
            points,
        })
    }

    /// The commands of the profile that the plan allows; none unless it names them.
    fn commands(&self, table: &Table<'a>, profile: Option<&&'a Arc<Profile>>) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        for name in table.texts("allow_commands") {
            let Some(profile) = profile else { continue };
            let known = profile.commands.iter().map(|command| command.name.as_str());
            match profile.commands.iter().find(|command| command.name == *name.get_ref()) {
                Some(command) if commands.contains(command) => {
                    let message = format!("写了两次 / {:?} is there twice", name.get_ref());
                    self.page.error(name.span(), message, "删去一个 / remove one");
                }
                Some(command) => commands.push(command.clone()),
                None => {
                    let mut help = suggest(name.get_ref(), known.clone());
                    if help.is_empty() {
                        help = match profile.commands.is_empty() {
                            true => "这个型号没有命令 / this profile has no commands".to_owned(),
                            false => format!("可用 / known: {}", known.collect::<Vec<_>>().join(", ")),
                        };
                    }
                    let message =
                        format!("型号里没有这个命令 / the profile has no command {:?}", name.get_ref());
                    self.page.error(name.span(), message, help);
                }
            }
        }
        commands
    }

    fn device_id(&self, table: &Table<'a>) -> Option<DeviceId> {
        let id: Spanned<DeviceId> = table.id("id", "sd-203")?;
        let ours = self.links.keys().any(|link| system::link_device(link).as_ref() == Some(id.get_ref()));
        if ours || id.get_ref().as_str() == system::SITE {
            let message = format!("这个 id 是网关自己的 / \"{}\" is the gateway's own", id.get_ref());
            self.page.error(id.span(), message, "换一个 id / choose another id");
            return None;
        }
        if !self.devices.borrow_mut().insert(id.get_ref().clone()) {
            self.repeated(&id);
            return None;
        }
        Some(id.into_inner())
    }

    fn profile(&self, table: &Table<'a>) -> Option<Spanned<&'a Arc<Profile>>> {
        let text = table.required("profile", "milesight/gs524n")?;
        let library = self.source.library;
        if let Some(profile) = library.profiles.get(*text.get_ref()) {
            return Some(Spanned::new(text.span(), profile));
        }
        let model = text.get_ref().split('@').next();
        if library.broken.iter().any(|id| Some(id.as_str()) == model) {
            let message = format!("型号文件有错误 / the profile {:?} has errors", text.get_ref());
            self.page.error(text.span(), message, "先改正那个文件 / correct that file first");
            return None;
        }
        let known = library.profiles.keys().map(ProfileId::as_str);
        let mut help = suggest(text.get_ref(), known.clone());
        if help.is_empty() {
            help = format!("可用 / known: {}", known.collect::<Vec<_>>().join(", "));
        }
        let message = format!("未知的型号：没有这个文件 / unknown profile {:?}", text.get_ref());
        self.page.error(text.span(), message, help);
        None
    }

    fn link(&self, table: &Table<'a>, profile: Option<&&'a Arc<Profile>>) -> Option<LinkId> {
        let link: Spanned<LinkId> = table.id("link", "broker")?;
        let Some(kind) = self.links.get(link.get_ref()) else {
            if self.source.links_complete {
                let known: Vec<&str> = self.links.keys().map(|link| link.as_str()).collect();
                self.page.error(
                    link.span(),
                    format!("gateway.toml 里没有这个连接 / no such link: \"{}\"", link.get_ref()),
                    format!("可用 / known: {}", known.join(", ")),
                );
            }
            return None;
        };
        let wanted = match profile?.link {
            ProfileLink::Mqtt { .. } => LinkKind::Mqtt,
            ProfileLink::Modbus { .. } => LinkKind::Modbus,
        };
        if wanted != *kind && !(wanted.has_topics() && kind.has_topics()) {
            self.page.error(
                link.span(),
                format!(
                    "型号说 {}，连接是 {} / the profile and the link do not match",
                    wanted.name(),
                    kind.name()
                ),
                "换一个连接或型号 / choose another link or profile",
            );
            return None;
        }
        Some(link.into_inner())
    }

    /// `address` on MQTT, `unit` on Modbus; each address once.
    fn reached(
        &self,
        table: &Table<'a>,
        device: Option<&DeviceId>,
        profile: Option<&Spanned<&'a Arc<Profile>>>,
        link: Option<&LinkId>,
    ) -> Option<(String, Option<u8>)> {
        let has_address = table.has("address");
        let has_unit = table.has("unit");
        table.pass_over("address");
        table.pass_over("unit");
        // Without a profile it is not known which of the two is right.
        match &profile?.get_ref().link {
            ProfileLink::Mqtt { topics } => {
                if has_unit {
                    let help = "MQTT 设备用 address / an MQTT device has an address";
                    self.page.error(table.span_of("unit"), "这里不用 unit / no unit here", help);
                }
                let address = table.required("address", "0x00158d0001a2b3c4")?;
                let sparkplug = profile?.get_ref().is_sparkplug();
                let levels = address.get_ref().split('/').filter(|level| !level.is_empty()).count();
                if sparkplug && (!(2..=3).contains(&levels) || levels != address.get_ref().split('/').count())
                {
                    let message = "Sparkplug 的地址是“组/边缘节点/设备” / a Sparkplug address is group/edge node/device";
                    let help =
                        "边缘节点自己的指标：组/边缘节点 / for the edge node's own metrics: group/edge node";
                    self.page.error(address.span(), message, help);
                    return None;
                }
                let levels: &[char] = if sparkplug { &['+', '#', '\0'] } else { &['/', '+', '#', '\0'] };
                if address.get_ref().contains(levels) {
                    let message = "地址是主题的一级 / an address is one level of a topic: no '/', '+', '#'";
                    self.page.error(address.span(), message, "");
                    return None;
                }
                for topic in topics {
                    let key = (link?.clone(), topic.filter(), (*address.get_ref()).to_owned());
                    self.claim(key, device?, &address)?;
                }
                Some(((*address.get_ref()).to_owned(), None))
            }
            ProfileLink::Modbus { .. } => {
                if has_address {
                    let help = "Modbus 设备用 unit / a Modbus device has a unit";
                    self.page.error(table.span_of("address"), "这里不用 address / no address here", help);
                }
                if !has_unit {
                    let message = "缺少 “unit” / \"unit\" is missing";
                    self.page.error(table.span.clone(), message, "Modbus 从站号 / the unit id: unit = 1");
                }
                let unit = table.integer("unit", 0..=i64::from(u8::MAX))?;
                let bus = self.source.gateway.modbus.iter().find(|bus| Some(&bus.link) == link);
                if let Some((message, help)) = bus.and_then(|bus| bus.unit_fault(*unit.get_ref())) {
                    self.page.error(unit.span(), message, help);
                    return None;
                }
                let key = (link?.clone(), "unit".to_owned(), unit.get_ref().to_string());
                self.claim(key, device?, &unit)?;
                Some((String::new(), u8::try_from(unit.into_inner()).ok()))
            }
        }
    }

    fn claim<T>(&self, key: (LinkId, String, String), device: &DeviceId, at: &Spanned<T>) -> Option<()> {
        let other = self.addresses.borrow_mut().insert(key.clone(), device.clone());
        let Some(other) = other else { return Some(()) };
        self.page.error(
            at.span(),
            format!("地址 {} 已经属于 / this address already belongs to \"{other}\"", key.2),
            "一个地址一台设备 / one device for each address",
        );
        self.addresses.borrow_mut().insert(key, other);
        None
    }

    fn point_overrides(
        &self,
        table: &Table<'a>,
        profile: Option<&&'a Arc<Profile>>,
    ) -> Vec<PointOverride<'a>> {
        let tables = table.tables("override");
        let Some(profile) = profile else { return Vec::new() };
        let vocabulary = &self.source.library.vocabulary;
        tables.into_iter().filter_map(|table| PointOverride::read(table, profile, vocabulary)).collect()
    }

    /// The device's points and, index-aligned with its profile, their ids.
    fn points(&self, draft: &Draft<'a>) -> Option<(Vec<Point>, Vec<PointId>)> {
        let vocabulary = &self.source.library.vocabulary;
        let mut points = Vec::with_capacity(draft.profile.points.len() + 1);
        for shape in &draft.profile.points {
            let class = vocabulary.class(shape.class.as_str())?;
            let id = PointId::new(&draft.id, &shape.name).ok()?;
            points.push(Point {
                class: class.id.clone(),
                name: shape.label.clone().unwrap_or_else(|| class.name.clone()),
                quantity: class.quantity,
                range: shape.range.or(class.range),
                states: class.states.clone(),
                decimals: class.decimals,
                rules: self.rules(class, &shape.name, draft),
                id,
            });
        }
        let ids = points.iter().map(|point| point.id.clone()).collect();
        // `system::site` says so when the class is missing.
        let class = vocabulary.class(LINK_CLASS)?;
        let mut rules = self.rules(class, LINK_POINT, draft);
        if !draft.profile.reports_link() && !draft.platform {
            // Nobody but our own ear says whether it is there.
            rules.retain(|rule| matches!(rule.condition, Condition::Silent { .. }));
        }
        points.push(system::point(PointId::new(&draft.id, LINK_POINT).ok()?, class, rules));
        Some((points, ids))
    }

    fn rules(&self, class: &PointClass, point: &str, draft: &Draft<'_>) -> Vec<Arc<Rule>> {
        let mut shared = self.shared.borrow_mut();
        let defaults = shared
            .entry(class.id.to_string())
            .or_insert_with(|| class.rules.iter().cloned().map(Arc::new).collect());
        let rules = defaults.iter();
        rules.filter_map(|rule| draft.overrides.apply(rule, &class.id, point, draft.silent_after)).collect()
    }

    /// A detector whose death nobody would notice is worse than none.
    fn watch_silence(&self, draft: &Draft<'_>, points: &[Point], span: Option<std::ops::Range<usize>>) {
        let fire = points.iter().flat_map(|point| &point.rules).any(|rule| rule.signal == SignalClass::Fire);
        if fire && draft.silent_after.is_none() {
            self.page.warning(
                span.unwrap_or(0..0),
                "这个火警设备失联不会被发现 / nobody would notice if this fire detector went silent",
                "silent_after_secs = 90000（每日心跳的设备 / for a daily heartbeat）",
            );
        }
    }
}

/// What the plan in force says of a command: its register is nobody's business there.
fn allowed(command: &Command) -> DeviceCommand {
    DeviceCommand { name: command.name.as_str().into(), text: command.text.clone() }
}

fn table_span(name: &Option<Spanned<&str>>) -> Option<std::ops::Range<usize>> {
    name.as_ref().map(Spanned::span)
}
