//! THE COMPOSITION ROOT, the links: from what the configuration says to running sources, each on its own: one can be
//! stopped, changed and started while the others never notice.

use super::GRACE;
use super::ports::Ports;
use super::settings;
use crate::clock::Clock;
use crate::config::modbus_file::ModbusWire;
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::model::{LinkId, Order, SourceIndex};
use crate::pipeline::{WITHHELD_MAX, WayBack, Window};
use crate::sources::{self, broker, modbus, mqtt, push};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bundles of acknowledgements that may wait for a source; one bundle a commit.
pub const ACKS_MAX: usize = 64;

/// Unacknowledged messages of the embedded broker's publishers, half of which must not wait for the commit window.
/// At 100 messages a second from as many devices that is one commit a second (1.1 GB of flash a day); a concentrator
/// with 20 in flight on one connection gets 20 messages a commit.
pub const BROKER_WINDOW: u16 = 200;

/// Unanswered posts of a platform, three quarters of which do not wait for the commit window: it gets the more through
/// the more it posts at once; one post at a time waits for the window, as one publisher of a broker does.
const PUSH_WINDOW: u16 = 64;

// A platform is told 200 for nothing that the journal does not have: it is told 503 before the pipeline begins to release
// messages that are only in memory.
const _: () = assert!(push::KEPT_WITHIN.as_millis() < WITHHELD_MAX.as_millis().unsigned_abs() as u128);

/// All that a connector does is decided by this: while it is the same, the connector is not touched. The settings are
/// compared as a whole, so a new key counts by itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    Broker(config::BrokerSettings),
    Mqtt { from: config::MqttSettings, filters: Vec<String> },
    Modbus { from: config::ModbusSettings, units: Vec<modbus::UnitSettings> },
    Push(config::PushSettings),
}

/// Every link of the configuration with what it needs, in the order of the file.
pub(super) fn wanted(config: &Config) -> Vec<(LinkId, Wanted)> {
    let gateway = &config.gateway;
    let broker = gateway.broker.iter().map(|from| (from.link.clone(), Wanted::Broker(from.clone())));
    let mqtt = gateway.mqtt.iter().map(|from| {
        let filters = settings::filters(config, from);
        (from.link.clone(), Wanted::Mqtt { from: from.clone(), filters })
    });
    let modbus = gateway.modbus.iter().map(|from| {
        let units = config
            .bindings
            .iter()
            .filter(|binding| binding.link == from.link)
            .filter_map(|binding| settings::unit(config, binding))
            .collect();
        (from.link.clone(), Wanted::Modbus { from: from.clone(), units })
    });
    let push = gateway.push.iter().map(|from| (from.link.clone(), Wanted::Push(from.clone())));
    broker.chain(mqtt).chain(modbus).chain(push).collect()
}

impl Wanted {
    /// Whether a connector that runs as `self` goes on as `new` without being started anew: nothing changed, or only the
    /// users of the embedded broker, or a password that the client reads again by itself when it connects.
    pub(super) fn goes_on_as(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::Broker(old), Self::Broker(new)) => {
                let without_users =
                    |of: &config::BrokerSettings| config::BrokerSettings { users: Vec::new(), ..of.clone() };
                without_users(old) == without_users(new)
            }
            (Self::Mqtt { from: old, filters }, Self::Mqtt { from: new, filters: new_filters }) => {
                filters == new_filters && without_password(old) == without_password(new)
            }
            _ => self == new,
        }
    }
}

/// A password that stands in a file of its own is read again for each connection: another one is no other link.
fn without_password(of: &config::MqttSettings) -> config::MqttSettings {
    let mut of = of.clone();
    if let (Some(_), Some(login)) = (&of.password_file, &mut of.login) {
        login.password = config::Secret::new("");
    }
    of
}

fn window(wanted: &Wanted) -> Window {
    match wanted {
        Wanted::Broker(_) => Window { messages: BROKER_WINDOW, of_many: true },
        Wanted::Mqtt { from, .. } => Window { messages: from.inflight_window, of_many: false },
        // Polls wait for no acknowledgement; the index is all they need.
        Wanted::Modbus { .. } => Window { messages: u16::MAX, of_many: false },
        Wanted::Push(_) => Window { messages: PUSH_WINDOW, of_many: false },
    }
}

/// Whether Sparkplug edge nodes may be asked for their births there.
fn may_be_asked(wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Broker(from) => from.sparkplug_rebirth,
        Wanted::Mqtt { from, .. } => from.sparkplug_rebirth,
        Wanted::Modbus { .. } | Wanted::Push(_) => false,
    }
}

/// Every running source. They are asked to end by nobody else, so one that ends has failed. Dropped, all of them end.
pub(super) struct Connectors {
    running: BTreeMap<LinkId, Connector>,
    tasks: JoinSet<(LinkId, anyhow::Result<()>)>,
    cancel: CancellationToken,
    intake: sources::Intake,
    clock: Clock,
    metrics: Metrics,
    ports: Ports,
    /// The next index to be given out.
    next: u16,
}

