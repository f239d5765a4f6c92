//! gateway.toml + plan.toml + profiles: every mistake is found, shown with its place, and says what to do.

mod modbus;
mod mqtt;

use fengsui::config::render::Colour;
use fengsui::config::{Config, InfluxWay, LinkKind, Report, system};
use fengsui::model::{Condition, DeviceId, Number, Plan, PointId, Rule, Span};
use std::path::Path;
use std::sync::Arc;

const GATEWAY: &str = r#"
plan = "plan.toml"

[broker]
listen = "127.0.0.1:1883"
anonymous = true

[[modbus]]
name = "pump-room"
url = "tcp://127.0.0.1:502"
"#;

const SITE: &str = r#"
[[site]]
id = "sunshine"
name = "阳光养老院"
address = "某县某镇某路 8 号"

[[site.contact]]
role = "值班室"
phone = "119"

[[site.zone]]
id = "floor-2"
name = "二层"
"#;

const SMOKE: &str = r#"
[[site.zone.device]]
id = "sd-203"
name = "203 房间烟感"
profile = "fengsui/smoke-json"
link = "broker"
address = "203"
"#;

/// A Modbus profile of the test's own, so that the test needs no shipped one.
const METER: &str = r#"
[device]
vendor = "acme"
model = "meter"
name = { zh = "剩余电流表", en = "Residual current meter" }
source = "test"
silent_after_secs = 60

[modbus]
poll_every_secs = 5

[[point]]
name = "residual"
class = "residual_current"
unit = "mA"
from = { table = "input", address = 0, type = "u16" }

[[example]]
name = "two values"
input = "@0: 0064"
readings = { residual = "100 mA" }

[[example]]
name = "another"
input = "@0: 0156"
readings = { residual = "342 mA" }

[[example]]
name = "refused"
input = "@0+1: exception 2"
refused = true
"#;

fn no_env(_: &str) -> Option<String> {
    None
}

fn read(gateway: &str, plan: &str) -> Result<(Config, Report), Report> {
    Config::from_texts(&[("gateway.toml", gateway), ("plan.toml", plan)], &no_env)
}

fn good(plan: &str) -> Config {
    match read(GATEWAY, plan) {
        Ok((config, _)) => config,
        Err(report) => panic!("{}", report.render(Colour::No)),
    }
}

/// What is shown for a wrong plan; panics when it is accepted.
fn refused(plan: &str) -> String {
    match read(GATEWAY, plan) {
        Ok(_) => panic!("this plan was accepted: {plan}"),
        Err(report) => report.render(Colour::No),
    }
}

fn rule(plan: &Plan, point: &str, rule: &str) -> Option<Arc<Rule>> {
    let (.., point) = plan.point(&PointId::parse(point).unwrap()).expect("the point is in the plan");
    point.rules.iter().find(|candidate| candidate.id.as_str() == rule).cloned()
}

