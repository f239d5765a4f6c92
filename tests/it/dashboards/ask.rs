//! Asks both stores as Grafana would: its variables put in, its addresses used.

use super::Question;
use super::make::Store;
use crate::support::influxd::Influxd;
use crate::support::victoria::Victoria;
use fengsui::clock::Clock;
use serde_json::Value;

/// The database in InfluxDB.
pub(super) const DATABASE: &str = "telemetry";

/// What Grafana puts in for an hour on a screen whose panels ask for a point a minute at most.
const INTERVAL: &str = "60s";
const RANGE_SECS: u64 = 3600;

/// Four times the minute that the panels state.
const RATE_INTERVAL: &str = "240s";

pub(super) struct Stores {
    pub(super) influxd: Influxd,
    pub(super) victoria: Victoria,
}

impl Stores {
    pub(super) async fn start() -> Self {
        let (mut influxd, mut victoria) = (Influxd::new(), Victoria::new());
        tokio::join!(influxd.start(), victoria.start());
        influxd.create_database(DATABASE).await;
        Self { influxd, victoria }
    }
}

/// Both stores at one moment.
pub(super) struct Answers<'s> {
    stores: &'s Stores,
    http: reqwest::Client,
    to: u64,
}

impl<'s> Answers<'s> {
    pub(super) async fn of(stores: &'s Stores) -> Self {
        // What was written becomes visible.
        stores.victoria.samples("none").await;
        let now = u64::try_from(Clock::system().now().as_millis() / 1000).unwrap();
        Self { stores, http: reqwest::Client::new(), to: now + 1 }
    }

    /// Every number of the answer (of a chooser: one for each choice).
    pub(super) async fn ask(&self, store: Store, question: &Question, site: &str) -> Vec<f64> {
        let text = self.put_in(store, &question.text, site);
        let loose = text
            .char_indices()
            .filter(|(_, c)| *c == '$')
            .any(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_alphanumeric() || "_{[".contains(c)));
        assert!(!loose, "{}: a variable that Grafana does not know: {text}", question.place);
        match store {
            Store::Influx => self.influx(&text).await,
            Store::Prometheus => self.prometheus(question, &text).await,
        }
    }

    fn put_in(&self, store: Store, text: &str, site: &str) -> String {
        let from = self.to - RANGE_SECS;
        let filter = format!("time >= {from}000ms and time <= {}000ms", self.to);
        let text = text.replace("${site:regex}", site).replace("${gateway:regex}", ".*");
        let text = text.replace("$__rate_interval", RATE_INTERVAL).replace("$__interval", INTERVAL);
        match store {
            Store::Influx => text.replace("$timeFilter", &filter),
            Store::Prometheus => text.replace("$__range", &format!("{RANGE_SECS}s")),
        }
    }

    async fn influx(&self, influxql: &str) -> Vec<f64> {
        let result = self.stores.influxd.query(DATABASE, influxql).await;
        let series = result["series"].as_array().cloned().unwrap_or_default();
        let chooses = influxql.starts_with("SHOW");
        let rows = series.iter().flat_map(|series| series["values"].as_array().unwrap());
        // The first column is the time, or the name of what is to be chosen.
        let cells = rows.flat_map(|row| &row.as_array().unwrap()[1..]);
        if chooses { cells.map(|_| 1.0).collect() } else { cells.filter_map(Value::as_f64).collect() }
    }

    async fn prometheus(&self, question: &Question, promql: &str) -> Vec<f64> {
        let place = &question.place;
        if let Some(label) = promql.strip_prefix("label_values(") {
            let label = label.trim_end_matches(')');
            let values = self.get(place, &format!("label/{label}/values"), &[]).await;
            return values.as_array().unwrap().iter().map(|_| 1.0).collect();
        }
        let (from, to) = ((self.to - RANGE_SECS).to_string(), self.to.to_string());
        // `nocache`: what came within the last half minute is shown as well.
        let answer = if question.at_once {
            self.get(place, "query", &[("query", promql), ("time", &to), ("nocache", "1")]).await
        } else {
            let range =
                [("query", promql), ("start", &from), ("end", &to), ("step", INTERVAL), ("nocache", "1")];
            self.get(place, "query_range", &range).await
        };
        let series = answer["result"].as_array().unwrap();
        let one = |pair: &Value| pair[1].as_str().unwrap().parse::<f64>().unwrap();
        let values = series.iter().flat_map(|series| {
            let many = series["values"].as_array().into_iter().flatten().map(one);
            many.chain(series["value"].is_array().then(|| one(&series["value"]))).collect::<Vec<_>>()
        });
        values.filter(|value| value.is_finite()).collect()
    }

    async fn get(&self, place: &str, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/{path}", self.stores.victoria.url());
        let answer = self.http.get(url).query(query).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{place}: {query:?}: {status}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["status"], "success", "{place}: {text}");
        answer["data"].clone()
    }
}
