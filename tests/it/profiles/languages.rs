//! Who keeps a profile file may read Chinese alone: whatever is told about one is told in Chinese first, then in English.

use super::{PROFILE, parse, vocabulary};
use fengsui::model::{Problem, ProfileId};
use fengsui::profile::{Catalogue, Profile, Vocabulary, profile_id};
use std::path::{Path, PathBuf};

// ---- as it is written ----

/// A text in the source, with what stands before it on its line and in which calls it is.
struct Literal {
    line: usize,
    text: String,
    before: String,
    calls: Vec<String>,
}

/// Every text of the code above its own tests. Knows comments, escapes, characters and raw texts; macros are calls.
fn literals(source: &str) -> Vec<Literal> {
    let code: Vec<char> = source.split("#[cfg(test)]\nmod tests").next().unwrap_or("").chars().collect();
    let (mut found, mut calls, mut before, mut line, mut at) = (Vec::new(), Vec::new(), String::new(), 1, 0);
    let is_word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '!');
    while let Some(&c) = code.get(at) {
        let next = code.get(at + 1).copied().unwrap_or(' ');
        match c {
            '/' if next == '/' => {
                at += code[at..].iter().position(|c| *c == '\n').unwrap_or(code.len() - at);
                continue;
            }
            // A character; a lifetime has no second quote there.
            '\'' if next == '\\' => at += 3,
            '\'' if code.get(at + 2) == Some(&'\'') => at += 2,
            '"' => {
                let raw = code[..at].iter().rev().take_while(|c| **c == '#').count();
                let is_raw = code.get(at.wrapping_sub(raw + 1)) == Some(&'r');
                let (start, first_line) = (at + 1, line);
                at = start;
                while let Some(c) = code.get(at) {
                    match c {
                        '\\' if !is_raw => at += 1,
                        '"' if !is_raw || code[at + 1..].iter().take_while(|c| **c == '#').count() >= raw => {
                            break;
                        }
                        _ => {}
                    }
                    at += 1;
                }
                let text: String = code[start..at].iter().collect();
                line += text.matches('\n').count();
                found.push(Literal { line: first_line, text, before: before.clone(), calls: calls.clone() });
            }
            '(' => {
                let name: Vec<char> = before.chars().rev().take_while(is_word).collect();
                calls.push(name.into_iter().rev().collect());
            }
            ')' => drop(calls.pop()),
            '\n' => line += 1,
            _ => {}
        }
        if c == '\n' {
            before.clear()
        } else {
            before.push(c)
        }
        at += 1;
    }
    found
}

fn is_chinese(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

/// Chinese, ` / `, English.
fn is_in_both(text: &str) -> bool {
    let english = |text: &str| text.split(|c: char| !c.is_ascii_alphabetic()).any(|word| word.len() > 1);
    text.match_indices(" / ").any(|(at, _)| text[..at].contains(is_chinese) && english(&text[at..]))
}

/// Three English words in a row: a sentence, no name and no key.
fn is_english(text: &str) -> bool {
    let mut row = 0;
    text.split(' ').any(|word| {
        let plain = word.trim_matches(|c: char| c.is_ascii_punctuation());
        let is_word = plain.len() > 1 && plain.bytes().all(|byte| byte.is_ascii_lowercase());
        row = if is_word { row + 1 } else { 0 };
        row == 3
    })
}

/// Everything that is told in one language only; and how many problems the file tells.
fn faults(name: &str, source: &str) -> (Vec<String>, usize) {
    let mut problems = 0;
    let mut faults = Vec::new();
    for Literal { line, text, before, calls } in literals(source) {
        let in_call = |of: &str| calls.iter().any(|call| call.ends_with(of));
        let of_problem = in_call("problems.error") || in_call("whole_file");
        problems += usize::from(of_problem);
        // `: {wrong}` hands on a text in both languages, behind the place in the file.
        let says_nothing = !text.replace("{wrong}", "").contains(is_chinese)
            && (text.ends_with(": {wrong}") || text == "{} / {}" || !text.contains(char::is_alphanumeric));
        let for_programmers = in_call(".expect") || in_call("write_str") || before.ends_with("reason = ");
        // A pair of texts, Chinese and English, that is put together elsewhere.
        let in_pair = in_call("Text::new");
        let must = of_problem && !says_nothing || is_english(&text) && !for_programmers && !in_pair;
        if must && !is_in_both(&text) {
            faults.push(format!("{name}:{line}: {text:?}"));
        }
    }
    (faults, problems)
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && path.file_stem().unwrap() != "tests" {
            found.push(path);
        }
    }
}