#[test]
fn a_bus_may_be_given_a_pause_and_refused_a_second_connection() {
    let read = |more: &str| {
        Config::from_texts(&[("gateway.toml", &format!("{GATEWAY}{more}")), ("plan.toml", SITE)], &|_| None)
    };
    let bus = |more: &str| {
        let bus = read(more).unwrap().0.gateway.modbus[0].clone();
        (bus.pause_after_connect, bus.second_connection)
    };
    assert_eq!(bus(""), (Span::ZERO, true));
    assert_eq!(
        bus("pause_after_connect_ms = 300\nsecond_connection = false"),
        (Span::from_millis(300), false)
    );
    for wrong in
        ["pause_after_connect_ms = 60000", "pause_after_connect_ms = -1", "second_connection = \"no\""]
    {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_device_gets_its_profiles_points_and_one_for_being_heard() {
    let config = good(&format!("{SITE}{SMOKE}"));
    let binding = config.bindings.first().expect("one device, one binding");
    assert_eq!(binding.points.len(), binding.profile.points.len());
    for (id, shape) in binding.points.iter().zip(&binding.profile.points) {
        assert_eq!((id.device(), id.name()), ("sd-203", shape.name.as_str()));
        assert!(config.plan.point(id).is_some());
    }
    assert_eq!(
        (binding.address.as_str(), binding.unit, binding.link_point.as_str()),
        ("203", None, "sd-203/link")
    );
    let silent = rule(&config.plan, "sd-203/link", "link-silent").expect("silence is watched");
    assert_eq!(silent.condition, Condition::Silent { after: binding.profile.silent_after.unwrap() });
}

#[test]
fn the_plan_says_how_long_a_silence_is_normal() {
    let config = good(&format!("{SITE}{SMOKE}silent_after_secs = 7200\n"));
    let silent = rule(&config.plan, "sd-203/link", "link-silent").unwrap();
    assert_eq!(silent.condition, Condition::Silent { after: Span::from_secs(7200) });
}

#[test]
fn the_gateway_watches_its_own_links_and_itself() {
    let config = good(&format!("{SITE}{SMOKE}"));
    let links: Vec<_> = config.gateway.links().map(|(link, kind)| (link.to_string(), kind)).collect();
    assert_eq!(links, [("broker".to_owned(), LinkKind::Mqtt), ("pump-room".to_owned(), LinkKind::Modbus)]);
    for (link, _) in config.gateway.links() {
        let point = system::link_point(link).unwrap();
        let (site, .., point) = config.plan.point(&point).expect("every link is watched");
        assert_eq!(site.id.as_str(), "gateway");
        assert!(!point.rules.is_empty(), "a broken link must raise something");
    }
    for (name, ..) in system::FAULT_POINTS {
        let (.., point) = config.plan.point(&system::fault_point(name).unwrap()).expect("it is in the plan");
        assert!(!point.rules.is_empty() && !point.states.is_empty());
    }
    assert_eq!(config.bindings.len(), 1, "nothing is bound to the synthetic devices");
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_line() {
    let plan = r#"
[[site]]
id = "sunshine"
name = "阳光养老院"
adress = "x"

[[site.zone]]
id = "Floor 2"
name = "二层"

[[site.zone.device]]
id = "sd-1"
name = "一号"
profile = "fengsui/smoke-jsn"
link = "broker"
address = "1"

[[site.zone.device]]
id = "sd-1"
name = "二号"
profile = "fengsui/smoke-json"
link = "brokr"
silent_after_secs = 1
"#;
    let shown = refused(plan);
    for expected in [
        "plan.toml:5:1", // unknown key
        "did you mean \"address\"?",
        "\"address\" is missing",
        "plan.toml:8:6", // no id
        "did you mean \"fengsui/smoke-json\"?",
        "plan.toml:14:11",
        "\"sd-1\" is used twice",
        "no such link: \"brokr\"",
        "\"silent_after_secs\" is out of range",
        "no contact",
    ] {
        assert!(shown.contains(expected), "{expected:?} is missing from\n{shown}");
    }
}

#[test]
fn the_plan_is_checked_although_gateway_toml_is_wrong() {
    let gateway = GATEWAY.replace("tcp://", "udp://");
    let shown = read(&gateway, &format!("{SITE}{SMOKE}unit = \"x\"\n")).unwrap_err().render(Colour::No);
    assert!(shown.contains("gateway.toml:10:7") && shown.contains("plan.toml:21:8"), "{shown}");
}

#[test]
fn a_syntax_error_stops_its_own_file_only() {
    let report = read(&GATEWAY.replace("tcp://", "udp://"), "[[site]\n").unwrap_err();
    let shown = report.render(Colour::No);
    assert!(shown.contains("not valid TOML") && shown.contains("plan.toml:1"), "{shown}");
    assert!(shown.contains("gateway.toml:10:7"), "{shown}");
}

#[test]
fn a_file_saved_as_gbk_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.toml"), GATEWAY).unwrap();
    std::fs::write(folder.path().join("plan.toml"), b"[[site]]\nname = \"\xd1\xf4\xb9\xe2\"\n").unwrap();
    let report = Config::load(&folder.path().join("gateway.toml"), &no_env).unwrap_err();
    let shown = report.render(Colour::No);
    assert!(shown.contains("plan.toml") && shown.contains("UTF-8 编码保存"), "{shown}");
}

#[test]
fn an_address_belongs_to_one_device() {
    let second = SMOKE.replace("sd-203", "sd-204");
    let shown = refused(&format!("{SITE}{SMOKE}{second}"));
    assert!(shown.contains("already belongs to \"sd-203\""), "{shown}");
    let second = second.replace("address = \"203\"", "address = \"204\"");
    assert_eq!(good(&format!("{SITE}{SMOKE}{second}")).bindings.len(), 2);
}

#[test]
fn the_profile_and_the_link_must_speak_the_same_protocol() {
    let shown = refused(&format!("{SITE}{}", SMOKE.replace("\"broker\"", "\"pump-room\"")));
    assert!(shown.contains("do not match"), "{shown}");
}

fn with_meter(unit: &str, rest: &str) -> Result<(Config, Report), Report> {
    let gateway = GATEWAY.replacen('\n', "\nprofiles_dir = \"models\"\n", 1);
    let plan = format!(
        "{SITE}[[site.zone.device]]\nid = \"rc-1\"\nname = \"配电箱\"\nprofile = \"acme/meter\"\n\
         link = \"pump-room\"\n{unit}\n{rest}"
    );
    let texts = [("gateway.toml", &*gateway), ("plan.toml", &*plan), ("models/acme/meter.toml", METER)];
    Config::from_texts(&texts, &no_env)
}

#[test]
fn a_site_may_bring_its_own_profiles() {
    let (config, report) =
        with_meter("unit = 7", "").unwrap_or_else(|report| panic!("{}", report.render(Colour::No)));
    assert_eq!(report.errors(), 0);
    assert_eq!(config.bindings.first().and_then(|binding| binding.unit), Some(7));
    for (unit, expected) in [
        ("", "\"unit\" is missing"),
        ("unit = 248", "reserved_units = true"),
        ("unit = 256", "out of range"),
        ("unit = 7\naddress = \"7\"", "no address here"),
    ] {
        let shown = with_meter(unit, "").unwrap_err().render(Colour::No);
        assert!(shown.contains(expected), "{unit}: {shown}");
    }
}

#[test]
fn a_limit_is_overridden_and_no_longer_claims_the_standard() {
    let point = "[[site.zone.device.override]]\npoint = \"residual\"\nrule = \"residual-current-alarm\"\n";
    let (config, _) = with_meter("unit = 7", &format!("{point}limit = 450\n")).expect("this is right");
    let alarm = rule(&config.plan, "rc-1/residual", "residual-current-alarm").unwrap();
    assert!(
        matches!(alarm.condition, Condition::AtLeast { limit, .. } if Some(limit) == Number::new(450.0)),
        "{alarm:?}"
    );
    assert!(alarm.basis.starts_with("现场设定"), "{}", alarm.basis);
    let shown = |rest: &str| with_meter("unit = 7", rest).unwrap_err().render(Colour::No);
    assert!(shown(&format!("{point}limit = 1e9\n")).contains("outside the plausible range"));
    assert!(shown(point).contains("it changes nothing"));
    assert!(shown(&format!("{}limit = 450\n", point.replace("alarm", "alram"))).contains("did you mean"));
    assert!(
        shown(&format!("{}limit = 450\n", point.replace("\"residual\"", "\"residul\"")))
            .contains("did you mean")
    );
}

#[test]
fn an_override_of_a_class_reaches_every_zone_and_the_nearest_wins() {
    let class = "[[site.override]]\nclass = \"battery\"\nrule = \"battery-low\"\n";
    let zone = class.replace("site.override", "site.zone.override");
    let plan = format!("{SITE}{zone}limit = 30\n{SMOKE}{class}limit = 40\non_delay_secs = 5\n");
    let low = rule(&good(&plan).plan, "sd-203/battery", "battery-low").unwrap();
    assert!(
        matches!(low.condition, Condition::Below { limit, .. } if Some(limit) == Number::new(30.0)),
        "{low:?}"
    );
    assert_eq!(low.on_delay, Span::from_secs(5));
    let off = good(&format!("{SITE}{SMOKE}{class}enabled = false\n"));
    assert_eq!(rule(&off.plan, "sd-203/battery", "battery-low"), None);
}

#[test]
fn a_fire_rule_can_be_neither_switched_off_nor_slowed() {
    let over = "[[site.zone.device.override]]\npoint = \"smoke\"\nrule = \"smoke-fire\"\n";
    for (change, expected) in [
        ("enabled = false", "cannot be switched off"),
        ("on_delay_secs = 3600", "cannot be made slower"),
        ("deadband = 1", "cannot have a deadband"),
    ] {
        let shown = refused(&format!("{SITE}{SMOKE}{over}{change}\n"));
        assert!(shown.contains(expected), "{change}: {shown}");
    }
    let class = over
        .replace("zone.device.override", "override")
        .replace("point = \"smoke\"", "class = \"smoke_alarm\"");
    let shown = refused(&format!("{SITE}{SMOKE}{class}enabled = false\n"));
    assert!(shown.contains("cannot be switched off"), "{shown}");
}

#[test]
fn secrets_come_from_a_file_or_the_environment_and_are_never_printed() {
    let gateway = format!(
        "{GATEWAY}\n[[mqtt]]\nname = \"town\"\nurl = \"mqtts://mqtt.example\"\nuser = \"gw\"\n\
         password_file = \"secrets/mqtt\"\n\n[[influx]]\nurl = \"http://127.0.0.1:8086/\"\norg = \"o\"\n\
         bucket = \"b\"\ntoken_env = \"TOKEN\"\n"
    );
    let plan = format!("{SITE}{SMOKE}");
    let mut texts = vec![("gateway.toml", &*gateway), ("plan.toml", &*plan), ("secrets/mqtt", "hunter2\n")];
    let env = |name: &str| (name == "TOKEN").then(|| "t0ken".to_owned());
    let (config, report) = Config::from_texts(&texts, &env).expect("both secrets are there");
    let login = config.gateway.mqtt.first().and_then(|mqtt| mqtt.login.clone()).unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal()), ("gw", "hunter2"));
    let influx = config.gateway.influx.first().unwrap();
    let InfluxWay::V2 { token: Some(token), .. } = &influx.way else { panic!("{influx:?}") };
    assert_eq!(token.reveal(), "t0ken");
    assert_eq!(influx.url, "http://127.0.0.1:8086");
    let printed = format!("{:?}{report:?}", config.gateway);
    assert!(!printed.contains("hunter2") && !printed.contains("t0ken"), "a secret was printed");

    texts.pop();
    let shown = Config::from_texts(&texts, &no_env).unwrap_err().render(Colour::No);
    assert!(shown.contains("TOKEN is not set") && shown.contains("secrets"), "{shown}");
}

