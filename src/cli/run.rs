//! `fengsui run`: a gateway on a real site, until it is asked to stop.

use crate::app::{self, Options};
use crate::clock::Clock;
use crate::commands::{Asker, Bell};
use crate::config::render::Colour;
use crate::config::{Config, Report};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Loads the configuration, starts everything and waits for SIGTERM or Ctrl-C.
///
/// Exit codes: 0 asked to stop, 64 the configuration is wrong, 1 a part failed.
pub(super) fn run(path: &Path) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let config = match Config::load(path, &env) {
        Ok((config, report)) => {
            show(&report);
            config
        }
        Err(report) => {
            show(&report);
            return ExitCode::from(super::check::EXIT_CONFIG);
        }
    };
    super::start_logging(config.gateway.log);
    super::block_on(async move {
        // Heard from the first moment on: unheard, the signal would end the process.
        let hangup = signal(SignalKind::hangup())?;
        let app = app::start(config, Options { clock: Clock::system(), extra: None, demo: false }).await?;
        announce(&app);
        tokio::spawn(read_again_when_asked(hangup, app.bell.clone()));
        app.run(super::asked_to_stop()).await
    })
}

/// SIGHUP: the configuration is read again.
async fn read_again_when_asked(mut hangup: Signal, bell: Bell) {
    while hangup.recv().await.is_some() {
        if let Err(refused) = bell.ring(Asker::Signal).await {
            tracing::warn!(%refused, "a signal to read the configuration again came to nothing");
        }
    }
}

/// For the person at the terminal, or in the service manager's log. Written without `eprintln!`, which panics when
/// nobody can be told: a full disk under the log must not keep a gateway from starting.
fn show(report: &Report) {
    drop(std::io::stderr().write_all(report.render(Colour::No).as_bytes()));
}

/// The first password is for the person at the terminal, never for the log.
fn announce(app: &app::App) {
    let mut lines = String::new();
    if let Some(address) = app.web {
        lines.push_str(&format!("值班页面 / duty room: http://{address}/\n"));
    }
    if let Some(address) = app.broker {
        lines.push_str(&format!("MQTT: {address}\n"));
    }
    if let Some(password) = &app.first_password {
        let account = crate::web::accounts::FIRST_ACCOUNT;
        lines.push_str(&format!(
            "首次启动，只显示一次 / shown once: account: {account}  password: {password}\n"
        ));
    }
    let mut out = std::io::stdout();
    drop(out.write_all(lines.as_bytes()).and_then(|()| out.flush()));
}
