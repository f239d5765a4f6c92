//! `dashboards/panels.toml` → the JSON that Grafana loads, once for each kind of store.

use fengsui::model::{Condition, Priority, Quantity};
use fengsui::profile::{PointClass, Vocabulary};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The two sets of files: a folder each, asked in its own language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Influx,
    Prometheus,
}

impl Store {
    pub(super) const BOTH: [Self; 2] = [Self::Influx, Self::Prometheus];

    pub(super) fn folder(self) -> &'static str {
        if self == Self::Influx { "influxdb" } else { "prometheus" }
    }

    fn source(self) -> Value {
        json!({ "type": self.folder(), "uid": format!("fengsui-{}", self.folder()) })
    }

    /// One or the other.
    fn pick<T>(self, influx: T, prometheus: T) -> T {
        if self == Self::Influx { influx } else { prometheus }
    }

    /// A series' name in the legend, of these tags.
    fn legend(self, tags: &[String]) -> String {
        let one = |tag: &String| self.pick(format!("$tag_{tag}"), format!("{{{{{tag}}}}}"));
        tags.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) dashboard: Vec<Dashboard>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dashboard {
    pub(super) file: String,
    title: String,
    about: String,
    /// How far back it looks at first.
    #[serde(default = "six_hours")]
    from: String,
    /// What one chooses above the panels: the tag of that name.
    #[serde(default = "by_site")]
    variable: String,
    panel: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    class: Option<String>,
    #[serde(default)]
    take: Vec<String>,
    #[serde(default)]
    gauge: BTreeMap<String, String>,
    #[serde(default)]
    counter: BTreeMap<String, String>,
    influxql: Option<String>,
    promql: Option<String>,
    #[serde(default)]
    name: Vec<String>,
    show: Option<String>,
    title: Option<String>,
    unit: Option<String>,
    /// A number is red from here on.
    alarm_from: Option<f64>,
    #[serde(default = "half")]
    width: u32,
}

fn six_hours() -> String {
    "now-6h".to_owned()
}

fn by_site() -> String {
    "site".to_owned()
}

fn half() -> u32 {
    12
}

/// One query, its series' names, and whether it is asked for one moment or for a table.
struct Target {
    query: String,
    legend: String,
}

impl Source {
    pub(super) fn parse(text: &str) -> Self {
        toml::from_str(text).unwrap_or_else(|error| panic!("dashboards/panels.toml: {error}"))
    }
}

impl Dashboard {
    /// The whole file.
    pub(super) fn json(&self, store: Store, vocabulary: &Vocabulary) -> Value {
        let (mut panels, mut x, mut y, mut tall) = (Vec::new(), 0, 0, 0);
        for (panel, id) in self.panel.iter().zip(1..) {
            if x + panel.width > 24 {
                (x, y, tall) = (0, y + tall, 0);
            }
            let mut body = panel.json(store, vocabulary);
            let height = if panel.show.as_deref() == Some("number") { 4 } else { 8 };
            body["id"] = json!(id);
            body["gridPos"] = json!({ "x": x, "y": y, "w": panel.width, "h": height });
            panels.push(body);
            (x, tall) = (x + panel.width, tall.max(height));
        }
        json!({
            "uid": format!("fengsui-{}-{}", self.file, store.folder()),
            "title": self.title,
            "description": self.about,
            "tags": ["fengsui", store.folder()],
            "timezone": "browser",
            "schemaVersion": 39,
            "version": 1,
            "editable": false,
            "refresh": "30s",
            "time": { "from": self.from, "to": "now" },
            "templating": { "list": [self.chooser(store)] },
            "annotations": { "list": [fires(store)] },
            "panels": panels,
        })
    }

    fn chooser(&self, store: Store) -> Value {
        let tag = &self.variable;
        let label = if tag == "site" { "站点 site" } else { "网关 gateway" };
        let from = if tag == "site" { "hazard" } else { "gateway" };
        let query = store.pick(
            json!(format!("SHOW TAG VALUES FROM \"{from}\" WITH KEY = \"{tag}\"")),
            // Where Grafana's own form of it is the same words with a name for the editor.
            json!({ "qryType": 1, "refId": "variable", "query": format!("label_values({tag})") }),
        );
        json!({
            "name": tag, "label": label, "type": "query", "datasource": store.source(), "query": query,
            "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
            "current": { "text": "All", "value": "$__all" },
        })
    }
}

