//! Tests of: what a client may not do to the embedded broker. Each limit holds, and the next message goes through.

use super::*;

#[tokio::test]
async fn what_is_too_large_to_be_retained_is_heard_and_not_kept() {
    let mut rig = Rig::start().await;
    let large = "x".repeat((16 << 10) + 1);
    let frame = rig.publish(&["-t", "site/a/up", "-r", "-m", &large]).await;
    assert_eq!(message(&frame).1.len(), large.len(), "the journal gets it");
    assert_eq!(rig.metrics.broker_refused.get(), 1);
    rig.publish(&["-t", "site/b/up", "-r", "-m", "small"]).await;
    let late = Peer::subscriber(rig.port, &["-t", "site/#", "-q", "1", "-F", "%t"]);
    until("the small one", || late.lines().contains(&"site/b/up".to_owned())).await;
    rig.publish(&["-t", "site/c/up", "-m", "live"]).await;
    until("the live one", || late.lines().contains(&"site/c/up".to_owned())).await;
    assert_eq!(late.lines(), ["site/b/up", "site/c/up"]);
}

#[tokio::test]
async fn the_queue_of_a_subscriber_that_is_away_is_bounded_and_keeps_the_newest() {
    let mut rig = Rig::start().await;
    let session = ["-c", "-i", "away", "-q", "1", "-t", "away/#"];
    let away = Peer::subscriber(rig.port, &session);
    rig.publish(&["-t", "away/ready", "-r", "-m", "ready"]).await;
    until("the subscription", || away.lines() == ["ready"]).await;
    drop(away);
    until("it is away", || rig.metrics.broker_clients.get() == 0).await;
    let mut socket = connected(&rig, "concentrator").await;
    for n in 1..=1200_u32 {
        let id = u16::try_from(n).unwrap().to_be_bytes();
        let text = format!("{n:04}");
        let packet = [&[0x32, 14, 0, 6][..], b"away/a", &id, text.as_bytes()].concat();
        socket.write_all(&packet).await.unwrap();
        let frame = rig.frame().await;
        rig.acknowledge(&frame).await;
        let mut puback = [0; 4];
        soon("the PUBACK", socket.read_exact(&mut puback)).await.unwrap();
    }
    let back = Peer::subscriber(rig.port, &session);
    until("the newest", || back.lines().iter().any(|line| line == "1200")).await;
    let kept = back.lines().iter().filter(|line| line.len() == 4).count();
    assert!((900..=1000).contains(&kept), "{kept} were kept");
    assert!(!back.lines().contains(&"0001".to_owned()));
}

#[tokio::test]
async fn more_retained_messages_than_there_is_room_for_are_taken_all_the_same() {
    let mut rig = Rig::start().await;
    let mut socket = connected(&rig, "concentrator").await;
    // A retained message on each of 4097 topics, and a new one on the first.
    for (n, value) in (0..4097_u16).map(|n| (n, b'a')).chain([(0, b'b')]) {
        let topic = format!("t/{n:04}");
        let packet = [&[0x33, 11, 0, 6][..], topic.as_bytes(), &[0, 7, value]].concat();
        socket.write_all(&packet).await.unwrap();
        let frame = rig.frame().await;
        assert_eq!(message(&frame).0, topic);
        rig.acknowledge(&frame).await;
        let mut puback = [0; 4];
        soon("the PUBACK", socket.read_exact(&mut puback)).await.unwrap();
        assert_eq!(puback, [0x40, 2, 0, 7]);
    }
    assert_eq!(rig.metrics.broker_refused.get(), 1, "one was not retained");
    let late = Peer::subscriber(
        rig.port,
        &["-q", "1", "-F", "%t %p", "-t", "t/0000", "-t", "t/4095", "-t", "t/4096"],
    );
    until("the retained ones", || late.lines().len() == 2).await;
    rig.publish(&["-t", "t/4096", "-m", "live"]).await;
    until("the live one", || late.lines().len() == 3).await;
    let mut lines = late.lines();
    lines.sort();
    assert_eq!(lines, ["t/0000 b", "t/4095 a", "t/4096 live"]);
}
