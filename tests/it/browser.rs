//! Tests of the duty room in a real browser, against a board of fixture values.

use crate::support::browser::{self, Browser};
use crate::support::duty_room::{self, DutyRoom};
use fengsui::clock::Clock;
use fengsui::model::{Body, Change, DeviceId, LinkId, Quarantined, Value};
use std::net::SocketAddr;
use tokio::net::TcpListener;

async fn open(room: &DutyRoom) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = room.router.clone().into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    (url, serving)
}

async fn sign_in(browser: &Browser, room: &DutyRoom, url: &str) {
    let password = &room.password;
    let before = *room.journal.recorded().borrow();
    browser.go(url).await;
    browser.fill("input[name=password]", password).await;
    browser.fill("input[name=person]", "张伟").await;
    browser.fill("input[name=phone]", "0710-5550100").await;
    browser.click("button[type=submit]").await;
    browser.until("document.querySelector('.lamps')").await;
    // The sign-in is a line of the duty log; the stage numbers its entries after it.
    let mut recorded = room.journal.recorded();
    recorded.wait_for(|no| *no > before).await.unwrap();
}

const SIZES: [(&str, u32, u32); 3] =
    [("1366x768", 1366, 768), ("1920x1080", 1920, 1080), ("390x844", 390, 844)];

/// Looks at the monitor at every size; nothing may be wider than the screen.
async fn look(browser: &Browser, name: &str) {
    for (size, width, height) in SIZES {
        browser.resize(width, height).await;
        browser.run("document.querySelector('#hazards').scrollTop = 0; scrollTo(0, 0)").await;
        browser.screenshot(&format!("{name}-{size}")).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "{name} is wider than a screen of {width}");
    }
    browser.resize(1366, 768).await;
}

/// A device that may be told something has a button, at every size large enough for a thumb, and it asks before it acts.
async fn sees_the_commands(browser: &Browser, url: &str) {
    browser.go(&format!("{url}/points/ef-01/residual_current")).await;
    browser.run("window.asked = ''; window.confirm = text => { window.asked = text; return false; }").await;
    for (size, width, height) in SIZES {
        browser.resize(width, height).await;
        browser
            .run("document.querySelector('[data-device-command]').scrollIntoView({ block: 'center' })")
            .await;
        browser.screenshot(&format!("commands-{size}")).await;
        let button = "document.querySelector('[data-device-command]').getBoundingClientRect().height";
        let height = browser.run(&format!("return {button}")).await.as_f64().unwrap();
        assert!(height >= 40.0, "{size}: {height} px");
    }
    browser.click("[data-device-command]").await;
    let asked = browser.run("return window.asked").await;
    assert!(asked.as_str().unwrap().contains("消音？确定下达吗"), "{asked}");
    browser.resize(1366, 768).await;
}

/// Looks at what could not be read at every size, with the frames beside it; nothing may be wider than the screen.
async fn sees_the_quarantine(browser: &Browser, room: &DutyRoom, url: &str) {
    let payload = br#"{"alarm":"maybe","temperature":21.5}"#;
    let frame = Quarantined {
        id: 0,
        device: DeviceId::parse("sd-203").ok(),
        planned: true,
        link: LinkId::parse("broker").unwrap(),
        body: Body::Message { topic: "site/town/device/sd-203/up".into(), payload: payload.to_vec().into() },
        at: room.clock.now(),
        retained: false,
        reason: "smoke：未知代码 maybe".into(),
        had: "temperature".into(),
    };
    room.stage.unreadable(frame, payload).await;
    browser.go(&format!("{url}/strays?decoded=12&kept=3&readings=36")).await;
    for (size, width, height) in SIZES {
        browser.resize(width, height).await;
        browser.run("document.querySelector('.kept').scrollIntoView({ block: 'center' })").await;
        browser.screenshot(&format!("quarantine-{size}")).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "the page is wider than a screen of {width}");
    }
    browser.resize(1366, 768).await;
}

