//! The Grafana dashboards: the files are what `panels.toml` says, every figure they name exists, and every query of
//! every panel is answered by a real InfluxDB 1 and a real VictoriaMetrics that a real gateway has filled.

mod ask;
mod fill;
mod make;

use ask::{Answers, Stores};
use fengsui::metrics::Metrics;
use fengsui::profile::Vocabulary;
use make::{Source, Store};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Set to anything, the test writes the files instead of comparing them.
const WRITE: &str = "FENGSUI_WRITE_DASHBOARDS";

/// The fields of the measurement `hazard`, as src/sinks/influx/line.rs documents them.
const HAZARD_FIELDS: [&str; 6] =
    ["open", "acknowledged", "occurrences", "raised", "seconds_to_acknowledge", "seconds_to_reset"];

fn folder(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dashboards").join(below)
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn vocabulary() -> Vocabulary {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("device-profiles/vocabulary.toml");
    Vocabulary::parse("vocabulary.toml", &read(&path)).unwrap()
}

/// The files of one store, by name.
fn files(store: Store) -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(folder(store.folder()))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&read(&path)).unwrap())
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

/// One question that Grafana would ask for a dashboard.
struct Question {
    /// Where it stands, for a person.
    place: String,
    /// The type of its panel; empty for a chooser or an annotation.
    panel: String,
    text: String,
    /// For one moment, not for a stretch of time.
    at_once: bool,
}

/// Every question of a dashboard: of its panels, its choosers and its annotations.
fn questions(store: Store, file: &str, dashboard: &Value) -> Vec<Question> {
    let (field, note) = if store == Store::Influx { ("query", "query") } else { ("expr", "expr") };
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut questions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{file}: {} asks nothing", panel["title"]);
        questions.extend(targets.iter().map(|target| Question {
            place: format!("{} {file}: {} {}", store.folder(), panel["title"], target["refId"]),
            panel: words(&panel["type"]),
            text: words(&target[field]),
            at_once: target["instant"] == true,
        }));
    }
    for chooser in dashboard["templating"]["list"].as_array().unwrap() {
        let query = &chooser["query"];
        questions.push(Question {
            place: format!("{} {file}: chooser {}", store.folder(), chooser["name"]),
            panel: String::new(),
            text: if query.is_string() { words(query) } else { words(&query["query"]) },
            at_once: true,
        });
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        questions.push(Question {
            place: format!("{} {file}: annotation {}", store.folder(), annotation["name"]),
            panel: String::new(),
            text: words(&annotation[note]),
            at_once: false,
        });
    }
    assert!(questions.iter().all(|question| !question.text.is_empty()), "{file} has a panel without a query");
    questions
}

fn all_questions(store: Store) -> Vec<Question> {
    files(store).iter().flat_map(|(file, dashboard)| questions(store, file, dashboard)).collect()
}

#[test]
fn the_files_are_what_the_panels_say() {
    let source = Source::parse(&read(&folder("panels.toml")));
    let vocabulary = vocabulary();
    assert_eq!(source.dashboard.len(), 5);
    for store in Store::BOTH {
        let mut made = BTreeSet::new();
        for dashboard in &source.dashboard {
            let name = format!("{}.json", dashboard.file);
            let text = serde_json::to_string_pretty(&dashboard.json(store, &vocabulary)).unwrap() + "\n";
            let path = folder(store.folder()).join(&name);
            if std::env::var_os(WRITE).is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert!(read(&path) == text, "{} is not what panels.toml says: {WRITE}=1", path.display());
            made.insert(name);
        }
        let found: BTreeSet<_> = files(store).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, made, "a file that nobody makes");
    }
}

/// The names between double quotes after `FROM`.
fn measurements(influxql: &str) -> impl Iterator<Item = &str> {
    influxql.split("FROM \"").skip(1).filter_map(|rest| rest.split('"').next())
}

/// Every word before `{` that is no function and no keyword: `hazard_open{…}`.
fn metrics(promql: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let before = promql.split('{').filter_map(move |part| part.rsplit(|c| !word(c)).next());
    before.filter(|name| name.contains('_') && !name.is_empty())
}