/// gateway.toml with more at its end.
fn with_sinks(sinks: &str) -> Result<(Config, Report), Report> {
    let (gateway, plan) = (format!("name = \"box-7\"\n{GATEWAY}\n{sinks}"), format!("{SITE}{SMOKE}"));
    let texts = [("gateway.toml", &*gateway), ("plan.toml", &*plan), ("secrets/db", "hunter2\n")];
    Config::from_texts(&texts, &no_env)
}

#[test]
fn a_store_of_version_1_and_a_folder_are_read_with_their_limits() {
    let (config, _) = with_sinks(
        "[[influx]]\nname = \"old\"\nversion = 1\nurl = \"http://db\"\ndatabase = \"site\"\nretention_policy = \"year\"\n\
         user = \"gw\"\npassword_file = \"secrets/db\"\nbatch_lines_max = 800\nbackfill_lines_per_second = 300\n\
         retention_days = 30\nfuture_max_hours = 48\n\n[[folder]]\ndir = \"stick\"\nrequire = \"FENGSUI\"\nfile_minutes = 10\n",
    )
    .expect("it is right");
    let gateway = &config.gateway;
    assert_eq!(gateway.name.as_deref(), Some("box-7"));
    let store = &gateway.influx[0];
    let InfluxWay::V1 { database, retention_policy, login: Some(login) } = &store.way else {
        panic!("{store:?}")
    };
    assert_eq!(
        (database.as_str(), retention_policy.as_deref(), login.user.as_str()),
        ("site", Some("year"), "gw")
    );
    assert_eq!((store.batch_lines_max, store.backfill_lines_per_second), (Some(800), Some(300)));
    assert_eq!(store.retention, Some(Span::from_secs(30 * 86_400)));
    assert_eq!(store.future_max, Some(Span::from_secs(48 * 3600)));
    let folder = &gateway.folder[0];
    assert_eq!((folder.name.as_str(), folder.require.as_deref()), ("folder", Some("FENGSUI")));
    assert!(folder.dir.ends_with("stick"));
    assert_eq!((folder.file_every, folder.file_max_bytes), (Span::from_secs(600), 16 << 20));
    assert_eq!(folder.keep_free_bytes, 64 << 20);
    assert!(!format!("{gateway:?}").contains("hunter2"));
}