/// The maintainer looks for a model: as he types, without scripts, and on its own page.
async fn finds_a_model(browser: &Browser, url: &str) {
    let shown = "[...document.querySelectorAll('.model')].filter((row) => row.checkVisibility()).map((row) => row.getAttribute('href'))";
    browser.go(&format!("{url}/catalogue")).await;
    let all = browser.run(&format!("return {shown}.length")).await.as_u64().unwrap();
    assert!(all > 100, "{all} models");
    look_at(browser, "catalogue").await;
    browser.fill("input[name=q]", "Heiman 感烟").await;
    browser.until(&format!("{shown}.length > 0 && {shown}.length < 10")).await;
    let typed = browser.run(&format!("return {shown}")).await;
    assert_eq!(browser.text("[data-filter-count]").await, typed.as_array().unwrap().len().to_string());
    // The form gives the same rows.
    browser.click(".find button").await;
    browser.until("location.search.includes('q=')").await;
    assert_eq!(browser.run(&format!("return {shown}")).await, typed);
    browser.click(".kinds a[href*='kind=fire']").await;
    browser.until("document.querySelector('.kinds .chosen')?.href.includes('kind=fire')").await;
    assert_eq!(browser.run(&format!("return {shown}")).await, typed);
    browser.click(".model").await;
    browser.until("document.querySelector('.point-words')").await;
    let page = browser.text("main").await;
    assert!(
        page.contains("火警") && page.contains("依据：") && page.contains("[[site.zone.device]]"),
        "{page}"
    );
    look_at(browser, "model").await;
}

/// At every size; nothing may be wider than the screen.
async fn look_at(browser: &Browser, name: &str) {
    for (size, width, height) in SIZES {
        browser.resize(width, height).await;
        browser.run("scrollTo(0, 0)").await;
        browser.screenshot(&format!("{name}-{size}")).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "{name} is wider than a screen of {width}");
    }
    browser.resize(1366, 768).await;
}

/// Of the chart: its columns that show the line, in runs as `[first, last]` (a limit drawn over it does not part them),
/// and how much yellow lies along its foot.
const DRAWN: &str = "(() => { const canvas = document.querySelector('#chart canvas'); if (!canvas) return null;
    const { width, height } = canvas, pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
    const near = (i, r, g, b) => pixels[i + 3] > 200 && Math.abs(pixels[i] - r) + Math.abs(pixels[i + 1] - g) + Math.abs(pixels[i + 2] - b) < 30;
    const runs = []; let yellow = 0;
    for (let x = 0; x < width; x++) {
      let line = false;
      for (let y = 0; y < height; y++) { const i = 4 * (y * width + x); line ||= near(i, 0x3d, 0xdc, 0x84); if (near(i, 0xff, 0xd3, 0x3d)) yellow++; }
      const last = runs.at(-1);
      if (line && last && x - last[1] <= 12) last[1] = x; else if (line) runs.push([x, x]);
    }
    return { runs, yellow, width }; })()";

async fn drawn(browser: &Browser) -> serde_json::Value {
    browser.until(&format!("({DRAWN} ?? {{ runs: [] }}).runs.length > 0")).await;
    browser.run(&format!("return {DRAWN}")).await
}

