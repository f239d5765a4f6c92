//! The house rules as a test: who may know whom, which module owns which crate, and what a file must look like.
//!
//! Reads the source tree. The checker itself is checked at the foot: a bad file must fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may `use crate::…` what: the layering of src/README.md. A module may always use itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    // codec: as pure as profile, a string and bytes in, a string out.
    ("profile", &["model", "codec"]),
    ("hazard", &["model"]),
    ("clock", &["model"]),
    ("metrics", &[]),
    ("commands", &["model"]),
    ("sources", &["model", "profile", "clock", "metrics"]),
    ("capture", &["model", "metrics"]),
    ("journal", &["model", "capture", "metrics"]),
    ("series", &["model", "journal", "metrics"]),
    ("sinks", &["model", "journal", "clock", "metrics"]),
    ("adopt", &["model", "profile", "config"]),
    ("web", &["model", "adopt", "capture", "journal", "series", "commands", "clock", "metrics"]),
    (
        "pipeline",
        &["model", "profile", "hazard", "capture", "journal", "sources", "commands", "clock", "metrics"],
    ),
    ("codec", &["model"]),
    ("config", &["model", "profile"]),
    ("backup", &["model", "journal", "clock", "metrics", "config", "commands"]),
    ("app", ANYTHING),
    ("demo", ANYTHING),
    ("fuzz", ANYTHING),
    ("cli", ANYTHING),
    ("main", ANYTHING),
    ("lib", ANYTHING),
];

/// Composition: the places that may know every module.
const ANYTHING: &[&str] = &["*"];

/// Crates with an owner: nobody else may name them. A crate that is not here (serde_json, bytes …) is free to all
/// but the pure modules.
const OWNED: &[(&str, &[&str])] = &[
    ("rusqlite", &["journal", "series"]),
    ("pco", &["series"]),
    ("rquickjs", &["codec"]),
    ("rumqttc", &["sources", "demo"]),
    ("mqtt5", &["sources", "demo"]),
    ("tokio_modbus", &["sources", "demo"]),
    // sources: platforms post over HTTP; web knows nothing of it, app joins the two.
    ("axum", &["web", "demo", "app", "sources"]),
    ("hyper_util", &["web"]),
    ("tower_http", &["web", "demo"]),
    ("askama", &["web"]),
    ("argon2", &["web"]),
    ("md5", &["sources"]),
    ("base64", &["sources", "profile", "capture"]),
    ("aes", &["sources"]),
    ("cbc", &["sources"]),
    ("reqwest", &["sinks", "cli"]),
    ("influxdb2", &["sinks"]),
    ("annotate_snippets", &["config"]),
    ("rust_embed", &["config", "web"]),
    ("toml", &["config", "profile", "demo"]),
    ("schemars", &["profile"]),
    ("toml_edit", &["adopt"]),
    ("clap", &["cli", "main"]),
    ("prometheus_client", &["metrics"]),
    // codec: the processor time of its thread.
    ("rustix", &["sources", "journal", "sinks", "backup", "app", "web", "codec"]),
    ("getrandom", &["web", "app", "demo"]),
    ("fastrand", &["sources", "sinks", "demo"]),
    ("tracing_subscriber", &["app", "main", "cli"]),
];

/// The modules without I/O, clock, randomness or logging, and all that they may name besides std and core.
const PURE: &[(&str, &[&str])] = &[
    ("model", &["bytes", "thiserror"]),
    ("hazard", &["proptest"]),
    ("profile", &["serde", "serde_json", "schemars", "toml", "base64", "proptest", "jiff"]),
];

/// What a pure module must not name in std either.
const IMPURE_STD: &[&str] =
    &["std::fs", "std::net", "std::env", "std::process", "std::thread", "SystemTime", "Instant::now"];

/// A file that does not fit is two files. Long tables and tests at the foot are counted too.
const LINES_MAX: usize = 600;

