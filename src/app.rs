//! THE COMPOSITION ROOT: every task, every channel and every limit of a running gateway, on one page.
//!
//! Reads as the list of parts. Start: journal → series → engine → pipeline → sources → sinks → duty room. Stop: the
//! other way round for what comes in (sources hand over what they hold, the pipeline writes and acknowledges it),
//! then everybody else. A task that ends otherwise stops the whole gateway with an exit code, and the service manager
//! starts it again: one recovery path, the journal.

mod changes;
mod links;
mod outlets;
mod permits;
mod ports;
mod reload;
mod settings;

pub use links::{ACKS_MAX, BROKER_WINDOW};

use crate::adopt::Adopt;
use crate::backup;
use crate::capture::Tap;
use crate::clock::Clock;
use crate::commands::{self, ConfigState};
use crate::config::{self, Config};
use crate::hazard::Engine;
use crate::journal::{self, Journal};
use crate::metrics::Metrics;
use crate::model::{LinkId, Span, Text};
use crate::pipeline::{Binding, Desk, Heard, LinkState, NOTICES_MAX, Parts, Pipeline, Rhythm, Router};
use crate::series::{self, Series};
use crate::sinks;
use crate::sources::Arrival;
use crate::web;
use anyhow::Context;
use permits::permits;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Arrivals that may wait for the pipeline: at 300 bytes each 0.3 MB. A full channel makes the sources wait, and so the far
/// side. At the 36 000 messages a second that the loop takes at most this is 30 ms of arrivals: what a fire that comes
/// last waits here.
pub const INTAKE_MAX: usize = 1024;

/// How long the sources may take to hand over what they hold, and the pipeline to write it. A service manager
/// kills after 90 s; an SD card needs less than 5.
pub const GRACE: Duration = Duration::from_secs(15);

/// What a caller may add to a configured gateway.
pub struct Options {
    /// Time.
    pub clock: Clock,
    /// More pages, behind the sign-in: the demo's controls.
    pub extra: Option<axum::Router>,
    /// Whether the page says that this is a demo.
    pub demo: bool,
}

/// A gateway that runs.
pub struct App {
    /// Where the duty room listens.
    pub web: Option<SocketAddr>,
    /// Where the embedded broker listens.
    pub broker: Option<SocketAddr>,
    /// Where platforms may post besides the duty room's address.
    pub push: Vec<SocketAddr>,
    /// The first account's password, only at the very first start. Shown once, stored nowhere.
    pub first_password: Option<String>,
    /// Asks that the configuration be read again.
    pub bell: commands::Bell,
    /// The counters.
    pub metrics: Metrics,
    sources: Group,
    pipeline: Group,
    rest: Group,
}

