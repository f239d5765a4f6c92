//! Tests of: what any MQTT broker does. The same stories are told to the embedded broker and to mosquitto, which proves the
//! stories; with mosquitto's clients, Paho (Python), MQTT.js (Node) and raw sockets, in 3.1.1 and 5.

use super::*;
use crate::support::mosquitto::Mosquitto;
use std::process::{Command, Stdio};

/// Publishes and hears its own message: `version port qos topic payload`.
const PAHO: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
version, port, qos, topic, payload = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
heard, protocol = threading.Event(), {"3": mqtt.MQTTv311, "5": mqtt.MQTTv5}[version]
kind = getattr(mqtt, "CallbackAPIVersion", None)
arguments = [kind.VERSION1] if kind else []
client = mqtt.Client(*arguments, client_id="paho-" + version + "-" + str(qos), protocol=protocol)
subscribed = threading.Event()
client.on_subscribe = lambda *_: subscribed.set()
client.on_message = lambda c, u, m: heard.set() if m.payload.decode() == payload and m.qos == qos else None
client.connect("127.0.0.1", port)
client.loop_start()
client.subscribe(topic, qos)
assert subscribed.wait(20), "no SUBACK"
sent = client.publish(topic, payload, qos)
sent.wait_for_publish()
assert heard.wait(20), "nothing came back"
client.disconnect()
"#;

/// The same with MQTT.js.
const MQTT_JS: &str = r#"
const mqtt = require("mqtt");
const [version, port, qos, topic, payload] = process.argv.slice(1);
const client = mqtt.connect({ host: "127.0.0.1", port: Number(port), protocolVersion: version === "5" ? 5 : 4,
  clientId: "js-" + version + "-" + qos, reconnectPeriod: 0 });
const fail = (why) => { console.error(why); process.exit(1); };
setTimeout(() => fail("nothing came back"), 20000);
let acknowledged = false, heard = false;
const done = () => { if (acknowledged && heard) client.end(false, () => process.exit(0)); };
// Once both came, how the socket ends is no matter.
client.on("error", (why) => acknowledged && heard ? process.exit(0) : fail(why));
client.on("message", (t, m, packet) => { if (String(m) === payload && packet.qos === Number(qos)) { heard = true; done(); } });
client.on("connect", () => client.subscribe(topic, { qos: Number(qos) }, (error) => {
  if (error) fail(error);
  client.publish(topic, payload, { qos: Number(qos) }, (error) => { if (error) fail(error); acknowledged = true; done(); });
}));
"#;

/// The topic of a retained message that every subscriber waits for.
const READY: &str = "every-subscriber-hears-this";

/// One broker that the stories are told to.
struct Told {
    name: &'static str,
    port: u16,
}

impl Told {
    fn publisher(&self, arguments: &[&str]) -> Peer {
        Peer::publisher(self.port, arguments)
    }

    async fn publish(&self, arguments: &[&str]) {
        let mut publisher = self.publisher(arguments);
        assert_eq!(publisher.ended().await, 0, "{}: {arguments:?}: {:?}", self.name, publisher.lines());
    }

    /// A subscriber whose subscriptions stand: it has heard the retained message that every story begins with.
    async fn subscriber(&self, arguments: &[&str]) -> Peer {
        let mut all = vec!["-F", "heard %q %r %t %p", "-t", READY];
        all.extend_from_slice(arguments);
        let subscriber = Peer::subscriber(self.port, &all);
        self.until("the subscription", || subscriber.lines().iter().any(|line| line.contains(READY))).await;
        subscriber
    }

    async fn until(&self, what: &str, so: impl FnMut() -> bool) {
        until(&format!("{}: {what}", self.name), so).await;
    }

    async fn hears(&self, subscriber: &Peer, expected: &[&str]) {
        let what = format!("{expected:?}");
        self.until(&what, || heard(subscriber).len() >= expected.len()).await;
        assert_eq!(heard(subscriber), expected, "{}", self.name);
    }

    async fn socket(&self, connect: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        socket.write_all(connect).await.unwrap();
        socket
    }
}