/// One source file: which module of the tables it belongs to, its name for messages, its text.
struct Source {
    module: String,
    name: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
            let module = below.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            Source { module, name: format!("src/{below}"), text: fs::read_to_string(&path).unwrap() }
        })
        .collect()
}

/// The code without comments and texts, so that a word in prose is no use of a crate.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        let mut inside = false;
        let mut previous = ' ';
        for (at, c) in line.char_indices() {
            if c == '"' && previous != '\\' && previous != '\'' {
                inside = !inside;
            } else if !inside {
                if line.get(at..).is_some_and(|rest| rest.starts_with("// ")) {
                    break;
                }
                code.push(c);
            }
            previous = c;
        }
        code.push('\n');
    }
    code
}

/// Every word that stands before `::` and begins a path: `crate::x` gives `x` in the first list, a crate's name in
/// the second. `use crate::{a, b::c}` gives both.
fn paths(code: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut own, mut foreign) = (BTreeSet::new(), BTreeSet::new());
    for (at, _) in code.match_indices("::") {
        let (before, after) = code.split_at(at);
        let word: String =
            before.chars().rev().take_while(|c| is_word(*c)).collect::<Vec<_>>().iter().rev().collect();
        let start = before.len() - word.len();
        // `a::b::c`: only `a` begins a path.
        if before.get(..start).is_some_and(|head| head.ends_with("::")) {
            continue;
        }
        let rest = after.get(2..).unwrap_or("");
        if word != "crate" {
            foreign.insert(word);
        } else if let Some(list) = rest.strip_prefix('{') {
            own.extend(first_words(list));
        } else {
            own.insert(rest.chars().take_while(|c| is_word(*c)).collect());
        }
    }
    own.remove("");
    (own, foreign)
}

/// The first word of each item of a `{…}` list, up to its closing bracket.
fn first_words(list: &str) -> Vec<String> {
    let (mut depth, mut words, mut item) = (0_usize, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => words.push(std::mem::take(&mut item)),
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    words.push(item);
    words.iter().map(|item| item.trim().split("::").next().unwrap_or("").trim().to_owned()).collect()
}

fn row<'t>(table: &'t [(&str, &'t [&'t str])], name: &str) -> Option<&'t [&'t str]> {
    table.iter().find(|(row, _)| *row == name).map(|(_, allowed)| *allowed)
}

/// Everything wrong with one file, each as a sentence.
fn faults(source: &Source) -> Vec<String> {
    let Source { module, name, text } = source;
    let mut faults = Vec::new();
    let code = code(text);
    let (own, foreign) = paths(&code);
    match row(MAY_USE, module) {
        None => faults.push(format!("{name}: the module {module} is not in the layering table")),
        Some(allowed) => {
            let known = |used: &&String| row(MAY_USE, used).is_some();
            for used in own.iter().filter(known) {
                if used != module && !allowed.contains(&"*") && !allowed.contains(&used.as_str()) {
                    faults.push(format!("{name}: {module} must not use {used}"));
                }
            }
        }
    }
    for (crate_name, owners) in OWNED {
        if foreign.contains(*crate_name) && !owners.contains(&module.as_str()) {
            faults.push(format!("{name}: only {owners:?} may name {crate_name}"));
        }
    }
    if let Some(allowed) = row(PURE, module) {
        for crate_name in dependencies().iter().filter(|name| foreign.contains(*name)) {
            if !allowed.contains(&crate_name.as_str()) {
                faults.push(format!("{name}: {module} is pure and must not name {crate_name}"));
            }
        }
        for impure in IMPURE_STD.iter().filter(|impure| code.contains(**impure)) {
            faults.push(format!("{name}: {module} is pure and must not name {impure}"));
        }
    }
    if !text.starts_with("//!") && !text.starts_with("#![doc") {
        faults.push(format!("{name}: the first line must say with //! where it stands in the flow"));
    }
    if text.lines().count() > LINES_MAX {
        faults.push(format!("{name}: longer than {LINES_MAX} lines"));
    }
    for word in [concat!("todo", "!"), concat!("FIX", "ME"), concat!("TO", "DO")] {
        if text.contains(word) {
            faults.push(format!("{name}: {word} is left over"));
        }
    }
    faults
}