/// A red line through every chart wherever a fire was raised: no averaging hides it.
fn fires(store: Store) -> Value {
    let mut note = json!({
        "name": "火警 fire", "datasource": store.source(), "enable": true, "iconColor": "red",
    });
    if store == Store::Influx {
        note["query"] = json!(
            "SELECT \"raised\", \"device\", \"point\" FROM \"hazard\" WHERE \"raised\" > 0 AND \"signal\" = 'fire' AND $timeFilter"
        );
        note["titleColumn"] = json!("device");
        note["textColumn"] = json!("point");
    } else {
        note["expr"] = json!(
            "sum by (device, point) (count_over_time(hazard_raised{signal=\"fire\"}[$__interval])) > 0"
        );
        note["step"] = json!("60s");
        note["titleFormat"] = json!("{{device}} {{point}}");
    }
    note
}

impl Panel {
    fn json(&self, store: Store, vocabulary: &Vocabulary) -> Value {
        let class = self.class.as_deref().map(|id| {
            vocabulary.class(id).unwrap_or_else(|| panic!("panels.toml: {id} is not in the vocabulary"))
        });
        let states = class.is_some_and(|class| !class.quantity.is_numeric());
        let show = self.show.as_deref().unwrap_or(if states { "states" } else { "lines" });
        let title =
            self.title.clone().or_else(|| class.map(|class| format!("{} {}", class.name.zh, class.name.en)));
        let own_unit = class.map(|class| class.quantity.unit()).filter(|unit| !unit.is_empty());
        let unit = self
            .unit
            .as_deref()
            .or(own_unit)
            .map_or("short", |unit| if unit == "℃" { "celsius" } else { unit });
        let mut defaults = json!({ "unit": unit, "custom": custom(show) });
        let whole = show == "number" || show == "bars";
        match class {
            Some(class) if states => defaults["mappings"] = mappings(class),
            Some(class) => defaults["decimals"] = json!(class.decimals),
            None if whole && self.unit.is_none() => defaults["decimals"] = json!(0),
            None => {}
        }
        if whole && self.unit.is_none() {
            defaults["noValue"] = json!("0");
        }
        let mut steps =
            vec![json!({ "color": if self.alarm_from.is_some() { "green" } else { "blue" }, "value": null })];
        steps.extend(self.alarm_from.map(|from| json!({ "color": "red", "value": from })));
        defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps });
        let at_once = show == "number" || show == "table";
        let targets = self.targets(store, states).into_iter().zip('A'..).map(|(target, name)| {
            let mut body = json!({ "refId": name.to_string(), "datasource": store.source() });
            if store == Store::Influx {
                body["rawQuery"] = json!(true);
                body["query"] = json!(target.query);
                body["resultFormat"] = json!(if at_once { "table" } else { "time_series" });
                body["alias"] = json!(target.legend);
            } else {
                body["expr"] = json!(target.query);
                body["instant"] = json!(at_once);
                body["range"] = json!(!at_once);
                body["format"] = json!(if show == "table" { "table" } else { "time_series" });
                body["legendFormat"] = json!(target.legend);
                // Every figure comes once a minute or more often.
                body["interval"] = json!("1m");
            }
            body
        });
        json!({
            "title": title.expect("a panel without a class has a title"),
            "type": kind(show),
            "datasource": store.source(),
            "interval": "1m",
            "fieldConfig": { "defaults": defaults, "overrides": [] },
            "options": options(show),
            "targets": targets.collect::<Vec<_>>(),
        })
    }

    fn targets(&self, store: Store, states: bool) -> Vec<Target> {
        let several = self.take.len() > 1;
        if let Some(class) = &self.class {
            let default = ["max".to_owned()];
            let takes = if self.take.is_empty() { &default } else { self.take.as_slice() };
            let field = if states { "state" } else { "value" };
            let target = |take: &String| {
                let legend = store.legend(&["device".to_owned(), "point".to_owned()]);
                let query = store.pick(
                    format!("SELECT {take}(\"{field}\") FROM \"{class}\" WHERE \"site\" =~ /^${{site:regex}}$/ AND $timeFilter GROUP BY time($__interval), \"device\", \"point\" fill(none)"),
                    format!("{take} by (device, point) ({take}_over_time({class}_{field}{{site=~\"${{site:regex}}\"}}[$__interval]))"),
                );
                // The chooser of the gateway's own dashboard names gateways, not sites.
                let query = if class == "gateway_fault" || class == "connection_state" {
                    query
                        .replace("\"site\" =~ /^${site:regex}$/ AND ", "")
                        .replace("site=~\"${site:regex}\"", "")
                } else {
                    query
                };
                Target { query, legend: if several { format!("{legend} {take}") } else { legend } }
            };
            return takes.iter().map(target).collect();
        }
        if let (Some(influxql), Some(promql)) = (&self.influxql, &self.promql) {
            return vec![Target {
                query: store.pick(influxql, promql).clone(),
                legend: store.legend(&self.name),
            }];
        }
        let gateway = ["gateway".to_owned()];
        let named = |words: &str| format!("{words} {}", store.legend(&gateway));
        let gauges = self.gauge.iter().map(|(words, metric)| Target {
            query: store.pick(
                format!("SELECT max(\"{metric}\") FROM \"gateway\" WHERE \"gateway\" =~ /^${{gateway:regex}}$/ AND $timeFilter GROUP BY time($__interval), \"gateway\" fill(none)"),
                format!("max by (gateway) (max_over_time(gateway_{metric}{{gateway=~\"${{gateway:regex}}\"}}[$__interval]))"),
            ),
            legend: named(words),
        });
        let counters = self.counter.iter().map(|(words, metric)| Target {
            query: store.pick(
                format!("SELECT non_negative_derivative(last(\"{metric}\"), 1m) FROM \"gateway\" WHERE \"gateway\" =~ /^${{gateway:regex}}$/ AND $timeFilter GROUP BY time($__interval), \"gateway\" fill(none)"),
                format!("60 * sum by (gateway) (rate(gateway_{metric}{{gateway=~\"${{gateway:regex}}\"}}[$__rate_interval]))"),
            ),
            legend: named(words),
        });
        gauges.chain(counters).collect()
    }
}

