//! Tests of: full chunks that become one while the gateway runs.

use super::*;

/// Of a point: chunks, and the samples of the longest.
fn chunks(dir: &Path, point: &PointId) -> (i64, i64) {
    let conn = rusqlite::Connection::open(dir.join("journal.db")).unwrap();
    let question = "SELECT count(*), max(n) FROM chunk WHERE point = (SELECT id FROM point WHERE name = ?)";
    conn.query_row(question, [point.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[tokio::test]
async fn full_chunks_become_one_and_no_chart_changes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let series = Series::open(&journal).await.unwrap();
    let (fast, slow) = (point("pressure"), point("temperature"));
    // Two and a half days every ten seconds; one sample of fire, some that say nothing, a gap, and one that comes late.
    let value = |n: i64| match n {
        9000 => Value::Absent,
        12_345 => number(68.5),
        n => number(f64::from(i32::try_from(2300 + n * 7919 % 31).unwrap()) / 100.0),
    };
    let count = 21_600;
    let time = |n: i64| n * 10_000 + if n > 15_000 { 3_600_000 } else { 0 };
    let numbers: Vec<i64> = (0..count).filter(|n| *n != 5000).collect();
    let late = reading(&fast, time(5000), value(5000));
    for some in numbers.chunks(600) {
        let last = *some.last().unwrap();
        let mut readings: Vec<_> = some.iter().map(|&n| reading(&fast, time(n), value(n))).collect();
        readings.push(reading(&slow, time(last), number(21.5)));
        append(&journal, time(last), readings).await;
        settle(&series).await;
    }
    let (rows, longest) = chunks(dir.path(), &fast);
    assert!(rows <= 4 && longest > 12_288, "{rows} rows, the longest of {longest} samples");
    append(&journal, time(count), vec![late]).await;
    settle(&series).await;
    let charts = |series: Series, fast: PointId| async move {
        let mut charts = Vec::new();
        for buckets in [1, 7, 500, 16_000] {
            charts.push(series.range(&fast, ms(0), ms(time(count)), buckets).await.unwrap());
        }
        charts
    };
    let found = charts(series.clone(), fast.clone()).await;
    for answer in &found {
        assert_eq!(total(answer), (u32::try_from(count).unwrap(), Some(23.0), Some(68.5)));
    }
    assert_eq!(found[0][0].bad, 1);
    drop((series, journal));
    // The same after a restart.
    let journal = open(dir.path());
    let series = Series::open(&journal).await.unwrap();
    assert_eq!(charts(series, fast).await, found);
}
