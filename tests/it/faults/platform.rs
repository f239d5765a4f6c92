//! The way from a platform that posts over HTTP.

use super::QUIET_MAX;
use crate::support::fault_proxy::{BAD_NETWORK, Fault, FaultProxy, WAYS, Way};
use crate::support::gateway::{BROKER, House, numbers_of, smoke};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "lora-token-0123456789abcdef";

/// Posts in a story, each with a name of its own.
const POSTS: u32 = 30;

/// The status of a post's answer; `None` when there is none, or half of one, within a platform's patience.
async fn post(to: SocketAddr, name: &str, body: &str) -> Option<u16> {
    let head = format!(
        "POST /api/v1/ingest/lora/sd-1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
         Idempotency-Key: {name}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let mut lengths = head.lines().filter_map(|line| {
            line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
        });
        // Half an answer is none.
        if lengths.next()? > body.len() {
            return None;
        }
        head.get(9..12)?.parse().ok()
    };
    tokio::time::timeout(QUIET_MAX, exchange).await.ok()?
}

/// As platforms do: again and again under the same name, until the answer is 200. Any other answer but 200 is counted.
async fn deliver(to: SocketAddr, n: u32, others: &mut u32) -> u32 {
    for attempt in 1..=50 {
        let body = format!("{{\"temperature\":{}}}", value(n));
        match post(to, &format!("post-{n}"), &body).await {
            Some(200) => return attempt,
            Some(_) => *others += 1,
            None => {}
        }
    }
    panic!("post {n} never got through");
}

fn value(n: u32) -> f64 {
    20.0 + f64::from(n) / 64.0
}

fn house() -> House {
    let links =
        format!("{BROKER}[[push]]\nname = \"lora\"\nformat = \"json\"\ntokens_file = \"lora.tokens\"\n");
    let house = House::build(&links, &smoke("sd-1", "lora"));
    std::fs::write(house.config().with_file_name("lora.tokens"), TOKEN).unwrap();
    house
}

/// What is lost is sent again, and what was there already is counted once, because it has a name: cuts and halves, a
/// request that comes twice, an answer that never comes.
#[tokio::test]
async fn a_post_whose_answer_is_lost_is_sent_again_and_counted_once() {
    let house = house();
    let gateway = house.open().await;
    let proxy = FaultProxy::to(gateway.web, 31).await;
    // Each of them once, and a bad network for the rest.
    let alone =
        [Fault::Cut, Fault::CutAmid, Fault::Stall, Fault::Swallow, Fault::HalveForGood, Fault::Duplicate];
    let mut plan: Vec<(Way, Fault)> = WAYS.iter().flat_map(|way| alone.map(|fault| (*way, fault))).collect();
    let (mut attempts, mut others) = (0, 0);
    for n in 1..=POSTS {
        match plan.pop() {
            Some((way, fault)) => proxy.once(way, fault),
            None => proxy.set_both(&BAD_NETWORK, 3),
        }
        attempts += deliver(proxy.address, n, &mut others).await;
    }
    assert!(proxy.did_all(&alone, 1), "{}", proxy.account());
    assert!(attempts > POSTS, "nothing was sent again");
    // The answers that were lost, and the request that came twice on one connection.
    let repeated = gateway.counter("frames_repeated").await;
    assert!(repeated >= 5, "{repeated} were there already; {}", proxy.account());
    gateway.stop().await;
    let (entries, _) = house.journal().await;
    assert_eq!(numbers_of(&entries, "sd-1/temperature"), (1..=POSTS).map(value).collect::<Vec<_>>());
    println!(
        "posts: {attempts} for {POSTS}, {repeated} known already, {others} refused; {}",
        proxy.account()
    );
}

/// Nothing tells a wrong bit in the clear. Nothing falls over, a wrong token is a refusal, and others are not disturbed.
#[tokio::test]
async fn wrong_bits_in_a_post_bring_nothing_down() {
    let house = house();
    let gateway = house.open().await;
    let proxy = FaultProxy::to(gateway.web, 32).await;
    proxy.set_both(&[Fault::Flip], 1);
    let names: Vec<String> = (0..60).map(|n| format!("post-{n}")).collect();
    let wrong =
        futures::future::join_all(names.iter().map(|name| post(proxy.address, name, r#"{"battery":80}"#)));
    let (answers, well) = tokio::join!(wrong, post(gateway.web, "well", r#"{"battery":90}"#));
    assert_eq!(well, Some(200));
    assert!(proxy.did(Way::Up, Fault::Flip) >= 60 && proxy.did(Way::Down, Fault::Flip) >= 20);
    // With the way back in order it is heard what becomes of them.
    proxy.set(Way::Down, &[], 1);
    let wrong =
        futures::future::join_all(names.iter().map(|name| post(proxy.address, name, r#"{"battery":80}"#)));
    let heard: Vec<u16> = wrong.await.into_iter().flatten().collect();
    assert!(heard.iter().any(|status| (400..500).contains(status)), "{heard:?}");
    assert!(
        heard.iter().chain(answers.iter().flatten()).all(|status| *status != 500),
        "{heard:?} {answers:?}"
    );
    proxy.calm();
    assert_eq!(post(proxy.address, "fire", r#"{"smoke":1}"#).await, Some(200));
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["phase"] == "active").await;
    gateway.stop().await;
}