/// Tasks that are stopped together.
struct Group {
    cancel: CancellationToken,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Group {
    fn new() -> Self {
        Self { cancel: CancellationToken::new(), tasks: JoinSet::new() }
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Waits for a task that ends although nobody asked it to; for ever when there are none.
    async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow::anyhow!("the task {name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("the task {name} failed")),
            Some(Err(panicked)) => anyhow::Error::new(panicked).context("a task panicked"),
            None => std::future::pending().await,
        }
    }

    /// Asks all to end and waits for them, at most [`GRACE`].
    async fn stop(&mut self) -> anyhow::Result<()> {
        self.cancel.cancel();
        let mut first = Ok(());
        let ended = tokio::time::timeout(GRACE, async {
            while let Some(joined) = self.tasks.join_next().await {
                let result = match joined {
                    Ok((name, result)) => {
                        result.with_context(|| format!("the task {name} failed while stopping"))
                    }
                    Err(panicked) => Err(anyhow::Error::new(panicked)),
                };
                if first.is_ok() {
                    first = result;
                }
            }
        });
        if ended.await.is_err() {
            self.tasks.abort_all();
            anyhow::bail!("some tasks did not end within {GRACE:?} and were aborted");
        }
        first
    }
}

/// Starts every part of a gateway.
///
/// Errors: the data directory cannot be opened (another gateway uses it, say), or an address cannot be bound.
pub async fn start(config: Config, options: Options) -> anyhow::Result<App> {
    // Every TLS user shares one provider; a second call only says that there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let Options { clock, extra, demo } = options;
    let metrics = Metrics::new();
    let mut sources = Group::new();
    let mut pipeline = Group::new();
    let mut rest = Group::new();

    // What is known from before.
    let settings = &config.gateway.journal;
    let mut limits = journal::Limits { bytes_max: settings.size_max_bytes, ..Default::default() };
    if let Some(keep) = settings.keep {
        limits.readings_age_max = keep;
    }
    let (journal, restored) = Journal::open(&settings.dir, limits, metrics.clone())
        .with_context(|| format!("cannot open the data directory {}", settings.dir.display()))?;
    // Before anything is dated: a box without a clock goes on where the journal ends.
    if let Some(newest_at) = restored.newest_at {
        clock.not_before(newest_at);
    }
    if let Some(Text { en, .. }) = &restored.recovered {
        tracing::error!(what = %en, "the journal was damaged and has been recovered");
    }
    let series =
        Series::open_with(&journal, retention(&config)).await.context("cannot open the time series")?;
    // Entries are held back for every follower that ever was; a store that left the configuration is none any more.
    let stores = config.gateway.influx.iter().map(|influx| outlets::influx_cursor(&influx.name));
    let folders = config.gateway.folder.iter().map(|folder| outlets::folder_cursor(&folder.name));
    let stores: Vec<String> = stores.chain(folders).collect();
    let followers: Vec<&str> = stores.iter().map(String::as_str).chain([crate::series::CURSOR]).collect();
    for forgotten in journal.keep_only_cursors(&followers).await.context("cannot forget removed stores")? {
        tracing::info!(cursor = %forgotten, "a store was removed from the configuration; nothing is kept for it");
    }

    // The duty room's address is bound early: a port in use is told before anything else starts.
    let listener = match config.gateway.web_listen {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?)
        }
        None => None,
    };

    // The one channel in, the small one for operators, and the way back to each source.
    let (intake, arrivals) = mpsc::channel::<Arrival>(INTAKE_MAX);
    let (door, requests) = commands::door();
    let (bell, rings) = commands::bell();
    // What came from no file cannot be read again.
    let door = if config.watched.is_empty() { door } else { door.with_bell(bell.clone()) };
    let mut connectors = links::Connectors::new(intake.clone(), clock.clone(), metrics.clone());
    let (mut acks, mut windows, mut asks) = (Vec::new(), Vec::new(), Vec::new());
    for (link, wanted) in links::wanted(&config) {
        let (prepared, way) = connectors.prepare(link, wanted)?;
        acks.push(way.acks);
        windows.push(way.window);
        asks.push(way.asks);
        connectors.start(prepared).await?;
    }
    let (broker_address, push_addresses) = (connectors.broker_address(), connectors.push_addresses());
    let posts = connectors.posts();

    let tap = Tap::new(metrics.clone());
    let (link_sender, links) = watch::channel(BTreeMap::new());
    let newest = series.all_last();
    let engine = Engine::restore(config.plan.clone(), restored.facts, &newest, clock.now());
    let parts = Parts {
        engine,
        router: Router::new(config.bindings.iter().map(binding).collect()),
        journal: journal.clone(),
        head: restored.head,
        recovered: restored.recovered,
        receipts: restored.receipts,
        heard: Heard::of(&newest),
        acks,
        asks,
        clock: clock.clone(),
        metrics: metrics.clone(),
        links: link_sender,
        tap: tap.clone(),
        desk: Desk { permits: permits(&config), ways: connectors.order_ways(&[]) },
        rhythm: Rhythm { commit_window: config.gateway.commit_window, windows },
    };
    let (notices, heeded) = mpsc::channel(NOTICES_MAX);
    let running = Pipeline::new(parts).with_notices(heeded).run(arrivals, requests, pipeline.cancel.clone());
    pipeline.spawn("pipeline", async move { Ok(running.await?) });

    let (follower, cancel) = (series.clone(), rest.cancel.clone());
    rest.spawn("series", async move {
        follower.follow(cancel).await;
        Ok(())
    });

    let (plan_sender, plan) = watch::channel(config.plan.clone());
    let (config_sender, config_state) = watch::channel(ConfigState::default());
    let (watched_sender, watched) = watch::channel(config.watched.clone());
    let adopt = Adopt::new(&config);
    let reloader = reload::Reloader {
        config: config.clone(),
        adopt: adopt.clone(),
        started: config.gateway.clone(),
        connectors,
        intake,
        notices,
        plan: plan_sender.clone(),
        series: series.clone(),
        state: config_sender,
        watched: watched_sender,
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    sources.spawn("links", reloader.run(rings, sources.cancel.clone()));
    if !config.watched.is_empty() {
        let (bell, cancel) = (bell.clone(), sources.cancel.clone());
        sources.spawn("files", async move {
            cancel.run_until_cancelled(reload::watch_files(watched, bell)).await;
            Ok(())
        });
    }
    let name = config.gateway.name.clone().unwrap_or_else(outlets::host_name);
    let mut sinks = Vec::new();
    for from in &config.gateway.influx {
        let settings = outlets::influx_settings(from, &name);
        let (journal, metrics) = (journal.clone(), metrics.clone());
        let worker = sinks::influx::Influx::new(settings, journal, plan.clone(), clock.clone(), metrics)?;
        sinks.push(outlets::start_sink(&mut rest, &from.name, outlets::influx_cursor(&from.name), worker));
    }
    for from in &config.gateway.folder {
        let settings = outlets::folder_settings(from, &name);
        let (journal, metrics) = (journal.clone(), metrics.clone());
        let worker = sinks::folder::Folder::new(settings, journal, plan.clone(), clock.clone(), metrics);
        sinks.push(outlets::start_sink(&mut rest, &from.name, outlets::folder_cursor(&from.name), worker));
    }

    if let Some(backups) = backup::Schedule::of(&config, &journal, &door, &clock, &metrics) {
        let cancel = rest.cancel.clone();
        rest.spawn("backup", async move {
            backups.run(cancel).await;
            Ok(())
        });
    }

    let web_address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    // After everything that can fail: a first password is made only when it can be shown.
    let first_password = web::accounts::ensure_first_account(&journal, &clock).await?;
    if let Some(listener) = listener {
        let (health_sender, health) = watch::channel(web::Health::default());
        let (watched, dir, cancel) = (journal.clone(), settings.dir.clone(), rest.cancel.clone());
        let every = config.gateway.backup.as_ref().and_then(|backup| backup.every);
        let late = every.map(backup::late_after);
        rest.spawn("health", async move {
            let watch = watch_health(watched, dir, late, links, sinks, config_state, health_sender);
            cancel.run_until_cancelled(watch).await;
            Ok(())
        });
        let token = capture_token(&settings.dir);
        let metrics = metrics.clone();
        let room =
            web::Room { journal, series, plan, door, adopt, clock, metrics, tap, token, health, extra, demo };
        let cancel = rest.cancel.clone();
        rest.spawn("duty room", async move {
            // The plan's sender lives as long as its readers: a closed channel would look like a stop.
            let _plan = plan_sender;
            Ok(web::serve_with(listener, room, posts, cancel).await?)
        });
    }
    Ok(App {
        web: web_address,
        broker: broker_address,
        push: push_addresses,
        first_password,
        bell,
        metrics,
        sources,
        pipeline,
        rest,
    })
}

