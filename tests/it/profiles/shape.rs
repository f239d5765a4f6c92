//! The shape of a file: all its mistakes at once, each where it stands.

use super::{parse, pointed};

const WRONG: &str = r#"
[device]
vendor = "a"
model = "b"
name = { zh = "甲", en = "a" }
sourc = "a test"
silent_after_secs = "an hour"

[mqtt]
topix = ["x/{address}"]
topics = ["a/{address}"]

[[point]]
name = "t"
clas = "heat_temperature"
unti = "℃"
from = { jsn = "t" }

[[point]]
name = "s"
from = { json = "s" }

[[exampel]]
name = "e"
input = 5
refused = true
"#;

#[test]
fn every_mistake_in_the_shape_of_a_file_is_told_at_once_and_only_once() {
    let problems = parse(WRONG).unwrap_err();
    let told = pointed(WRONG, &problems);
    for (at, why) in [
        ("sourc", "did you mean \"source\"?"),
        ("\"an hour\"", "invalid type: string \"an hour\""),
        ("topix", "did you mean \"topics\"?"),
        ("clas", "did you mean \"class\"?"),
        ("unti", "did you mean \"unit\"?"),
        ("jsn", "did you mean \"json\"?"),
        ("exampel", "did you mean \"example\"?"),
        ("5", "invalid type: integer `5`"),
    ] {
        let count = told.iter().filter(|(word, problem)| word == at && problem.contains(why)).count();
        assert_eq!(count, 1, "{at}: {why}: {told:#?}");
    }
    let missing = told.iter().filter(|(_, problem)| problem.contains("missing field `class`")).count();
    assert_eq!((missing, told.len()), (1, 9), "{told:#?}");
}

#[test]
fn a_misspelt_key_hides_nothing_that_is_wrong_behind_it() {
    let wrong = WRONG
        .replace("silent_after_secs = \"an hour\"\n", "")
        .replace("topix = [\"x/{address}\"]\n", "")
        .replace("name = \"s\"\n", "name = \"s\"\nclass = \"smoke_alrm\"\n")
        .replace("input = 5", "input = \"\"");
    let told = pointed(&wrong, &parse(&wrong).unwrap_err());
    assert!(told.iter().any(|(at, _)| at == "clas"), "{told:#?}");
    let class = told.iter().any(|(at, why)| at == "\"smoke_alrm\"" && why.contains("\"smoke_alarm\""));
    assert!(class, "{told:#?}");
}