#[test]
fn every_problem_of_a_profile_is_told_in_chinese_and_english() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/profile");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let (mut wrong, mut problems) = (Vec::new(), 0);
    for path in &files {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        // The first holds the words of serde, which it puts Chinese before: its own test looks at what comes out. The others
        // write a profile, whose comments have both languages side by side.
        if ["shape_error.rs", "announcement/draft.rs"].contains(&name.as_str())
            || name.starts_with("drafting/")
            || ["listing.rs", "explain.rs"].contains(&name.as_str())
        {
            continue;
        }
        let (faults, told) = faults(&name, &std::fs::read_to_string(path).unwrap());
        wrong.extend(faults);
        problems += told;
    }
    // A guard against a check that silently finds nothing.
    assert!(files.len() > 25 && problems > 200, "{} files, {problems} texts", files.len());
    assert!(wrong.is_empty(), "told in one language only:\n{}", wrong.join("\n"));
}

#[test]
fn the_checker_of_languages_finds_what_it_looks_for() {
    for (bad, line) in [
        ("problems.error(span, \"wrong\", \"核对 / check it\");", 1),
        ("problems.error(span, \"不对 / it is wrong\", \"mend it\");", 1),
        (
            "// a \"comment\"\nproblems.whole_file(\n    format!(\"there are {} (\", f('\"')),\n    help,\n);",
            3,
        ),
        ("let help = \"say it in another way\";", 1),
        ("problems.error(span, \"不对\", \"改正 / mend it\");", 1),
        ("problems.error(span, \"it is / not\", \"改正 / mend it\");", 1),
        ("let a = r#\"a \"text\" of many words\"#;", 1),
    ] {
        let (found, _) = faults("bad.rs", bad);
        assert!(found.len() == 1 && found[0].starts_with(&format!("bad.rs:{line}: ")), "{bad}: {found:?}");
    }
    for good in [
        "problems.error(span, \"不对 / it is wrong\", format!(\"改正 {0} / mend {0}\", names.join(\", \")));",
        "problems.whole_file(format!(\"point {:?}: {wrong}\", name), \"改正 / mend it\");",
        "a.expect(\"writing to a string cannot fail\"); // three words here",
        "#[cfg(test)]\nmod tests { const A: &str = \"here are many words\"; }",
    ] {
        assert_eq!(faults("good.rs", good).0, [] as [&str; 0], "{good}");
    }
}

// ---- as it is told ----

const BUS: &str = r#"
[device]
vendor = "Acme"
model = "P-1"
name = { zh = "压力", en = "Pressure" }
source = "P-1 manual rev A, p. 3"
[modbus]
poll_every_secs = 2
[[point]]
name = "pressure"
class = "pipe_pressure"
unit = "MPa"
from = { table = "holding", address = 4, type = "i16" }
[[command]]
name = "siren-off"
text = { zh = "关", en = "off" }
table = "coil"
address = 0
value = 0
[[example]]
name = "one"
input = "@4: 0001"
readings = { pressure = "1 MPa" }
[[example]]
name = "none"
input = "@4+1: no_answer"
refused = true
"#;