impl App {
    /// Runs until `stop` is ready or a part fails; then stops everything in order.
    ///
    /// Errors: a part failed. Everything that was acknowledged is in the journal all the same.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let failure = tokio::select! {
            () = stop => None,
            error = self.sources.failure() => Some(error),
            error = self.pipeline.failure() => Some(error),
            error = self.rest.failure() => Some(error),
        };
        match &failure {
            None => tracing::info!("the gateway was asked to stop"),
            Some(error) => tracing::error!(error = format!("{error:#}"), "a part failed; the gateway stops"),
        }
        let results = [self.sources.stop().await, self.pipeline.stop().await, self.rest.stop().await];
        match failure {
            Some(error) => Err(error),
            None => results.into_iter().collect(),
        }
    }
}

/// How long the series keeps which point's samples.
fn retention(config: &Config) -> series::Retention {
    let keep =
        |from: &config::SeriesKeep| series::Keep { raw: from.raw, minute: from.minute, hour: from.hour };
    let settings = &config.gateway.series;
    series::Retention {
        keep: keep(&settings.keep),
        classes: settings.classes.iter().map(|(class, of)| (class.clone(), keep(of))).collect(),
        plan: config.plan.clone(),
        bytes_max: config.gateway.journal.size_max_bytes,
    }
}

