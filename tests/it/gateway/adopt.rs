//! A new device by somebody who writes no code: from a message that nobody expected to a tile with values, in one page, while the
//! gateway runs; and everything that may come in between.

use super::quarantine::{hall, heat};
use crate::support::browser::{self, Browser};
use crate::support::gateway::{BROKER, Gateway, House, encoded, topic};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A plan as a person keeps it, with a place for one more device.
const PLAN: &str = "# 阳光养老院。改动前先问张工 139…\n\n[[site]]\nid = \"sunshine\"      # 平台上也叫这个\nname = \"阳光养老院\"\naddress = \"某路 8 号\"\n\n\
    [[site.contact]]\nrole = \"值班室\"\nphone = \"119\"\n\n# ── 二层 ──\n[[site.zone]]\nid = \"floor-2\"\nname = \"二层\"\n\n\
    [[site.zone.device]]   # 第一台\nid = \"sd-1\"\nname = '201 烟感'\nprofile = \"fengsui/smoke-json\"\nlink = \"broker\"\naddress = \"sd-1\"\n\n\
    # ── 厨房，另一个回路 ──\n[[site.zone]]\nid = \"kitchen\"\nname = \"厨房\"\n\n# 完\n";

const AT_REST: &str = r#"{"smoke":0,"temperature":21.5,"battery":98}"#;

fn plan_of(house: &House) -> PathBuf {
    house.config().with_file_name("plan.toml")
}

fn house() -> House {
    let house = House::build(BROKER, "");
    std::fs::write(plan_of(&house), PLAN).unwrap();
    house
}

fn key(id: &str) -> String {
    format!("broker {}", topic(id))
}

/// What the page has put into its hidden field of that name.
fn hidden(page: &str, name: &str) -> String {
    let from = format!("name=\"{name}\" value=\"");
    let rest = page.split(&from).nth(1).unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split('"').next().unwrap().to_owned()
}

/// Opens the page of a sender, as a person does before he fills it in.
async fn opened(gateway: &Gateway, id: &str) -> String {
    gateway.page(&format!("/adopt?key={}", encoded(&key(id)))).await
}

/// Fills the page in and presses the button.
async fn adopt(gateway: &Gateway, page: &str, id: &str, more: &[(&str, &str)]) -> (u16, String, String) {
    let (key, seen) = (key(id), hidden(page, "seen"));
    let name = format!("{id} 烟感");
    let mut fields: Vec<(&str, &str)> = vec![
        ("key", &key),
        ("seen", &seen),
        ("profile", "fengsui/smoke-json"),
        ("name", &name),
        ("zone", "sunshine/floor-2"),
        ("id", id),
    ];
    for (field, value) in more {
        fields.retain(|(known, _)| known != field);
        fields.push((field, value));
    }
    gateway.form("/adopt", &fields).await
}

/// The plan with these lines at the end of the second floor.
fn with(lines: &str) -> String {
    PLAN.replace("address = \"sd-1\"\n", &format!("address = \"sd-1\"\n{lines}"))
}

fn lines(id: &str, name: &str) -> String {
    format!(
        "\n[[site.zone.device]]\nid = \"{id}\"\nname = \"{name}\"\nprofile = \"fengsui/smoke-json\"\nlink = \"broker\"\naddress = \"{id}\"\n"
    )
}

const SIZES: [(&str, u32, u32); 3] =
    [("1366x768", 1366, 768), ("1920x1080", 1920, 1080), ("390x844", 390, 844)];

async fn look(browser: &Browser, name: &str) {
    for (size, width, height) in SIZES {
        browser.resize(width, height).await;
        browser.run("scrollTo(0, 0)").await;
        browser.screenshot(&format!("{name}-{size}")).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "{name} is wider than a screen of {width}");
    }
    browser.resize(1366, 768).await;
}