fn assert_both(of: &str, problems: &[Problem]) {
    assert!(!problems.is_empty(), "{of} was accepted");
    for Problem { message, help, .. } in problems {
        assert!(is_in_both(message), "{of}: the message {message:?}");
        assert!(is_in_both(help), "{of}: the help {help:?} of {message:?}");
    }
}

/// The file with one thing changed.
fn broken(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not there");
    text.replacen(from, to, 1)
}

#[test]
fn a_broken_profile_is_explained_in_both_languages() {
    assert!(parse(BUS).is_ok(), "{:?}", parse(BUS));
    for (text, from, to) in [
        // What the readers of TOML and of its shape say.
        (PROFILE, "[device]", "[device"),
        (PROFILE, "[[point]]", "[point]"),
        (PROFILE, "[mqtt]", "[mqtt]\ntopix = 1"),
        (PROFILE, "[mqtt]", "[mqtt]\nnothing_like_it = 1"),
        (PROFILE, "source = ", "# "),
        (PROFILE, "model = \"SD-100\"", "model = 100"),
        (PROFILE, "[[example]]", "[[example]]\ntopic = -1"),
        (PROFILE, "unit = \"℃\"", "unit = \"℃\"\nrange = [1]"),
        (PROFILE, "0 = \"normal\"", "0 = 1.5"),
        (BUS, "value = 0", "value = \"off\""),
        // What the profile's own reader says.
        (PROFILE, "\"Acme\"", "\"\""),
        (PROFILE, "\"acme/{address}\"", "\"acme/+\""),
        (PROFILE, "\"acme/{address}\"", "\"acme\""),
        (PROFILE, "class = \"smoke_alarm\"", "class = \"smoke_alrm\""),
        (PROFILE, "class = \"smoke_alarm\"", "class = \"nothing like it\""),
        (PROFILE, "1 = \"alarm\"", "1 = \"alrm\""),
        (PROFILE, "json = \"t\"", "json = \"t[\""),
        (PROFILE, "json = \"t\"", "json = \"smoke.t\""),
        (PROFILE, "json = \"t\"", "table = \"input\""),
        (PROFILE, "unit = \"℃\"", ""),
        (PROFILE, "unit = \"℃\"", "unit = \"MPa\""),
        (PROFILE, "name = \"smoke\"", "name = \"Smoke\""),
        (PROFILE, "name = \"temperature\"", "name = \"smoke\""),
        (PROFILE, "refused = true", "refused = false"),
        (PROFILE, "temperature = \"20 ℃\"", "temprature = \"20 ℃\""),
        (PROFILE, "temperature = \"20 ℃\"", "nothing-like-it = \"20 ℃\""),
        (PROFILE, "[mqtt]", "[mqtt]\npayload = \"hex\""),
        (PROFILE, "[mqtt]", "[mqtt]\ncodec = \"missing.js\""),
        (PROFILE, "[[point]]", "[time]\njson = \"ts\"\nunit = \"h\"\n[[point]]"),
        (PROFILE, "[[point]]", "[mqtt.samples]\njson = \"h\"\n[[point]]"),
        (
            PROFILE,
            "[[point]]",
            "[[variant]]\nname = \"V 2\"\ntext = { zh = \"新\", en = \"new\" }\n[[point]]",
        ),
        (PROFILE, "[[point]]", "[frame]\nstarts_with = \"xy\"\n[[point]]"),
        (BUS, "address = 4", "address = 40005"),
        (BUS, "address = 4", "address = 70000"),
        (BUS, "table = \"holding\"", "table = \"attic\""),
        (BUS, "type = \"i16\"", "type = \"i32\""),
        (BUS, "type = \"i16\"", "type = \"u16\", bits = \"3\""),
        (BUS, "poll_every_secs = 2", "poll_every_secs = 0"),
        (BUS, "poll_every_secs = 2", "poll_every_secs = 2\nread_max = 1"),
        (BUS, "value = 0", "value = 7"),
        (BUS, "\"siren-off\"", "\"Siren\""),
        (BUS, "\"@4: 0001\"", "\"@4: 00zz\""),
        (BUS, "unit = \"MPa\"", "unit = \"MPa\"\ncurrent_loop = { at_4_ma = 0.0, at_20_ma = 0.0 }"),
    ] {
        assert_both(to, &parse(&broken(text, from, to)).err().unwrap_or_default());
    }
}

