//! The health page, its API, and the bar that every page shows when the gateway itself needs a person.

use super::*;
use fengsui::web::Backup;

async fn page(room: &DutyRoom, path: &str, cookie: &str) -> String {
    text(send(room, ask("GET", path, cookie)).await).await
}

/// The text of the bar; empty while it is hidden.
fn bar(page: &str) -> &str {
    let bar = page.split("id=\"trouble\"").nth(1).unwrap().split("</a>").next().unwrap();
    let (tag, text) = bar.split_once('>').unwrap();
    assert_eq!(tag.contains(" hidden"), text.is_empty(), "{bar}");
    text
}

fn failed_backup(room: &DutyRoom) -> Backup {
    Backup {
        at: room.clock.now() - fengsui::model::Span::from_secs(7200),
        file: String::new(),
        bytes: 0,
        error: Some(fengsui::model::Text::new("U 盘没有插好 <b>/mnt/usb</b>", "the stick is not plugged in")),
        good_at: Some(room.clock.now() - fengsui::model::Span::from_secs(200_000)),
    }
}

#[tokio::test]
async fn the_health_page_speaks_chinese_and_says_how_far_back_the_journal_goes() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page = page(&room, "/health", &cookie).await;
    for words in [
        "收到的报文",
        "登录失败次数",
        "最早记录",
        "全部读数",
        "待送 <b class=\"num\">214</b> 批，恢复后自动补送",
        "还能缓存 <b>4天</b>",
        "距存满",
        "还没有备份",
        "可写入",
        "值班日志校验码",
    ] {
        assert!(page.contains(words), "the health page does not say {words}");
    }
    assert!(!page.contains("Frames taken"));
    let head = room.journal.health().audit.to_string();
    assert!(page.contains(&format!("<code>{head}</code>")), "the head that a person writes down: {head}");
    let health = json(send(&room, ask("GET", "/api/v1/health", &cookie)).await).await;
    assert!(health["journal"]["oldest"].is_i64(), "{health}");
    assert_eq!((&health["audit"], &health["sinks"][1]["hours_left"]), (&head.into(), &96.into()), "{health}");
    assert!(!health["journal"]["kinds"].as_array().unwrap().is_empty(), "{health}");
}

#[tokio::test]
async fn the_notes_of_links_and_sinks_are_chinese_on_the_chinese_page_and_english_on_the_english_one() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let now = room.clock.now();
    let kept = serde_json::json!({
        "sink": "influx", "number": 1, "at": now.as_millis(), "line": "a value=1",
        "reason": "早于数据库的保留期", "reason_en": "older than the store keeps",
    });
    room.journal.put_document("influx-refused", "influx:1", Some(&kept.to_string()), now).await.unwrap();
    let notes = [
        ("已连接，但没有从站应答", "connected, but no unit answers"),
        ("应答 503：暂时不能接收", "answered 503: it cannot take it now"),
        ("早于数据库的保留期", "older than the store keeps"),
    ];
    let chinese = page(&room, "/health", &cookie).await;
    let english = page(&room, "/health", &format!("{cookie}; fengsui_lang=en")).await;
    for (zh, en) in notes {
        assert!(chinese.contains(zh) && !chinese.contains(en), "{en}: {chinese}");
        assert!(english.contains(en) && !english.contains(zh), "{zh}: {english}");
    }
    let health = json(send(&room, ask("GET", "/api/v1/health", &cookie)).await).await;
    assert_eq!(health["links"][1]["reason"], serde_json::json!({ "zh": notes[0].0, "en": notes[0].1 }));
    assert_eq!(health["sinks"][1]["last_error"]["zh"], notes[1].0);
}

#[tokio::test]
async fn what_needs_a_person_stands_in_the_bar_of_every_page_until_it_is_over() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let english = format!("{cookie}; fengsui_lang=en");
    // One link of the fixture is down, and that is all.
    assert_eq!(bar(&page(&room, "/", &cookie).await), "1 条链路中断");
    room.health.send_modify(|health| {
        health.links.clear();
        health.sinks[1].hours_left = Some(5);
        health.backup = Some(failed_backup(&room));
    });
    for path in ["/", "/log", "/health", "/points/ef-01/residual_current"] {
        let page = page(&room, path, &cookie).await;
        assert_eq!(bar(&page), "断网还能缓存 5小时 · 备份 失败 2小时前", "{path}");
    }
    assert_eq!(bar(&page(&room, "/", &english).await), "Buffer left 5 h · Backup Failed 2 h ago");
    let health = page(&room, "/health", &cookie).await;
    assert!(health.contains("U 盘没有插好 &#60;b&#62;/mnt/usb") && health.contains("上次成功 "), "{health}");
    // An open page is told by the next sign of life.
    let mut stream = send(&room, ask("GET", "/api/v1/live", &cookie)).await.into_body().into_data_stream();
    let beat = live::read_until(&mut stream, "beat").await;
    assert!(beat.last().unwrap().contains("\"zh\":\"备份 失败 2小时前\""), "{beat:?}");
    room.health.send_modify(|health| {
        health.sinks[1].hours_left = Some(24);
        let now = room.clock.now();
        let made =
            Backup { at: now, file: "/mnt/usb/1".into(), bytes: 3_400_000, error: None, good_at: Some(now) };
        health.backup = Some(made);
    });
    assert_eq!(bar(&page(&room, "/", &cookie).await), "");
    let health = page(&room, "/health", &cookie).await;
    assert!(health.contains("/mnt/usb/1 3.4 MB") && health.contains("还能缓存 <b>24小时</b>"), "{health}");
}

