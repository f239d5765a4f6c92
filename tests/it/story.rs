//! The demo's story from the first command to its end, seen by a visitor in a real browser, and a `kill -9` in the
//! middle of it.

use crate::support::browser::{self, Browser};
use crate::support::ports::free_port;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The whole story takes 70 s; a busy two-core machine needs longer.
const STORY_MAX: Duration = Duration::from_secs(120);

/// The screen declares itself cut off after 10 s; one state of a page is waited for as long as this.
const STATE_MAX: Duration = Duration::from_secs(40);

/// What each chapter becomes: the point, the card's title, and the reason from its first word to its last.
const HAZARDS: [(&str, &str, &str, &str); 5] = [
    ("yg-rcd-1/residual", "剩余电流报警", "剩余电流 3", " mA ≥ 300 mA 持续 10 s，GB 50116-2013 9.2.3"),
    ("yg-smoke-203/smoke", "感烟火警", "感烟探测：火警", "，设备上报"),
    (
        "yg-hydrant-1/hydrant",
        "消火栓压力偏低",
        "室外消火栓压力 0.1",
        " MPa < 0.14 MPa 持续 30 s，GB 55036-2022 3.0.3 / GB 50974-2014 7.2.8",
    ),
    ("wsy-meter-1/link", "设备离线", "通信：超过 10 s 未收到任何数据", "，本系统默认值"),
    ("wsy-smoke-pharmacy/battery", "电池电量偏低", "电池电量 16 % < 20 % 持续 1 min", "，本系统默认值"),
];

/// `fengsui demo` as a process of its own, and what it says.
struct Demo {
    process: Child,
    said: Arc<Mutex<Vec<String>>>,
    url: String,
    account: String,
    password: String,
}