#[test]
fn a_folder_that_is_another_sinks_or_lies_in_the_data_directory_is_refused_however_it_is_spelt() {
    let home = tempfile::tempdir().unwrap();
    let (file, stick) = (home.path().join("gateway.toml"), home.path().join("stick"));
    std::fs::create_dir(&stick).unwrap();
    std::os::unix::fs::symlink(&stick, home.path().join("link")).unwrap();
    let folder = |name: &str, dir: &str| format!("[[folder]]\nname = \"{name}\"\ndir = {dir:?}\n");
    let told = |sinks: &str| {
        std::fs::write(&file, format!("{GATEWAY}\n{sinks}")).unwrap();
        Config::gateway_alone(&file, &no_env).1.render(Colour::No)
    };
    let first = folder("one", "stick");
    let absolute = stick.to_str().unwrap();
    for same in ["stick", "./stick/", "stick//.", "other/../stick", absolute, "link", "link/../stick/../link"]
    {
        let told = told(&format!("{first}{}", folder("two", same)));
        assert!(told.contains("目录已被 one 使用 / the folder of \"one\" already"), "{same}: {told}");
        assert!(told.contains("gateway.toml:17:"), "without its line: {told}");
        assert!(told.contains("每个 [[folder]] 一个目录"), "without what to do: {told}");
    }
    for inside in ["journal", "journal/", "./stick/../journal/out"] {
        let told = told(&folder("one", inside));
        assert!(
            told.contains("目录在日志的数据目录里") && told.contains("gateway.toml:14:"),
            "{inside}: {told}"
        );
    }
    for other in ["sticks", "stick/two", "journals", ".", "link/two"] {
        assert_eq!(told(&format!("{first}{}", folder("two", other))), "", "{other} is a folder of its own");
    }
    // The stick is not plugged in, and nothing of it exists.
    std::fs::remove_dir(&stick).unwrap();
    let told = told(&format!("{first}{}", folder("two", "./stick")));
    assert!(told.contains("目录已被 one 使用"), "{told}");
}

