//! What the pages say, and what they may load.

use super::*;
use fengsui::model::{Span, Value as Measured};

#[tokio::test]
async fn an_acknowledgement_carries_the_persons_name_and_a_refusal_is_in_chinese() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let id = "4.sd-204.smoke_state.fire-smoke";
    let path = format!("/api/v1/hazards/{id}/acknowledge");
    let done =
        json(send(&room, post(&path, &cookie, &serde_json::json!({ "note": "已打电话" }))).await).await;
    reached(&room, done["no"].as_u64().unwrap()).await;
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    assert!(page.contains("已打电话"));
    let again = send(&room, ask("POST", &path, &cookie)).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(json(again).await["message_zh"], "已有人确认");
    let history = json(send(&room, ask("GET", &format!("/api/v1/hazards/{id}"), &cookie)).await).await;
    assert_eq!(history["history"][1]["operator"]["by"], "张伟");
}

#[tokio::test]
async fn no_page_and_no_asset_names_another_host_and_the_policy_forbids_it() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let mut looked = 0;
    let assets = [
        "/assets/duty.css",
        "/assets/duty.js",
        "/assets/chart.js",
        "/assets/uPlot.min.css",
        "/assets/uPlot.iife.min.js",
        "/assets/icon.svg",
    ];
    for path in
        PAGES.into_iter().chain(["/sign-in", "/hazards/4.sd-204.smoke_state.fire-smoke"]).chain(assets)
    {
        let response = send(&room, ask("GET", path, &cookie)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        // uPlot names its home page in its first comment; an SVG names its own language. Neither is ever fetched.
        let body = text(response).await.replacen("/*! https://github.com/leeoniya/uPlot (v1.6.32) */", "", 1);
        let body = body.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!body.contains("http://") && !body.contains("https://"), "{path} names another host");
        assert!(!body.contains(" style=\""), "{path} has an inline style, which the policy refuses");
        looked += 1;
    }
    assert_eq!(looked, 19);
}

#[tokio::test]
async fn hostile_names_notes_and_samples_are_only_text() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    for path in PAGES.into_iter().filter(|path| !path.ends_with("csv")) {
        let body = text(send(&room, ask("GET", path, &cookie)).await).await;
        assert!(!body.contains("<script>alert"), "{path}");
        assert!(!body.contains("<b>0.31"), "{path}");
    }
    let strays = text(send(&room, ask("GET", "/strays", &cookie)).await).await;
    assert!(strays.contains("&#60;script&#62;alert(3)") && strays.contains("40 40 01 FF"), "{strays}");
}

#[tokio::test]
async fn the_screen_says_what_burns_where_and_whom_to_call() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    for words in [
        "感烟火警",
        "阳光养老院",
        "203 房间床头上方",
        "GB 4715-2024",
        "138 0000 0001",
        "青石镇阳光路 18 号",
        "首火警",
        "最新火警",
        "正在报警",
        "已恢复 未复位",
        "迟报",
        "超量程",
        "未接传感器",
        "从未收到",
    ] {
        assert!(page.contains(words), "the page does not say {words}");
    }
    let first = page.split("<article").nth(1).unwrap();
    assert!(first.contains("id=\"h-2.sd-203.smoke_state.fire-smoke\""), "the first fire is not on top");
    let quality = |point: &str| {
        let at = page.find(&format!("data-point=\"{point}\"")).unwrap();
        let tag = &page[page[..at].rfind('<').unwrap()..at];
        tag.split("q-").nth(1).unwrap().split(['"', ' ']).next().unwrap().to_owned()
    };
    assert_eq!(quality("sd-205/temperature"), "bad");
    assert_eq!(quality("ef-02/cable_temperature"), "absent");
    assert_eq!(quality("sd-302/smoke_state"), "none");
    assert_eq!(quality("sd-203/temperature"), "good");
}

#[tokio::test]
async fn the_second_language_says_the_same() {
    let room = filled().await;
    let cookie = format!("{}; fengsui_lang=en", sign_in(&room).await);
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    assert!(page.contains("smoke fire alarm") && page.contains("Acknowledge") && !page.contains(">确认<"));
    let away = send(&room, ask("GET", "/lang/en?back=//evil.example/", "")).await;
    assert_eq!(away.headers()[header::LOCATION], "/");
}

