//! THE COMPOSITION ROOT, the links: from what the configuration says to running sources, each on its own: one can be
//! stopped, changed and started while the others never notice.

use super::GRACE;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::model::{LinkId, SourceIndex};
use crate::pipeline::{WayBack, Window};
use crate::sources::{self, broker, modbus, mqtt};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bundles of acknowledgements that may wait for a source; one bundle a commit.
pub const ACKS_MAX: usize = 64;

/// Unacknowledged messages of the embedded broker's publishers, half of which must not wait for the commit window.
/// At 100 messages a second from as many devices that is one commit a second (1.1 GB of flash a day); a concentrator
/// with 20 in flight on one connection gets 20 messages a commit.
pub const BROKER_WINDOW: u16 = 200;

/// All that a connector does is decided by this: while it is the same, the connector is not touched. The settings are
/// compared as a whole, so a new key counts by itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    Broker(config::BrokerSettings),
    Mqtt { from: config::MqttSettings, filters: Vec<String> },
    Modbus { from: config::ModbusSettings, units: Vec<modbus::UnitSettings> },
}

/// Every link of the configuration with what it needs, in the order of the file.
pub(super) fn wanted(config: &Config) -> Vec<(LinkId, Wanted)> {
    let gateway = &config.gateway;
    let broker = gateway.broker.iter().map(|from| (from.link.clone(), Wanted::Broker(from.clone())));
    let mqtt = gateway.mqtt.iter().map(|from| {
        let filters = filters(config, &from.link);
        (from.link.clone(), Wanted::Mqtt { from: from.clone(), filters })
    });
    let modbus = gateway.modbus.iter().map(|from| {
        let units =
            config.bindings.iter().filter(|binding| binding.link == from.link).filter_map(unit).collect();
        (from.link.clone(), Wanted::Modbus { from: from.clone(), units })
    });
    broker.chain(mqtt).chain(modbus).collect()
}

impl Wanted {
    /// Whether a connector that runs as `self` goes on as `new` without being started anew: nothing changed, or only the
    /// users of the embedded broker.
    pub(super) fn goes_on_as(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::Broker(old), Self::Broker(new)) => {
                let without_users =
                    |of: &config::BrokerSettings| config::BrokerSettings { logins: Vec::new(), ..of.clone() };
                without_users(old) == without_users(new)
            }
            _ => self == new,
        }
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

fn unit(binding: &config::Binding) -> Option<modbus::UnitSettings> {
    let reads = binding.profile.poll_plan().into_iter().map(|block| modbus::Read {
        table: block.table,
        start: block.start,
        count: block.count,
        every: block.every.to_std(),
    });
    Some(modbus::UnitSettings { device: binding.device.clone(), unit: binding.unit?, reads: reads.collect() })
}

fn window(wanted: &Wanted) -> Window {
    match wanted {
        Wanted::Broker(_) => Window { messages: BROKER_WINDOW, of_many: true },
        Wanted::Mqtt { from, .. } => Window { messages: from.inflight_window, of_many: false },
        // Polls wait for no acknowledgement; the index is all they need.
        Wanted::Modbus { .. } => Window { messages: u16::MAX, of_many: false },
    }
}