/// A gap is a gap, rolled-up hours are no gaps, and what is not to be trusted is marked in yellow.
async fn sees_gaps_and_bad_values(browser: &Browser, url: &str) {
    browser.go(&format!("{url}/points/ef-01/residual_current")).await;
    let chart = drawn(browser).await;
    // Five minutes of the hour were silent; the device may be silent for one.
    assert_eq!(chart["runs"].as_array().unwrap().len(), 2, "{chart}");
    let silent = chart["runs"][1][0].as_i64().unwrap() - chart["runs"][0][1].as_i64().unwrap();
    let hour = chart["runs"][1][1].as_i64().unwrap() - chart["runs"][0][0].as_i64().unwrap();
    assert!((hour / 15..hour / 9).contains(&silent), "{chart}");
    assert_eq!(chart["yellow"], 0);
    // A week that was rolled up to hours, of a device that may be silent for a minute: five hours are missing, and one
    // has values that nobody trusts.
    let week = "window.fetch = async () => { const hour = 3600000, to = 1800000000000, from = to - 168 * hour;
        const rows = [...Array(168).keys()].filter((n) => n < 80 || n >= 85)
            .map((n) => [from + n * hour, from + (n + 1) * hour, 60, n === 120 ? 60 : 0, 80, 90 + n % 3, 85, 85, []]);
        const s = { name: { zh: 'x', en: 'x' }, unit: 'mA', decimals: 0, numeric: true, states: [], silent_after_ms: 60000, from, to, rows, limits: [], hazards: [], closed_hazards: [] };
        return { ok: true, json: async () => s }; }";
    browser.run(week).await;
    browser.click("[data-range='604800']").await;
    browser.until(&format!("({DRAWN} ?? {{}}).yellow > 0")).await;
    browser.screenshot("chart-rolled-up").await;
    let chart = drawn(browser).await;
    assert_eq!(
        chart["runs"].as_array().unwrap().len(),
        2,
        "hours were drawn as gaps, or the gap as a line: {chart}"
    );
    // A burning sensor reads off its scale: the value is drawn, and marked.
    browser.go(&format!("{url}/points/sd-205/temperature")).await;
    browser.until(&format!("({DRAWN} ?? {{}}).yellow > 0")).await;
    browser.screenshot("chart-off-scale").await;
}

