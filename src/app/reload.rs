//! THE COMPOSITION ROOT, while it runs: the files are read again, and only what differs is touched.
//!
//! One task owns the sources and everything that a new configuration changes, so reloads happen one after the other and the
//! newest files win. A reload is all or nothing: gateway.toml, plan and profiles together are one checked [`Config`], or
//! what is in force stays and everybody is told why. The order of a change:
//!
//! 1. sources that go or change are stopped; what they hold is handed over, or stays with their far side;
//! 2. once the pipeline has taken all of that, it gets the new plan in one turn ([`Replan`]);
//! 3. sources that are new or changed are started.
//!
//! So every frame is read by the plan that it was received under, and a source that did not change never notices.

use super::changes::{self, Changes};
use super::links::{self, Connectors, Prepared};
use super::permits::permits;
use super::{INTAKE_MAX, binding, retention};
use crate::adopt::Adopt;
use crate::clock::Clock;
use crate::commands::{Asker, Bell, ConfigState, Misfit, Reloaded, Ring};
use crate::config::render::Colour;
use crate::config::{Config, Gateway, Lookout, Report, Watched};
use crate::metrics::Metrics;
use crate::model::{LinkId, Plan, Problem, Text};
use crate::pipeline::{Desk, Notice, Replan, WayBack};
use crate::series::Series;
use crate::sources;
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. Each look is one `stat` a file, a hundred at most: nothing beside what a minute of
/// readings costs. Two looks must see the same before a change is believed, for editors write twice and copies take
/// time: a change is in force within six seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is kept of a report on wrong files: a hundred mistakes with their lines. A file of garbage may have ten thousand.
const REPORT_BYTES_MAX: usize = 32 * 1024;

/// How long the pipeline may take to empty the channel and to take a new plan. Its longest turn is below a second, also
/// while the disk is away; after this it is gone.
const PIPELINE_WITHIN: Duration = Duration::from_secs(60);