impl Demo {
    async fn start(dir: &Path, port: u16) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fengsui"))
            .arg("demo")
            .arg("--dir")
            .arg(dir)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (mut lines, heard) = (BufReader::new(process.stderr.take().unwrap()).lines(), said.clone());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().unwrap().push(line);
            }
        });
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = timeout(STATE_MAX, lines.next_line()).await.expect("the demo never said where it is");
        let line = line.unwrap().unwrap_or_else(|| panic!("the demo ended: {said:?}"));
        let after = |label: &str| {
            let (_, rest) = line.split_once(label).unwrap_or_else(|| panic!("no {label} in: {line}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Self { process, said, url: after("open "), account: after("account:"), password: after("password:") }
    }

    /// As a power cut does it.
    async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// As Ctrl-C or a service manager does it: within seconds, and with the exit code 0.
    async fn stop(mut self) -> Vec<String> {
        let id = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
        let ended = timeout(Duration::from_secs(10), self.process.wait()).await;
        let status = ended.expect("the demo did not stop within 10 s of Ctrl-C").unwrap();
        let said = self.said.lock().unwrap().clone();
        assert!(status.success(), "{status}: {said:?}");
        said
    }

    /// Waits until the log names a hazard of that point for the given time.
    async fn raised(&self, point: &str, times: usize) {
        let named = point.replace('/', ".");
        let started = Instant::now();
        let times_raised = || {
            let lines = self.said.lock().unwrap();
            let raised = |line: &&String| line.contains("hazard was raised") && line.contains(&named);
            lines.iter().filter(raised).count()
        };
        while times_raised() < times {
            assert!(started.elapsed() < STATE_MAX, "{point} raised no hazard: {:?}", self.said.lock());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits for a state of the page that the story brings about.
async fn comes(browser: &Browser, expression: &str, within: Duration) {
    let started = Instant::now();
    while browser.run(&format!("return Boolean({expression})")).await != Value::Bool(true) {
        assert!(started.elapsed() < within, "the page never came to: {expression}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// A function call in the page that finds the card or the part of a card of a point's hazard.
fn card(point: &str) -> String {
    let path = format!("/points/{point}");
    format!(
        "[...document.querySelectorAll('#hazards article.card')].find(card => card.querySelector('.why a').pathname === '{path}')"
    )
}

async fn card_text(browser: &Browser, point: &str) -> String {
    let text = browser.run(&format!("const card = {}; return card ? card.innerText : ''", card(point))).await;
    text.as_str().unwrap().to_owned()
}

/// The open hazards as the API gives them, without what the running clock changes.
async fn hazards(browser: &Browser) -> Vec<Value> {
    let script = "const request = new XMLHttpRequest(); request.open('GET', '/api/v1/hazards', false); request.send(); return JSON.parse(request.responseText).hazards";
    let mut hazards = browser.run(script).await.as_array().unwrap().clone();
    hazards.sort_by_key(|hazard| hazard["id"].to_string());
    hazards
}

/// The width of a bucket below, rounded up: an hour in 500.
const BUCKET_MS: u64 = 7_300;

/// How many readings the chart of a point holds, and the moment of the first.
async fn series(browser: &Browser, point: &str) -> (u64, u64) {
    let script = format!(
        "const request = new XMLHttpRequest(); request.open('GET', '/api/v1/points/{point}/series?from=' + (Date.now() - 3600000) + '&to=' + Date.now() + '&buckets=500', false); request.send(); const rows = JSON.parse(request.responseText).rows; return [rows.reduce((sum, row) => sum + row[2], 0), rows.length ? rows[0][0] : 0]"
    );
    let counted = browser.run(&script).await;
    (counted[0].as_u64().unwrap(), counted[1].as_u64().unwrap())
}

async fn in_all_sizes(browser: &Browser, name: &str) {
    for (width, height) in [(1920, 1080), (390, 844), (1366, 768)] {
        browser.resize(width, height).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "{name} is wider than a screen of {width}");
        browser.screenshot(&format!("story-{name}-{width}x{height}")).await;
    }
}

async fn sign_in(browser: &Browser, demo: &Demo) {
    browser.go(&demo.url).await;
    assert_eq!(
        browser.run("return document.querySelector('[name=account]').value").await,
        json!(demo.account)
    );
    browser.fill("input[name=password]", &demo.password).await;
    browser.fill("input[name=person]", "张伟").await;
    browser.fill("input[name=phone]", "010-0000-0100").await;
    browser.click("button[type=submit]").await;
    browser.until("document.querySelector('.lamps')").await;
}

/// Every site and every device, each with its last values, their ages and their quality, and nobody stale.
async fn sees_every_device(browser: &Browser) {
    comes(
        browser,
        "document.querySelectorAll('#sites [data-device]').length >= 40 && !document.querySelector('#sites [data-device].stale')",
        STATE_MAX,
    )
    .await;
    assert_eq!(
        browser
            .run(
                "return [...document.querySelectorAll('.site h2')].map(h => h.firstChild.textContent.trim())"
            )
            .await,
        json!(["阳光养老院", "镇卫生院", "本网关"])
    );
    let odd = browser
        .run(
            "return [...document.querySelectorAll('#sites [data-point]')].filter(p =>
                !p.matches('.q-none') && !/前$/.test(p.querySelector('[data-age]').textContent) || !/\\bq-(good|absent|none)\\b/.test(p.className)
                || (p.matches('.q-good') && p.querySelector('.value b').textContent === '—')).map(p => p.dataset.point + ' ' + p.className + ' ' + p.innerText)",
        )
        .await;
    assert_eq!(odd, json!([]), "values without an age or a quality");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_watches_the_story_and_it_survives_a_kill() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let demo = Demo::start(dir.path(), port).await;
    let browser = Browser::start().await;
    browser.resize(1366, 768).await;
    sign_in(&browser, &demo).await;
    // A browser that already lets the page sound shows no bar.
    if browser.run("return !document.getElementById('unlock').hidden").await == Value::Bool(true) {
        browser.click("#unlock").await;
    }
    browser.until("document.getElementById('unlock').hidden").await;
    sees_every_device(&browser).await;
    in_all_sizes(&browser, "calm").await;

    // The fire: at once on top, with a strip that stays.
    let fire = "yg-smoke-203/smoke";
    comes(&browser, &card(fire), STORY_MAX).await;
    in_all_sizes(&browser, "fire").await;
    // All five chapters, each for exactly its reason.
    for (point, title, first, last) in HAZARDS {
        comes(&browser, &card(point), STORY_MAX).await;
        let text = card_text(&browser, point).await;
        assert!(text.contains(title), "{point}: {text}");
        let reason = text.lines().find(|line| line.starts_with(first) && line.ends_with(last));
        assert!(reason.is_some(), "{point} has no such reason: {text}");
    }
    // The detector has cleared itself long ago; the hazard stands and is still the first.
    comes(&browser, &format!("{}.innerText.includes('已恢复')", card(fire)), STATE_MAX).await;
    assert!(card_text(&browser, fire).await.contains("未复位"));
    let first = browser.run("return document.querySelector('#hazards article.card .why a').pathname").await;
    assert_eq!(first, json!(format!("/points/{fire}")));
    for fact in ["地址", "起火部位", "着火物", "火势", "报警人", "王院长", "010-0000-0001"] {
        assert!(card_text(&browser, fire).await.contains(fact), "the fire's card lacks {fact}");
    }
    in_all_sizes(&browser, "all").await;

    // Acknowledged, with who and when.
    let id = browser.run(&format!("return {}.id.slice(2)", card(fire))).await.as_str().unwrap().to_owned();
    browser.click(&format!("[data-hazard='{id}'] [data-verb=acknowledge]")).await;
    comes(
        &browser,
        &format!("/已确认 张伟 \\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d/.test({}.innerText)", card(fire)),
        STATE_MAX,
    )
    .await;
    // Reset: gone from the list, in the history.
    browser.click(&format!("[data-hazard='{id}'] [data-verb=reset]")).await;
    browser.fill("#reset-note", "已到现场，误报").await;
    browser.screenshot("story-reset-1366x768").await;
    browser.click("#reset-ask button[value=reset]").await;
    comes(&browser, &format!("!document.getElementById('h-{id}')"), STATE_MAX).await;
    in_all_sizes(&browser, "after-reset").await;
    browser.click("nav a[href='/history']").await;
    browser.until("document.querySelector('table.lines')").await;
    let history = browser.text("main").await;
    for words in ["感烟火警", "203", "张伟", "已到现场，误报"] {
        assert!(history.contains(words), "the history lacks {words}: {history}");
    }
    in_all_sizes(&browser, "history").await;

    // The chart of the residual current, with its limit.
    browser.go(&demo.url).await;
    browser.click("[data-point='yg-rcd-1/residual']").await;
    browser.until("location.pathname === '/points/yg-rcd-1/residual'").await;
    sees_a_chart(&browser).await;
    in_all_sizes(&browser, "chart").await;
    // A point of states has a chart as well.
    browser.go(&format!("{}points/{fire}", demo.url)).await;
    browser.until("document.querySelector('#chart canvas')").await;
    in_all_sizes(&browser, "chart-states").await;
    for page in ["log", "health"] {
        browser.go(&format!("{}{page}", demo.url)).await;
        in_all_sizes(&browser, page).await;
    }

    // Somebody acknowledges the residual current; then the fire happens again, by the visitor's own hand.
    browser.go(&demo.url).await;
    let residual = "yg-rcd-1/residual";
    browser.until(&card(residual)).await;
    let acked = browser.run(&format!("return {}.id.slice(2)", card(residual))).await;
    browser.click(&format!("[data-hazard='{}'] [data-verb=acknowledge]", acked.as_str().unwrap())).await;
    comes(&browser, &format!("{}.innerText.includes('已确认 张伟')", card(residual)), STATE_MAX).await;
    // The machine's lid is closed meanwhile: when it opens, the fire is there without a reload.
    browser.run("window.neverReloaded = true").await;
    browser.click("#demo [data-step=smoke]").await;
    browser.devtools("Page.setWebLifecycleState", json!({ "state": "frozen" })).await;
    demo.raised(fire, 2).await;
    browser.devtools("Page.setWebLifecycleState", json!({ "state": "active" })).await;
    comes(&browser, &card(fire), STATE_MAX).await;
    assert_eq!(browser.run("return window.neverReloaded").await, json!(true));
    // The whole story once more, and the process is killed in the middle of it.
    browser.click("#demo-restart").await;
    browser.until("document.querySelector('#demo .running')").await;
    let before = hazards(&browser).await;
    let (readings, oldest) = series(&browser, residual).await;
    demo.kill().await;
    comes(&browser, "!document.getElementById('lost').hidden", STATE_MAX).await;
    assert!(browser.text("#lost").await.contains("与网关的连接中断"));
    in_all_sizes(&browser, "lost").await;

    // Started again on the same folder and port: the page finds back by itself, and everything is there.
    let demo = Demo::start(dir.path(), port).await;
    comes(&browser, "document.getElementById('lost').hidden", STATE_MAX).await;
    let after = hazards(&browser).await;
    same_hazards(&before, &after);
    let (readings_after, oldest_after) = series(&browser, residual).await;
    assert!(readings_after >= readings, "{readings} readings became {readings_after}");
    assert!(oldest_after < oldest + BUCKET_MS, "the chart lost its beginning");
    comes(&browser, &format!("{}.innerText.includes('已确认 张伟')", card(residual)), STATE_MAX).await;
    sees_every_device(&browser).await;
    in_all_sizes(&browser, "restarted").await;
    browser.go(&format!("{}points/{residual}", demo.url)).await;
    sees_a_chart(&browser).await;
    browser.go(&format!("{}history", demo.url)).await;
    assert!(browser.text("main").await.contains("已到现场，误报"));
    let said = demo.stop().await;
    assert!(said.len() < 20, "the log of a quiet start is not calm: {said:#?}");
    browser.quit().await;
}

/// The chart is drawn: a line in green, a limit in its priority's colour, and an axis.
async fn sees_a_chart(browser: &Browser) {
    browser.until("document.querySelector('#chart canvas')").await;
    let drawn = "(() => { const canvas = document.querySelector('#chart canvas'); if (!canvas) return null;
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const near = (r, g, b) => { let count = 0; for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 200 && Math.abs(pixels[i] - r) + Math.abs(pixels[i + 1] - g) + Math.abs(pixels[i + 2] - b) < 30) count++; return count; };
        return { line: near(0x3d, 0xdc, 0x84), limit: near(0xff, 0x9a, 0x2e) }; })()";
    comes(browser, &format!("({drawn} ?? {{}}).line > 50"), STATE_MAX).await;
    comes(browser, &format!("({drawn} ?? {{}}).limit > 200"), STATE_MAX).await;
}

/// Nothing was lost: the same hazards with the same beginnings and signatures. What returned before has returned;
/// what stood may have returned since, because the simulated world is calm after a start.
fn same_hazards(before: &[Value], after: &[Value]) {
    for hazard in before {
        let same = after.iter().find(|other| other["id"] == hazard["id"]);
        let same = same.unwrap_or_else(|| panic!("lost: {hazard}\nleft: {after:?}"));
        for what in ["point", "signal", "priority", "raised_at", "acknowledged", "silenced", "reason"] {
            assert_eq!(same[what], hazard[what], "{what} of {hazard}");
        }
        assert!(
            hazard["returned_at"].is_null() || same["returned_at"] == hazard["returned_at"],
            "{hazard}\n{same}"
        );
    }
}
