//! `fengsui demo`: two simulated sites, the gateway and the duty room in one process on 127.0.0.1.

use crate::app::{self, Options};
use crate::clock::Clock;
use crate::demo;
use anyhow::Context;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be chosen.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the demo keeps its data; the same folder again goes on where it stopped.
    #[arg(long, default_value = "fengsui-demo")]
    dir: PathBuf,
    /// Where the duty-room page listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Do not tell the story at the start; it can be told from the page.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    super::start_logging(crate::config::LogFormat::Text);
    super::block_on(async move {
        let Arguments { dir, listen, quiet } = arguments;
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let prepared = demo::prepare(&dir, listen).await?;
        let options = Options { clock: Clock::system(), extra: Some(prepared.controls()), demo: true };
        let app = app::start(prepared.config().clone(), options).await?;
        let broker = app.broker.context("the demo's configuration has an embedded broker")?;
        let password = password(&dir, app.first_password.as_deref())?;
        let simulated = prepared.start(broker, quiet);
        if let Some(address) = app.web {
            announce(address, &password);
        }
        let ended = app.run(super::asked_to_stop()).await;
        simulated.stop().await;
        ended
    })
}

/// The demo's password is kept beside its data, so that the same folder can be opened again. A real gateway prints
/// it once and keeps only its hash.
fn password(dir: &Path, first: Option<&str>) -> anyhow::Result<String> {
    let file = dir.join("demo-password");
    if let Some(password) = first {
        let mut options = std::fs::OpenOptions::new();
        // For the visitor's eyes only, like the journal beside it.
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&file);
        opened
            .and_then(|mut file| file.write_all(password.as_bytes()))
            .with_context(|| format!("cannot write {}", file.display()))?;
        return Ok(password.to_owned());
    }
    let kept = std::fs::read_to_string(&file);
    kept.with_context(|| {
        format!("cannot read {}; remove the folder {} to begin anew", file.display(), dir.display())
    })
}

#[expect(clippy::print_stdout, reason = "the one line that a visitor needs")]
fn announce(address: SocketAddr, password: &str) {
    let account = crate::web::accounts::FIRST_ACCOUNT;
    println!("打开 / open  http://{address}/   账号 / account: {account}   密码 / password: {password}");
}
