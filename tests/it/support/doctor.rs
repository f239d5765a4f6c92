//! What the doctor says of a gateway: its JSON as a program reads it, and its lines as a person does.

use super::gateway::House;
use fengsui::cli::doctor::Finding;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fengsui");

/// What hardly any house of a test has, and the doctor always tells.
const NO_BACKUP: &str = "backup-none";

/// One visit.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) findings: Vec<Value>,
    /// The lines for a person, Chinese alone; empty when only the JSON was asked for.
    lines: String,
}

impl Told {
    /// The JSON of another command line, which must tell a person what to do about everything.
    pub(crate) fn by(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let all: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
        let code = output.status.code().unwrap();
        assert_eq!(all["exit"], code);
        for finding in all["findings"].as_array().unwrap() {
            for text in ["zh", "en"] {
                assert!(!finding["what"][text].as_str().unwrap().is_empty(), "{finding}");
                assert!(
                    finding["grade"] == "good"
                        || !finding["todo"][text].as_str().unwrap().is_empty()
                        || !finding["means"][text].as_str().unwrap().is_empty(),
                    "what is to be done? {finding}"
                );
            }
        }
        Self { code, findings: all["findings"].as_array().unwrap().clone(), lines: String::new() }
    }

    /// The JSON.
    pub(crate) fn of(house: &House) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["doctor", "--json", "--config"]).arg(house.config());
        Self::by(command)
    }

    /// The JSON and the lines, asked beside whatever the test has under way.
    pub(crate) async fn to_a_person(house: &House) -> Self {
        let config = house.config();
        let visit = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(PROGRAM);
            command.args(["doctor", "--json", "--config"]).arg(&config);
            let mut told = Self::by(command);
            told.lines = House::tool(&["doctor", "--config", config.to_str().unwrap()]).1;
            told
        });
        visit.await.unwrap()
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Value> {
        self.findings.iter().find(|finding| finding["id"] == id)
    }

    /// The finding of that name and grade.
    pub(crate) fn sees(&self, id: &str, grade: &str) -> &Value {
        let found = self.find(id).unwrap_or_else(|| panic!("no {id}: {:#?}", self.findings));
        assert_eq!(found["grade"], grade, "{found:#}");
        let least = ["good", "warning", "serious"].iter().position(|name| *name == grade).unwrap();
        assert!(self.code >= i32::try_from(least).unwrap(), "the exit code is {}", self.code);
        found
    }

    pub(crate) fn sees_no(&self, id: &str) {
        assert!(self.find(id).is_none(), "{:#?}", self.find(id));
    }

    /// That finding's Chinese, in the JSON and in the one line that a person reads of it.
    pub(crate) fn says(&self, id: &str, grade: &str, words: &[&str]) {
        self.sees(id, grade);
        let of_it = self.findings.iter().filter(|finding| finding["id"] == id);
        let chinese =
            |found: &Value| ["what", "means", "todo"].map(|part| found[part]["zh"].to_string()).concat();
        let mut told = of_it.map(chinese);
        assert!(
            told.any(|told| words.iter().all(|word| told.contains(word))),
            "{words:?}: {:#?}",
            self.findings
        );
        let mark = if grade == "good" { "✔".to_owned() } else { format!("[{id}]") };
        let mut lines = self.lines.lines().filter(|line| line.contains(&mark));
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "no line of {mark} has {words:?}: {}", self.lines);
    }

    /// Whether it is told at all.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.findings.iter().any(|finding| finding["id"] == id)
    }

    /// These are told and nothing else; everything else that was looked at is as it should be.
    pub(crate) fn nothing_but(&self, expected: &[&str]) {
        let bad = self.findings.iter().filter(|finding| finding["grade"] != "good");
        let bad: BTreeSet<&str> = bad.map(|finding| finding["id"].as_str().unwrap()).collect();
        let expected: BTreeSet<&str> = expected.iter().copied().chain([NO_BACKUP]).collect();
        assert_eq!(bad, expected, "{:#?}", self.findings);
        self.says("database", "good", &["日志数据库完好"]);
        self.says("audit", "good", &["校验链完整"]);
    }
}

/// The finding of that name, among those of a visit in this process.
pub(crate) fn find<'f>(found: &'f [Finding], id: &str) -> Option<&'f Finding> {
    found.iter().find(|finding| finding.id == id)
}
