//! FRAMES → READINGS, the other way round: `[[command]]` of a profile, what may be written to a device on a person's word.

use super::draft::{Problems, Spanned, TextFile};
use super::json_schema::{self, WritableTable};
use super::schema::ProfileLink;
use super::schema_register::{parse_table, table_name, wire_address};
use super::vocabulary::parse_word;
use crate::model::{DeviceId, RegisterTable, RegisterWrite, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;

/// The most commands of one profile: more buttons than anybody finds the right one among.
const COMMANDS_MAX: usize = 32;

/// The most coils (function 15) and registers (function 16) of one write: V1.1b3 of the application protocol, 6.11, 6.12.
const COILS_MAX: usize = 1968;
const REGISTERS_MAX: usize = 123;

/// The tables that can be written to.
pub(super) const WRITABLE: [RegisterTable; 2] = [RegisterTable::Coil, RegisterTable::Holding];

/// Something that a device can be told to do. Nothing is allowed before a plan says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// A slug, unique in the profile.
    pub name: String,
    /// What it does, for the button and the duty log.
    pub text: Text,
    /// How it is told.
    pub write: RegisterWrite,
}

#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandFile {
    /// 命令名，平面文件用 allow_commands 许可 / its name; a plan allows it with allow_commands
    #[schemars(regex(pattern = json_schema::SLUG))]
    name: Spanned<String>,
    /// 它做什么：按钮和值班记录上的字 / what it does, for the button and the duty log
    text: TextFile,
    /// 写到哪张表 / the table that is written to
    #[schemars(with = "WritableTable")]
    table: Spanned<String>,
    /// 说明书中的地址，起点见 address_base / the address in the manual, counted from address_base
    address: Spanned<u32>,
    /// 写一个值（功能码 05、06） / one value (function 05, 06)
    value: Option<Spanned<WordFile>>,
    /// 写多个值（功能码 15、16） / several values (function 15, 16)
    values: Option<Spanned<Vec<WordFile>>>,
}

#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(untagged)]
enum WordFile {
    Flag(bool),
    Word(u16),
}

pub(super) fn build_commands(
    files: &[Spanned<CommandFile>],
    link: &ProfileLink,
    problems: &mut Problems,
) -> Vec<Command> {
    let ProfileLink::Modbus { address_base, .. } = link else {
        for file in files {
            problems.error(
                file.span(),
                "命令只能是 Modbus 写入 / a command is a Modbus write",
                "MQTT 型号文件里删去 [[command]] / remove [[command]] from an MQTT profile",
            );
        }
        return Vec::new();
    };
    if let Some(file) = files.get(COMMANDS_MAX) {
        problems.error(
            file.span(),
            format!("有 {0} 条命令 / there are {0} commands", files.len()),
            format!("最多 {COMMANDS_MAX} 条 / at most {COMMANDS_MAX}"),
        );
    }
    let mut names = HashSet::new();
    let mut commands = Vec::new();
    for file in files {
        let name = &file.get_ref().name;
        if DeviceId::parse(name.get_ref()).is_err() {
            problems.error(
                name.span(),
                format!("{0:?} 不能作命令名 / {0:?} is no name", name.get_ref()),
                "只用小写字母、数字、- 和 _ / lower-case letters, digits, '-' and '_'",
            );
        }
        if !names.insert(name.get_ref().as_str()) {
            problems.error(
                name.span(),
                format!("命令 {0:?} 出现了两次 / the command {0:?} is there twice", name.get_ref()),
                "给其中一条改名 / rename one",
            );
        }
        if let Some(write) = build_write(file, *address_base, problems) {
            commands.push(Command { name: name.get_ref().clone(), text: file.get_ref().text.text(), write });
        }
    }
    commands
}

fn build_write(
    file: &Spanned<CommandFile>,
    base: Option<u16>,
    problems: &mut Problems,
) -> Option<RegisterWrite> {
    let CommandFile { table, address, value, values, .. } = file.get_ref();
    let writable = WRITABLE.map(table_name);
    let writes = |name: &str| parse_table(name).filter(|table| writable.contains(&table_name(*table)));
    let table = parse_word(table, writes, writable, problems);
    let first = wire_address(table, address, base, problems);
    let (span, list) = match (value, values) {
        (Some(one), None) => (one.span(), std::slice::from_ref(one.get_ref())),
        (None, Some(several)) => (several.span(), several.get_ref().as_slice()),
        _ => {
            problems.error(
                file.span(),
                "命令要写 value 或 values 之一 / a command needs either value or values",
                "写 value = 1（功能码 05、06），或 values = [1, 0]（15、16） / write value = 1 (function 05, 06), or values = [1, 0] (15, 16)",
            );
            return None;
        }
    };
    let (table, first) = (table?, first?);
    let most = if table == RegisterTable::Coil { COILS_MAX } else { REGISTERS_MAX };
    if list.is_empty() || list.len() > most {
        problems.error(
            span,
            format!("有 {0} 个值 / {0} values", list.len()),
            format!("一次写入 1 到 {most} 个 / one write takes 1 to {most}"),
        );
        return None;
    }
    if usize::from(first) + list.len() > usize::from(u16::MAX) + 1 {
        problems.error(
            address.span(),
            "写入越过了地址 65535 / the write reaches beyond address 65535",
            "核对地址 / check the address",
        );
        return None;
    }
    let single = value.is_some();
    if table == RegisterTable::Coil {
        let on: Option<Vec<bool>> = list.iter().map(|word| word.as_flag()).collect();
        let Some(on) = on else {
            problems.error(
                span,
                "线圈只有开和关 / a coil is on or off",
                "写 1 或 0，true 或 false / write 1 or 0, true or false",
            );
            return None;
        };
        return Some(match (single, on.first()) {
            (true, Some(&on)) => RegisterWrite::Coil { address: first, on },
            _ => RegisterWrite::Coils { address: first, on: on.into() },
        });
    }
    let words: Option<Vec<u16>> = list.iter().map(|word| word.as_word()).collect();
    let Some(words) = words else {
        problems.error(
            span,
            "寄存器里是一个数 / a register holds a number",
            "写 0 到 65535 / write 0 to 65535",
        );
        return None;
    };
    Some(match (single, words.first()) {
        (true, Some(&word)) => RegisterWrite::Register { address: first, word },
        _ => RegisterWrite::Registers { address: first, words: words.into() },
    })
}

impl WordFile {
    fn as_flag(self) -> Option<bool> {
        match self {
            Self::Flag(on) => Some(on),
            Self::Word(word) => (word <= 1).then_some(word == 1),
        }
    }

    fn as_word(self) -> Option<u16> {
        match self {
            Self::Word(word) => Some(word),
            Self::Flag(_) => None,
        }
    }
}