/// What a reload needs of the running gateway.
pub(super) struct Reloader {
    /// What is in force.
    pub(super) config: Config,
    /// Who chooses models and places for new devices looks at it as well.
    pub(super) adopt: Adopt,
    /// What the gateway was started with: what cannot change while it runs is compared with this.
    pub(super) started: Gateway,
    pub(super) connectors: Connectors,
    pub(super) intake: sources::Intake,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) plan: watch::Sender<Arc<Plan>>,
    pub(super) series: Series,
    pub(super) state: watch::Sender<ConfigState>,
    pub(super) watched: watch::Sender<Watched>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Reloader {
    /// Keeps the sources running and answers the bell, until cancelled. Then all sources are stopped.
    ///
    /// Errors: a source ended although nobody asked it to.
    pub(super) async fn run(
        mut self,
        mut rings: mpsc::Receiver<Ring>,
        cancel: CancellationToken,
    ) -> anyhow::Result<()> {
        let work = async {
            loop {
                tokio::select! {
                    error = self.connectors.failure() => return Err(error),
                    Some(first) = rings.recv() => {
                        // Who rang while another reload was under way is answered by one more.
                        let mut waiting = vec![first];
                        while let Ok(more) = rings.try_recv() {
                            waiting.push(more);
                        }
                        let by = waiting.iter().map(|ring| &ring.by).max().map_or_else(|| Asker::File.text(), Asker::text);
                        let told = self.reload(&by).await?;
                        for ring in waiting {
                            // Who asked may have gone home.
                            ring.reply.send(told.clone()).ok();
                        }
                    }
                }
            }
        };
        let ended = cancel.run_until_cancelled(work).await;
        let stopped = self.connectors.stop_all().await;
        ended.unwrap_or(stopped)
    }

    /// Reads the files again and takes them in, or says why not.
    ///
    /// Errors: something that runs cannot be stopped or started; only a new start of the gateway helps.
    async fn reload(&mut self, by: &Text) -> anyhow::Result<Reloaded> {
        let file = self.config.gateway.file.clone();
        let env = |name: &str| std::env::var(name).ok();
        let load = move || Config::load_watched(&file, &env);
        let (loaded, watched) = tokio::task::spawn_blocking(load).await.context("reading the files")?;
        self.watched.send_replace(watched);
        let loaded = match loaded {
            Ok((config, _)) => self.could_run(&config).await.map(|()| config),
            Err(report) => Err(report),
        };
        let changes = match loaded {
            Ok(config) => self.take(config, by).await?,
            Err(report) => {
                self.refuse(&report, by).await;
                None
            }
        };
        Ok(Reloaded { changes, state: self.state.borrow().clone() })
    }

    /// What can be wrong with right files: an address that is not to be had.
    async fn could_run(&self, config: &Config) -> Result<(), Report> {
        let file: Arc<str> = config.gateway.file.display().to_string().into();
        let ours = listens(&self.config.gateway);
        let mut problems = Vec::new();
        for (table, new) in listens(&config.gateway) {
            if ours.iter().any(|(_, old)| *old == new) {
                continue;
            }
            // We may have the port on another address: that gives way before the new one listens.
            let gives_way = ours.iter().any(|(_, old)| old.port() == new.port());
            let probe = SocketAddr::new(new.ip(), if gives_way { 0 } else { new.port() });
            if let Err(error) = tokio::net::TcpListener::bind(probe).await {
                let message = format!("{table} 不能监听 {new} / cannot listen there: {error}");
                let help = "换一个地址或端口 / choose another address or port";
                problems.push(Problem::error(&file, None, message, help));
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Report { problems, ..Report::default() }),
        }
    }

    async fn refuse(&mut self, report: &Report, by: &Text) {
        let misfit = misfit(report, self.clock.now());
        tracing::error!(
            asked_by = %by.en, errors = misfit.errors,
            "the configuration was not taken; what was in force stays so:\n{}", misfit.report
        );
        self.metrics.config_refused.inc();
        let known = self.state.borrow().refused.as_ref().is_some_and(|known| known.report == misfit.report);
        if !known {
            let Misfit { errors, first, .. } = &misfit;
            self.note(Text::new(
                &format!("新的配置没有采用（{}），仍按原配置运行：{errors} 个错误，第一个：{first}", by.zh),
                &format!(
                    "the new configuration was not taken ({}), the old one stays in force: {errors} errors, the first: {first}",
                    by.en
                ),
            ))
            .await;
        }
        self.state.send_modify(|state| state.refused = Some(misfit));
    }

    /// Takes the whole of it in. What changed, in words.
    async fn take(&mut self, config: Config, by: &Text) -> anyhow::Result<Option<Text>> {
        let changes = Changes::between(&self.config, &config).text();
        let next_start = changes::next_start(&self.started, &config.gateway);
        let new_for_later = self.state.borrow().next_start != next_start;
        let mended = self.state.borrow().refused.is_some();
        let wanted = links::wanted(&config);
        if let Some(changes) = &changes {
            let note = Text::new(
                &format!("配置已更新（{}）：{}", by.zh, changes.zh),
                &format!("the configuration was changed ({}): {}", by.en, changes.en),
            );
            tracing::info!(asked_by = %by.en, changes = %changes.en, "the configuration is changed");
            self.change(&config, &wanted, note).await?;
            self.metrics.config_reloads.inc();
        } else {
            tracing::info!(asked_by = %by.en, "the configuration was read again and says the same");
            if mended {
                self.note(Text::new(
                    &format!("配置文件已改正（{}），与运行中的一致", by.zh),
                    &format!("the configuration is mended ({}) and says what is in force", by.en),
                ))
                .await;
            }
        }
        if new_for_later && !next_start.is_empty() {
            let keys = next_start.join(", ");
            tracing::info!(%keys, "these take effect at the next start");
            self.note(Text::new(
                &format!("这些改动要到下次启动才生效：{keys}"),
                &format!("these changes take effect at the next start: {keys}"),
            ))
            .await;
        }
        let now = self.clock.now();
        self.state.send_modify(|state| {
            state.refused = None;
            state.next_start = next_start;
            if changes.is_some() {
                state.taken_at = Some(now);
            }
        });
        self.adopt.take(&config);
        self.config = config;
        Ok(changes)
    }

    async fn change(
        &mut self,
        config: &Config,
        wanted: &[(LinkId, links::Wanted)],
        note: Text,
    ) -> anyhow::Result<()> {
        let gone = self.connectors.stop(&self.connectors.outdated(wanted)).await?;
        self.all_is_taken().await?;
        let (mut prepared, mut come): (Vec<Prepared>, Vec<WayBack>) = Default::default();
        for (link, wanted) in wanted {
            if self.connectors.runs(link) {
                continue;
            }
            let (source, way) = self.connectors.prepare(link.clone(), wanted.clone())?;
            prepared.push(source);
            come.push(way);
        }
        let desk = Desk { permits: permits(config), ways: self.connectors.order_ways(&prepared) };
        let (done, in_force) = oneshot::channel();
        let replan = Replan {
            plan: config.plan.clone(),
            bindings: config.bindings.iter().map(binding).collect(),
            links: wanted.iter().map(|(link, _)| link.clone()).collect(),
            commit_window: config.gateway.commit_window,
            gone,
            come,
            desk,
            note,
            done,
        };
        self.notices.send(Notice::Replan(Box::new(replan))).await.context("the pipeline is gone")?;
        within(in_force).await.context("the pipeline did not take the new plan")?;
        self.plan.send_replace(config.plan.clone());
        self.series.keep(retention(config));
        self.connectors.change_in_place(wanted);
        for source in prepared {
            self.connectors.start(source).await?;
        }
        Ok(())
    }

    /// Waits until the pipeline has taken everything that is in the channel now: the whole room of it is free. For that
    /// moment, 30 ms under full load, nothing new comes in.
    async fn all_is_taken(&self) -> anyhow::Result<()> {
        within(self.intake.reserve_many(INTAKE_MAX)).await.context("the pipeline is gone").map(drop)
    }

    async fn note(&self, text: Text) {
        if self.notices.send(Notice::Note(text)).await.is_err() {
            tracing::warn!(
                "a line about the configuration is missing from the duty log: the gateway is stopping"
            );
        }
    }
}