struct Connector {
    wanted: Wanted,
    source: SourceIndex,
    cancel: CancellationToken,
    abort: AbortHandle,
    /// Where commands to its devices go, if it takes any.
    orders: Option<mpsc::Sender<Order>>,
    /// Only of the embedded broker: who may connect, and where.
    broker: Option<(broker::Keys, Option<SocketAddr>)>,
}

/// A source that has its place in the pipeline and does not run yet.
pub(super) struct Prepared {
    link: LinkId,
    wanted: Wanted,
    source: SourceIndex,
    acks: sources::Acks,
    orders: (mpsc::Sender<Order>, sources::Orders),
    asks: Option<sources::Asks>,
}

impl Drop for Connectors {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Connectors {
    pub(super) fn new(intake: sources::Intake, clock: Clock, metrics: Metrics) -> Self {
        let (running, tasks, cancel) = (BTreeMap::new(), JoinSet::new(), CancellationToken::new());
        let ports = Ports::new(cancel.clone());
        Self { running, tasks, cancel, intake, clock, metrics, ports, next: 0 }
    }

    /// Where the embedded broker listens.
    pub(super) fn broker_address(&self) -> Option<SocketAddr> {
        self.running
            .values()
            .find_map(|connector| connector.broker.as_ref())
            .and_then(|(_, address)| *address)
    }

    /// Where commands go, by link: those that run, and those that are about to.
    pub(super) fn order_ways(&self, prepared: &[Prepared]) -> BTreeMap<LinkId, mpsc::Sender<Order>> {
        let running = self.running.iter();
        let running = running.filter_map(|(link, runs)| Some((link.clone(), runs.orders.clone()?)));
        let coming = prepared.iter().filter(|source| matches!(source.wanted, Wanted::Modbus { .. }));
        let coming = coming.map(|source| (source.link.clone(), source.orders.0.clone()));
        running.chain(coming).collect()
    }

    /// The platforms' doors at the duty room's address.
    pub(super) fn posts(&self) -> axum::Router {
        self.ports.posts(None)
    }

    /// Where platforms may post besides.
    pub(super) fn push_addresses(&self) -> Vec<SocketAddr> {
        self.ports.push_addresses()
    }

    /// A place for a source. Its index is no living source's, and was nobody's for the 65 535 before it.
    pub(super) fn prepare(&mut self, link: LinkId, wanted: Wanted) -> anyhow::Result<(Prepared, WayBack)> {
        anyhow::ensure!(self.running.len() < usize::from(u16::MAX), "more than 65535 links");
        let taken = |index: u16| self.running.values().any(|connector| connector.source.0 == index);
        let mut index = self.next;
        while taken(index) {
            index = index.wrapping_add(1);
        }
        self.next = index.wrapping_add(1);
        let (sender, acks) = mpsc::channel(ACKS_MAX);
        let source = SourceIndex(index);
        // Made anew with each start of the source, and so a link that was changed may be asked as before.
        let asks = may_be_asked(&wanted).then(|| broadcast::channel(sources::ASKS_MAX).0);
        let way = WayBack { source, acks: sender, window: window(&wanted), asks: asks.clone() };
        let orders = mpsc::channel(sources::ORDERS_MAX);
        Ok((Prepared { link, wanted, source, acks, orders, asks }, way))
    }

    /// Starts a source. Errors: the embedded broker, or a platform's own address, cannot listen.
    pub(super) async fn start(&mut self, prepared: Prepared) -> anyhow::Result<()> {
        let Prepared { link, wanted, source, acks, orders: (to_bus, orders), asks } = prepared;
        let cancel = self.cancel.child_token();
        let (intake, clock, metrics) = (self.intake.clone(), self.clock.clone(), self.metrics.clone());
        let (name, mut broker) = (link.clone(), None);
        let abort = match &wanted {
            Wanted::Broker(from) => {
                let (mut settings, cancel) = (settings::broker(from), cancel.clone());
                settings.asks = asks;
                let started = broker::Broker::start(settings, source, intake, acks, clock, metrics, cancel);
                let started = started.await.context("MQTT broker")?;
                broker = Some((started.keys(), started.local_addr().or_else(|| started.tls_addr())));
                self.tasks.spawn(async move {
                    let failed = || anyhow::anyhow!("the embedded broker ended by a defect");
                    (name, started.ended().await.then_some(()).ok_or_else(failed))
                })
            }
            Wanted::Mqtt { from, filters } => {
                let mut settings = settings::mqtt(from, filters);
                settings.asks = asks;
                let running = mqtt::run(settings, source, intake, acks, clock, metrics, cancel.clone());
                self.spawn(name, running)
            }
            Wanted::Modbus { from, units } => {
                let slot = match &from.wire {
                    ModbusWire::DialIn(dial_in) => {
                        Some(self.ports.dial_in(&link, dial_in, source, &intake, &clock, &metrics))
                    }
                    _ => None,
                };
                let bus = settings::bus(from, units, slot);
                let running = modbus::run(bus, source, intake, orders, clock, metrics, cancel.clone());
                self.spawn(name, running)
            }
            Wanted::Push(from) => {
                let settings = settings::push(from)?;
                let push = push::Push::new(settings, source, intake, clock, metrics, cancel.clone());
                self.ports.open_door(from.listen, push.clone()).await?;
                self.spawn(name, push.run(acks))
            }
        };
        let orders = matches!(wanted, Wanted::Modbus { .. }).then_some(to_bus);
        self.running.insert(link, Connector { wanted, source, cancel, abort, orders, broker });
        Ok(())
    }

