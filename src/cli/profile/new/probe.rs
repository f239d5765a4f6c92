//! `fengsui profile new --probe`: what the registers of a Modbus device could mean, and the draft of those that are picked.
//! Slow and polite: small blocks, a pause behind each, and nothing but reads.

use super::{Ended, New};
use crate::cli::check::EXIT_CONFIG;
use crate::cli::profile::place::Place;
use crate::model::{RegisterTable, Trouble};
use crate::profile::Vocabulary;
use crate::profile::drafting::{Drafted, Refused, RegisterPick, Seen, draft_registers, register_views};
use crate::sources::modbus::{Probe, TIMEOUT_DEFAULT, Wire};
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Registers of one question: cheap meters give 16 and refuse 32.
const BLOCK: u16 = 16;
/// Addresses of one table that are looked at; one by one, as far as blocks are refused, it is a minute.
const ADDRESSES_MAX: u32 = 1024;
/// Between two questions, for devices that need to breathe.
const PAUSE: Duration = Duration::from_millis(20);
/// Questions in a row without an answer after which a table is given up.
const SILENT_MAX: u32 = 2;

/// The unit of a device that speaks TCP itself and does not say another.
const UNIT_DEFAULT: u8 = 1;

const TABLES: [(&str, RegisterTable); 4] = [
    ("holding", RegisterTable::Holding),
    ("input", RegisterTable::Input),
    ("coil", RegisterTable::Coil),
    ("discrete", RegisterTable::Discrete),
];

/// The wire to a device, by what a person wrote.
pub(in crate::cli::profile) fn wire_of(url: &str) -> Result<(Wire, u8), String> {
    let place = Place::parse(url, &[("tcp", 502), ("rtu-tcp", 8899)]).ok_or_else(|| {
        format!("{url} 写错了：tcp://主机:端口/单元号，如 tcp://192.168.1.20:502/1 / write tcp://host:port/unit, or rtu-tcp:// for a transparent serial server")
    })?;
    let Place { scheme, host, port, unit } = place;
    let wire = if scheme == "tcp" { Wire::Tcp { host, port } } else { Wire::RtuTcp { host, port } };
    Ok((wire, unit.unwrap_or(UNIT_DEFAULT)))
}

pub(super) fn draft(
    arguments: &New,
    url: &str,
    vocabulary: &Vocabulary,
    out: &mut String,
) -> Result<Result<Drafted, Refused>, Ended> {
    let mut refuse = |why: String| {
        _ = writeln!(out, "✗ {why}");
        Ended(EXIT_CONFIG)
    };
    let (wire, unit) = wire_of(url).map_err(&mut refuse)?;
    let range = range(&arguments.range).map_err(&mut refuse)?;
    let tables: Result<Vec<RegisterTable>, String> = arguments.table.iter().map(|name| table(name)).collect();
    let tables = tables.map_err(&mut refuse)?;
    let picks: Result<Vec<RegisterPick>, String> =
        arguments.pick.iter().map(|text| RegisterPick::parse(text, vocabulary)).collect();
    let picks = picks.map_err(&mut refuse)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| refuse(error.to_string()))?;
    let reading = async {
        let mut reader = Reader {
            probe: Probe::open(wire, unit, TIMEOUT_DEFAULT)
                .await
                .map_err(|why| format!("{} / {}", why.zh, why.en))?,
            seen: Vec::new(),
            told: Vec::new(),
        };
        for table in &tables {
            reader.table(*table, &range).await;
        }
        let is_read = |pick: &&RegisterPick| tables.contains(&pick.table) && pick.is_in(&range);
        for pick in picks.iter().filter(|pick| !is_read(pick)) {
            if let Err(trouble) = reader.block(pick.table, pick.address, pick.width()).await {
                let place = format!("{}@{}", named(pick.table), pick.address);
                reader.told.push(format!("{place}：{}", what(trouble)));
            }
        }
        Ok(reader)
    };
    let Reader { seen, told, .. } = runtime.block_on(reading).map_err(&mut refuse)?;
    for line in told {
        _ = writeln!(out, "! {line}");
    }
    if seen.is_empty() {
        _ = writeln!(
            out,
            "✗ 一个寄存器也没有读到：核对单元号和地址 / no register was read: check the unit and the addresses"
        );
        return Err(Ended(super::EXIT_REFUSED));
    }
    if picks.is_empty() {
        for line in register_views(&seen, vocabulary) {
            _ = writeln!(out, "{line}");
        }
        _ = writeln!(
            out,
            "\n什么也没有写。与设备显示屏对照后挑选测点，例如 / nothing was written. Compare with the device's own display, then pick:\n  fengsui profile new --probe {url} --vendor acme --model m1 --pick 'holding@4 f32 CDAB temperature'"
        );
        return Err(Ended(0));
    }
    Ok(draft_registers(arguments.identity(), &seen, &picks, false, vocabulary))
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || {
        format!(
            "--range {text}：写成 0..63，最多 {ADDRESSES_MAX} 个地址 / write 0..63, at most {ADDRESSES_MAX} addresses"
        )
    };
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let (first, last): (u16, u16) = first.parse().ok().zip(last.parse().ok()).ok_or_else(wrong)?;
    let count = u32::from(last) + 1 - u32::from(first).min(u32::from(last) + 1);
    if (1..=ADDRESSES_MAX).contains(&count) { Ok(first..=last) } else { Err(wrong()) }
}

