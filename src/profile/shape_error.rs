//! FRAMES → READINGS, reading the files: what serde and the TOML reader say of a file that has not the right shape, with the
//! Chinese in front and what to do behind. Their own words stay as they are: a person may search for them.

use super::draft::suggest;
use toml::de::DeTable;

/// Message and help; `said` is the reader's own message about `text`.
pub(super) fn told(text: &str, said: &str) -> (String, String) {
    let (zh, help) = unknown_key(said)
        .or_else(|| missing_key(said))
        .or_else(|| wrong_type(said))
        .or_else(|| wrong_length(said))
        .or_else(|| no_variant(said))
        .or_else(|| twice(said))
        .unwrap_or_else(|| otherwise(text));
    (format!("{zh} / {said}"), help)
}

/// The Chinese of a message, and what to do.
type Said = (String, String);

/// unknown field `adress`, expected one of `address`, `table` …
fn unknown_key(said: &str) -> Option<Said> {
    let mut quoted = said.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let written = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    let near = suggest(written, known.iter().copied());
    Some(if near.is_empty() {
        let known = if known.is_empty() { "没有".to_owned() } else { known.join("、") };
        (format!("没有 `{written}` 这个键，可用：{known}"), "删去或改名 / remove or rename it".to_owned())
    } else {
        (format!("没有 `{written}` 这个键"), near)
    })
}

/// missing field `source`
fn missing_key(said: &str) -> Option<Said> {
    let key = said.strip_prefix("missing field ")?.trim_matches('`');
    Some((format!("缺少 `{key}` 这个键"), format!("补上 {key} = … / add {key} = …")))
}

/// invalid type: string "x", expected u32; invalid value: integer `-1`, expected u16
fn wrong_type(said: &str) -> Option<Said> {
    let (what, rest) = match said.strip_prefix("invalid type: ") {
        Some(rest) => ("类型不对", rest),
        None => ("数值不对", said.strip_prefix("invalid value: ")?),
    };
    // From behind: a text that was written may hold the words.
    let (found, wanted) = rest.rsplit_once(", expected ")?;
    let (zh, en) = kind(wanted);
    Some((format!("{what}：这里是{}，应为{zh}", found_zh(found)), format!("写{zh} / write {en}")))
}

fn found_zh(found: &str) -> String {
    let value = |name: &str| found.strip_prefix(name).map(str::trim).unwrap_or(found).to_owned();
    match found.split(' ').next().unwrap_or("") {
        "string" => format!("文本 {}", value("string")),
        "integer" => format!("整数 {}", value("integer")),
        "floating" => format!("小数 {}", value("floating point")),
        "boolean" => format!("真假值 {}", value("boolean")),
        "sequence" => "列表".to_owned(),
        "map" => "表".to_owned(),
        _ => format!(" {found}"),
    }
}

/// What serde names by Rust's types.
fn kind(wanted: &str) -> (String, String) {
    let numbers = |most: u64| (format!(" 0 到 {most} 的整数"), format!("a whole number, 0 to {most}"));
    let both = |zh: &str, en: &str| (zh.to_owned(), en.to_owned());
    match wanted {
        "a string" => both("文本（加引号）", "a text in quotes"),
        "a boolean" => both(" true 或 false", "true or false"),
        "u8" => numbers(u8::MAX.into()),
        "u16" => numbers(u16::MAX.into()),
        "u32" => numbers(u32::MAX.into()),
        "u64" | "usize" => both("不小于 0 的整数", "a whole number, 0 or more"),
        "i64" => both("整数", "a whole number"),
        "f64" => both("数字", "a number"),
        "a sequence" => both("列表（[…]，或两层方括号的 [[…]]）", "a list: […], or [[…]] with two brackets"),
        "a map" => both("表（{ … }）", "a table: { … }"),
        _ if wanted.starts_with("struct ") => both("表（{ … } 或 […]）", "a table: { … } or […]"),
        _ => match wanted.strip_prefix("an array of length ") {
            Some(count) => (format!(" {count} 个数的列表"), format!("a list of {count} numbers")),
            None => (format!(" {wanted}"), wanted.to_owned()),
        },
    }
}

