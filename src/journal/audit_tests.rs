//! Any single tampering with any log is found; a log that nobody touched is sound, whatever was deleted by age.

use super::super::audit_check::{Compared, check};
use super::super::schema::{STEPS, migrate};
use super::*;
use proptest::prelude::*;

fn fresh() -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    migrate(&mut conn, STEPS).unwrap();
    conn
}

/// What happens to a log in its life.
#[derive(Debug, Clone)]
enum Step {
    Transition,
    Note,
    Delete { kind: i64, lines: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Transition),
        4 => Just(Step::Note),
        1 => (prop_oneof![Just(TRANSITION), Just(NOTE)], 1..6i64).prop_map(|(kind, lines)| Step::Delete { kind, lines }),
    ]
}

fn live(steps: &[Step]) -> Connection {
    let conn = fresh();
    for (no, step) in (1..).zip(steps) {
        let mut chain = Chain::at_its_end(&conn).unwrap();
        match step {
            Step::Transition => {
                chain.transition(no, 1000 + no, &format!("h{}", no % 3), &format!("{{{no}}}")).unwrap()
            }
            Step::Note => chain.note(no, 1000 + no, ["link", "bus", &format!("断开 {no}"), "down"]).unwrap(),
            Step::Delete { kind, lines } => {
                let table = if *kind == TRANSITION { "transition" } else { "note" };
                let first: Option<i64> =
                    conn.query_row(&format!("SELECT min(id) FROM {table}"), [], |row| row.get(0)).unwrap();
                if let Some(first) = first {
                    delete_lines(&conn, *kind, first + lines - 1, no, 4).unwrap();
                }
            }
        }
    }
    conn
}

