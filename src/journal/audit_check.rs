//! Verifies the hash chain of audit.rs against the duty log, and says what was tampered with: which line, when, how.

use super::audit::{self, AuditHead, Link, Sum};
use super::store::from_sql;
use super::{ReadError, read};
use crate::model::{Text, Timestamp};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashSet;

/// Findings that are told one by one; the rest are counted. A rewritten log has as many as lines.
const FINDINGS_MAX: usize = 100;

/// What the check of the audit chain found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditReport {
    /// The chain's end as it stands in the file.
    pub head: AuditHead,
    /// Lines of the duty log that are there and agree with the chain.
    pub lines: u64,
    /// Lines that were deleted by age or for want of room, as the chain itself tells.
    pub deleted: u64,
    /// What does not agree, in the order of the chain; at most a hundred.
    pub findings: Vec<Finding>,
    /// Further findings that are not listed.
    pub more: u64,
    /// How the head compares with the one that was expected.
    pub compared: Compared,
}

impl AuditReport {
    /// Whether nothing was found.
    pub fn sound(&self) -> bool {
        self.findings.is_empty() && self.more == 0
    }
}

/// How the chain compares with a head that was written down elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compared {
    /// None was given: a log cut short at its end would not be noticed.
    #[default]
    NotAsked,
    /// The chain holds that head: nothing up to it was changed.
    Holds,
    /// That row was deleted by age meanwhile: nothing can be said.
    TooOld,
    /// The chain does not hold it: see the findings.
    Differs,
}

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The chain's row, as far as it is about one.
    pub row: Option<u64>,
    /// The entry of the line.
    pub no: Option<u64>,
    /// When the line was written.
    pub at: Option<Timestamp>,
    /// What is wrong, for a person.
    pub text: Text,
}

struct Check<'c> {
    conn: &'c Connection,
    report: AuditReport,
    before: Option<(i64, Sum)>,
    first: Option<Link>,
    /// Lines of each table that the chain names.
    named: [HashSet<i64>; 2],
    /// Missing lines that a later row must tell of.
    missing: Vec<Link>,
    rows_gone_up_to: Option<i64>,
}

pub(super) fn check(conn: &Connection, expected: Option<AuditHead>) -> Result<AuditReport, ReadError> {
    let mut check = Check {
        conn,
        report: AuditReport { head: audit::head(conn)?, ..AuditReport::default() },
        before: None,
        first: None,
        named: Default::default(),
        missing: Vec::new(),
        rows_gone_up_to: None,
    };
    let mut statement =
        conn.prepare("SELECT seq, kind, line, no, at, digest, chain FROM audit ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // A sum of a wrong length is no sum of ours: as different as any other.
        let sum = |index| -> rusqlite::Result<Sum> {
            Ok(row
                .get_ref(index)?
                .as_blob()
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .unwrap_or([0xFF; 32]))
        };
        let link = Link {
            seq: row.get(0)?,
            kind: row.get(1)?,
            line: row.get(2)?,
            no: row.get(3)?,
            at: row.get(4)?,
            digest: sum(5)?,
        };
        check.row(link, sum(6)?)?;
    }
    check.end()?;
    if let Some(expected) = expected {
        check.compare(expected)?;
    }
    Ok(check.report)
}