/// The addresses that must be had for a configuration to run, and the tables that ask for them. A port for DTUs is tried
/// again and again, so it need not be had at once.
fn listens(gateway: &Gateway) -> Vec<(&'static str, SocketAddr)> {
    let plain = gateway.broker.iter().filter_map(|broker| broker.listen).map(|at| ("[broker]", at));
    let secure = gateway.broker.iter().filter_map(|broker| broker.tls.as_ref());
    let secure = secure.map(|tls| ("[broker.tls]", tls.listen));
    let posts = gateway.push.iter().filter_map(|push| push.listen).map(|at| ("[[push]]", at));
    plain.chain(secure).chain(posts).collect()
}

async fn within<T, E: std::error::Error + Send + Sync + 'static>(
    what: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    Ok(tokio::time::timeout(PIPELINE_WITHIN, what).await??)
}

/// What is shown of a report.
fn misfit(report: &Report, at: crate::model::Timestamp) -> Misfit {
    let mut text = report.render(Colour::No);
    if text.len() > REPORT_BYTES_MAX {
        let mut end = REPORT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("\n…");
    }
    let first = report.problems.iter().find(|problem| !problem.warning);
    let first = first.map(|problem| format!("{}：{}", place(report, problem), problem.message));
    Misfit { at, errors: report.errors(), first: first.unwrap_or_default(), report: text }
}

/// `plan.toml:12`, the file by its own name: a line of the duty log is read on a telephone.
fn place(report: &Report, problem: &Problem) -> String {
    let name = std::path::Path::new(&*problem.file).file_name();
    let name = name.map_or_else(|| problem.file.to_string(), |name| name.to_string_lossy().into_owned());
    let text = report.texts.get(&problem.file);
    match problem.span.as_ref().zip(text) {
        Some((span, text)) => {
            let before = text.as_bytes().get(..span.start).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("{name}:{line}")
        }
        None => name,
    }
}

/// Rings when a file says something else than what was read, until cancelled. A file that is being written is given
/// time: what two looks see alike is believed.
pub(super) async fn watch_files(watched: watch::Receiver<Watched>, bell: Bell) {
    let mut lookout = Lookout::default();
    let mut seen: Option<Watched> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let known = watched.borrow().clone();
        let look = move || {
            let found = lookout.look(&known);
            (lookout, found)
        };
        let Ok((again, found)) = tokio::task::spawn_blocking(look).await else { return };
        lookout = again;
        if found.is_some() && found == seen {
            // Refused: too many ask, and one of them reads what this one wants read.
            drop(bell.ring(Asker::File).await);
            seen = None;
        } else {
            seen = found;
        }
    }
}