#[test]
fn a_sink_that_mixes_two_versions_or_lacks_a_word_is_refused() {
    let store = |rest: &str| format!("[[influx]]\nurl = \"http://db\"\n{rest}\n");
    let v2 = store("org = \"o\"\nbucket = \"b\"");
    for (sinks, expected) in [
        (store("version = 1"), "\"database\" is missing"),
        (store("version = 1\ndatabase = \"d\"\nbucket = \"b\""), "bucket belongs to version = 2"),
        (store("org = \"o\"\nbucket = \"b\"\ndatabase = \"d\""), "database belongs to version = 1"),
        (store("version = 1\ndatabase = \"d\"\nuser = \"u\""), "a user and a password belong together"),
        (store("version = 3\norg = \"o\"\nbucket = \"b\""), "\"version\" is out of range"),
        (store("org = \"o\"\nbucket = \"b\"\nbackfill_lines_per_second = 1"), "out of range"),
        ("[[folder]]\nname = \"x\"\n".to_owned(), "\"dir\" is missing"),
        ("[[folder]]\ndir = \"d\"\nrequire = \"../x\"\n".to_owned(), "without a folder"),
        ("[[folder]]\ndir = \"d\"\n[[folder]]\ndir = \"e\"\n".to_owned(), "is used twice"),
        (format!("{v2}{v2}"), "the name \"influx\" is used twice"),
        (format!("{v2}[[folder]]\nname = \"influx\"\ndir = \"d\"\n"), "the name \"influx\" is used twice"),
    ] {
        let shown = with_sinks(&sinks).unwrap_err().render(Colour::No);
        assert!(shown.contains(expected), "{sinks}: {shown}");
    }
}

#[test]
fn a_broken_profile_spoils_only_the_devices_that_use_it() {
    let gateway = GATEWAY.replacen('\n', "\nprofiles_dir = \"models\"\n", 1);
    let broken = METER.replace("residual_current", "residual_curent");
    let plan = format!("{SITE}{SMOKE}");
    let texts = [("gateway.toml", &*gateway), ("plan.toml", &*plan), ("models/acme/meter.toml", &*broken)];
    let report = Config::from_texts(&texts, &no_env).unwrap_err();
    assert_eq!(report.errors(), 1, "{}", report.render(Colour::No));
    assert!(report.problems.iter().all(|problem| &*problem.file == "models/acme/meter.toml"));
}