/// invalid length 1, expected an array of length 2
fn wrong_length(said: &str) -> Option<Said> {
    let (found, wanted) = said.strip_prefix("invalid length ")?.split_once(", expected ")?;
    let (zh, en) = kind(wanted);
    Some((format!("这里有 {found} 个，应为{zh}"), format!("写{zh} / write {en}")))
}

/// data did not match any variant of untagged enum …: the values of `codes`, and those that a command writes.
fn no_variant(said: &str) -> Option<Said> {
    let of = said.strip_prefix("data did not match any variant of untagged enum ")?;
    let help = match of {
        "CodeFile" => {
            "写状态名（文本），开关量写 true 或 false / write a state as a text, or true or false for a flag"
        }
        "WordFile" => {
            "写 0 到 65535 的整数，或 true、false / write a whole number, 0 to 65535, or true or false"
        }
        _ => "对照 device-profiles/README.md 改写 / look into device-profiles/README.md",
    };
    Some(("这里不能写这样的值".to_owned(), help.to_owned()))
}

/// duplicate key
fn twice(said: &str) -> Option<Said> {
    let help = "删去一个；[[point]]、[[example]] 等要两层方括号 / remove one; [[point]], [[example]] and the like have two brackets";
    said.starts_with("duplicate ").then(|| ("同一个键写了两次".to_owned(), help.to_owned()))
}

/// The text is no TOML, or serde has a word for it that is not known here.
fn otherwise(text: &str) -> Said {
    if DeTable::parse(text).is_err() {
        let help = "检查这一行及上一行的引号、括号和等号 / look at the quotes, brackets and equals signs of this line and the one before";
        return ("不是合法的 TOML".to_owned(), help.to_owned());
    }
    let help = "对照 device-profiles/README.md 改写 / look into device-profiles/README.md";
    ("这里的写法不对".to_owned(), help.to_owned())
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_serde_says_is_told_in_chinese_with_what_to_write() {
        for (said, zh, help) in [
            (
                "unknown field `adress`, expected `address` or `table`",
                "没有 `adress` 这个键 /",
                "是否想写 \"address\"？",
            ),
            ("unknown field `x`, expected `zh` or `en`", "没有 `x` 这个键，可用：zh、en /", "删去或改名"),
            ("unknown field `x`, there are no fields", "没有 `x` 这个键，可用：没有 /", "删去或改名"),
            ("missing field `source`", "缺少 `source` 这个键 /", "补上 source = …"),
            (
                "invalid type: integer `1`, expected a string",
                "类型不对：这里是整数 `1`，应为文本（加引号） /",
                "写文本",
            ),
            (
                "invalid type: string \"a, expected b\", expected f64",
                "类型不对：这里是文本 \"a, expected b\"，应为数字 /",
                "写数字",
            ),
            (
                "invalid value: integer `-1`, expected u16",
                "数值不对：这里是整数 `-1`，应为 0 到 65535 的整数 /",
                "0 到 65535",
            ),
            ("invalid type: map, expected a sequence", "这里是表，应为列表", "[[…]]"),
            ("invalid type: integer `3`, expected struct TextFile", "应为表（{ … } 或 […]） /", "写表"),
            (
                "invalid length 1, expected an array of length 2",
                "这里有 1 个，应为 2 个数的列表 /",
                "写 2 个数的列表",
            ),
            (
                "data did not match any variant of untagged enum CodeFile",
                "这里不能写这样的值 /",
                "true 或 false",
            ),
            (
                "data did not match any variant of untagged enum WordFile",
                "这里不能写这样的值 /",
                "0 到 65535",
            ),
            ("duplicate key", "同一个键写了两次 /", "两层方括号"),
            ("something that nobody foresaw", "这里的写法不对 /", "device-profiles/README.md"),
        ] {
            let (message, told_help) = told("a = 1", said);
            assert!(message.contains(zh), "{said}: {message}");
            assert!(message.ends_with(&format!(" / {said}")), "{said}: {message}");
            let (help_zh, help_en) = told_help.split_once(" / ").unwrap();
            assert!(help_zh.contains(help) && !help_en.is_empty(), "{said}: {told_help}");
        }
        assert!(told("a = = 1", "extra `=`, expected nothing").0.starts_with("不是合法的 TOML / extra"));
    }
}