#[tokio::test]
async fn an_unknown_sensor_is_adopted_from_the_page_while_the_gateway_runs() {
    assert!(browser::is_installed(), "install chromium and chromium-driver");
    let house = house();
    let gateway = house.open().await;
    let mut pen = gateway.pen("sd-9").await;
    pen.publish(&topic("sd-9"), AT_REST).await;
    // Another one speaks a dialect that no device of the plan has.
    pen.publish(
        "zigbee2mqtt/0x00158d0001a2b3c4",
        r#"{"smoke":false,"battery_low":false,"battery":97,"linkquality":87,"tamper":false}"#,
    )
    .await;
    let browser = Browser::start().await;
    browser.go(&format!("http://{}", gateway.web)).await;
    browser.fill("input[name=password]", &house.password()).await;
    browser.fill("input[name=person]", "张伟").await;
    browser.click("button[type=submit]").await;
    browser.until("document.querySelector('.lamps')").await;

    browser
        .go(&format!("http://{}/adopt?key={}", gateway.web, encoded("broker zigbee2mqtt/0x00158d0001a2b3c4")))
        .await;
    let cards = browser.run("return document.querySelectorAll('.choice').length").await.as_u64().unwrap();
    assert!(cards >= 2, "several models listen there: {cards}");
    assert!(
        browser.text(".choice:has(:checked)").await.contains("感烟"),
        "{}",
        browser.text(".choice").await
    );
    look(&browser, "adopt-candidates").await;
    // Another model by a few words of it.
    browser.fill("input[list=models]", "heiman 海曼 HS1SA").await;
    browser.click(".find button").await;
    browser.until("document.querySelector('.choice:has(:checked)')?.innerText.includes('HS1SA')").await;

    browser.go(&format!("http://{}/strays", gateway.web)).await;
    look(&browser, "strays-adopt").await;
    browser.click(&format!(".stray a[href*='{}']", "sd-9")).await;
    browser.until("document.querySelector('#adopt')").await;
    let preview = browser.text(".choice:has(:checked)").await;
    assert!(preview.contains("21.5 ℃") && preview.contains("正常") && preview.contains("98 %"), "{preview}");
    look(&browser, "adopt").await;
    browser.fill("#adopt input[name=name]", "203 房间烟感").await;
    browser.fill("#adopt input[name=place]", "床头").await;
    // An id that is taken is refused in words, and what was typed stays.
    browser.run("document.querySelector('input[name=id]').value = 'sd-1'").await;
    browser.click("#adopt button[type=submit]").await;
    browser.until("document.querySelector('.told.refused')").await;
    look(&browser, "adopt-refused").await;
    assert!(browser.text(".told.refused").await.contains("已经是“201 烟感”"));
    browser.run("document.querySelector('input[name=id]').value = 'sd-9'").await;
    for (size, width, height) in SIZES {
        browser.resize(width, height).await;
        browser.run("document.querySelector('#adopt').scrollIntoView()").await;
        browser.screenshot(&format!("adopt-form-{size}")).await;
    }
    browser.resize(1366, 768).await;
    browser.click("#adopt button[type=submit]").await;
    browser.until("location.pathname === '/devices/sd-9'").await;

    let written = lines("sd-9", "203 房间烟感").replace("profile", "place = \"床头\"\nprofile");
    assert_eq!(std::fs::read_to_string(plan_of(&house)).unwrap(), with(&written), "comments and all");
    // Its next message shows on the open page, without a restart.
    pen.publish(&topic("sd-9"), r#"{"smoke":0,"temperature":22.5,"battery":98}"#).await;
    browser.until("document.querySelector('[data-point=\"sd-9/temperature\"] .value b')?.textContent.startsWith('22.5')").await;
    look(&browser, "device").await;
    // What came before goes into the history.
    browser.go(&format!("http://{}/strays", gateway.web)).await;
    look(&browser, "strays-renewed").await;
    browser.click(".told.renewed button").await;
    browser.until("document.querySelector('[role=status]')?.textContent.includes('1')").await;
    let answer = gateway.get("/api/v1/points/sd-9/temperature/series?range=24h").await;
    let samples: u64 = answer["rows"].as_array().unwrap().iter().map(|row| row[2].as_u64().unwrap()).sum();
    assert_eq!(samples, 2);
    let log = gateway.get("/api/v1/log").await.to_string();
    assert!(log.contains("配置已更新（张伟，账号 duty）：新增设备 203 房间烟感（sd-9）"), "{log}");
    browser.quit().await;
    gateway.stop().await;
}

#[tokio::test]
async fn of_two_people_at_once_the_second_is_told_and_nothing_is_written_over() {
    let house = house();
    // The plan is a link, and beside its file lies what a power cut left of an earlier try.
    let real = house.config().with_file_name("real.toml");
    std::fs::rename(plan_of(&house), &real).unwrap();
    std::os::unix::fs::symlink(&real, plan_of(&house)).unwrap();
    std::fs::write(house.config().with_file_name("real.toml.part"), "[[si").unwrap();
    let gateway = house.open().await;
    let mut pen = gateway.pen("all").await;
    for id in ["sd-8", "sd-9"] {
        pen.publish(&topic(id), AT_REST).await;
    }
    let (first, second) = tokio::join!(opened(&gateway, "sd-8"), opened(&gateway, "sd-9"));
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(plan_of(&house), mode).unwrap();
    let (status, path, _) = adopt(&gateway, &first, "sd-8", &[]).await;
    assert_eq!((status, &*path), (200, "/devices/sd-8"));
    let (status, path, page) = adopt(&gateway, &second, "sd-9", &[]).await;
    assert_eq!((status, &*path), (409, "/adopt"));
    assert!(page.contains("被改过") && page.contains("sd-9 烟感"), "what was typed stays: {page}");
    assert_eq!(std::fs::read_to_string(plan_of(&house)).unwrap(), with(&lines("sd-8", "sd-8 烟感")));
    // The page that says so has seen the new file.
    let (status, ..) = adopt(&gateway, &page, "sd-9", &[]).await;
    assert_eq!(status, 200);
    let both = lines("sd-8", "sd-8 烟感") + &lines("sd-9", "sd-9 烟感");
    assert_eq!(std::fs::read_to_string(plan_of(&house)).unwrap(), with(&both));
    let mode = std::fs::metadata(plan_of(&house)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert!(std::fs::symlink_metadata(plan_of(&house)).unwrap().is_symlink(), "the link stays a link");
    // A row that is planned by now leads to its device.
    assert!(gateway.page("/strays").await.contains("/devices/sd-9?key="));
    let left: Vec<_> = std::fs::read_dir(house.config().parent().unwrap()).unwrap().flatten().collect();
    assert!(left.iter().all(|file| !file.file_name().to_string_lossy().ends_with(".part")), "{left:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_that_cannot_be_right_is_refused_in_words_and_the_plan_is_untouched() {
    let house = house();
    let gateway = house.open().await;
    gateway.pen("sd-9").await.publish(&topic("sd-9"), AT_REST).await;
    let page = opened(&gateway, "sd-9").await;
    let refusals: [(&[(&str, &str)], &str); 8] = [
        (&[("name", " ")], "请填写设备名称"),
        (&[("id", "sd-1")], "已经是“201 烟感”"),
        (&[("id", "二层烟感")], "编号只能用"),
        (&[("profile", "nobody/knows")], "没有型号"),
        (&[("profile", "zigbee2mqtt/heiman-hs1sa-e")], "不听"),
        (&[("zone", "sunshine/")], "新分区的名称"),
        (&[("zone", "sunshine/attic")], "已没有这个分区"),
        (&[("address", "sd-1")], "已经属于"),
    ];
    for (more, words) in refusals {
        let (status, _, answer) = adopt(&gateway, &page, "sd-9", more).await;
        assert_eq!(status, 422, "{more:?}: {answer}");
        assert!(answer.contains(words), "{more:?}: {answer}");
    }
    assert_eq!(std::fs::read_to_string(plan_of(&house)).unwrap(), PLAN);
    // A mistake that is in the file already is shown with its place, and nothing is added to it.
    let broken = PLAN.replace("link = \"broker\"", "link = \"nowhere\"");
    std::fs::write(plan_of(&house), &broken).unwrap();
    let page = opened(&gateway, "sd-9").await;
    let (status, _, answer) = adopt(&gateway, &page, "sd-9", &[]).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("没有这个连接") && answer.contains("plan.toml"), "{answer}");
    assert_eq!(std::fs::read_to_string(plan_of(&house)).unwrap(), broken);
    // A file that nobody may write is left, and the lines are shown to be copied.
    std::fs::write(plan_of(&house), PLAN).unwrap();
    std::fs::set_permissions(plan_of(&house), std::fs::Permissions::from_mode(0o440)).unwrap();
    let page = opened(&gateway, "sd-9").await;
    let (status, _, answer) = adopt(&gateway, &page, "sd-9", &[]).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("手工加进去") && answer.contains("id = &#34;sd-9&#34;"), "{answer}");
    assert_eq!(std::fs::read_to_string(plan_of(&house)).unwrap(), PLAN);
    std::fs::set_permissions(plan_of(&house), std::fs::Permissions::from_mode(0o640)).unwrap();
    // And a zone that is made for it.
    let page = opened(&gateway, "sd-9").await;
    let more = [("zone", "sunshine/"), ("zone_name", "三层"), ("id", "")];
    let (status, path, answer) = adopt(&gateway, &page, "sd-9", &more).await;
    assert_eq!((status, &*path), (200, "/devices/sd-9"), "{answer}");
    let plan = std::fs::read_to_string(plan_of(&house)).unwrap();
    assert!(plan.contains("[[site.zone]]\nid = \"zone\"\nname = \"三层\"\n"), "{plan}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_that_is_written_and_not_taken_in_is_told_as_such() {
    let house = house();
    let gateway = house.open().await;
    gateway.pen("sd-9").await.publish(&topic("sd-9"), AT_REST).await;
    let page = opened(&gateway, "sd-9").await;
    // The files are right and the gateway cannot run by them: somebody else listens there.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = std::fs::read_to_string(house.config()).unwrap();
    let here = format!("[broker]\nlisten = \"{}\"", taken.local_addr().unwrap());
    let busy = settings.replace("[broker]\nlisten = \"127.0.0.1:0\"", &here);
    assert_ne!(busy, settings);
    std::fs::write(house.config(), busy).unwrap();
    let (status, path, answer) = adopt(&gateway, &page, "sd-9", &[]).await;
    assert_eq!((status, &*path), (422, "/adopt"), "{answer}");
    assert!(answer.contains("网关没有采用") && answer.contains("不能监听"), "{answer}");
    assert_eq!(std::fs::read_to_string(plan_of(&house)).unwrap(), with(&lines("sd-9", "sd-9 烟感")));
    assert_eq!(gateway.status("/devices/sd-9").await, 404, "the old plan is in force");
    // Once that is mended the device is there, as with every change of a file.
    std::fs::write(house.config(), settings).unwrap();
    assert_eq!(gateway.reload().await.0, 200);
    assert_eq!(gateway.status("/devices/sd-9").await, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_mended_profile_is_taken_in_and_its_kept_frames_are_offered_to_be_decoded_again() {
    let house = hall();
    house.profile("hall/heat", &heat("wrong", "wrong_too"));
    let gateway = house.open().await;
    let mut pen = gateway.pen("hd-1").await;
    for payload in [r#"{"t":21.5,"s":0}"#, r#"{"t":22.5,"s":0}"#, r#"{"t":95,"s":1}"#] {
        pen.publish("hall/hd-1/up", payload).await;
    }
    assert!(!gateway.page("/strays").await.contains("name=\"renewed\""), "nothing has changed yet");
    house.profile("hall/heat", &heat("t", "s"));
    assert_eq!(gateway.reload().await.0, 200);
    let page = gateway.page("/strays").await;
    assert!(page.contains("可重新解码的报文：<b>3</b>"), "{page}");
    let (status, path, page) = gateway.form("/strays/decode", &[("renewed", "1")]).await;
    assert_eq!((status, &*path), (200, "/strays"));
    assert!(page.contains("解出报文 <b>3</b>") && !page.contains("name=\"renewed\""), "{page}");
    assert_eq!(gateway.get("/api/v1/hazards").await["hazards"], json!([]), "history is no alarm");
    // The changed model is in the catalogue as well.
    let found = gateway.get("/api/v1/catalogue?q=hall").await;
    assert_eq!(found["models"][0]["profile"], "hall/heat", "{found}");
    gateway.stop().await;
}
