//! THE COMPOSITION ROOT, the links: from what the configuration says to running sources.

use super::Group;
use crate::clock::Clock;
use crate::config::modbus_file::{ModbusWire, SerialDevice, SerialParity};
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::model::{Delivery, SourceIndex, Span};
use crate::pipeline::{WITHHELD_MAX, Window};
use crate::sources::{self, broker, modbus, mqtt, push};
use crate::web;
use anyhow::Context;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Bundles of acknowledgements that may wait for a source; one bundle a commit.
pub const ACKS_MAX: usize = 64;

/// Unacknowledged messages of the embedded broker's publishers, half of which must not wait for the commit window.
/// At 100 messages a second from as many devices that is one commit a second (1.1 GB of flash a day); a concentrator
/// with 20 in flight on one connection gets 20 messages a commit.
pub const BROKER_WINDOW: u16 = 200;

/// The way back to each source, by its index, and how many messages its far side sends unacknowledged.
#[derive(Default)]
pub(super) struct WaysBack {
    pub(super) acks: Vec<mpsc::Sender<Vec<Delivery>>>,
    pub(super) windows: Vec<Window>,
}

impl WaysBack {
    fn add(&mut self, window: Window) -> anyhow::Result<(SourceIndex, sources::Acks)> {
        let index = u16::try_from(self.acks.len()).context("more than 65535 links")?;
        let (sender, receiver) = mpsc::channel(ACKS_MAX);
        self.acks.push(sender);
        self.windows.push(window);
        Ok((SourceIndex(index), receiver))
    }
}

/// What must be subscribed on a link: each topic of each profile that is used on it, and what else the installer wants to
/// see, once.
fn filters(config: &Config, from: &config::MqttSettings) -> Vec<String> {
    let bindings = config.bindings.iter().filter(|binding| binding.link == from.link);
    let mut filters: Vec<String> =
        bindings.flat_map(|binding| binding.profile.topics().iter().map(|topic| topic.filter())).collect();
    filters.extend(from.topics.iter().cloned());
    filters.sort();
    filters.dedup();
    match &from.share {
        Some(group) => filters.iter().map(|filter| format!("$share/{group}/{filter}")).collect(),
        None => filters,
    }
}

pub(super) async fn start_broker(
    config: &Config,
    tasks: &mut Group,
    ways_back: &mut WaysBack,
    intake: &sources::Intake,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(settings) = &config.gateway.broker else { return Ok(None) };
    let (source, acks) = ways_back.add(Window { messages: BROKER_WINDOW, of_many: true })?;
    let credentials = match settings.anonymous {
        true => broker::Credentials::Anonymous,
        false => broker::Credentials::Users(broker_users(&settings.users)),
    };
    let mut listening = broker::BrokerSettings::new(settings.link.clone(), LOOPBACK, credentials);
    listening.listen = settings.listen;
    listening.tls = settings.tls.as_ref().map(|tls| {
        let (cert, key) = (tls.cert_file.clone(), tls.key_file.clone());
        (tls.listen, broker::TlsFiles { cert, key, client_ca: tls.client_ca_file.clone() })
    });
    let started = broker::Broker::start(
        listening,
        source,
        intake.clone(),
        acks,
        clock.clone(),
        metrics.clone(),
        tasks.cancel.clone(),
    )
    .await?;
    let address = started.local_addr().or_else(|| started.tls_addr());
    if let Some(file) = settings.credentials_file.clone() {
        let (keys, cancel) = (started.keys(), tasks.cancel.clone());
        tasks.spawn("broker users", async move {
            cancel.run_until_cancelled(follow_users(file, keys)).await;
            Ok(())
        });
    }
    tasks.spawn("broker", async move {
        anyhow::ensure!(started.ended().await, "the embedded broker ended by a defect");
        Ok(())
    });
    Ok(address)
}

/// How often the broker's credentials file is looked at: whoever removed a user sees him gone while he watches.
const USERS_LOOK_EVERY: Duration = Duration::from_secs(2);

/// A port of this machine only, until the configuration says otherwise.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

fn broker_users(users: &[config::BrokerUser]) -> HashMap<String, broker::User> {
    let user = |from: &config::BrokerUser| {
        let rights = match from.everything {
            true => broker::Rights::Everything,
            false => broker::Rights::Device,
        };
        (from.login.user.clone(), broker::User { password: from.login.password.reveal().to_owned(), rights })
    };
    users.iter().map(user).collect()
}