fn kind(show: &str) -> &'static str {
    match show {
        "number" => "stat",
        "lines" | "points" | "bars" => "timeseries",
        "states" => "state-timeline",
        "table" => "table",
        other => panic!("panels.toml: show = \"{other}\""),
    }
}

/// A gap of a quarter of an hour is drawn as a gap, never as a line.
const GAP_MS: u32 = 15 * 60 * 1000;

fn custom(show: &str) -> Value {
    match show {
        "lines" => json!({ "drawStyle": "line", "lineWidth": 2, "spanNulls": false, "insertNulls": GAP_MS }),
        "points" => json!({ "drawStyle": "points", "pointSize": 8 }),
        "bars" => json!({ "drawStyle": "bars", "fillOpacity": 80, "stacking": { "mode": "normal" } }),
        "states" => json!({ "fillOpacity": 85, "spanNulls": false, "insertNulls": GAP_MS }),
        _ => json!({}),
    }
}

fn options(show: &str) -> Value {
    match show {
        "number" => json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "colorMode": "background" }),
        "states" => json!({ "mergeValues": true, "showValue": "auto", "rowHeight": 0.85 }),
        "table" => json!({ "showHeader": true }),
        _ => {
            json!({ "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi" } })
        }
    }
}

/// The states' names, and the colours of the rules that they fulfil.
fn mappings(class: &PointClass) -> Value {
    let urgent = |fulfils: &dyn Fn(&Condition) -> bool| {
        class.rules.iter().filter(|rule| fulfils(&rule.condition)).map(|rule| rule.priority).min()
    };
    let states: Vec<(String, Option<Priority>)> = if class.quantity == Quantity::Flag {
        [(false, "否 no"), (true, "是 yes")]
            .map(|(flag, name)| (name.to_owned(), urgent(&|condition| *condition == Condition::Is(flag))))
            .into()
    } else {
        let state = |(code, name): &(fengsui::model::Code, fengsui::model::Text)| {
            let priority =
                urgent(&|condition| matches!(condition, Condition::OneOf(codes) if codes.contains(code)));
            (format!("{} {}", name.zh, name.en), priority)
        };
        class.states.iter().map(state).collect()
    };
    let mut named = serde_json::Map::new();
    for (place, (text, priority)) in states.iter().enumerate() {
        let colour = match priority {
            Some(Priority::Red) => "red",
            Some(Priority::Orange) => "orange",
            Some(Priority::Yellow) => "yellow",
            Some(Priority::Blue) => "blue",
            None if place == 0 => "green",
            None => "#8a97a5",
        };
        named.insert(place.to_string(), json!({ "text": text, "color": colour, "index": place }));
    }
    json!([{ "type": "value", "options": named }])
}