#[test]
fn a_broken_vocabulary_and_a_misnamed_file_are_explained_in_both_languages() {
    let text = std::fs::read_to_string("device-profiles/vocabulary.toml").unwrap();
    for (from, to) in [
        ("format = 1", "format = 9"),
        ("quantity = \"state\"", "quantity = \"stat\""),
        ("priority = \"red\"", "priority = \"rde\""),
        ("signal = \"fire\"", "signal = \"fire\"\nlatching = false"),
        ("signal = \"fire\"", "signal = \"fire\"\nbelow = 1.0"),
        ("id = \"smoke_alarm\"", "id = \"Smoke\""),
    ] {
        let text = broken(&text, from, to);
        assert_both(to, &Vocabulary::parse("vocabulary.toml", &text).err().unwrap_or_default());
    }
    for path in ["sd-100.toml", "Acme/SD 100.toml"] {
        assert_both(path, &profile_id(path).err().unwrap_or_default());
    }
    assert_both("no vocabulary", &Catalogue::parse([("acme/a.toml".into(), BUS.into())].into_iter()).1);
}

#[test]
fn an_example_that_fails_and_a_frame_that_is_none_are_explained_in_both_languages() {
    let told = |text: &str| -> Vec<String> {
        let id = ProfileId::parse("acme/sd-100").unwrap();
        let profile = Profile::parse(id, "sd-100.toml", text, vocabulary()).unwrap();
        profile.check_examples().into_iter().map(|failure| failure.message).collect()
    };
    for (from, to) in [
        ("\"20 ℃\"", "\"21 ℃\""),
        ("\"20 ℃\"", "\"20 kPa\""),
        ("\"20 ℃\"", "\"warm ℃\""),
        ("\"20 ℃\"", "\"\""),
        (", temperature = \"20 ℃\" }", " }"),
        ("'{\"smoke\":0,\"t\":20}'", "'{\"smoke\":0}'"),
        ("input = ''", "input = '{\"smoke\":0}'"),
        ("name = \"rest\"", "name = \"rest\"\nlate = true"),
        ("name = \"rest\"", "name = \"rest\"\nsampled_at = \"2026-01-15T02:30:05Z\""),
        ("name = \"rest\"", "name = \"rest\"\nhistory = { smoke = [\"normal\"] }"),
        ("1 = \"alarm\" }", "1 = \"alarm\", 2 = \"fault\" }"),
        ("unit = \"℃\"", "unit = \"℃\"\nsentinels = [{ raw = -200, means = \"not_fitted\" }]"),
    ] {
        let told = told(&broken(PROFILE, from, to));
        assert!(!told.is_empty(), "{to} was believed");
        assert!(told.iter().all(|message| is_in_both(message)), "{to}: {told:?}");
    }
    let bus = parse(BUS).unwrap();
    for frame in ["", "0001", "4: 0001", "attic@0: 1", "@x: 1", "@0: zz", "@0+x: 1", "@0: no_answer"] {
        let why = bus.frame_input(0, frame).unwrap_err();
        assert!(is_in_both(&why), "{frame:?}: {why}");
    }
    let bytes =
        broken(PROFILE, "[mqtt]", "[mqtt]\npayload = \"binary\"").replace("json = \"smoke\"", "byte = 0");
    let bytes = bytes.replace("json = \"t\"", "byte = 1").replace("'{\"smoke\":0,\"t\":20}'", "'xy'");
    assert_both("xy", &parse(&bytes).unwrap_err());
}
