//! THE COMMAND LINE: one file per sub-command of the one binary.

mod allocator;
mod audit;
mod capture;
mod backup;
pub mod check;
mod codec;
mod demo;
pub mod doctor;
mod known;
mod replay;
mod restore;
pub mod exchange;
pub mod export;
pub mod import;
mod profile;
mod run;

use crate::config::LogFormat;
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// 烽燧: an IoT telemetry gateway for fire safety.
#[derive(Debug, Parser)]
#[command(name = "fengsui", version, about = "烽燧: an IoT telemetry gateway for fire safety")]
struct Arguments {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Run the gateway of a real site.
    Run {
        /// The gateway's configuration.
        #[arg(long, default_value = "gateway.toml")]
        config: PathBuf,
    },
    /// Say whether the configuration, the site plan and the profiles are right: everything that is wrong, at once.
    Check(check::Check),
    /// Make a backup of a gateway, running or not.
    Backup(backup::Arguments),
    /// Put a backup back, on this box or on another.
    Restore(restore::Arguments),
    /// Verify the duty log.
    Audit(audit::Arguments),
    /// Say what is wrong with a gateway, what it means and what to do.
    Doctor(doctor::Arguments),
    /// Write the time series of any range as CSV, NDJSON or line protocol. Beside a running gateway too.
    Export(export::Export),
    /// Take such files in again, while the gateway is stopped: a replaced box gets its history back.
    Import(import::Import),
    /// Write the frames of a running gateway to a file, as they arrive.
    Capture(capture::Capture),
    /// Play such a file through the profiles and the rules, without a gateway, and print the duty log.
    Replay(replay::Replay),
    /// Check, test and explain device profiles: no toolchain needed.
    #[command(subcommand)]
    Profile(profile::Tool),
    /// Run a vendor's JavaScript codec alone on a file of cases, a JSON line in, a JSON line out.
    Codec(codec::Arguments),
    /// Two simulated sites, the gateway and the duty room, in one process on 127.0.0.1.
    Demo(demo::Arguments),
}

/// Runs the program: arguments in, exit code out.
pub fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(Arguments { command: Sub::Run { config } }) => {
            allocator::start_again_with_settings();
            run::run(&config)
        }
        Ok(Arguments { command: Sub::Check(arguments) }) => ExitCode::from(arguments.run()),
        Ok(Arguments { command: Sub::Backup(arguments) }) => ExitCode::from(backup::run(&arguments)),
        Ok(Arguments { command: Sub::Restore(arguments) }) => ExitCode::from(restore::run(&arguments)),
        Ok(Arguments { command: Sub::Audit(arguments) }) => ExitCode::from(audit::run(&arguments)),
        Ok(Arguments { command: Sub::Doctor(arguments) }) => ExitCode::from(doctor::run(&arguments)),
        Ok(Arguments { command: Sub::Export(arguments) }) => arguments.run(),
        Ok(Arguments { command: Sub::Import(arguments) }) => arguments.run(),
        Ok(Arguments { command: Sub::Capture(arguments) }) => arguments.run(),
        Ok(Arguments { command: Sub::Replay(arguments) }) => arguments.run(),
        Ok(Arguments { command: Sub::Profile(tool) }) => profile::run(&tool),
        Ok(Arguments { command: Sub::Codec(arguments) }) => codec::run(&arguments),
        Ok(Arguments { command: Sub::Demo(arguments) }) => demo::run(arguments),
        Err(error) => {
            // clap prints to the right stream; its exit code for `--help` is 0.
            let code =
                if error.use_stderr() { ExitCode::from(check::EXIT_CONFIG) } else { ExitCode::SUCCESS };
            drop(error.print());
            code
        }
    }
}

/// What is logged unless `RUST_LOG` says otherwise: what we say, and only the warnings of the crates inside.
const QUIET: &str = "warn,fengsui=info";

/// Logs go to stderr: stdout is for people. `RUST_LOG` overrides the level.
fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(QUIET));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would tell of a log that cannot be written (a full disk, a closed terminal) on the very stream that
        // failed, and that panics: the gateway goes on without its log.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Runs a future on the runtime and makes its result an exit code.
fn block_on(future: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(future) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the gateway ends");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM or Ctrl-C. A second one ends the process at once.
async fn asked_to_stop() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(error) => {
            tracing::error!(%error, "cannot listen for SIGTERM");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        std::process::exit(1);
    });
}