#[test]
fn the_sample_configurations_are_right() {
    let env = |_: &str| Some("x".to_owned());
    for sample in ["packaging/gateway.toml", "packaging/compose/gateway.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(sample);
        let (problems, summary, code) = fengsui::cli::check::check(&path, &env, Colour::No);
        assert_eq!(code, 0, "{sample}: {problems}{summary}");
        assert_eq!(problems, "", "{sample}: a sample has no warnings");
        assert!(summary.contains("阳光养老院"), "{summary}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let (problems, summary, code) =
        fengsui::cli::check::check(Path::new("no-such-place/gateway.toml"), &no_env, Colour::No);
    assert_eq!(code, 64);
    assert!(problems.contains("no-such-place/gateway.toml"), "{problems}");
    assert!(summary.contains("1 errors"), "{summary}");
}

#[test]
fn every_device_id_of_the_plan_is_found_again() {
    let config = good(&format!("{SITE}{SMOKE}"));
    for binding in &config.bindings {
        let (.., device) = config.plan.device(binding.device.as_str()).expect("bound and in the plan");
        assert_eq!(device.link, binding.link);
    }
    assert!(DeviceId::parse("gateway").is_ok_and(|id| config.plan.device(id.as_str()).is_some()));
    let shown = refused(&format!("{SITE}{}", SMOKE.replace("\"sd-203\"", "\"link-broker\"")));
    assert!(shown.contains("the gateway's own"), "{shown}");
}

#[test]
fn where_backups_go_and_which_files_are_secret_is_known() {
    let gateway = format!("{GATEWAY}\n[backup]\ndir = \"/media/usb/fengsui\"\nevery_hours = 24\n");
    let gateway =
        gateway.replace("anonymous = true", "anonymous = true\ncredentials_file = \"broker.users\"");
    let plan = format!("{SITE}{SMOKE}");
    let texts = [("gateway.toml", gateway.as_str()), ("plan.toml", &plan), ("broker.users", "a:b\n")];
    let (config, _) =
        Config::from_texts(&texts, &|_| None).map_err(|report| report.render(Colour::No)).unwrap();
    let backup = config.gateway.backup.unwrap();
    assert_eq!((backup.dir.as_path(), backup.keep), (Path::new("/media/usb/fengsui"), 7));
    assert_eq!(backup.every, Some(Span::from_secs(86_400)));
    assert_eq!(config.gateway.secret_files, [Path::new("broker.users")]);
    assert_eq!(config.gateway.file, Path::new("gateway.toml"));
    for (wrong, expected) in
        [("every_hours = 0", "every_hours"), ("keep = 0", "keep"), ("kep = 3", "keep"), ("", "dir")]
    {
        let table = if wrong.is_empty() {
            "[backup]\n".to_owned()
        } else {
            format!("[backup]\ndir = \"/x\"\n{wrong}\n")
        };
        let gateway = format!("{GATEWAY}\n{table}");
        let texts = [("gateway.toml", gateway.as_str()), ("plan.toml", &plan)];
        let report = Config::from_texts(&texts, &|_| None).unwrap_err();
        assert!(report.render(Colour::No).contains(expected), "{wrong}: {}", report.render(Colour::No));
    }
}

#[test]
fn a_plan_allows_no_command_unless_it_names_it_and_a_wrong_name_is_told() {
    let contacts = |more: &str| {
        format!(
            "{SITE}[[site.zone.device]]\nid = \"io-1\"\nname = \"泵房触点\"\nprofile = \"waveshare/modbus-rtu-io-8ch\"\nlink = \"pump-room\"\nunit = 1\n{more}\n"
        )
    };
    let allowed = |config: &Config| -> (Vec<String>, Vec<String>) {
        let (.., device) = config.plan.device("io-1").unwrap();
        let shown = device.commands.iter().map(|command| command.name.to_string()).collect();
        (shown, config.bindings[0].commands.iter().map(|command| command.name.clone()).collect())
    };
    assert_eq!(allowed(&good(&contacts(""))), (vec![], vec![]));
    let one = || vec!["siren-off".to_owned()];
    assert_eq!(allowed(&good(&contacts("allow_commands = [\"siren-off\"]"))), (one(), one()));
    let text = refused(&contacts("allow_commands = [\"siren-of\", \"mute\", \"siren-on\", \"siren-on\"]"));
    for wanted in [
        "did you mean \"siren-off\"?",
        "no command \"mute\"",
        "known: siren-on, siren-off",
        "\"siren-on\" is there twice",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let smoke = refused(&format!("{SITE}{SMOKE}allow_commands = [\"siren-on\"]\n"));
    assert!(smoke.contains("this profile has no commands"), "{smoke}");
}