    fn spawn(&mut self, link: LinkId, source: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.tasks.spawn(async move {
            source.await;
            (link, Ok(()))
        })
    }

    /// The connectors that are wanted no more, or not as they are.
    pub(super) fn outdated(&self, wanted: &[(LinkId, Wanted)]) -> BTreeSet<LinkId> {
        let goes_on = |link: &LinkId, connector: &Connector| {
            let mut wanted = wanted.iter();
            wanted.any(|(name, new)| name == link && connector.wanted.goes_on_as(new))
        };
        let outdated = self.running.iter().filter(|(link, connector)| !goes_on(link, connector));
        outdated.map(|(link, _)| link.clone()).collect()
    }

    /// Whether such a connector runs.
    pub(super) fn runs(&self, link: &LinkId) -> bool {
        self.running.contains_key(link)
    }

    /// Takes over what changes without a new start: the users of the embedded broker, and the ports that several links
    /// share.
    pub(super) fn change_in_place(&mut self, wanted: &[(LinkId, Wanted)]) {
        for (link, new) in wanted {
            let Some(connector) = self.running.get_mut(link) else { continue };
            if let (Wanted::Broker(from), Some((keys, _))) = (new, &connector.broker)
                && connector.wanted != *new
            {
                let dismissed = keys.replace(settings::broker_users(&from.users));
                tracing::info!(users = from.users.len(), dismissed, "the broker's users were read again");
            }
            connector.wanted = new.clone();
        }
        self.ports.keep_only(wanted);
    }

    /// Ends these: each hands over what it holds, and what is not acknowledged then stays with its far side. Says which
    /// indices are free.
    ///
    /// Errors: another one ended meanwhile, which nobody asked for.
    pub(super) async fn stop(&mut self, links: &BTreeSet<LinkId>) -> anyhow::Result<Vec<SourceIndex>> {
        let mut waiting = links.clone();
        let mut stopping: Vec<Connector> = Vec::new();
        for link in links {
            match self.running.remove(link) {
                Some(connector) => stopping.push(connector),
                None => _ = waiting.remove(link),
            }
        }
        stopping.iter().for_each(|connector| connector.cancel.cancel());
        let (mut deadline, mut cut_off) = (Instant::now() + GRACE, false);
        while !waiting.is_empty() {
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(Ok((link, result)))) => {
                    anyhow::ensure!(waiting.remove(&link), "the source {link} ended by itself");
                    result?;
                }
                // All that wait were cut off below, so it does not matter which one this is.
                Ok(Some(Err(error))) if error.is_cancelled() => _ = waiting.pop_first(),
                Ok(Some(Err(panicked))) => {
                    return Err(anyhow::Error::new(panicked).context("a source panicked"));
                }
                Ok(None) => break,
                Err(_) => {
                    anyhow::ensure!(!cut_off, "sources cannot be ended: {waiting:?}");
                    tracing::warn!(links = ?waiting, "sources did not end within {GRACE:?} and are cut off");
                    stopping.iter().for_each(|connector| connector.abort.abort());
                    (deadline, cut_off) = (Instant::now() + GRACE, true);
                }
            }
        }
        Ok(stopping.into_iter().map(|connector| connector.source).collect())
    }

    /// Waits for one that ends although nobody asked it to; for ever when there are none.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        let source = async {
            match self.tasks.join_next().await {
                Some(Ok((link, Ok(())))) => anyhow::anyhow!("the source {link} ended by itself"),
                Some(Ok((link, Err(error)))) => error.context(format!("the source {link} failed")),
                Some(Err(panicked)) => anyhow::Error::new(panicked).context("a source panicked"),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = source => error,
            error = self.ports.failure() => error,
        }
    }

    /// Ends all.
    pub(super) async fn stop_all(&mut self) -> anyhow::Result<()> {
        self.cancel.cancel();
        while let Some(joined) = self.tasks.join_next().await {
            let (link, result) = joined.context("a source panicked while stopping")?;
            result.with_context(|| format!("the source {link} failed while stopping"))?;
        }
        self.ports.stopped().await;
        Ok(())
    }
}