/// The crates of Cargo.toml, as they are named in code.
fn dependencies() -> Vec<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().expect("Cargo.toml is TOML");
    ["dependencies", "dev-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section).and_then(toml::Value::as_table))
        .flat_map(|table| table.keys())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[test]
fn every_source_file_keeps_the_house_rules() {
    let sources = sources();
    assert!(sources.len() > 40, "only {} files were found", sources.len());
    let faults: Vec<String> = sources.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_of_the_tables_exists() {
    let modules: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    let crates = dependencies();
    for (name, allowed) in MAY_USE {
        assert!(modules.contains(*name), "{name} is in the table, not in src/");
        for used in allowed.iter().filter(|used| **used != "*") {
            assert!(row(MAY_USE, used).is_some(), "{name} may use {used}, which has no row");
        }
    }
    for (name, owners) in OWNED {
        assert!(crates.iter().any(|known| known == name), "{name} is in the table, not in Cargo.toml");
        assert!(owners.iter().all(|owner| row(MAY_USE, owner).is_some()), "an owner of {name} has no row");
    }
}

#[test]
fn the_layers_have_no_circle() {
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    let layered = || MAY_USE.iter().filter(|(_, allowed)| *allowed != ANYTHING);
    for _ in MAY_USE {
        let ready = layered().filter(|(_, allowed)| allowed.iter().all(|used| settled.contains(used)));
        let ready: Vec<&str> = ready.map(|(name, _)| *name).collect();
        settled.extend(ready);
    }
    for (name, _) in layered() {
        assert!(settled.contains(name), "{name} is part of a circle");
    }
}

/// Every test that the crate's own page names, so that an invariant is not guarded by a name alone.
#[test]
fn the_tests_that_guard_the_invariants_exist() {
    let page = fs::read_to_string(root().join("src/README.md")).unwrap();
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    let code: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let invariants = page.split("## Invariants").nth(1).expect("the page has invariants");
    let named: Vec<&str> =
        invariants.split('`').skip(1).step_by(2).filter(|word| word.contains('_')).collect();
    assert!(named.len() >= 20, "only {} tests are named", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "src/README.md names tests that do not exist: {missing:?}");
}

#[test]
fn the_checker_finds_what_it_looks_for() {
    let find = |module: &str, text: &str| {
        let source =
            Source { module: module.into(), name: "bad.rs".into(), text: format!("//! Where.\n{text}") };
        faults(&source).join("\n")
    };
    for (module, text, expected) in [
        ("hazard", "use crate::profile::Profile;", "must not use profile"),
        ("web", "use crate::{model::Plan, sources::Intake};", "must not use sources"),
        ("profile", "fn f() { crate::hazard::g(); }", "must not use hazard"),
        ("web", "use rusqlite::Connection;", "may name rusqlite"),
        ("sinks", "fn f() { axum::Router::new(); }", "may name axum"),
        ("model", "use serde::Serialize;", "must not name serde"),
        ("hazard", "fn f() { tracing::warn!(); }", "must not name tracing"),
        ("hazard", "use std::fs;", "must not name std::fs"),
        ("attic", "", "not in the layering table"),
        ("model", concat!("fn f() { to", "do!() }"), "left over"),
    ] {
        let found = find(module, text);
        assert!(found.contains(expected), "{module} {text:?}: {found:?}");
    }
    let long = find("model", &"fn f() {}\n".repeat(LINES_MAX + 1));
    assert!(long.contains("longer than"), "{long}");
    let headless = Source { module: "model".into(), name: "bad.rs".into(), text: "fn f() {}".into() };
    assert!(faults(&headless).join("").contains("//!"));
    let prose = "// rusqlite::Connection is not used here\nconst A: &str = \"rusqlite::x crate::web::y\";";
    assert_eq!(find("model", prose), "", "prose is no use of a crate");
}
