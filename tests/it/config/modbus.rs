//! `[[modbus]]`: every way to reach a bus, and every way to write one down wrongly.

use super::{GATEWAY, METER, SITE, no_env};
use fengsui::config::modbus_file::{ModbusWire, SerialDevice, SerialParity};
use fengsui::config::render::Colour;
use fengsui::config::{Config, ModbusSettings, Report};
use fengsui::model::Span;

const URL: &str = "url = \"tcp://127.0.0.1:502\"\n";

/// A meter with that unit id on a bus that is reached so; `more` stands behind it in gateway.toml.
fn read(way: &str, unit: u8, more: &str) -> Result<(Config, Report), Report> {
    let gateway = GATEWAY.replacen('\n', "\nprofiles_dir = \"models\"\n", 1).replace(URL, way);
    let plan = format!(
        "{SITE}[[site.zone.device]]\nid = \"rc-1\"\nname = \"配电箱\"\nprofile = \"acme/meter\"\n\
         link = \"pump-room\"\nunit = {unit}\n"
    );
    let gateway = format!("{gateway}\n{more}");
    let texts = [("gateway.toml", &*gateway), ("plan.toml", &*plan), ("models/acme/meter.toml", METER)];
    Config::from_texts(&texts, &no_env)
}

fn bus(way: &str) -> ModbusSettings {
    let (config, _) =
        read(way, 7, "").unwrap_or_else(|report| panic!("{way}: {}", report.render(Colour::No)));
    config.gateway.modbus[0].clone()
}

#[test]
fn a_bus_is_reached_by_tcp_a_serial_server_a_serial_line_or_a_dtu_that_dials_in() {
    let server = bus("url = \"rtu-tcp://192.168.1.21\"\necho = true\nlate_answer_max_ms = 2500");
    assert_eq!(server.wire, ModbusWire::RtuTcp { host: "192.168.1.21".into(), port: 8899 });
    assert_eq!((server.echo, server.late_answer_max), (Some(true), Span::from_millis(2500)));
    assert_eq!(server.turnaround, Span::from_millis(5), "its speed is not known");

    let serial = bus("url = \"serial:///dev/ttyUSB0\"");
    let path = SerialDevice::Path("/dev/ttyUSB0".into());
    let expected = ModbusWire::Serial { device: path, baud: 9600, parity: SerialParity::None, stop_bits: 1 };
    assert_eq!(serial.wire, expected, "9600 8N1");
    let usb =
        bus("usb = \"0403:6001:A50285BI\"\nbaud = 19200\nparity = \"even\"\nstop_bits = 2\ndata_bits = 8");
    let device = SerialDevice::Usb { vendor: 0x0403, product: 0x6001, serial: Some("A50285BI".into()) };
    let expected = ModbusWire::Serial { device, baud: 19_200, parity: SerialParity::Even, stop_bits: 2 };
    assert_eq!(usb.wire, expected);

    let dtu = bus("listen = \"127.0.0.1:8502\"\nregistration = \"hex:46 53 2d 31\"\nheartbeat = \"HB\"\n\
         heartbeat_secs = 30\nframing = \"tcp\"\nallow = [\"10.8.0.0/16\", \"::1\"]");
    let ModbusWire::DialIn(dial_in) = &dtu.wire else { panic!("{:?}", dtu.wire) };
    assert_eq!((&dial_in.registration[..], &dial_in.heartbeat[..]), (&b"FS-1"[..], &b"HB"[..]));
    assert_eq!((dial_in.silent_max, dial_in.rtu), (Some(Span::from_secs(120)), false));
    assert_eq!(dial_in.allow.len(), 2);
    assert_eq!(dtu.timeout, Span::from_millis(3000), "a mobile network is slow");
}