fn table(name: &str) -> Result<RegisterTable, String> {
    let known = TABLES.iter().find(|(known, _)| *known == name).map(|(_, table)| *table);
    known.ok_or_else(|| format!("--table {name}：holding、input、coil 或 discrete / no such table"))
}

struct Reader {
    probe: Probe,
    seen: Vec<Seen>,
    told: Vec<String>,
}

impl Reader {
    /// Block by block, and where a block is refused register by register.
    async fn table(&mut self, table: RegisterTable, range: &RangeInclusive<u16>) {
        let (mut at, last) = (*range.start(), *range.end());
        let mut silent = 0;
        let mut refused: Vec<u16> = Vec::new();
        loop {
            let count = BLOCK.min((last - at).saturating_add(1));
            match self.block(table, at, count).await {
                Ok(()) => silent = 0,
                // It does not know the function at all.
                Err(Trouble::Exception(1)) => {
                    self.told.push(format!(
                        "{} 不支持 (异常码 1) / the unit does not have this table",
                        named(table)
                    ));
                    return;
                }
                Err(Trouble::Exception(_)) => {
                    silent = 0;
                    for address in at..=at + (count - 1) {
                        if self.block(table, address, 1).await.is_err() {
                            refused.push(address);
                        }
                    }
                }
                Err(trouble) => {
                    silent += 1;
                    self.told.push(format!("{}@{at}+{count}：{}", named(table), what(trouble)));
                    if silent >= SILENT_MAX {
                        return;
                    }
                }
            }
            match at.checked_add(count).filter(|next| *next <= last) {
                Some(next) => at = next,
                None => break,
            }
        }
        if !refused.is_empty() {
            self.told.push(format!(
                "{}：设备没有这些地址 / the unit does not have {}",
                named(table),
                spans(&refused)
            ));
        }
    }

    async fn block(&mut self, table: RegisterTable, start: u16, count: u16) -> Result<(), Trouble> {
        let words = self.probe.read(table, start, count).await;
        tokio::time::sleep(PAUSE).await;
        let words = words?;
        let behind = |seen: &&mut Seen| {
            seen.table == table && usize::from(seen.start) + seen.words.len() == usize::from(start)
        };
        match self.seen.iter_mut().find(behind) {
            // A value may lie across two blocks.
            Some(seen) => seen.words.extend(words),
            None => self.seen.push(Seen { table, start, words }),
        }
        Ok(())
    }
}

fn named(table: RegisterTable) -> &'static str {
    TABLES.iter().find(|(_, known)| *known == table).map_or("", |(name, _)| name)
}

fn what(trouble: Trouble) -> String {
    match trouble {
        Trouble::NoAnswer => "没有应答 / no answer".to_owned(),
        Trouble::WrongAnswer => "应答不对 / a wrong answer".to_owned(),
        Trouble::Disconnected => "连接断开 / the connection broke".to_owned(),
        Trouble::Exception(code) => format!("异常码 {code} / exception {code}"),
    }
}

/// `3..9, 12`.
fn spans(addresses: &[u16]) -> String {
    let mut spans: Vec<(u16, u16)> = Vec::new();
    for address in addresses {
        match spans.last_mut().filter(|(_, last)| last.checked_add(1) == Some(*address)) {
            Some((_, last)) => *last = *address,
            None => spans.push((*address, *address)),
        }
    }
    let text = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}..{last}") }
    };
    spans.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_addresses_and_bounded() {
        assert_eq!(range("0..63"), Ok(0..=63));
        assert_eq!(range("65535..65535"), Ok(65535..=65535));
        for wrong in ["", "5", "9..3", "0..1024", "0..65536", "a..b"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        assert_eq!(spans(&[3, 4, 5, 9]), "3..5, 9");
    }
}
