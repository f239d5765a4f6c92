//! Tests of: `[broker]` in gateway.toml and the lines of its users file.

use fengsui::config::render::Colour;
use fengsui::config::{Config, broker_users};
use std::path::Path;

const PLAN: &str = "[[site]]\nid = \"sunshine\"\nname = \"阳光养老院\"\naddress = \"某路 8 号\"\n[[site.contact]]\nrole = \"值班室\"\nphone = \"119\"\n[[site.zone]]\nid = \"floor-2\"\nname = \"二层\"\n[[site.zone.device]]\nid = \"sd-1\"\nname = \"烟感\"\nprofile = \"fengsui/smoke-json\"\nlink = \"broker\"\naddress = \"203\"\n";

fn read(broker: &str) -> Result<Config, String> {
    let gateway = format!("plan = \"plan.toml\"\n[broker]\n{broker}\n");
    let texts = [
        ("gateway.toml", gateway.as_str()),
        ("plan.toml", PLAN),
        ("users", "a:b\ntool:x:all\n"),
        ("cert.pem", "certificate\n"),
        ("key.pem", "key\n"),
    ];
    Config::from_texts(&texts, &|_| None)
        .map(|(config, _)| config)
        .map_err(|report| report.render(Colour::No))
}

#[test]
fn tls_stands_beside_the_plain_listener_or_instead_of_it() {
    let tls =
        "credentials_file = \"users\"\n[broker.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
    let instead = read(tls).unwrap().gateway;
    let broker = instead.broker.unwrap();
    assert_eq!((broker.listen, broker.tls.unwrap().listen.port()), (None, 8883));
    assert!(
        instead.secret_files.iter().any(|file| file == Path::new("key.pem")),
        "a backup leaves the key out"
    );
    let beside = read(&format!("listen = \"127.0.0.1:1884\"\n{tls}listen = \"127.0.0.1:8884\"")).unwrap();
    let broker = beside.gateway.broker.unwrap();
    assert_eq!((broker.listen.unwrap().port(), broker.tls.unwrap().listen.port()), (1884, 8884));
    let plain = read("credentials_file = \"users\"").unwrap().gateway.broker.unwrap();
    assert_eq!((plain.listen.unwrap().port(), plain.tls), (1883, None));
    for (wrong, expected) in [
        ("credentials_file = \"users\"\n[broker.tls]\nkey_file = \"key.pem\"", "\"cert_file\" is missing"),
        (
            "credentials_file = \"users\"\n[broker.tls]\ncert_file = \"no.pem\"\nkey_file = \"key.pem\"",
            "no.pem",
        ),
        ("credentials_file = \"users\"\n[broker.tls]\ncert_fil = \"x\"", "unknown key"),
    ] {
        let shown = read(wrong).unwrap_err();
        assert!(shown.contains(expected) && shown.contains("gateway.toml:"), "{wrong}: {shown}");
    }
}

#[test]
fn a_line_of_the_users_file_says_who_may_do_what() {
    let text = "# the ward\nsd-1:one\n\ntool:two:all\nsd-2:th:ree\nsd-3:four:device\nsd-4::all\nnobody\n:x\nsd-5:all\n";
    let (users, wrong) = broker_users(text);
    let told: Vec<_> = users
        .iter()
        .map(|user| (user.login.user.as_str(), user.login.password.reveal(), user.everything))
        .collect();
    let expected = [
        ("sd-1", "one", false),
        ("tool", "two", true),
        ("sd-2", "th:ree", false),
        ("sd-3", "four", false),
        ("sd-5", "all", false),
    ];
    assert_eq!(told, expected);
    assert_eq!(wrong, [7, 8, 9]);
    assert!(!format!("{users:?}").contains("one"), "a password is never printed");
}