/// A device as the pipeline needs it.
pub(crate) fn binding(from: &config::Binding) -> Binding {
    Binding {
        device: from.device.clone(),
        link: from.link.clone(),
        address: from.address.clone(),
        profile: from.profile.clone(),
        points: from.points.clone(),
    }
}

/// Without it `fengsui capture` has no way in; a person who is signed in still has.
fn capture_token(dir: &Path) -> Option<std::sync::Arc<str>> {
    let made = web::capture::make_token(dir);
    made.inspect_err(|error| tracing::warn!(%error, "no token for captures could be written")).ok()
}

/// What the health page is told of a sink.
struct Sink {
    name: String,
    cursor: String,
    trouble: watch::Receiver<Option<Text>>,
}

/// How often the health page's figures are renewed.
const HEALTH_EVERY: Duration = Duration::from_secs(2);

/// Tells the health page how links and sinks are. Never ends.
async fn watch_health(
    journal: Journal,
    dir: PathBuf,
    backup_late_after: Option<Span>,
    links: watch::Receiver<BTreeMap<LinkId, LinkState>>,
    sinks: Vec<Sink>,
    mut config: watch::Receiver<ConfigState>,
    health: watch::Sender<web::Health>,
) {
    loop {
        let states = links.borrow().clone();
        let links = states.into_iter().map(|(link, LinkState { up, since, reason })| web::LinkHealth {
            link,
            up,
            since,
            reason,
        });
        let mut now = web::Health {
            links: links.collect(),
            backup: web::Backup::last(&journal).await,
            backup_late_after,
            set_aside: set_aside(&dir).await,
            config: config.borrow_and_update().clone(),
            sinks: Vec::new(),
        };
        let held = journal.health();
        for sink in &sinks {
            let last_error = sink.trouble.borrow().clone();
            // A cursor that cannot be read is shown as the whole journal behind: the journal's own fault says why.
            let at = journal.cursor(&sink.cursor).await.unwrap_or(0);
            now.sinks.push(web::SinkHealth {
                name: sink.name.clone(),
                lag: held.head.saturating_sub(at),
                last_error,
                hours_left: held.room.hours_of_buffer(at),
            });
        }
        health.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
        // A refused or mended configuration is told at once.
        let told = async {
            while config.changed().await.is_err() {
                std::future::pending::<()>().await
            }
        };
        tokio::time::timeout(HEALTH_EVERY, told).await.ok();
    }
}

/// Damaged files of the journal that wait for a person, with their bytes. A folder that cannot be read is the journal's
/// own fault, and that is shown.
async fn set_aside(dir: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let Ok(mut files) = tokio::fs::read_dir(dir).await else { return found };
    while let Ok(Some(file)) = files.next_entry().await {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.contains(".damaged-") && !name.ends_with("-wal") {
            found.push((name, file.metadata().await.map_or(0, |file| file.len())));
        }
    }
    found.sort();
    found
}