#[test]
fn every_figure_that_a_dashboard_names_exists() {
    let vocabulary = vocabulary();
    let own = Metrics::new().render();
    let own: BTreeSet<&str> =
        own.lines().filter_map(|line| line.strip_prefix("# HELP fengsui_")?.split(' ').next()).collect();
    let known = |measurement: &str, field: &str| match measurement {
        "hazard" => HAZARD_FIELDS.contains(&field),
        // What is counted for each sink appears with the first one.
        "gateway" => own.contains(field) || field == "sink_lag",
        class => vocabulary.class(class).is_some_and(|class| {
            field == "quality" || field == if class.quantity.is_numeric() { "value" } else { "state" }
        }),
    };
    let mut named = BTreeSet::new();
    for question in all_questions(Store::Influx) {
        let fields: Vec<&str> =
            question.text.split("(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for measurement in measurements(&question.text) {
            let bare = HAZARD_FIELDS
                .iter()
                .filter(|field| measurement == "hazard" && question.text.contains(&format!("\"{field}\"")));
            for field in fields.iter().filter(|field| !["waiting", "seconds"].contains(*field)).chain(bare) {
                assert!(known(measurement, field), "{}: {measurement} {field}", question.place);
                named.insert(format!("{measurement}_{field}"));
            }
        }
    }
    let by_influxql = named.len();
    let split = |metric: &str| {
        metric
            .char_indices()
            .filter(|(_, c)| *c == '_')
            .any(|(at, _)| known(&metric[..at], &metric[at + 1..]))
    };
    let mut metrics_named = BTreeSet::new();
    for question in all_questions(Store::Prometheus) {
        for metric in metrics(&question.text).filter(|name| !name.starts_with("label_")) {
            assert!(split(metric), "{}: {metric}", question.place);
            metrics_named.insert(metric.to_owned());
        }
    }
    assert!(by_influxql >= 50 && metrics_named.len() >= 50, "{named:?}\n{metrics_named:?}");
    let only_one: Vec<_> = named.symmetric_difference(&metrics_named).collect();
    assert!(only_one.is_empty(), "shown from one kind of store only: {only_one:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_of_every_dashboard_is_answered_by_real_stores() {
    let stores = Stores::start().await;
    fill::by_a_real_gateway(&stores).await;
    fill::own_figures(&stores).await;
    let answers = Answers::of(&stores).await;
    let (mut asked, mut empty) = (0, Vec::new());
    let (mut numbers, mut pace) = (Vec::new(), Vec::new());
    for store in Store::BOTH {
        let questions = all_questions(store);
        assert!(questions.len() >= 70, "only {} questions for {store:?}", questions.len());
        let mut of_store = Vec::new();
        for question in &questions {
            // All sites, and the one that was chosen; a number is what the other store must say as well.
            for site in [".*", fill::SITE] {
                let values = answers.ask(store, question, site).await;
                asked += 1;
                if values.is_empty() {
                    empty.push(format!("{} ({site}): {}", question.place, question.text));
                }
                if ["gateway_readings{", "(\"readings\")"].iter().any(|own| question.text.contains(own)) {
                    pace.push(values.clone());
                }
                if question.panel == "stat" {
                    of_store.push((
                        question.place.split_once(' ').unwrap().1.to_owned(),
                        values.first().copied(),
                    ));
                }
            }
        }
        numbers.push(of_store);
    }
    assert!(empty.is_empty(), "{} of {asked} questions have no answer:\n{}", empty.len(), empty.join("\n"));
    assert_eq!(numbers[0].len(), numbers[1].len());
    assert!(numbers[0].len() >= 16);
    for ((place, influx), (_, prometheus)) in numbers[0].iter().zip(&numbers[1]) {
        let (influx, prometheus) = (influx.unwrap(), prometheus.unwrap());
        assert!(
            (influx - prometheus).abs() < 1e-6,
            "{place}: InfluxDB says {influx}, VictoriaMetrics {prometheus}"
        );
    }
    let number = |title: &str| {
        let found = numbers[0].iter().find(|(place, _)| place.contains(title));
        found.unwrap_or_else(|| panic!("no {title}")).1.unwrap()
    };
    assert_eq!(number("Open fires"), fill::FIRES_OPEN);
    assert_eq!(number("Fires raised"), fill::FIRES_RAISED);
    assert_eq!(number("Devices offline"), 1.0);
    // A counter is shown as so many a minute, in both; the simulated minutes are a hundredth longer at most.
    assert_eq!(pace.len(), 4);
    let is = |pace: &f64| (pace - f64::from(fill::READINGS_A_MINUTE)).abs() < 6.0;
    assert!(pace.iter().all(|values| values.iter().any(is)), "{pace:?}");
    assert!(number("Mean time to acknowledge") > 0.0);
}

/// What Grafana is given in docker-compose.yml: its sources and folders are those that the files name.
#[test]
fn the_provisioning_names_what_there_is() {
    let sources = read(&folder("provisioning/datasources/fengsui.yaml"));
    let folders = read(&folder("provisioning/dashboards/fengsui.yaml"));
    for store in Store::BOTH {
        let (_, first) = files(store).into_iter().next().unwrap();
        let source = &first["panels"][0]["datasource"];
        let (uid, kind) = (source["uid"].as_str().unwrap(), source["type"].as_str().unwrap());
        assert!(sources.contains(&format!("uid: {uid}\n")), "no data source {uid}");
        assert!(sources.contains(&format!("type: {kind}\n")), "no data source of the type {kind}");
        assert!(folders.contains(&format!("path: /var/lib/grafana/dashboards/{}\n", store.folder())));
    }
    let mut uids = BTreeSet::new();
    for (name, dashboard) in Store::BOTH.into_iter().flat_map(files) {
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}: its uid is another dashboard's");
        assert!(dashboard["uid"].as_str().unwrap().len() <= 40, "{name}: Grafana takes 40 characters");
    }
    assert_eq!(uids.len(), 10);
}