/// Takes over what the credentials file says when it has changed and stays so for one look: an editor may be in the
/// middle of it. A file that is away or wrong changes nothing. Never ends.
async fn follow_users(file: PathBuf, keys: broker::Keys) {
    let read = || {
        let file = file.clone();
        let text = move || config::Files::text(&config::Disk, &file).ok();
        async { tokio::task::spawn_blocking(text).await.ok().flatten() }
    };
    let mut known = read().await;
    let mut before = known.clone();
    loop {
        tokio::time::sleep(USERS_LOOK_EVERY).await;
        let now = read().await;
        let settled = now == before;
        before.clone_from(&now);
        let Some(text) = now.filter(|text| settled && Some(text) != known.as_ref()) else { continue };
        let (users, wrong) = config::broker_users(&text);
        if wrong.is_empty() {
            let dismissed = keys.replace(broker_users(&users));
            tracing::info!(file = %file.display(), users = users.len(), dismissed, "the broker's users were read again");
        } else {
            tracing::error!(file = %file.display(), lines = ?wrong, "not user:password; the broker keeps its old users");
        }
        known = Some(text);
    }
}

pub(super) fn start_mqtt(
    config: &Config,
    tasks: &mut Group,
    ways_back: &mut WaysBack,
    intake: &sources::Intake,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    for from in &config.gateway.mqtt {
        let (source, acks) = ways_back.add(Window { messages: from.inflight_window, of_many: false })?;
        let mut settings =
            mqtt::MqttSettings::new(from.link.clone(), from.host.clone(), from.port, from.client_id.clone());
        settings.user = from.login.as_ref().map(|login| {
            let fixed = || mqtt::Password::Fixed(login.password.reveal().to_owned());
            (login.user.clone(), from.password_file.clone().map_or_else(fixed, mqtt::Password::File))
        });
        if from.version_5 {
            settings.protocol = mqtt::Protocol::V5;
        }
        settings.tls = from
            .tls
            .as_ref()
            .map(|tls| mqtt::TlsSettings { ca_file: tls.ca_file.clone(), client: tls.client.clone() });
        settings.inflight_window = from.inflight_window;
        settings.filters = filters(config, from);
        settings.will_topic = Some(format!("fengsui/{}/state", from.client_id));
        let (clock, metrics, cancel) = (clock.clone(), metrics.clone(), tasks.cancel.clone());
        let intake = intake.clone();
        tasks.spawn("mqtt", async move {
            mqtt::run(settings, source, intake, acks, clock, metrics, cancel).await;
            Ok(())
        });
    }
    Ok(())
}

pub(super) fn start_modbus(
    config: &Config,
    tasks: &mut Group,
    ways_back: &mut WaysBack,
    intake: &sources::Intake,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let mut ports: Vec<modbus::DialInPort> = Vec::new();
    for from in &config.gateway.modbus {
        // Polls wait for no acknowledgement; the index is all they need.
        let (source, _no_acks) = ways_back.add(Window { messages: u16::MAX, of_many: false })?;
        let units =
            config.bindings.iter().filter(|binding| binding.link == from.link).filter_map(unit).collect();
        let bus = modbus::BusSettings {
            link: from.link.clone(),
            wire: wire(from, source, &mut ports),
            line: modbus::LineSettings {
                late_answer_max: from.late_answer_max.to_std(),
                turnaround: from.turnaround.to_std(),
                echo: from.echo,
            },
            units,
            timeout: from.timeout.to_std(),
            pause_after_connect: from.pause_after_connect.to_std(),
            second_connection: from.second_connection,
        };
        let (clock, metrics, cancel) = (clock.clone(), metrics.clone(), tasks.cancel.clone());
        let intake = intake.clone();
        tasks.spawn("modbus", async move {
            modbus::run(bus, source, intake, clock, metrics, cancel).await;
            Ok(())
        });
    }
    for port in ports {
        let (clock, metrics, cancel) = (clock.clone(), metrics.clone(), tasks.cancel.clone());
        let intake = intake.clone();
        tasks.spawn("modbus-dial-in", async move {
            cancel.run_until_cancelled(modbus::listen(port, intake, clock, metrics)).await;
            Ok(())
        });
    }
    Ok(())
}

/// How a bus is reached. A DTU that dials in gets its place behind the port that it shares with others.
fn wire(
    from: &config::ModbusSettings,
    source: SourceIndex,
    ports: &mut Vec<modbus::DialInPort>,
) -> modbus::Wire {
    match &from.wire {
        ModbusWire::Tcp { host, port } => modbus::Wire::Tcp { host: host.clone(), port: *port },
        ModbusWire::RtuTcp { host, port } => modbus::Wire::RtuTcp { host: host.clone(), port: *port },
        ModbusWire::Serial { device, baud, parity, stop_bits } => {
            modbus::Wire::Serial(modbus::SerialSettings {
                device: match device {
                    SerialDevice::Path(path) => modbus::Device::Path(path.clone()),
                    SerialDevice::Usb { vendor, product, serial } => {
                        modbus::Device::Usb { vendor: *vendor, product: *product, serial: serial.clone() }
                    }
                },
                baud: *baud,
                parity: match parity {
                    SerialParity::None => modbus::Parity::None,
                    SerialParity::Even => modbus::Parity::Even,
                    SerialParity::Odd => modbus::Parity::Odd,
                },
                stop_bits: *stop_bits,
            })
        }
        ModbusWire::DialIn(dial_in) => {
            let slot = modbus::Slot::new(dial_in.registration.clone());
            let bus = (from.link.clone(), slot.clone());
            match ports.iter_mut().find(|port| port.listen == dial_in.listen) {
                Some(port) => port.buses.push(bus),
                None => ports.push(modbus::DialInPort {
                    listen: dial_in.listen,
                    buses: vec![bus],
                    allow: dial_in
                        .allow
                        .iter()
                        .filter_map(|net| modbus::Network::new(net.address, net.bits))
                        .collect(),
                    source,
                }),
            }
            modbus::Wire::DialIn(modbus::DialIn {
                slot,
                framing: if dial_in.rtu { modbus::Framing::Rtu } else { modbus::Framing::Tcp },
                heartbeat: dial_in.heartbeat.clone(),
                silent_max: dial_in.silent_max.map(Span::to_std),
            })
        }
    }
}

