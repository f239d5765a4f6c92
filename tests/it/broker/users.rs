//! Tests of: users of the embedded broker that change while it runs.

use super::*;

fn user(password: &str, rights: Rights) -> User {
    User { password: password.to_owned(), rights }
}

/// A CONNECT of MQTT 3.1.1 with user and password.
async fn signed_in(rig: &Rig, name: &str, password: &str) -> (TcpStream, u8) {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60];
    for text in [name, name, password] {
        body.extend([0, u8::try_from(text.len()).unwrap()]);
        body.extend(text.as_bytes());
    }
    let mut socket = rig.socket().await;
    let head = [0x10, u8::try_from(body.len()).unwrap()];
    socket.write_all(&[&head[..], &body].concat()).await.unwrap();
    let mut connack = [0; 4];
    soon("the CONNACK", socket.read_exact(&mut connack)).await.unwrap();
    (socket, connack[3])
}

#[tokio::test]
async fn a_user_who_was_removed_or_changed_is_disconnected_and_nobody_else_notices() {
    let all = [
        ("stays", user("one", Rights::Device)),
        ("gone", user("two", Rights::Device)),
        ("new-password", user("three", Rights::Device)),
        ("fewer-rights", user("four", Rights::Everything)),
    ];
    let as_map = |users: &[(&str, User)]| -> HashMap<String, User> {
        users.iter().map(|(name, user)| ((*name).to_owned(), user.clone())).collect()
    };
    let before = Credentials::Users(as_map(&all));
    let mut rig = Rig::with(|settings| settings.credentials = before).await;
    let mut sockets = Vec::new();
    for (name, password) in
        [("stays", "one"), ("gone", "two"), ("new-password", "three"), ("fewer-rights", "four")]
    {
        let (socket, code) = signed_in(&rig, name, password).await;
        assert_eq!(code, 0, "{name}");
        sockets.push(socket);
    }
    until("all are connected", || rig.metrics.broker_clients.get() == 4).await;
    let after = [
        ("stays", user("one", Rights::Device)),
        ("new-password", user("another", Rights::Device)),
        ("fewer-rights", user("four", Rights::Device)),
        ("added", user("five", Rights::Device)),
    ];
    assert_eq!(rig.broker.keys().replace(as_map(&after)), 3);
    let mut stays = sockets.remove(0);
    for socket in sockets {
        assert_eq!(rest(socket).await, Vec::<u8>::new());
    }
    until("the others are gone", || rig.metrics.broker_clients.get() == 1).await;
    stays.write_all(&publish("site/stays/up", 1)).await.unwrap();
    let frame = rig.frame().await;
    rig.acknowledge(&frame).await;
    let mut puback = [0; 4];
    soon("the PUBACK", stays.read_exact(&mut puback)).await.unwrap();
    for (name, password, refused) in [
        ("gone", "two", true),
        ("new-password", "three", true),
        ("new-password", "another", false),
        ("added", "five", false),
    ] {
        let (_socket, code) = signed_in(&rig, name, password).await;
        assert_eq!(matches!(code, 4 | 5), refused, "{name}: {code}");
    }
    assert_eq!(rig.broker.keys().replace(as_map(&after)), 0, "nothing changed");
}

#[tokio::test]
async fn a_subscription_that_is_refused_is_counted() {
    let rig = Rig::with(|settings| settings.credentials = users()).await;
    let spy = Peer::subscriber(rig.port, &["-t", "smoke-2/#", "-q", "1", "-u", "smoke-1", "-P", "secret"]);
    until("it is refused", || rig.metrics.broker_refused.get() == 1).await;
    drop(spy);
}
