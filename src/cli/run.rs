//! `fengsui run`: a gateway on a real site, until it is asked to stop.

use crate::app::{self, Options};
use crate::clock::Clock;
use crate::config::render::Colour;
use crate::config::{Config, Report};
use std::path::Path;
use std::process::ExitCode;

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
        let app = app::start(config, Options { clock: Clock::system(), extra: None, demo: false }).await?;
        announce(&app);
        app.run(super::asked_to_stop()).await
    })
}

#[expect(clippy::print_stderr, reason = "a person reads it in his terminal, or in the service manager's log")]
fn show(report: &Report) {
    eprint!("{}", report.render(Colour::No));
}

#[expect(
    clippy::print_stdout,
    reason = "the first password is for the person at the terminal, never for the log"
)]
fn announce(app: &app::App) {
    if let Some(address) = app.web {
        println!("值班页面 / duty room: http://{address}/");
    }
    if let Some(address) = app.broker {
        println!("MQTT: {address}");
    }
    if let Some(password) = &app.first_password {
        println!(
            "首次启动，只显示一次 / shown once: account: {}  password: {password}",
            crate::web::accounts::FIRST_ACCOUNT
        );
    }
}
