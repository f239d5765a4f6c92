//! `fengsui demo`: two simulated sites, the gateway and the duty room in one process on 127.0.0.1.

use crate::app::{self, Options};
use crate::clock::Clock;
use crate::demo;
use anyhow::Context;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be chosen.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the demo keeps its data. The same folder again goes on where it stopped, without telling the story anew.
    #[arg(long, default_value = "fengsui-demo")]
    dir: PathBuf,
    /// Where the duty-room page listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Do not tell the story at the first start; it can be told from the page at any time.
    #[arg(long)]
    quiet: bool,
}

/// What to do when the address or the folder is taken.
const ELSEWHERE: &str =
    "换地址用 --listen，换文件夹用 --dir / choose another address with --listen, another folder with --dir";

pub(super) fn run(arguments: Arguments) -> ExitCode {
    super::start_logging(crate::config::LogFormat::Text);
    super::block_on(async move {
        let Arguments { dir, listen, quiet } = arguments;
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let prepared = demo::prepare(&dir, listen).await?;
        let options = Options { clock: Clock::system(), extra: Some(prepared.controls()), demo: true };
        let app = app::start(prepared.config().clone(), options)
            .await
            .map_err(|error| anyhow::anyhow!("{error:#}. {ELSEWHERE}"))?;
        let broker = app.broker.context("the demo's configuration has an embedded broker")?;
        // A folder that was used before has hazards that somebody has acknowledged: telling the story at once would
        // raise them again and look as if the acknowledgements were lost.
        let used_before = app.first_password.is_none();
        let password = password(&dir, app.first_password.as_deref())?;
        let simulated = prepared.start(broker, quiet || used_before);
        if let Some(address) = app.web {
            announce(address, &password);
        }
        // The devices first: what they say to a gateway that is stopping would wait for its acknowledgement.
        app.run(async {
            super::asked_to_stop().await;
            simulated.stop().await;
        })
        .await
    })
}

/// The demo's password is kept beside its data, so that the same folder can be opened again. A real gateway prints
/// it once and keeps only its hash.
fn password(dir: &Path, first: Option<&str>) -> anyhow::Result<String> {
    let file = dir.join("demo-password");
    if let Some(password) = first {
        // For its owner only, like the journal beside it.
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file);
        let written = written.and_then(|mut file| file.write_all(password.as_bytes()));
        written.with_context(|| format!("cannot write {}", file.display()))?;
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
