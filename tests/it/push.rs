//! Tests of: posts of platforms, over real HTTP, with a pipeline that is played by the test.

mod config;

use crate::support::ports::soon;
use fengsui::clock::Clock;
use fengsui::metrics::Metrics;
use fengsui::model::{Body, Delivery, Frame, LinkId, SourceIndex};
use fengsui::sources::Arrival;
use fengsui::sources::push::{
    ANSWERS_AT_ONCE_MAX, BODY_BYTES_MAX, Doors, Format, JsonForm, OneNet, Push, PushSettings, TopicForm,
    router,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "lora-token-0123456789abcdef";
const SECOND: &str = "lora-token-fedcba9876543210";
const TELECOM: &str = "telecom-token-0123456789abcdef";
/// As in the platform's own receiver.
const MOBILE: &str = "5ec78dbca0db5a7e49b603fe";

struct Rig {
    address: String,
    intake: mpsc::Receiver<Arrival>,
    acks: Vec<mpsc::Sender<Vec<Delivery>>>,
    metrics: Metrics,
    cancel: CancellationToken,
    running: JoinSet<()>,
}

fn link(name: &str, format: Format, tokens: &[&str]) -> PushSettings {
    let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
    PushSettings::new(LinkId::parse(name).unwrap(), format, tokens)
}

fn json_form() -> Format {
    Format::Json(JsonForm {
        topic: TopicForm::parse(TopicForm::DEFAULT).unwrap(),
        address_field: None,
        message_id_field: Some("id".to_owned()),
    })
}

impl Rig {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// `change` sees the link `lora`.
    async fn with(change: impl FnOnce(&mut PushSettings)) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut lora = link("lora", json_form(), &[TOKEN, SECOND]);
        change(&mut lora);
        let telecom = Format::Ctwing { address_field: "deviceId".to_owned() };
        let mobile = Format::OneNet(OneNet { address_field: None, aes_key: None });
        let all = vec![lora, link("telecom", telecom, &[TELECOM]), link("mobile", mobile, &[MOBILE])];
        let (to_pipeline, intake) = mpsc::channel(1000);
        let (metrics, cancel) = (Metrics::new(), CancellationToken::new());
        let doors = Doors::default();
        let mut running = JoinSet::new();
        let mut acks = Vec::new();
        for (index, settings) in (0..).zip(all) {
            let (intake, clock, source) = (to_pipeline.clone(), Clock::system(), SourceIndex(index));
            let push = Push::new(settings, source, intake, clock, metrics.clone(), cancel.clone());
            doors.open(None, push.clone());
            let (way_back, from_pipeline) = mpsc::channel(100);
            acks.push(way_back);
            running.spawn(push.run(from_pipeline));
        }
        let routes = router(doors, None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/api/v1/ingest", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut rig = Self { address, intake, acks, metrics, cancel, running };
        let mut up = BTreeSet::new();
        for _ in 0..3 {
            match soon("the links are up", rig.intake.recv()).await.unwrap() {
                Arrival::Link(change) if change.up => up.insert(change.link.to_string()),
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(Vec::from_iter(up), ["lora", "mobile", "telecom"]);
        rig
    }

    fn ask(
        &self,
        path: &str,
        token: &str,
        body: impl Into<reqwest::Body>,
    ) -> JoinHandle<(StatusCode, Value)> {
        let request = reqwest::Client::new().post(format!("{}/{path}", self.address)).body(body);
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            let status = answer.status();
            (status, answer.json().await.unwrap_or_default())
        })
    }

    /// What is answered to a post that never comes to the pipeline.
    async fn refused(&self, path: &str, token: &str, body: &str) -> (u16, Value) {
        let (status, answer) = soon("the answer", self.ask(path, token, body.to_owned())).await.unwrap();
        for key in ["message_zh", "message_en"] {
            assert!(answer[key].as_str().is_some_and(|text| !text.is_empty()), "{status} {answer}");
        }
        (status.as_u16(), answer)
    }

    async fn frame(&mut self) -> Frame {
        match soon("a frame", self.intake.recv()).await.unwrap() {
            Arrival::Frame(frame) => frame,
            other => panic!("no frame: {other:?}"),
        }
    }

    async fn acknowledge(&self, frame: &Frame) {
        self.acks[usize::from(frame.source.0)].send(vec![frame.delivery.unwrap()]).await.unwrap();
    }

    /// Posts, acknowledges the one frame that comes, and gives it.
    async fn through(&mut self, path: &str, token: &str, body: &str) -> Frame {
        let answer = self.ask(path, token, body.to_owned());
        let frame = self.frame().await;
        self.acknowledge(&frame).await;
        assert_eq!(soon("the answer", answer).await.unwrap().0, StatusCode::OK);
        frame
    }
}

fn message(frame: &Frame) -> (String, String) {
    match &frame.body {
        Body::Message { topic, payload } => {
            (topic.to_string(), String::from_utf8_lossy(payload).into_owned())
        }
        other => panic!("{other:?}"),
    }
}

fn signed(message: &str) -> String {
    use md5::{Digest, Md5};
    let digest = Md5::digest(format!("{MOBILE}HWyAL7jN{message}"));
    let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
    json!({ "msg": message, "nonce": "HWyAL7jN", "signature": signature, "id": "a1" }).to_string()
}

#[tokio::test]
async fn a_platform_hears_200_only_after_the_journal_has_its_post() {
    let mut rig = Rig::start().await;
    let answer = rig.ask("lora/203", TOKEN, r#"{"smoke":1,"id":"m1"}"#);
    let frame = rig.frame().await;
    assert_eq!((frame.source, frame.link.as_str(), frame.retained), (SourceIndex(0), "lora", false));
    assert_eq!(message(&frame), ("site/lora/device/203/up".into(), r#"{"smoke":1,"id":"m1"}"#.into()));
    // While it waits another one comes and goes: time enough for an answer that should not be.
    rig.through("lora/a/b/204", SECOND, "23.5").await;
    assert!(!answer.is_finished());
    rig.acknowledge(&frame).await;
    let (status, body) = soon("the answer", answer).await.unwrap();
    assert_eq!((status, &body["recorded"]), (StatusCode::OK, &json!(1)));
}

#[tokio::test]
async fn a_post_that_is_not_written_in_time_is_to_be_sent_again_and_is_known_again() {
    let mut rig = Rig::with(|lora| lora.kept_within = Duration::from_millis(200)).await;
    let body = r#"{"smoke":1,"id":"m1"}"#;
    let answer =
        reqwest::Client::new().post(format!("{}/lora/203", rig.address)).bearer_auth(TOKEN).body(body);
    let answer = soon("the answer", answer.send()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(rig.metrics.push_deferred.get(), 1);
    let first = rig.frame().await;
    rig.acknowledge(&first).await;
    let again = rig.through("lora/203", TOKEN, body).await;
    let low = |frame: &Frame| frame.delivery.unwrap().key & 0xffff;
    assert!(again.delivery.unwrap().duplicate && low(&again) == low(&first));
    let other = rig.through("lora/203", TOKEN, r#"{"smoke":1,"id":"m2"}"#).await;
    assert_ne!(low(&other), low(&first));
    // What has no name may be a new fire with the same words.
    let nameless = rig.through("lora/203", TOKEN, r#"{"smoke":1}"#).await;
    assert!(!nameless.delivery.unwrap().duplicate);
}

#[tokio::test]
async fn nobody_posts_without_the_token_of_that_link() {
    let rig = Rig::start().await;
    for (path, token) in [
        ("lora/203", ""),
        ("lora/203", "wrong"),
        ("lora/203", TELECOM),
        ("telecom", TOKEN),
        ("lora/203", &TOKEN[1..]),
    ] {
        let (status, answer) = rig.refused(path, token, "{}").await;
        assert_eq!((status, &answer["error"]), (401, &json!("wrong_token")), "{path}");
        assert!(!answer.to_string().contains(&TOKEN[1..]), "a token is never told");
    }
    assert_eq!(rig.metrics.push_refused.get(), 5);
    assert_eq!(rig.refused("nowhere/203", TOKEN, "{}").await.0, 404);
    let asked = reqwest::get(format!("{}/lora?msg=a&nonce=b&signature=c", rig.address)).await.unwrap();
    assert_eq!(asked.status().as_u16(), 405);
}

#[tokio::test]
async fn a_token_may_stand_in_a_header_or_in_the_address() {
    let mut rig = Rig::start().await;
    let client = reqwest::Client::new();
    let to = |path: &str| client.post(format!("{}/{path}", rig.address)).body("1");
    let requests = [
        to("lora/203").header("Authorization", format!("bearer {TOKEN}")),
        to("lora/203").header("X-Api-Key", TOKEN),
        to(&format!("lora/203?token={TOKEN}")),
    ];
    for request in requests {
        let answer = tokio::spawn(request.send());
        let frame = rig.frame().await;
        rig.acknowledge(&frame).await;
        assert_eq!(soon("the answer", answer).await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_wrong_signature_is_forbidden_and_the_question_about_the_token_is_answered() {
    let mut rig = Rig::start().await;
    let point = r#"{"type":1,"dev_id":2016617,"ds_id":"3303_0_5700","at":1466133706841,"value":42}"#;
    for wrong in [signed(point).replace(":42", ":43"), signed(point).replace("HWyAL7jN", "HWyAL7jM")] {
        assert_eq!(rig.refused("mobile", "", &wrong).await.0, 403);
    }
    assert_eq!(rig.refused("mobile", MOBILE, "{}").await.0, 400, "the token alone opens nothing");
    let frame = rig.through("mobile", "", &signed(point)).await;
    assert_eq!(message(&frame), ("2016617/3303_0_5700".to_owned(), point.to_owned()));
    let question: Value = serde_json::from_str(&signed("hello 验证")).unwrap();
    let text = |key: &str| question[key].as_str().unwrap().to_owned();
    let client = reqwest::Client::new();
    let ask = |signature: String| {
        let query = [("msg", text("msg")), ("nonce", text("nonce")), ("signature", signature)];
        client.get(format!("{}/mobile", rig.address)).query(&query).send()
    };
    let answer = ask(text("signature")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "hello 验证"));
    assert_eq!(ask("AAAAAAAAAAAAAAAAAAAAAA==".to_owned()).await.unwrap().status().as_u16(), 403);
}

#[tokio::test]
async fn a_flood_with_one_token_is_told_to_wait_and_other_tokens_live_on() {
    let mut rig = Rig::with(|lora| (lora.posts_at_once, lora.posts_per_second) = (5, 1)).await;
    for _ in 0..5 {
        rig.through("lora/203", TOKEN, "1").await;
    }
    let request = reqwest::Client::new().post(format!("{}/lora/203", rig.address)).bearer_auth(TOKEN);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(rig.metrics.push_deferred.get(), 1);
    rig.through("lora/203", SECOND, "1").await;
    rig.through("telecom", TELECOM, r#"{"deviceId":"a","messageType":"dataReport","payload":{}}"#).await;
}

#[tokio::test]
async fn posts_at_once_are_bounded_for_each_link() {
    let mut rig = Rig::start().await;
    let mut waiting = Vec::new();
    let mut frames = Vec::new();
    for n in 0..ANSWERS_AT_ONCE_MAX {
        waiting.push(rig.ask("lora/203", TOKEN, n.to_string()));
        frames.push(rig.frame().await);
    }
    let (status, answer) = rig.refused("lora/203", TOKEN, "one too many").await;
    assert_eq!((status, &answer["error"]), (503, &json!("busy")));
    rig.through("telecom", TELECOM, r#"{"deviceId":"a","messageType":"dataReport","payload":{}}"#).await;
    for frame in &frames {
        rig.acknowledge(frame).await;
    }
    for answer in waiting {
        assert_eq!(soon("the answer", answer).await.unwrap().0, StatusCode::OK);
    }
    rig.through("lora/203", TOKEN, "there is room again").await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_cannot_be_read_is_kept() {
    let mut rig = Rig::start().await;
    let large = rig.ask("lora/203", TOKEN, vec![b'x'; BODY_BYTES_MAX + 1]);
    assert_eq!(soon("the answer", large).await.unwrap().0, StatusCode::PAYLOAD_TOO_LARGE);
    for (path, token, body) in [("telecom", TELECOM, "{\"deviceId\":"), ("lora", TOKEN, "{}")] {
        let answer = rig.ask(path, token, body);
        let frame = rig.frame().await;
        assert_eq!(message(&frame), ("unreadable".to_owned(), body.to_owned()));
        assert!(!answer.is_finished(), "first it is kept");
        rig.acknowledge(&frame).await;
        let (status, answer) = soon("the answer", answer).await.unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer["message_zh"].as_str().unwrap().contains("待接入"), "{answer}");
    }
    // A stranger's is not.
    assert_eq!(rig.refused("mobile", "", "no JSON").await.0, 400);
    rig.through("lora/203", TOKEN, "next").await;
}

#[tokio::test]
async fn a_list_is_answered_when_the_journal_has_all_of_it() {
    let mut rig = Rig::start().await;
    let one = |value: u32| json!({ "deviceId": "a", "messageType": "dataReport", "timestamp": 1, "payload": { "v": value } });
    let answer = rig.ask("telecom", TELECOM, json!([one(1), one(2), 3]).to_string());
    let mut frames = Vec::new();
    for topic in ["a/dataReport", "a/dataReport", "unreadable"] {
        let frame = rig.frame().await;
        assert_eq!(message(&frame).0, topic);
        frames.push(frame);
    }
    rig.acknowledge(&frames[2]).await;
    rig.acknowledge(&frames[0]).await;
    rig.through("lora/203", TOKEN, "meanwhile").await;
    assert!(!answer.is_finished());
    rig.acknowledge(&frames[1]).await;
    let (status, body) = soon("the answer", answer).await.unwrap();
    assert_eq!((status, &body["recorded"]), (StatusCode::OK, &json!(3)));
}

#[tokio::test]
async fn a_platforms_word_about_a_device_is_no_message_of_the_device() {
    let mut rig = Rig::start().await;
    let telecom = r#"{"timestamp":1589444231825,"tenantId":"10461180","protocol":"lwm2m","productId":"10053421","messageType":"deviceOnlineOfflineReport","iccid":"undefined","eventType":0,"deviceId":"44d0b9e48d404094bbbcf889e4e64ece"}"#;
    let mobile = signed(r#"{"type":2,"dev_id":2016617,"status":1,"login_type":10,"at":1466133706841}"#);
    for (path, token, body, expected) in [
        ("telecom", TELECOM, telecom, ("44d0b9e48d404094bbbcf889e4e64ece", false)),
        ("mobile", "", &*mobile, ("2016617", true)),
    ] {
        let frame = rig.through(path, token, body).await;
        let Body::Presence { address, online, .. } = &frame.body else { panic!("{frame:?}") };
        assert_eq!((&**address, *online), expected);
        assert!(frame.delivery.unwrap().duplicate, "dated, so it is known again");
    }
}

#[tokio::test]
async fn an_orderly_stop_still_answers_the_posts_under_way() {
    let mut rig = Rig::start().await;
    let answer = rig.ask("lora/203", TOKEN, "1");
    let frame = rig.frame().await;
    let left = rig.ask("lora/204", TOKEN, "2");
    rig.frame().await;
    rig.cancel.cancel();
    let (status, refused) = rig.refused("lora/203", TOKEN, "3").await;
    assert_eq!((status, &refused["error"]), (503, &json!("stopping")));
    rig.acknowledge(&frame).await;
    assert_eq!(soon("the answer", answer).await.unwrap().0, StatusCode::OK);
    assert_eq!(soon("the answer", left).await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
    soon("all end", async { while rig.running.join_next().await.is_some() {} }).await;
}
