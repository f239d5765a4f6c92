//! Tests of: `[[push]]` in gateway.toml. Every mistake is found, shown with its place, and says what to do.

use fengsui::config::render::Colour;
use fengsui::config::{Config, LinkKind, PushFormat};
use std::net::SocketAddr;

const PLAN: &str = "[[site]]\nid = \"sunshine\"\nname = \"阳光养老院\"\naddress = \"某路 8 号\"\n[[site.contact]]\nrole = \"值班室\"\nphone = \"119\"\n[[site.zone]]\nid = \"floor-2\"\nname = \"二层\"\n[[site.zone.device]]\nid = \"sd-1\"\nname = \"烟感\"\nprofile = \"fengsui/smoke-json\"\nlink = \"lora\"\naddress = \"203\"\n";

const TOKENS: &str = "# two, while one is being replaced\n0123456789abcdef0123\nfedcba9876543210fedc\n";

fn read(push: &str, tokens: &str) -> Result<Config, String> {
    let gateway = format!("plan = \"plan.toml\"\n{push}");
    let texts = [
        ("gateway.toml", gateway.as_str()),
        ("plan.toml", PLAN),
        ("tokens", tokens),
        ("aes", "AAlvB3jc2dlPq2nF\n"),
        ("short", "abc\n"),
    ];
    Config::from_texts(&texts, &|_| None)
        .map(|(config, _)| config)
        .map_err(|report| report.render(Colour::No))
}

fn push(keys: &str) -> String {
    format!("[[push]]\nname = \"lora\"\ntokens_file = \"tokens\"\n{keys}\n")
}

#[test]
fn a_platform_is_a_link_whose_devices_use_the_profiles_for_mqtt() {
    let config = read(&push("format = \"json\"\naddress_field = \"dev\""), TOKENS).unwrap();
    let links: Vec<_> = config.gateway.links().map(|(link, kind)| (link.to_string(), kind)).collect();
    assert_eq!(links, [("lora".to_owned(), LinkKind::Push)]);
    let settings = &config.gateway.push[0];
    assert_eq!((settings.tokens.len(), settings.listen), (2, None));
    assert!(!format!("{settings:?}").contains("0123456789"), "a token is never printed");
    assert_eq!(config.gateway.secret_files, [std::path::Path::new("tokens")]);
    let ctwing = read(&push("format = \"ctwing\"\nlisten = \"0.0.0.0:8081\""), TOKENS).unwrap();
    let settings = &ctwing.gateway.push[0];
    assert_eq!(settings.format, PushFormat::Ctwing { address_field: "deviceId".to_owned() });
    assert_eq!(settings.listen, Some(SocketAddr::from(([0, 0, 0, 0], 8081))));
    assert!(read(&push("format = \"onenet\"\naes_key_file = \"aes\""), TOKENS).is_ok());
}

#[test]
fn every_mistake_in_a_push_is_told() {
    for (keys, tokens, expected) in [
        ("", TOKENS, "\"format\" is missing"),
        ("format = \"xml\"", TOKENS, "unknown format"),
        ("format = \"json\"", "short\n", "line 1 is too short"),
        ("format = \"json\"", "# nobody\n", "it must hold 1..=100 tokens"),
        ("format = \"json\"\ntopic = \"a/b\"", TOKENS, "{address} has to stand in it exactly once"),
        ("format = \"json\"\naes_key_file = \"aes\"", TOKENS, "belongs to format = \"onenet\""),
        ("format = \"ctwing\"\ntopic = \"{address}\"", TOKENS, "belongs to format = \"json\""),
        ("format = \"onenet\"\naes_key_file = \"short\"", TOKENS, "16 or 43 characters"),
        ("format = \"json\"\nlisten = \"127.0.0.1:8080\"", TOKENS, "the duty room's own address"),
        ("format = \"json\"\ntoken = \"x\"", TOKENS, "unknown key"),
    ] {
        let shown = read(&push(keys), tokens).unwrap_err();
        assert!(shown.contains(expected) && shown.contains("gateway.toml:"), "{keys}: {shown}");
        assert!(!shown.contains("0123456789abcdef0123"), "a token is never shown: {shown}");
    }
    let off = format!("{}[web]\nenabled = false\n", push("format = \"json\""));
    assert!(read(&off, TOKENS).unwrap_err().contains("no address to post to"));
}