/// What a hand in the file may do; the figures pick the victim.
#[derive(Debug, Clone)]
enum Tampering {
    Change { table: &'static str, column: &'static str, pick: usize },
    Remove { table: &'static str, pick: usize },
    Insert { table: &'static str },
    Swap { table: &'static str, key: &'static str, picks: [usize; 2] },
    CutTheEnd { rows: usize },
    CutTheBeginning { rows: usize },
}

const COLUMNS: [(&str, &[&str]); 3] = [
    ("transition", &["id", "no", "at", "hazard", "json"]),
    ("note", &["id", "no", "at", "kind", "subject", "zh", "en"]),
    ("audit", &["seq", "kind", "line", "no", "at", "digest", "chain"]),
];

fn tampering() -> impl Strategy<Value = Tampering> {
    let table = || prop_oneof![Just("transition"), Just("note"), Just("audit")];
    let column = (0..3usize, any::<usize>()).prop_map(|(table, column)| {
        let (table, columns) = COLUMNS[table];
        (table, columns[column % columns.len()])
    });
    let swap = prop_oneof![Just(("transition", "id")), Just(("note", "id")), Just(("audit", "seq"))];
    prop_oneof![
        6 => (column, any::<usize>()).prop_map(|((table, column), pick)| Tampering::Change { table, column, pick }),
        3 => (table(), any::<usize>()).prop_map(|(table, pick)| Tampering::Remove { table, pick }),
        1 => table().prop_map(|table| Tampering::Insert { table }),
        2 => (swap, any::<[usize; 2]>()).prop_map(|((table, key), picks)| Tampering::Swap { table, key, picks }),
        2 => (1..9usize).prop_map(|rows| Tampering::CutTheEnd { rows }),
        2 => (1..9usize).prop_map(|rows| Tampering::CutTheBeginning { rows }),
    ]
}

/// Does it. False: there was nothing to do it to.
fn tamper(conn: &Connection, tampering: &Tampering) -> bool {
    let picked = |table: &str, pick: usize| -> Option<i64> {
        let mut statement = conn.prepare(&format!("SELECT rowid FROM {table} ORDER BY rowid")).unwrap();
        let ids: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        (!ids.is_empty()).then(|| ids[pick % ids.len()])
    };
    let run = |sql: &str| conn.execute(sql, []).unwrap() > 0;
    match tampering {
        Tampering::Change { table, column, pick } => {
            let Some(id) = picked(table, *pick) else { return false };
            let changed = match *column {
                "id" | "seq" => format!("{column} + 1000"),
                "line" | "no" | "at" => format!("{column} + 1"),
                // An attacker would pick a kind that excuses more.
                "kind" if *table == "audit" => format!("({column} + 1 + {pick} % 6) % 7"),
                "digest" | "chain" => "randomblob(32)".to_owned(),
                _ => format!("{column} || '.'"),
            };
            run(&format!("UPDATE {table} SET {column} = {changed} WHERE rowid = {id}"))
        }
        Tampering::Remove { table, pick } => {
            picked(table, *pick).is_some_and(|id| run(&format!("DELETE FROM {table} WHERE rowid = {id}")))
        }
        Tampering::Insert { table: "audit" } => run(
            "INSERT INTO audit SELECT seq + 1, 3, 99999, 0, 1, digest, chain FROM audit ORDER BY seq DESC LIMIT 1",
        ),
        Tampering::Insert { table: "note" } => {
            run("INSERT INTO note (no, at, kind, subject, zh, en) VALUES (1, 1, 'link', 'a', 'b', 'c')")
        }
        Tampering::Insert { .. } => {
            run("INSERT INTO transition (no, at, hazard, json) VALUES (1, 1, 'h', '{}')")
        }
        Tampering::Swap { table, key, picks } => {
            let (Some(a), Some(b)) = (picked(table, picks[0]), picked(table, picks[1])) else { return false };
            a != b
                && run(&format!("UPDATE {table} SET {key} = -1 WHERE {key} = {a}"))
                && run(&format!("UPDATE {table} SET {key} = {a} WHERE {key} = {b}"))
                && run(&format!("UPDATE {table} SET {key} = {b} WHERE {key} = -1"))
        }
        Tampering::CutTheEnd { rows } => cut(conn, "DESC", *rows),
        Tampering::CutTheBeginning { rows } => cut(conn, "ASC", *rows),
    }
}

/// Rows of the chain together with their lines: what is left fits together.
fn cut(conn: &Connection, order: &str, rows: usize) -> bool {
    let cut = format!("(SELECT seq FROM audit ORDER BY seq {order} LIMIT {rows})");
    for (table, kind) in [("transition", TRANSITION), ("note", NOTE)] {
        let lines = format!("SELECT line FROM audit WHERE kind = {kind} AND seq IN {cut}");
        conn.execute(&format!("DELETE FROM {table} WHERE id IN ({lines})"), []).unwrap();
    }
    conn.execute(&format!("DELETE FROM audit WHERE seq IN {cut}"), []).unwrap() > 0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_single_tampering_with_any_log_is_found(
        steps in prop::collection::vec(step(), 1..40),
        tampering in tampering(),
    ) {
        let conn = live(&steps);
        let head = head(&conn).unwrap();
        let before = check(&conn, Some(head)).unwrap();
        prop_assert!(before.sound() && before.compared == Compared::Holds, "nobody touched it: {before:?}");
        if tamper(&conn, &tampering) {
            let after = check(&conn, Some(head)).unwrap();
            prop_assert!(!after.sound(), "{after:?}");
        }
    }

    #[test]
    fn any_text_is_a_head_or_none(text in ".{0,80}") {
        if let Ok(head) = text.parse::<AuditHead>() {
            prop_assert_eq!(head.to_string().parse::<AuditHead>(), Ok(head));
        }
    }
}

#[test]
fn a_finding_says_which_line_and_when() {
    let conn = live(&[Step::Note, Step::Transition, Step::Note]);
    conn.execute_batch("UPDATE note SET zh = '正常' WHERE id = 2; DELETE FROM transition").unwrap();
    let report = check(&conn, None).unwrap();
    let told: Vec<_> = report.findings.iter().map(|found| (&*found.text.zh, found.no, found.at)).collect();
    let at = |millis| Some(crate::model::Timestamp::from_millis(millis));
    assert_eq!(
        told,
        [("第 2 条日志的内容被改动", Some(3), at(1003)), ("第 1 条报警变化被删除", Some(2), at(1002))]
    );
    assert_eq!((report.lines, report.compared), (1, Compared::NotAsked));
}

#[test]
fn a_head_written_down_long_ago_still_holds_until_its_row_is_deleted_by_age() {
    let conn = live(&[Step::Note, Step::Note]);
    let written_down = head(&conn).unwrap();
    let more = |steps: usize| {
        for no in 0..steps {
            Chain::at_its_end(&conn).unwrap().note(9, 9, ["link", "bus", &no.to_string(), ""]).unwrap();
        }
    };
    more(10);
    assert_eq!(check(&conn, Some(written_down)).unwrap().compared, Compared::Holds);
    delete_lines(&conn, NOTE, 8, 1, 4).unwrap();
    let report = check(&conn, Some(written_down)).unwrap();
    assert_eq!((report.sound(), report.compared), (true, Compared::TooOld), "{report:?}");
    let rewritten = live(&[Step::Note, Step::Transition]);
    let report = check(&rewritten, Some(written_down)).unwrap();
    assert_eq!(report.compared, Compared::Differs);
    assert!(report.findings[0].text.en.contains("rewritten"), "{report:?}");
}
