//! WEB · 型号目录: every model that the gateway can read, searched by whoever adds a device; a page for each.

use super::Shared;
use super::pages::{Chrome, Visit, render};
use super::texts::Lang;
use super::wire;
use crate::adopt::{GROUPS, Model, ModelPage, Reached};
use askama::Template;
use axum::extract::{Json, Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

/// Points that a row names; the rest is counted. Two lines on a telephone.
const CLASSES_SHOWN: usize = 8;

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Words, all of which must be found.
    #[serde(default)]
    q: String,
    /// A group.
    #[serde(default)]
    kind: String,
}

impl Asked {
    fn finds(&self, model: &Model) -> bool {
        let of_kind = self.kind.is_empty() || model.groups.contains(&&*self.kind);
        of_kind && model.is_found_by(&self.q)
    }
}

#[derive(Template)]
#[template(path = "catalogue.html")]
struct CataloguePage {
    c: Chrome,
    asked: Asked,
    rows: Vec<Row>,
    kinds: Vec<Kind>,
    all: usize,
}

/// A group to choose, and how many models of what is looked for are in it.
struct Kind {
    name: &'static str,
    label: &'static str,
    count: usize,
}

struct Row {
    id: String,
    name: String,
    maker: String,
    reached: String,
    classes: Vec<String>,
    more: usize,
    verified: bool,
    words: String,
}

impl Row {
    fn new(model: &Model, lang: Lang) -> Self {
        let names = model.classes.iter().map(|(_, name)| lang.pick(name).to_owned());
        Self {
            id: model.id.clone(),
            name: lang.pick(&model.name).to_owned(),
            maker: format!("{} {}", model.vendor, model.number),
            reached: match &model.reached {
                Reached::Mqtt(topics) => format!("MQTT {}", topics.first().map_or("", |topic| topic)),
                Reached::Modbus(_) => "Modbus".to_owned(),
            },
            classes: names.take(CLASSES_SHOWN).collect(),
            more: model.classes.len().saturating_sub(CLASSES_SHOWN),
            verified: model.verified.is_some(),
            words: model.words.replace('\n', " "),
        }
    }
}

/// `GET /catalogue`.
pub(super) async fn page(visit: Visit, Query(asked): Query<Asked>) -> Response {
    let (lang, in_force) = (visit.lang(), visit.shared().room.adopt.now());
    let models = in_force.catalogue();
    let found: Vec<&Model> = models.iter().filter(|model| model.is_found_by(&asked.q)).collect();
    let kinds = GROUPS.iter().map(|group| Kind {
        name: group.name,
        label: if lang == Lang::Zh { group.zh } else { group.en },
        count: found.iter().filter(|model| model.groups.contains(&group.name)).count(),
    });
    let page = CataloguePage {
        c: visit.chrome(),
        kinds: kinds.filter(|kind| kind.count > 0).collect(),
        all: found.len(),
        rows: found.iter().filter(|model| asked.finds(model)).map(|model| Row::new(model, lang)).collect(),
        asked,
    };
    render(&page)
}

#[derive(Template)]
#[template(path = "model.html")]
struct OneModel {
    c: Chrome,
    m: ModelPage,
    name: String,
}

impl OneModel {
    fn text<'t>(&self, text: &'t crate::model::Text) -> &'t str {
        self.c.lang.pick(text)
    }

    fn range(range: &Option<(f64, f64)>) -> String {
        range.map_or_else(String::new, |(low, high)| format!("{low} … {high}"))
    }
}

/// `GET /catalogue/{vendor}/{model}`.
pub(super) async fn model(visit: Visit, Path((vendor, model)): Path<(String, String)>) -> Response {
    let Some(m) = visit.shared().room.adopt.now().model(&format!("{vendor}/{model}")) else {
        return visit.missing(visit.lang().texts().catalogue_none);
    };
    let name = visit.lang().pick(&m.model.name).to_owned();
    render(&OneModel { c: visit.chrome(), m, name })
}

/// `GET /api/v1/catalogue`: the same rows for programs.
pub(super) async fn api(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Json<Value> {
    let models = shared.room.adopt.now().catalogue();
    let row = |model: &Model| {
        let (protocol, topics): (_, &[String]) = match &model.reached {
            Reached::Mqtt(topics) => ("mqtt", topics),
            Reached::Modbus(_) => ("modbus", &[]),
        };
        json!({
            "profile": model.id, "vendor": model.vendor, "model": model.number, "name": wire::text(&model.name),
            "protocol": protocol, "topics": topics, "kinds": model.groups, "points": model.points,
            "classes": model.classes.iter().map(|(id, _)| id).collect::<Vec<_>>(), "verified": model.verified,
            "firmware": model.firmware, "also_sold_as": model.also_sold_as,
        })
    };
    Json(json!({ "models": models.iter().filter(|model| asked.finds(model)).map(row).collect::<Vec<_>>() }))
}