#[test]
fn a_bus_that_is_written_down_wrongly_is_refused_with_what_to_do() {
    let dtu = "listen = \"127.0.0.1:8502\"\nregistration = \"FS-1\"";
    let second = |rest: &str| format!("[[modbus]]\nname = \"west\"\nlisten = \"127.0.0.1:8502\"\n{rest}");
    for (way, more, expected) in [
        ("", String::new(), "\"url\" is missing"),
        ("url = \"udp://hall\"", String::new(), "no address of this kind"),
        ("url = \"serial://ttyUSB0\"", String::new(), "/dev/serial/by-id"),
        ("usb = \"1a86\"", String::new(), "lsusb"),
        ("usb = \"1a86:7523\"\nlisten = \"127.0.0.1:1\"", String::new(), "only one of url, usb and listen"),
        ("url = \"serial:///dev/ttyS0\"\ndata_bits = 7", String::new(), "8 data bits"),
        ("url = \"serial:///dev/ttyS0\"\nparity = \"mark\"", String::new(), "unknown parity"),
        ("url = \"serial:///dev/ttyS0\"\nbaud = 96", String::new(), "out of range"),
        ("url = \"tcp://hall\"\nbaud = 9600", String::new(), "unknown key \"baud\""),
        ("url = \"rtu-tcp://hall\"\nsecond_connection = true", String::new(), "unknown key"),
        ("listen = \"127.0.0.1:8502\"", String::new(), "\"registration\" is missing"),
        ("listen = \"127.0.0.1:8502\"\nregistration = \"hex:4\"", String::new(), "in hexadecimal"),
        (&format!("{dtu}\nheartbeat_secs = 30"), String::new(), "no heartbeat"),
        (&format!("{dtu}\nallow = [\"10.8\"]"), String::new(), "no range of addresses"),
        (dtu, second("registration = \"FS-1\""), "with the same registration"),
        (dtu, second("registration = \"FS-2\"\nallow = [\"::1\"]"), "allow differs"),
    ] {
        let shown = match read(way, 7, &more) {
            Ok(_) => panic!("this was accepted: {way}\n{more}"),
            Err(report) => report.render(Colour::No),
        };
        assert!(shown.contains(expected), "{way}\n{more}\n{shown}");
    }
    assert!(read(dtu, 7, &second("registration = \"FS-2\"")).is_ok(), "two DTUs share a port");
    let (_, report) = read(&dtu.replace("127.0.0.1", "0.0.0.0"), 7, "").unwrap();
    assert!(report.render(Colour::No).contains("pose as the DTU"), "an open port is warned of");
}

#[test]
fn which_unit_ids_there_are_depends_on_the_wire() {
    let (rtu, reserved) = ("url = \"rtu-tcp://hall\"", "url = \"rtu-tcp://hall\"\nreserved_units = true");
    for (way, unit, allowed) in [
        (URL, 0, true),
        (URL, 255, true),
        (URL, 248, false),
        (rtu, 1, true),
        (rtu, 247, true),
        (rtu, 0, false),
        (rtu, 248, false),
        (rtu, 255, false),
        (reserved, 248, true),
        (reserved, 0, false),
    ] {
        assert_eq!(read(way, unit, "").is_ok(), allowed, "{way} unit {unit}");
    }
}

/// What an installer copies from the page is right as it stands, without a warning, and names every key there is.
#[test]
fn the_buses_of_the_page_are_right() {
    let page = include_str!("../../../docs/modbus.md");
    let blocks: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let buses = blocks.concat();
    let names: Vec<&str> =
        buses.lines().filter_map(|line| line.strip_prefix("name = \"")?.split('"').next()).collect();
    assert_eq!(names.len(), 5);
    let devices: String = (names.iter().zip(1..))
        .map(|(name, unit)| {
            format!(
                "[[site.zone.device]]\nid = \"rc-{unit}\"\nname = \"配电箱\"\nprofile = \"acme/meter\"\n\
                 link = \"{name}\"\nunit = {unit}\n"
            )
        })
        .collect();
    let gateway = format!("plan = \"plan.toml\"\nprofiles_dir = \"models\"\n{buses}");
    let plan = format!("{SITE}{devices}");
    let texts = [("gateway.toml", &*gateway), ("plan.toml", &*plan), ("models/acme/meter.toml", METER)];
    let shown = |report: &Report| report.render(Colour::No);
    let (config, report) =
        Config::from_texts(&texts, &no_env).unwrap_or_else(|report| panic!("{}", shown(&report)));
    assert_eq!(shown(&report), "");
    assert_eq!(config.gateway.modbus.len(), names.len());
    // As the reader's own text has them: what it asks a table for.
    let reader = include_str!("../../../src/config/modbus_file.rs");
    let quoted = reader.split('"').skip(1).step_by(2);
    let is_key = |word: &&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let keys = quoted.filter(is_key).filter(|word| reader.contains(&format!("(\"{word}\"")));
    let untold: Vec<&str> = keys.filter(|key| !page.contains(*key)).collect();
    assert_eq!(untold, Vec::<&str>::new());
}