#[tokio::test]
async fn a_scheduled_backup_that_is_late_is_a_fault_on_every_page_although_nothing_failed() {
    use fengsui::model::Span;
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let day = |days: i64| Span::from_secs(days * 86_400);
    let late_after = fengsui::backup::late_after(day(1));
    assert_eq!(late_after, day(3));
    let made = |age: Span| {
        let at = room.clock.now() - age;
        Backup { at, file: "/mnt/usb/1".into(), bytes: 3_400_000, error: None, good_at: Some(at) }
    };
    let set = |backup: Option<Backup>, late| {
        room.health.send_modify(|health| {
            health.links.clear();
            (health.backup, health.backup_late_after) = (backup, late);
        });
    };
    set(Some(made(day(2))), Some(late_after));
    assert_eq!(bar(&page(&room, "/", &cookie).await), "", "one was missed");
    set(Some(made(day(5))), Some(late_after));
    for path in ["/", "/log", "/points/ef-01/residual_current"] {
        assert_eq!(bar(&page(&room, path, &cookie).await), "备份 超期，上次成功 5天前", "{path}");
    }
    let english = format!("{cookie}; fengsui_lang=en");
    assert_eq!(bar(&page(&room, "/", &english).await), "Backup Late, the last one 5 d ago");
    assert!(page(&room, "/health", &cookie).await.contains("请检查 U 盘"), "it says what to do");
    set(Some(made(day(5))), None);
    assert_eq!(bar(&page(&room, "/", &cookie).await), "", "they are made by hand");
    set(Some(made(Span::from_secs(-3600))), Some(late_after));
    assert_eq!(bar(&page(&room, "/", &cookie).await), "", "one from the future is not late");
    // One that failed says why instead.
    set(Some(failed_backup(&room)), Some(Span::from_secs(3600)));
    assert_eq!(bar(&page(&room, "/", &cookie).await), "备份 失败 2小时前");
    set(None, Some(late_after));
    assert_eq!(bar(&page(&room, "/", &cookie).await), "", "the first one has time");
    set(None, Some(Span::from_secs(-1)));
    assert_eq!(bar(&page(&room, "/", &cookie).await), "备份 超期，从未成功");
}

#[tokio::test]
async fn a_clock_that_nobody_set_is_a_fault_on_every_page() {
    // 1970: a box without a battery that was just switched on.
    let room = duty_room::room(duty_room::plan(), Clock::simulated(Timestamp::from_secs(60)), None).await;
    let cookie = sign_in(&room).await;
    let home = page(&room, "/", &cookie).await;
    assert!(bar(&home).starts_with("时钟 未校时"), "{}", bar(&home));
    let health = page(&room, "/health", &cookie).await;
    assert!(health.contains("state fault\"><h3>时钟</h3><b>未校时</b>"), "{health}");
}

#[tokio::test]
async fn damaged_files_wait_on_the_page_and_do_not_shout() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    room.health.send_modify(|health| {
        health.links.clear();
        health.set_aside = vec![("journal.db.damaged-1".into(), 12_300_000)];
    });
    let health = page(&room, "/health", &cookie).await;
    assert!(health.contains("state notice\"><h3>损坏的文件</h3><b>1</b>"), "{health}");
    assert!(health.contains("journal.db.damaged-1 (12.3 MB)"), "{health}");
    assert_eq!(bar(&health), "");
}

#[tokio::test]
async fn refused_points_are_listed_with_the_reason_newest_first() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let now = room.clock.now();
    assert!(!page(&room, "/health", &cookie).await.contains("外部系统拒收的数据"));
    for (number, line) in ["a value=1", "b value=<script>alert(5)</script>"].iter().enumerate() {
        let at = now.as_millis() + i64::try_from(number).unwrap();
        let kept = serde_json::json!({
            "sink": "influx", "number": number, "at": at, "entry_at_most": 3, "line": line,
            "reason": "partial write: field type conflict", "alike": number * 6,
        });
        let key = format!("influx:{number}");
        room.journal.put_document("influx-refused", &key, Some(&kept.to_string()), now).await.unwrap();
    }
    // Nobody else's document spoils the page.
    room.journal.put_document("influx-refused", "broken", Some("[1"), now).await.unwrap();
    let page = page(&room, "/health", &cookie).await;
    let rows: Vec<&str> = page.split("<code>").skip(2).collect();
    assert_eq!(rows.len(), 2, "{page}");
    assert!(rows[0].starts_with("b value=&#60;script&#62;") && rows[1].starts_with("a value=1"), "{rows:?}");
    assert!(page.contains("field type conflict") && page.contains("+6 同样被拒"), "{page}");
}
