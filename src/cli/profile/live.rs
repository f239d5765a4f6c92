//! `fengsui profile try --live`: the messages of a broker, or the registers of a device, as they come, each beside its readings
//! and the hazards that they would raise. Looks on only: it keeps no session, publishes nothing, writes nothing.

use super::new::wire_of;
use super::place::Place;
use super::{Asked, EXIT_CONFIG, try_frame};
use crate::cli::known::{say, tell};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{Body, DeviceId, Frame, LinkId, RegisterBlock, SourceIndex, Trouble};
use crate::profile::{ExampleInput, Profile, ProfileLink};
use crate::sources::mqtt::{self, MqttSettings, Password};
use crate::sources::{Arrival, modbus};
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Frames that may wait while the terminal is slow; then the broker waits.
const WAITING_MAX: usize = 64;
/// What is shown of a message, in characters and in bytes: a screen full.
const SHOWN_CHARS_MAX: usize = 600;
const SHOWN_BYTES_MAX: usize = 128;
/// Exit code where nothing was reached.
const EXIT_UNREACHED: u8 = 1;

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct Live {
    /// Show what arrives now: an MQTT topic filter (without one: the profile's own topics), or tcp://host:port/unit of a Modbus
    /// device. Until Ctrl-C.
    #[arg(long, value_name = "TOPIC", num_args = 0..=1, default_missing_value = "")]
    pub(super) live: Option<String>,
    /// The broker.
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883", requires = "live")]
    broker: String,
    /// The user at the broker, with --password-file.
    #[arg(long, requires_all = ["live", "password_file"])]
    user: Option<String>,
    /// The file with the password.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// End after so many messages or rounds.
    #[arg(long, value_name = "N", requires = "live")]
    count: Option<u64>,
}

/// Exit codes: 0 looked on until it was told to end, 1 not reached, 64 asked wrongly.
pub(super) fn run(asked: &Asked, arguments: &Live, place: &str) -> u8 {
    tell(&asked.problems());
    let [profile] = asked.profiles.as_slice() else { return EXIT_CONFIG };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("{error}\n"));
            return EXIT_UNREACHED;
        }
    };
    match runtime.block_on(look(asked, profile, arguments, place)) {
        Ok(code) => code,
        Err(why) => {
            tell(&format!("✗ {why}\n"));
            EXIT_CONFIG
        }
    }
}

/// Starts the gateway's own source, and shows what it brings.
async fn look(asked: &Asked, profile: &Profile, arguments: &Live, place: &str) -> Result<u8, String> {
    let (intake, mut arrivals) = mpsc::channel(WAITING_MAX);
    let (acks, acknowledged) = mpsc::channel(WAITING_MAX);
    let (_orders, no_orders) = mpsc::channel(1);
    let cancel = CancellationToken::new();
    let (clock, metrics, source) = (Clock::system(), Metrics::new(), SourceIndex(0));
    let stop = cancel.clone();
    let running = match &profile.link {
        ProfileLink::Mqtt { .. } => {
            let settings = broker(profile, arguments, place)?;
            tell(&format!("订阅 subscribing: {}（Ctrl-C 结束 ends）\n", settings.filters.join("  ")));
            tokio::spawn(mqtt::run(settings, source, intake, acknowledged, clock, metrics, stop))
        }
        ProfileLink::Modbus { .. } => {
            let bus = bus(profile, place)?;
            tell("轮询 polling（Ctrl-C 结束 ends）\n");
            tokio::spawn(modbus::run(bus, source, intake, no_orders, clock, metrics, stop))
        }
    };
    let (mut was_up, mut shown) = (false, 0);
    let code = loop {
        if arguments.count.is_some_and(|count| shown >= count) {
            break 0;
        }
        let arrival = tokio::select! {
            arrival = arrivals.recv() => arrival,
            _ = tokio::signal::ctrl_c() => break 0,
        };
        match arrival {
            Some(Arrival::Frame(frame)) => {
                say(&text_of(asked, profile, &frame));
                shown += 1;
                if let Some(delivery) = frame.delivery {
                    // The source is gone only at the end.
                    drop(acks.send(vec![delivery]).await);
                }
            }
            Some(Arrival::Link(change)) => {
                tell(&format!("{} / {}\n", change.reason.zh, change.reason.en));
                if !change.up && !was_up {
                    break EXIT_UNREACHED;
                }
                was_up |= change.up;
            }
            Some(Arrival::Ordered { .. }) => {}
            None => break EXIT_UNREACHED,
        }
    };
    cancel.cancel();
    drop((arrivals, acks));
    drop(running.await);
    Ok(code)
}

fn named<T, E: ToString>(id: Result<T, E>) -> Result<T, String> {
    id.map_err(|error| error.to_string())
}