/// The gateway itself is in trouble: a yellow bar on the monitor without a reload, and the reasons on its own page.
async fn sees_what_the_gateway_needs(browser: &Browser, room: &DutyRoom, url: &str) {
    let before = room.health.borrow().clone();
    let now = room.clock.now();
    let refused = serde_json::json!({
        "sink": "influx", "number": 0, "at": now.as_millis(), "entry_at_most": 7, "alike": 41,
        "line": "residual_current,site=sunshine,zone=f1,device=ef-01,point=ef-01/residual_current value=342,quality=0i",
        "reason": "partial write: field type conflict: input field \"value\" is type float, already exists as integer",
    });
    room.journal.put_document("influx-refused", "influx:0", Some(&refused.to_string()), now).await.unwrap();
    browser.go(url).await;
    browser.until("!document.getElementById('trouble').hidden").await;
    room.health.send_modify(|health| {
        health.sinks[1].hours_left = Some(5);
        health.set_aside = vec![("journal.db.damaged-1".into(), 12_300_000)];
        health.backup = Some(fengsui::web::Backup {
            at: now - fengsui::model::Span::from_secs(7200),
            file: String::new(),
            bytes: 0,
            error: Some(fengsui::model::Text::new("备份目录不存在：/mnt/usb", "there is no folder /mnt/usb")),
            good_at: Some(now - fengsui::model::Span::from_secs(200_000)),
        });
    });
    browser.until("document.getElementById('trouble').innerText.includes('断网还能缓存 5小时')").await;
    look(browser, "needs-a-person").await;
    browser.go(&format!("{url}/health")).await;
    for (size, width, height) in SIZES {
        browser.resize(width, height).await;
        browser.screenshot(&format!("health-fault-{size}")).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "the health page is wider than a screen of {width}");
    }
    browser.resize(1366, 768).await;
    let tall = "return Math.min(...[...document.querySelectorAll('.state b')].map((b) => b.getBoundingClientRect().height))";
    assert!(browser.run(tall).await.as_f64().unwrap() >= 36.0, "nobody reads that from two metres");
    room.health.send_replace(before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_duty_officer_sees_acknowledges_and_resets() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), Clock::system(), None).await;
    duty_room::fill(&room, &plan).await;
    let (url, serving) = open(&room).await;
    let browser = Browser::start().await;
    browser.resize(1366, 768).await;
    browser.go(&url).await;
    browser.screenshot("sign-in").await;
    sign_in(&browser, &room, &url).await;
    browser.until("document.querySelector('[data-lamp=fire] b').textContent === '3'").await;
    look(&browser, "monitor").await;
    for (name, path) in [
        ("log", "/log"),
        ("history", "/history"),
        ("strays", "/strays"),
        ("health", "/health"),
        ("point", "/points/ef-01/residual_current"),
        ("point-state", "/points/sd-203/smoke_state"),
    ] {
        browser.go(&format!("{url}{path}")).await;
        if name.starts_with("point") {
            browser.until("document.querySelector('#chart canvas')").await;
        }
        browser.screenshot(name).await;
    }
    sees_the_quarantine(&browser, &room, &url).await;
    finds_a_model(&browser, &url).await;
    sees_the_commands(&browser, &url).await;
    sees_gaps_and_bad_values(&browser, &url).await;
    sees_what_the_gateway_needs(&browser, &room, &url).await;
    browser.go(&url).await;
    // A new fire appears without a reload, on top of all but the first.
    let fire =
        duty_room::hazard(&plan, 9, "sd-101/smoke_state", Value::Code("alarm".into()), room.clock.now());
    let id = fire.id.clone();
    room.stage.append(vec![], vec![(Change::Raised, fire.clone())], vec![]).await;
    browser.until(&format!("document.getElementById('h-{id}')")).await;
    browser.click(&format!("[data-hazard='{id}'] [data-verb=acknowledge]")).await;
    browser.until(&format!("document.getElementById('h-{id}').innerText.includes('张伟')")).await;
    // It still burns: a reset is refused in words.
    browser.click(&format!("[data-hazard='{id}'] [data-verb=reset]")).await;
    browser.fill("#reset-note", "已到现场").await;
    browser.click("#reset-ask button[value=reset]").await;
    browser.until("document.getElementById('reset-refusal').innerText").await;
    assert!(browser.text("#reset-refusal").await.contains("不能复位"));
    browser.screenshot("reset-refused").await;
    browser.click("#reset-ask button[value=cancel]").await;
    // It is over: a reset closes it.
    let acknowledged = room.board.snapshot().open[&id].hazard.acknowledged.clone();
    let over = fengsui::model::Hazard { returned_at: Some(room.clock.now()), acknowledged, ..fire };
    room.stage.append(vec![], vec![(Change::Returned, over)], vec![]).await;
    browser.until(&format!("document.getElementById('h-{id}').innerText.includes('已恢复')")).await;
    browser.click(&format!("[data-hazard='{id}'] [data-verb=reset]")).await;
    browser.click("#reset-ask button[value=reset]").await;
    browser.until(&format!("!document.getElementById('h-{id}')")).await;
    // These complaints are not the page's: sound before the first touch, the refused reset, and how we look at charts.
    let mut console = browser.console().await;
    let not_ours = ["AudioContext was not allowed", "409 (Conflict)", "using getImageData"];
    console.retain(|line| !not_ours.iter().any(|words| line.contains(words)));
    assert_eq!(console, Vec::<String>::new(), "the page complained");
    // The gateway goes away: the screen may not look alive.
    room.cancel.cancel();
    serving.abort();
    browser.until("!document.getElementById('lost').hidden").await;
    browser.screenshot("lost").await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tired_officer_reaches_every_button_on_the_first_screen() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), Clock::system(), None).await;
    let now = room.clock.now();
    let mut readings = duty_room::calm(now, &plan);
    // An alarm between two normal reports: the chart must show it.
    readings.push(duty_room::code(
        "sd-102/smoke_state",
        "normal",
        now - fengsui::model::Span::from_secs(1800),
    ));
    readings.push(duty_room::code(
        "sd-102/smoke_state",
        "alarm",
        now - fengsui::model::Span::from_secs(1799),
    ));
    readings.push(duty_room::code(
        "sd-102/smoke_state",
        "normal",
        now - fengsui::model::Span::from_secs(1798),
    ));
    room.stage.append(readings, vec![], vec![]).await;
    while !room.series.step().await.unwrap().idle {}
    let (url, serving) = open(&room).await;
    let browser = Browser::start().await;
    browser.resize(1366, 768).await;
    sign_in(&browser, &room, &url).await;
    browser.until("document.body.classList.contains('live')").await;
    look(&browser, "calm").await;
    browser.go(&format!("{url}/points/sd-102/smoke_state")).await;
    browser.until("document.querySelector('#chart canvas')").await;
    browser.screenshot("point-state-lanes").await;
    browser.go(&url).await;
    // One fire.
    let alarm = || Value::Code("alarm".into());
    let number = |v| Value::Number(fengsui::model::Number::new(v).unwrap());
    let raise = |no: u64, point: &str, value: Value, ago: i64| {
        let at = room.clock.now() - fengsui::model::Span::from_secs(ago);
        (Change::Raised, duty_room::hazard(&plan, no, point, value, at))
    };
    let fire = raise(20, "sd-203/smoke_state", alarm(), 95);
    room.stage.append(vec![duty_room::code("sd-203/smoke_state", "alarm", now)], vec![fire], vec![]).await;
    browser.until("document.querySelectorAll('#hazards article').length === 1").await;
    look(&browser, "one-fire").await;
    // And four others.
    let four = [
        raise(30, "ef-01/residual_current", number(342.0), 80),
        raise(30, "sd-206/battery", number(11.0), 60),
        raise(30, "hy-02/link", Value::Absent, 40),
        raise(30, "hy-01/pressure", number(0.11), 20),
    ];
    room.stage.append(vec![], four.into(), vec![]).await;
    browser.until("document.querySelectorAll('#hazards article').length === 5").await;
    browser.until("document.querySelector('.site [data-open]').textContent === '4'").await;
    look(&browser, "five").await;
    let tall =
        browser.run("return document.querySelector('#hazards article').getBoundingClientRect().height").await;
    assert!(tall.as_f64().unwrap() <= 768.0 * 0.55, "the fire's card takes {tall} of 768");
    let low = "return [...document.querySelectorAll('#hazards article')[1].querySelectorAll('button')]\
               .map((button) => button.getBoundingClientRect().bottom).reduce((a, b) => Math.max(a, b), 0)";
    let low = browser.run(low).await.as_f64().unwrap();
    assert!(low > 0.0 && low <= 768.0, "the second card's buttons end at {low} of 768");
    // Forty, most of them at once.
    let mut flood = Vec::new();
    for (.., device) in plan.devices() {
        for point in device.points.iter().filter(|point| !point.rules.is_empty()) {
            let value = if point.class.as_str() == "smoke_state" { alarm() } else { number(1.0) };
            flood.push(raise(40, point.id.as_str(), value.clone(), 5));
            flood.push(raise(41, point.id.as_str(), value, 3));
        }
    }
    let open = room.board.snapshot().open.len();
    flood.truncate(40 - open);
    room.stage.append(vec![], flood, vec![]).await;
    browser.until("document.querySelector('.list-head .count').textContent === '40'").await;
    look(&browser, "flood").await;
    // Without scripts the same page shows what it knows, and nothing of it in green.
    browser.scripts(false).await;
    browser.go(&url).await;
    browser.screenshot("no-script").await;
    browser.scripts(true).await;
    browser.go(&url).await;
    browser.until("document.body.classList.contains('live')").await;
    room.cancel.cancel();
    serving.abort();
    browser
        .until("!document.getElementById('lost').hidden && !document.body.classList.contains('live')")
        .await;
    look(&browser, "lost").await;
    browser.quit().await;
}

/// A browser keeps the pages that one leaves, and has six connections for a gateway: with a stream in each of them the seventh
/// page would hang for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_left_gives_its_stream_back_and_is_live_again_when_one_comes_back() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let plan = duty_room::plan();
    let room = duty_room::room(plan.clone(), Clock::system(), None).await;
    let (url, serving) = open(&room).await;
    let browser = Browser::start().await;
    sign_in(&browser, &room, &url).await;
    let pages =
        ["/log", "/history", "/strays", "/catalogue", "/health", "/", "/log", "/points/sd-203/smoke_state"];
    for path in pages {
        browser.until("document.body.classList.contains('live')").await;
        browser.run(&format!("location.href = '{path}'")).await;
        browser.until(&format!("location.pathname === '{path}' && document.querySelector('.lamps')")).await;
    }
    browser.until("document.body.classList.contains('live')").await;
    crate::support::ports::until("the pages that were left hold no stream", || {
        room.metrics.web_streams.get() <= 1
    })
    .await;
    browser.run("history.back()").await;
    browser.until("location.pathname === '/log' && document.body.classList.contains('live')").await;
    browser.quit().await;
    serving.abort();
}