fn heard(subscriber: &Peer) -> Vec<String> {
    let lines = subscriber.lines();
    let heard = lines.iter().filter_map(|line| line.strip_prefix("heard "));
    heard.filter(|line| !line.contains(READY)).map(str::to_owned).collect()
}

/// Tells a story to both; at ours everything that comes is acknowledged at once.
async fn told(story: impl AsyncFn(&Told)) {
    let theirs = Mosquitto::start().await;
    let mosquitto = Told { name: "mosquitto", port: theirs.port };
    mosquitto.publish(&["-q", "1", "-r", "-t", READY, "-m", "x"]).await;
    story(&mosquitto).await;
    let rig = Rig::start().await;
    let port = rig.port;
    let Rig { broker: _broker, mut intake, acks, metrics: _metrics, cancel: _cancel, .. } = rig;
    let pipeline = tokio::spawn(async move {
        while let Some(arrival) = intake.recv().await {
            if let Arrival::Frame(Frame { delivery: Some(delivery), .. }) = arrival {
                acks.send(vec![delivery]).await.unwrap();
            }
        }
    });
    let ours = Told { name: "ours", port };
    ours.publish(&["-q", "1", "-r", "-t", READY, "-m", "x"]).await;
    story(&ours).await;
    pipeline.abort();
}