fn broker(profile: &Profile, arguments: &Live, filter: &str) -> Result<MqttSettings, String> {
    if profile.is_sparkplug() {
        return Err("Sparkplug 的名称只在出生报文里：用网关本身看 / names of Sparkplug are known from births only: look at the gateway's own page"
            .to_owned());
    }
    if filter.contains("://") {
        return Err("这是 MQTT 型号：--live 后写主题，代理写在 --broker / an MQTT profile: --live takes a topic, the broker goes to --broker"
            .to_owned());
    }
    let place = Place::parse(&arguments.broker, &[("mqtt", 1883)]).filter(|place| place.unit.is_none());
    let place = place.ok_or_else(|| {
        format!("--broker {}：写成 mqtt://主机:端口 / write mqtt://host:port", arguments.broker)
    })?;
    let client_id = format!("fengsui-try-{}", std::process::id());
    let mut settings = MqttSettings::new(named(LinkId::parse("live"))?, place.host, place.port, client_id);
    settings.keep_session = false;
    settings.user = arguments.user.clone().zip(arguments.password_file.clone().map(Password::File));
    settings.filters = match filter {
        "" => profile.topics().iter().map(|topic| topic.filter()).collect(),
        filter => vec![filter.to_owned()],
    };
    Ok(settings)
}

fn bus(profile: &Profile, url: &str) -> Result<modbus::BusSettings, String> {
    let (wire, unit) = wire_of(url)?;
    let reads = profile.poll_plan().into_iter().map(|block| modbus::Read {
        table: block.table,
        start: block.start,
        count: block.count,
        every: block.every.to_std(),
        urgent: block.urgent,
    });
    let unit = modbus::UnitSettings { device: named(DeviceId::parse("live"))?, unit, reads: reads.collect() };
    Ok(modbus::BusSettings {
        link: named(LinkId::parse("live"))?,
        wire,
        line: modbus::LineSettings::default(),
        units: vec![unit],
        timeout: modbus::TIMEOUT_DEFAULT,
        pause_after_connect: Duration::ZERO,
        second_connection: false,
    })
}

/// A frame as it came, and what the profile makes of it.
fn text_of(asked: &Asked, profile: &Profile, frame: &Frame) -> String {
    let mut out = String::new();
    let at = frame.received_at;
    match &frame.body {
        Body::Message { topic, payload } | Body::Presence { topic, payload, .. } => {
            let retained = if frame.retained { "（保留消息 retained）" } else { "" };
            _ = writeln!(out, "── {at} {}{retained}\n{}", one_line(topic), raw(payload));
            let places = profile.topics().iter().enumerate();
            match places.filter_map(|(place, topic_of)| Some((place, topic_of.matches(topic)?))).next() {
                Some((place, address)) => {
                    if !address.is_empty() {
                        _ = writeln!(out, "地址 address {}", one_line(address));
                    }
                    let input = ExampleInput::Message(payload.to_vec());
                    try_frame::tell(asked, profile, (place, &input), at, &mut out);
                }
                None => {
                    let topics: Vec<&str> = profile.topics().iter().map(|topic| topic.as_str()).collect();
                    _ = writeln!(
                        out,
                        "  ! 主题与型号文件不符，网关不会读它 the profile has other topics, the gateway would not read this: {}",
                        topics.join("  ")
                    );
                }
            }
        }
        Body::Registers { blocks, .. } => {
            _ = writeln!(out, "── {at}\n{}", dump(blocks));
            let input = ExampleInput::Registers(blocks.clone());
            try_frame::tell(asked, profile, (0, &input), at, &mut out);
        }
    }
    out
}

/// Bytes for a person: as text where they are text, in hexadecimal where not; the length where more came than is shown.
fn raw(payload: &[u8]) -> String {
    let is_binary = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let (shown, cut) = match std::str::from_utf8(payload) {
        Ok(text) if !text.chars().any(is_binary) => {
            (text.chars().take(SHOWN_CHARS_MAX).collect::<String>(), text.chars().count() > SHOWN_CHARS_MAX)
        }
        _ => {
            let bytes = payload.iter().take(SHOWN_BYTES_MAX).map(|byte| format!("{byte:02X}"));
            (bytes.collect::<Vec<_>>().join(" "), payload.len() > SHOWN_BYTES_MAX)
        }
    };
    match (cut, payload.len()) {
        (_, 0) => "（空 empty）".to_owned(),
        (true, length) => format!("{shown} …（共 {length} 字节 bytes）"),
        (false, _) => shown,
    }
}

fn one_line(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Blocks as an example writes them.
fn dump(blocks: &[RegisterBlock]) -> String {
    let line = |block: &RegisterBlock| {
        let table = match block.table {
            crate::model::RegisterTable::Coil => "coil",
            crate::model::RegisterTable::Discrete => "discrete",
            crate::model::RegisterTable::Holding => "holding",
            crate::model::RegisterTable::Input => "input",
        };
        let (start, count) = (block.start, block.count);
        match &block.words {
            Ok(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:04X}")).collect();
                format!("{table}@{start}: {}", words.join(" "))
            }
            Err(Trouble::Exception(code)) => format!("{table}@{start}+{count}: exception {code}"),
            Err(_) => format!("{table}@{start}+{count}: no_answer"),
        }
    };
    blocks.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_shown_as_text_or_in_hexadecimal_and_never_without_bound() {
        assert_eq!(raw("{\"烟\":1}".as_bytes()), "{\"烟\":1}");
        assert_eq!(raw(&[0xA5, 0, 0x55]), "A5 00 55");
        assert_eq!(raw(b""), "（空 empty）");
        let long = raw(&vec![b'x'; 100_000]);
        assert!(long.len() < 700 && long.ends_with("（共 100000 字节 bytes）"), "{long}");
        assert!(raw(&vec![0; 100_000]).len() < 500);
    }
}
