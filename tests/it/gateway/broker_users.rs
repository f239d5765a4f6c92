//! The embedded broker's users: who may do what, and a file that is changed while the gateway runs.

use crate::support::gateway::{House, smoke};
use crate::support::mosquitto::Peer;
use crate::support::ports::soon;

#[tokio::test]
async fn a_users_file_that_changed_is_taken_over_while_the_gateway_runs() {
    let links = "[broker]\nlisten = \"127.0.0.1:0\"\ncredentials_file = \"broker.users\"\n";
    let house = House::build(links, &format!("{}{}", smoke("sd-1", "broker"), smoke("sd-2", "broker")));
    let file = house.config().parent().unwrap().join("broker.users");
    std::fs::write(&file, "sd-1:one\ntool:secret:all\n").unwrap();
    let gateway = house.open().await;
    let port = gateway.broker.unwrap().port();
    let publishes = async |user: &str, password: &str, id: &str| {
        let topic = crate::support::gateway::topic(id);
        let fire =
            ["-q", "1", "-V", "mqttv5", "-u", user, "-P", password, "-t", &topic, "-m", r#"{"smoke":0}"#];
        let mut publisher = Peer::publisher(port, &fire);
        publisher.ended().await == 0 && !publisher.lines().join(" ").contains("uthori")
    };
    assert!(publishes("sd-1", "one", "sd-1").await && publishes("tool", "secret", "sd-2").await);
    assert!(!publishes("sd-1", "one", "sd-2").await, "a device speaks for itself only");
    let mut leaves =
        Peer::subscriber(port, &["-u", "sd-1", "-P", "one", "-i", "leaves", "-t", "site/a/device/sd-1/#"]);
    assert!(leaves.runs());
    // Wrong lines change nothing and are told; the right ones are taken over once they stay.
    std::fs::write(&file, "sd-2\n").unwrap();
    std::fs::write(&file, "sd-2:two\ntool:secret:all\n").unwrap();
    soon("the new user is let in", async { while !publishes("sd-2", "two", "sd-2").await {} }).await;
    assert!(!publishes("sd-1", "one", "sd-1").await, "it was removed");
    assert!(publishes("tool", "secret", "sd-1").await, "nothing changed for this one");
    drop(leaves);
    gateway.stop().await;
}