fn credentials(settings: &config::BrokerSettings) -> broker::Credentials {
    let user = |login: &config::Login| {
        let user =
            broker::User { password: login.password.reveal().to_owned(), rights: broker::Rights::Device };
        (login.user.clone(), user)
    };
    match settings.anonymous {
        true => broker::Credentials::Anonymous,
        false => broker::Credentials::Users(settings.logins.iter().map(user).collect()),
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
    /// The next index to be given out.
    next: u16,
}

struct Connector {
    wanted: Wanted,
    source: SourceIndex,
    cancel: CancellationToken,
    abort: AbortHandle,
    /// Only of the embedded broker: who may connect, and where.
    broker: Option<(broker::InForce, SocketAddr)>,
}

/// A source that has its place in the pipeline and does not run yet.
pub(super) struct Prepared {
    link: LinkId,
    wanted: Wanted,
    source: SourceIndex,
    acks: sources::Acks,
}

impl Drop for Connectors {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Connectors {
    pub(super) fn new(intake: sources::Intake, clock: Clock, metrics: Metrics) -> Self {
        let (running, tasks, cancel) = (BTreeMap::new(), JoinSet::new(), CancellationToken::new());
        Self { running, tasks, cancel, intake, clock, metrics, next: 0 }
    }

    /// Where the embedded broker listens.
    pub(super) fn broker_address(&self) -> Option<SocketAddr> {
        self.running.values().find_map(|connector| connector.broker.as_ref()).map(|(_, address)| *address)
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
        let way = WayBack { source, acks: sender, window: window(&wanted) };
        Ok((Prepared { link, wanted, source, acks }, way))
    }

    /// Starts a source. Errors: the embedded broker cannot listen.
    pub(super) async fn start(&mut self, prepared: Prepared) -> anyhow::Result<()> {
        let Prepared { link, wanted, source, acks } = prepared;
        let cancel = self.cancel.child_token();
        let (abort, broker) = match &wanted {
            Wanted::Broker(from) => {
                self.start_broker(from, source, acks, cancel.clone()).await.context("MQTT broker")?
            }
            Wanted::Mqtt { from, filters } => {
                (self.start_mqtt(from, filters, source, acks, cancel.clone()), None)
            }
            Wanted::Modbus { from, units } => (self.start_modbus(from, units, source, cancel.clone()), None),
        };
        self.running.insert(link, Connector { wanted, source, cancel, abort, broker });
        Ok(())
    }

    async fn start_broker(
        &mut self,
        settings: &config::BrokerSettings,
        source: SourceIndex,
        acks: sources::Acks,
        cancel: CancellationToken,
    ) -> anyhow::Result<(AbortHandle, Option<(broker::InForce, SocketAddr)>)> {
        let started = broker::Broker::start(
            broker::BrokerSettings::new(settings.link.clone(), settings.listen, credentials(settings)),
            source,
            self.intake.clone(),
            acks,
            self.clock.clone(),
            self.metrics.clone(),
            cancel,
        )
        .await?;
        let (users, address, link) = (started.credentials(), started.local_addr(), settings.link.clone());
        let abort = self.tasks.spawn(async move {
            let ended = started.ended().await;
            (link, if ended { Ok(()) } else { Err(anyhow::anyhow!("the embedded broker ended by a defect")) })
        });
        Ok((abort, Some((users, address))))
    }

    fn start_mqtt(
        &mut self,
        from: &config::MqttSettings,
        filters: &[String],
        source: SourceIndex,
        acks: sources::Acks,
        cancel: CancellationToken,
    ) -> AbortHandle {
        let mut settings =
            mqtt::MqttSettings::new(from.link.clone(), from.host.clone(), from.port, from.client_id.clone());
        settings.user =
            from.login.as_ref().map(|login| (login.user.clone(), login.password.reveal().to_owned()));
        settings.tls = from.tls.then(mqtt::TlsSettings::default);
        settings.filters = filters.to_vec();
        settings.will_topic = Some(format!("fengsui/{}/state", from.client_id));
        let (clock, metrics, link) = (self.clock.clone(), self.metrics.clone(), from.link.clone());
        let intake = self.intake.clone();
        self.tasks.spawn(async move {
            mqtt::run(settings, source, intake, acks, clock, metrics, cancel).await;
            (link, Ok(()))
        })
    }

    fn start_modbus(
        &mut self,
        from: &config::ModbusSettings,
        units: &[modbus::UnitSettings],
        source: SourceIndex,
        cancel: CancellationToken,
    ) -> AbortHandle {
        let bus = modbus::BusSettings {
            link: from.link.clone(),
            host: from.host.clone(),
            port: from.port,
            units: units.to_vec(),
            timeout: from.timeout.to_std(),
            pause_after_connect: from.pause_after_connect.to_std(),
            second_connection: from.second_connection,
        };
        let (clock, metrics, link) = (self.clock.clone(), self.metrics.clone(), from.link.clone());
        let intake = self.intake.clone();
        self.tasks.spawn(async move {
            modbus::run(bus, source, intake, clock, metrics, cancel).await;
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

    /// Takes over what changes without a new start: the users of the embedded broker.
    pub(super) fn change_in_place(&mut self, wanted: &[(LinkId, Wanted)]) {
        for (link, new) in wanted {
            let Some(connector) = self.running.get_mut(link) else { continue };
            if let (Wanted::Broker(settings), Some((users, _))) = (new, &connector.broker)
                && connector.wanted != *new
            {
                users.replace(credentials(settings));
            }
            connector.wanted = new.clone();
        }
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
        match self.tasks.join_next().await {
            Some(Ok((link, Ok(())))) => anyhow::anyhow!("the source {link} ended by itself"),
            Some(Ok((link, Err(error)))) => error.context(format!("the source {link} failed")),
            Some(Err(panicked)) => anyhow::Error::new(panicked).context("a source panicked"),
            None => std::future::pending().await,
        }
    }

    /// Ends all.
    pub(super) async fn stop_all(&mut self) -> anyhow::Result<()> {
        self.cancel.cancel();
        while let Some(joined) = self.tasks.join_next().await {
            let (link, result) = joined.context("a source panicked while stopping")?;
            result.with_context(|| format!("the source {link} failed while stopping"))?;
        }
        Ok(())
    }
}