/// Unanswered posts of all platforms, three quarters of which do not wait for the commit window. Each platform gets the
/// more through the more it posts at once; one post at a time waits for the window, as one publisher of a broker does.
const PUSH_WINDOW: u16 = 64;

// A platform is told 200 for nothing that the journal does not have: it is told 503 before the pipeline begins to release
// messages that are only in memory.
const _: () = assert!(push::KEPT_WITHIN.as_millis() < WITHHELD_MAX.as_millis().unsigned_abs() as u128);

/// The routes that platforms post to, and where: `None` is the duty room's address.
pub(super) type PushRoutes = Vec<(Option<SocketAddr>, axum::Router)>;

pub(super) fn start_push(
    config: &Config,
    tasks: &mut Group,
    ways_back: &mut WaysBack,
    intake: &sources::Intake,
    clock: &Clock,
    metrics: &Metrics,
) -> anyhow::Result<PushRoutes> {
    let all = &config.gateway.push;
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let (source, acks) = ways_back.add(Window { messages: PUSH_WINDOW, of_many: false })?;
    let settings = all.iter().map(push_settings).collect::<anyhow::Result<_>>()?;
    let (clock, metrics, cancel) = (clock.clone(), metrics.clone(), tasks.cancel.clone());
    let push = push::Push::new(settings, source, intake.clone(), clock, metrics, cancel);
    let addresses: BTreeSet<Option<SocketAddr>> = all.iter().map(|from| from.listen).collect();
    let routes = addresses.into_iter().map(|listen| {
        let links = all.iter().filter(|from| from.listen == listen).map(|from| from.link.clone());
        (listen, push::router(push.clone(), links.collect()))
    });
    let routes = routes.collect();
    tasks.spawn("push", async move {
        push.run(acks).await;
        Ok(())
    });
    Ok(routes)
}

/// Serves the routes that have an address of their own.
pub(super) async fn serve_push(routes: PushRoutes, rest: &mut Group) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for (listen, router) in routes {
        let Some(listen) = listen else { continue };
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {listen} for posts"))?;
        addresses.push(listener.local_addr()?);
        let cancel = rest.cancel.clone();
        rest.spawn("posts", async move {
            web::connections::serve(listener, router, cancel).await;
            Ok(())
        });
    }
    Ok(addresses)
}

fn push_settings(from: &config::PushSettings) -> anyhow::Result<push::PushSettings> {
    let format = match &from.format {
        config::PushFormat::Json { topic, address_field, message_id_field } => {
            let form = push::TopicForm::parse(topic.as_deref().unwrap_or(push::TopicForm::DEFAULT));
            push::Format::Json(push::JsonForm {
                topic: form.map_err(anyhow::Error::msg)?,
                address_field: address_field.clone(),
                message_id_field: message_id_field.clone(),
            })
        }
        config::PushFormat::Ctwing { address_field } => {
            push::Format::Ctwing { address_field: address_field.clone() }
        }
        config::PushFormat::OneNet { address_field, aes_key } => {
            let parse = |key: &config::Secret| push::AesKey::parse(key.reveal());
            let key = aes_key.as_ref().map(|key| parse(key).context("the AES key is no key of OneNET"));
            push::Format::OneNet(push::OneNet {
                address_field: address_field.clone(),
                aes_key: key.transpose()?,
            })
        }
    };
    let tokens = from.tokens.iter().map(|token| token.reveal().to_owned()).collect();
    Ok(push::PushSettings::new(from.link.clone(), format, tokens))
}

fn unit(binding: &config::Binding) -> Option<modbus::UnitSettings> {
    let reads = binding.profile.poll_plan().into_iter().map(|block| modbus::Read {
        table: block.table,
        start: block.start,
        count: block.count,
        every: block.every.to_std(),
    });
    Some(modbus::UnitSettings { device: binding.device.clone(), unit: binding.unit?, reads: reads.collect() })
}