#[tokio::test]
async fn a_stale_value_is_struck_even_while_its_device_is_heard_and_without_scripts() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    room.clock.step_simulated(Span::from_secs(70));
    room.clock.take_step();
    let reading = |point: &str| fengsui::model::Reading {
        point: fengsui::model::PointId::parse(point).unwrap(),
        value: Measured::Number(fengsui::model::Number::new(231.0).unwrap()),
        quality: fengsui::model::Quality::Good,
        flaw: None,
        sampled_at: None,
        received_at: room.clock.now(),
        late: false,
    };
    let no = room.stage.append(vec![reading("ef-01/phase_voltage")], vec![], vec![]).await;
    reached(&room, no).await;
    let class = |page: &str, name: &str| {
        let at = page.find(name).unwrap_or_else(|| panic!("no {name} on the page"));
        let tag = &page[page[..at].rfind('<').unwrap()..at];
        tag.split("class=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let page = text(send(&room, ask("GET", "/", &cookie)).await).await;
    let is = |name: &str, word: &str| class(&page, name).split(' ').any(|one| one == word);
    // Heard a moment ago by one value; the others are older than the 60 s of this device.
    assert!(!is("data-device=\"ef-01\"", "stale"));
    assert!(!is("data-point=\"ef-01/phase_voltage\"", "old"));
    assert!(
        is("data-point=\"ef-01/residual_current\"", "old")
            && is("data-point=\"ef-01/cable_temperature\"", "old")
    );
    assert!(is("data-device=\"hy-01\"", "stale"), "nothing of it was heard for too long");
    let own = text(send(&room, ask("GET", "/points/ef-01/residual_current", &cookie)).await).await;
    assert!(class(&own, "data-point=\"ef-01/residual_current\"").contains("old"));
    // Green is the script's to give: nothing that a page without scripts shows may be green.
    let css = include_str!("../../../src/web/assets/duty.css");
    let green: Vec<&str> = css.split('}').filter(|rule| rule.contains("--green)")).collect();
    assert!(!green.is_empty());
    for rule in green {
        let selector = rule.split('{').next().unwrap().trim();
        assert!(selector.starts_with(".live ") || selector == ".ok", "{selector} is green without a script");
    }
}

#[tokio::test]
async fn a_stray_is_ready_to_paste_into_the_plan_and_can_be_removed() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let address = "0x00158D\"><script>alert(4)</script>";
    room.stage
        .stray(fengsui::journal::Stray {
            kind: fengsui::journal::StrayKind::Unknown,
            key: format!("broker zigbee2mqtt/{address}").into(),
            device: None,
            reason: fengsui::journal::Stray::not_planned("zigbee2mqtt/heiman-hs1sa-e", address).into(),
            sample: b"{}".to_vec(),
            first_at: room.clock.now(),
            last_at: room.clock.now(),
            count: 1,
        })
        .await;
    let page = text(send(&room, ask("GET", "/strays", &cookie)).await).await;
    assert!(!page.contains("<script>alert"));
    let paste = page.split("class=\"paste\">").nth(1).unwrap().split("</pre>").next().unwrap();
    let plain =
        paste.replace("&#34;", "\"").replace("&#60;", "<").replace("&#62;", ">").replace("&#38;", "&");
    let plan: toml::Table = format!("[[site]]\n[[site.zone]]\n{plain}").parse().unwrap();
    let device = &plan["site"][0]["zone"][0]["device"][0];
    assert_eq!(device["profile"].as_str(), Some("zigbee2mqtt/heiman-hs1sa-e"));
    assert_eq!((device["link"].as_str(), device["address"].as_str()), (Some("broker"), Some(address)));
    let remove = |cookie: &str, origin: Option<&str>| {
        let mut request = ask("POST", "/strays", cookie);
        request.headers_mut().remove(header::ORIGIN);
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        }
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        *request.body_mut() = Body::from("kind=unreadable&key=zigbee2mqtt%2Fsd-102");
        request
    };
    let ours = format!("http://{HOST}");
    assert_eq!(send(&room, remove("", Some(&ours))).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        send(&room, remove(&cookie, Some("http://evil.example"))).await.status(),
        StatusCode::FORBIDDEN
    );
    assert_eq!(room.journal.strays().await.unwrap().len(), 3);
    assert_eq!(send(&room, remove(&cookie, Some(&ours))).await.status(), StatusCode::SEE_OTHER);
    let left = room.journal.strays().await.unwrap();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|stray| &*stray.key != "zigbee2mqtt/sd-102"));
}