impl Check<'_> {
    fn found(&mut self, link: Option<&Link>, zh: &str, en: &str) {
        if self.report.findings.len() >= FINDINGS_MAX {
            self.report.more += 1;
            return;
        }
        self.report.findings.push(Finding {
            row: link.map(|link| from_sql(link.seq)),
            no: link.filter(|link| link.no > 0).map(|link| from_sql(link.no)),
            at: link.filter(|link| link.at != 0).map(|link| Timestamp::from_millis(link.at)),
            text: Text::new(zh, en),
        });
    }

    fn row(&mut self, link: Link, chain: Sum) -> Result<(), ReadError> {
        match self.before {
            None => self.first_row(&link, &chain),
            Some((seq, _)) if link.seq != seq + 1 => {
                let (from, to) = (seq + 1, link.seq - 1);
                self.found(
                    Some(&link),
                    &format!("校验链缺第 {from} 至 {to} 行"),
                    &format!("rows {from} to {to} of the chain are missing"),
                );
            }
            Some((_, before)) if link.chained(&before) != chain => self.found(
                Some(&link),
                &format!("校验链第 {} 行被改动", link.seq),
                &format!("row {} of the chain was changed", link.seq),
            ),
            Some(_) => {}
        }
        self.before = Some((link.seq, chain));
        match link.kind {
            audit::TRANSITION | audit::NOTE => self.line(&link)?,
            audit::NOTES_GONE => self.gone(audit::NOTE, link.line),
            audit::TRANSITIONS_GONE => self.gone(audit::TRANSITION, link.line),
            audit::ROWS_GONE => self.rows_gone_up_to = Some(link.line),
            _ => {}
        }
        Ok(())
    }

    fn first_row(&mut self, link: &Link, chain: &Sum) {
        self.first = Some(*link);
        let blank = Link { no: 0, ..*link }
            == Link { seq: link.seq, kind: link.kind, line: 0, no: 0, at: 0, digest: [0; 32] };
        let sound = match link.kind {
            audit::BEGUN => link.seq == 1 && blank && link.chained(&[0; 32]) == *chain,
            // What it once said is gone; only the next row vouches for its sum.
            audit::ANCHOR => blank && link.no == 0,
            _ => false,
        };
        if !sound {
            self.found(
                Some(link),
                "校验链的开头不完整：更早的行被删除或改动",
                "the chain's beginning is not whole: earlier rows were removed or changed",
            );
        }
    }

    fn line(&mut self, link: &Link) -> Result<(), ReadError> {
        if !self.named[usize::from(link.kind == audit::NOTE)].insert(link.line) {
            let (zh, en) = (format!("第 {} 条{}在校验链中出现两次", link.line, zh(link.kind)), en(link.kind));
            self.found(Some(link), &zh, &format!("{en} {} is in the chain twice", link.line));
            return Ok(());
        }
        match audit::line(self.conn, link.kind, link.line) {
            Ok(None) => self.missing.push(*link),
            Ok(Some(line)) if (line.no, line.at, line.digest) == (link.no, link.at, link.digest) => {
                self.report.lines += 1;
            }
            // A cell that cannot even be read is not what was written.
            Ok(Some(_)) | Err(_) => self.found(
                Some(link),
                &format!("第 {} 条{}的内容被改动", link.line, zh(link.kind)),
                &format!("{} {} was changed", en(link.kind), link.line),
            ),
        }
        Ok(())
    }

    /// A row says that lines up to this one were deleted: those that are missing so far are accounted for.
    fn gone(&mut self, kind: i64, up_to: i64) {
        let before = self.missing.len();
        self.missing.retain(|link| link.kind != kind || link.line > up_to);
        self.report.deleted += (before - self.missing.len()) as u64;
    }

    fn end(&mut self) -> Result<(), ReadError> {
        for link in std::mem::take(&mut self.missing) {
            self.found(
                Some(&link),
                &format!("第 {} 条{}被删除", link.line, zh(link.kind)),
                &format!("{} {} was removed", en(link.kind), link.line),
            );
        }
        match self.first {
            None => self.found(None, "校验链不存在", "there is no chain"),
            Some(first) if first.kind == audit::ANCHOR && self.rows_gone_up_to != Some(first.seq) => self
                .found(
                    Some(&first),
                    "校验链的开头被删除，而链中没有相应记载",
                    "the chain's beginning was removed, and the chain does not tell of it",
                ),
            Some(_) => {}
        }
        for (index, (kind, table)) in
            [(audit::TRANSITION, "transition"), (audit::NOTE, "note")].into_iter().enumerate()
        {
            let mut statement = self.conn.prepare(&format!("SELECT id, no, at FROM {table} ORDER BY id"))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (line, no, at): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                if !self.named[index].contains(&line) {
                    let place = Link { seq: 0, kind, line, no, at, digest: [0; 32] };
                    self.found(
                        Some(&place),
                        &format!("第 {line} 条{}不在校验链中：是后来加入的", zh(kind)),
                        &format!("{} {line} is not in the chain: it was put in later", en(kind)),
                    );
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, expected: AuditHead) -> Result<(), ReadError> {
        let first = self.first.map_or(0, |first| from_sql(first.seq));
        let at = i64::try_from(expected.count).unwrap_or(i64::MAX);
        let chain: Option<Vec<u8>> = self
            .conn
            .query_row("SELECT chain FROM audit WHERE seq = ?", [at], |row| row.get(0))
            .optional()?;
        self.report.compared = match chain {
            Some(chain) if chain == expected.chain => Compared::Holds,
            None if expected.count < first => Compared::TooOld,
            _ => Compared::Differs,
        };
        if self.report.compared != Compared::Differs {
            return Ok(());
        }
        let Compare { zh, en } = if expected.count > self.report.head.count {
            Compare {
                zh: format!(
                    "校验链只到第 {} 行，而记下的链头是第 {} 行：末尾的记录被截去",
                    self.report.head.count, expected.count
                ),
                en: format!(
                    "the chain ends at row {}, the head written down is row {}: the end was cut off",
                    self.report.head.count, expected.count
                ),
            }
        } else {
            Compare {
                zh: format!(
                    "第 {} 行与记下的链头不同：此行之前的日志被整体改写，或数据库更换过",
                    expected.count
                ),
                en: format!(
                    "row {} is not the head that was written down: the log before it was rewritten, or the database was replaced",
                    expected.count
                ),
            }
        };
        let begun = if read::head(self.conn)? > 0 && self.begun_anew()? {
            ("（数据库损坏后校验链曾重新开始）", " (the chain was begun anew after the database was damaged)")
        } else {
            ("", "")
        };
        self.found(None, &format!("{zh}{}", begun.0), &format!("{en}{}", begun.1));
        Ok(())
    }

    fn begun_anew(&self) -> Result<bool, ReadError> {
        let anew = "SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'begun_after')";
        Ok(self.conn.query_row(anew, [], |row| row.get(0))?)
    }
}

struct Compare {
    zh: String,
    en: String,
}

fn zh(kind: i64) -> &'static str {
    if kind == audit::TRANSITION { "报警变化" } else { "日志" }
}

fn en(kind: i64) -> &'static str {
    if kind == audit::TRANSITION { "transition" } else { "note" }
}
