//! THE COMPOSITION ROOT, the links: from what the configuration says to running sources.

use super::Group;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::model::{Delivery, LinkId, Order, SignalClass, SourceIndex};
use crate::pipeline::Window;
use crate::sources::{self, broker, modbus, mqtt};
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
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
    /// Where commands to the devices of a link go.
    pub(super) orders: BTreeMap<LinkId, mpsc::Sender<Order>>,
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

/// What must be subscribed on a link: each topic of each profile that is used on it, once.
fn filters(config: &Config, link: &LinkId) -> Vec<String> {
    let mut filters: Vec<String> = config
        .bindings
        .iter()
        .filter(|binding| binding.link == *link)
        .flat_map(|binding| binding.profile.topics().iter().map(|topic| topic.filter()))
        .collect();
    filters.sort();
    filters.dedup();
    filters
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
    let user = |login: &config::Login| {
        let user =
            broker::User { password: login.password.reveal().to_owned(), rights: broker::Rights::Device };
        (login.user.clone(), user)
    };
    let credentials = match settings.anonymous {
        true => broker::Credentials::Anonymous,
        false => broker::Credentials::Users(settings.logins.iter().map(user).collect()),
    };
    let started = broker::Broker::start(
        broker::BrokerSettings::new(settings.link.clone(), settings.listen, credentials),
        source,
        intake.clone(),
        acks,
        clock.clone(),
        metrics.clone(),
        tasks.cancel.clone(),
    )
    .await?;
    let address = started.local_addr();
    tasks.spawn("broker", async move {
        anyhow::ensure!(started.ended().await, "the embedded broker ended by a defect");
        Ok(())
    });
    Ok(Some(address))
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
        settings.user =
            from.login.as_ref().map(|login| (login.user.clone(), login.password.reveal().to_owned()));
        settings.tls = from.tls.then(mqtt::TlsSettings::default);
        settings.filters = filters(config, &from.link);
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
    for from in &config.gateway.modbus {
        // Polls wait for no acknowledgement; the index is all they need.
        let (source, _no_acks) = ways_back.add(Window { messages: u16::MAX, of_many: false })?;
        let units = config.bindings.iter().filter(|binding| binding.link == from.link);
        let units = units.filter_map(|binding| unit(config, binding)).collect();
        let (to_bus, orders) = mpsc::channel(sources::ORDERS_MAX);
        ways_back.orders.insert(from.link.clone(), to_bus);
        let bus = modbus::BusSettings {
            link: from.link.clone(),
            host: from.host.clone(),
            port: from.port,
            units,
            timeout: from.timeout.to_std(),
            pause_after_connect: from.pause_after_connect.to_std(),
            second_connection: from.second_connection,
        };
        let (clock, metrics, cancel) = (clock.clone(), metrics.clone(), tasks.cancel.clone());
        let intake = intake.clone();
        tasks.spawn("modbus", async move {
            modbus::run(bus, source, intake, orders, clock, metrics, cancel).await;
            Ok(())
        });
    }
    Ok(())
}

/// A unit and what is read of it. The profile knows no hazard, so it is told here which points fire rules watch.
fn unit(config: &Config, binding: &config::Binding) -> Option<modbus::UnitSettings> {
    let is_urgent = |place: usize| {
        let point = binding.points.get(place).and_then(|point| config.plan.point(point));
        point.is_some_and(|(.., point)| point.rules.iter().any(|rule| rule.signal == SignalClass::Fire))
    };
    let reads = binding.profile.poll_plan_with(&is_urgent).into_iter().map(|block| modbus::Read {
        table: block.table,
        start: block.start,
        count: block.count,
        every: block.every.to_std(),
        urgent: block.urgent,
    });
    Some(modbus::UnitSettings { device: binding.device.clone(), unit: binding.unit?, reads: reads.collect() })
}