#[tokio::test]
async fn every_quality_of_service_crosses_between_3_1_1_and_5() {
    told(async |broker| {
        for (publisher, subscriber) in [("311", "311"), ("311", "5"), ("5", "311"), ("5", "5")] {
            let version = format!("mqttv{subscriber}");
            let topic = format!("cross/{publisher}/{subscriber}");
            let hearing = broker.subscriber(&["-V", &version, "-q", "2", "-t", &topic]).await;
            let version = format!("mqttv{publisher}");
            for qos in ["0", "1", "2"] {
                broker.publish(&["-V", &version, "-q", qos, "-t", &topic, "-m", qos]).await;
            }
            let lines = ["0", "1", "2"].map(|qos| format!("{qos} 0 {topic} {qos}"));
            broker.hears(&hearing, &lines.each_ref().map(String::as_str)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn paho_and_mqtt_js_publish_and_hear() {
    told(async |broker| {
        for (program, script) in [(["/usr/bin/python3", "-c"], PAHO), (["node", "-e"], MQTT_JS)] {
            let mut running = Vec::new();
            for version in ["3", "5"] {
                for qos in ["0", "1", "2"] {
                    let topic = format!("libraries/{}/{version}/{qos}", program[1]);
                    let port = broker.port.to_string();
                    let mut command = Command::new(program[0]);
                    command.args([program[1], script]);
                    if program[0] == "node" {
                        command.arg("--");
                    }
                    command
                        .args([version, &port, qos, &topic, "hello"])
                        .env("NODE_PATH", "/usr/share/nodejs");
                    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
                    running.push((format!("{} {program:?} {version} {qos}", broker.name), child));
                }
            }
            for (what, child) in running {
                let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
                let output = soon(&what, output).await.unwrap();
                assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_retained_message_is_kept_replaced_and_cleared() {
    told(async |broker| {
        for payload in ["first", "second"] {
            broker.publish(&["-q", "1", "-r", "-t", "kept/a", "-m", payload]).await;
        }
        let hearing = broker.subscriber(&["-q", "1", "-t", "kept/#"]).await;
        broker.hears(&hearing, &["1 1 kept/a second"]).await;
        broker.publish(&["-q", "1", "-r", "-t", "kept/a", "-n"]).await;
        let late = broker.subscriber(&["-q", "1", "-t", "kept/#"]).await;
        broker.publish(&["-q", "1", "-t", "kept/b", "-m", "live"]).await;
        broker.hears(&late, &["1 0 kept/b live"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_keeps_what_came_while_its_subscriber_was_away() {
    told(async |broker| {
        let session = ["-c", "-i", "away", "-q", "1", "-t", "away/#"];
        drop(broker.subscriber(&session).await);
        for n in ["1", "2", "3"] {
            broker.publish(&["-q", "1", "-t", "away/a", "-m", n]).await;
        }
        broker.publish(&["-q", "0", "-t", "elsewhere", "-m", "x"]).await;
        let back = broker.subscriber(&session).await;
        broker.hears(&back, &["1 0 away/a 1", "1 0 away/a 2", "1 0 away/a 3"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_last_will_is_published_when_the_socket_is_lost_or_silent_for_too_long() {
    told(async |broker| {
        let hearing = broker.subscriber(&["-q", "1", "-t", "will/#"]).await;
        let with_will = |client: &str, keep_alive: u8, topic: &str| {
            let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0x0e, 0, keep_alive];
            for text in [client, topic, "gone"] {
                body.extend([0, u8::try_from(text.len()).unwrap()]);
                body.extend(text.as_bytes());
            }
            [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
        };
        let mut connack = [0; 4];
        let mut lost = broker.socket(&with_will("lost", 60, "will/lost")).await;
        soon("the CONNACK", lost.read_exact(&mut connack)).await.unwrap();
        drop(lost);
        broker.hears(&hearing, &["1 0 will/lost gone"]).await;
        let mut orderly = broker.socket(&with_will("orderly", 60, "will/orderly")).await;
        soon("the CONNACK", orderly.read_exact(&mut connack)).await.unwrap();
        orderly.write_all(&[0xe0, 0]).await.unwrap();
        assert_eq!(rest(orderly).await, Vec::<u8>::new());
        let mut silent = broker.socket(&with_will("silent", 1, "will/silent")).await;
        soon("the CONNACK", silent.read_exact(&mut connack)).await.unwrap();
        rest(silent).await;
        broker.hears(&hearing, &["1 0 will/lost gone", "1 0 will/silent gone"]).await;
    })
    .await;
}

#[tokio::test]
async fn the_second_of_one_name_takes_over_and_half_a_connect_or_garbage_gets_nothing() {
    told(async |broker| {
        let mut connack = [0; 4];
        let mut first = broker.socket(&connect("twin", 60)).await;
        soon("the CONNACK", first.read_exact(&mut connack)).await.unwrap();
        let mut second = broker.socket(&connect("twin", 60)).await;
        soon("the CONNACK", second.read_exact(&mut connack)).await.unwrap();
        rest(first).await;
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x10, 0xff, 0xff, 0xff, 0xff, 1], &publish("a", 1)]
        {
            let mut socket = broker.socket(garbage).await;
            socket.shutdown().await.ok();
            rest(socket).await;
        }
        second.write_all(&[0xc0, 0]).await.unwrap();
        let mut pong = [0; 2];
        soon("the PINGRESP", second.read_exact(&mut pong)).await.unwrap();
        assert_eq!(pong, [0xd0, 0]);
    })
    .await;
}

#[tokio::test]
async fn a_wildcard_does_not_hear_what_begins_with_a_dollar_and_a_shared_subscription_hears_once() {
    told(async |broker| {
        let all = broker.subscriber(&["-q", "1", "-t", "#"]).await;
        // Not every broker takes such a message; none gives it to the wildcard.
        broker.publisher(&["-q", "0", "-t", "$hidden/a", "-m", "secret"]).ended().await;
        let shared = ["-V", "mqttv5", "-q", "1", "-t", "$share/group/shared/#"];
        let pair = [broker.subscriber(&shared).await, broker.subscriber(&shared).await];
        for n in 0..6 {
            broker.publish(&["-q", "1", "-t", "shared/a", "-m", &n.to_string()]).await;
        }
        let both = || pair.iter().flat_map(heard).collect::<Vec<_>>();
        broker.until("all are heard", || both().len() >= 6 && heard(&all).len() >= 6).await;
        let mut once = both();
        once.sort();
        let expected: Vec<String> = (0..6).map(|n| format!("1 0 shared/a {n}")).collect();
        assert_eq!(once, expected, "{}", broker.name);
        assert_eq!(heard(&all), expected, "{}", broker.name);
    })
    .await;
}
