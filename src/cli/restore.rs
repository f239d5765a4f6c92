//! `fengsui restore`: puts a backup back, on this box or on another.

use super::check::EXIT_CONFIG;
use super::known::{Known, refuse, say, tell};
use crate::backup::{self, BackupError, Into, Manifest, Placed, Restored, Trouble, local, local_or_unknown};
use crate::clock::Clock;
use crate::model::Timestamp;
use std::path::{Path, PathBuf};

/// What can be chosen.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The backup: a folder fengsui-….
    backup: PathBuf,
    /// The configuration of the gateway that it is restored for; its data directory is used.
    #[arg(long, required_unless_present = "data")]
    config: Option<PathBuf>,
    /// The data directory, without a configuration.
    #[arg(long, conflicts_with = "config")]
    data: Option<PathBuf>,
    /// Set a journal that is there aside (it is never deleted).
    #[arg(long)]
    replace: bool,
    /// A new box: first put gateway.toml, the plan and the profiles of the backup beside `--config`.
    #[arg(long, requires = "config")]
    config_files: bool,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    match steps(arguments) {
        Ok(()) => 0,
        Err(Stopped::Told(code)) => code,
        Err(Stopped::Refused(error)) => {
            refuse(&error);
            if error.kind == Trouble::Missing { super::backup::EXIT_MISSING } else { 1 }
        }
    }
}

enum Stopped {
    Told(u8),
    Refused(BackupError),
}

impl From<BackupError> for Stopped {
    fn from(error: BackupError) -> Self {
        Self::Refused(error)
    }
}

fn steps(arguments: &Arguments) -> Result<(), Stopped> {
    let mut placed = None;
    if let (Some(config), true) = (&arguments.config, arguments.config_files) {
        let manifest = backup::verify(&arguments.backup)?.manifest;
        let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        placed = Some((manifest.clone(), backup::place_configuration(&arguments.backup, &manifest, folder)?));
    }
    let data = match (&arguments.config, &arguments.data) {
        (_, Some(data)) => data.clone(),
        (Some(config), None) => Known::insist(config).map_err(Stopped::Told)?.gateway.journal.dir,
        (None, None) => return Err(Stopped::Told(EXIT_CONFIG)),
    };
    // A box whose clock is not set yet goes on from where the backup ends, as the gateway itself does.
    let clock = Clock::system();
    if let Some(newest) = Manifest::read(&arguments.backup)?.journal.newest_ms {
        clock.not_before(Timestamp::from_millis(newest));
    }
    let into = Into { data: data.clone(), replace: arguments.replace, now: clock.now() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        tell(&format!("✘ {error}\n"));
        Stopped::Told(1)
    })?;
    let restored = runtime.block_on(backup::restore(&arguments.backup, &into))?;
    say(&told(&restored, &data, placed.as_ref()));
    Ok(())
}

fn told(restored: &Restored, data: &Path, placed: Option<&(Manifest, Placed)>) -> String {
    let Restored { manifest, aside, .. } = restored;
    let (journal, data) = (&manifest.journal, data.display());
    let newest = local_or_unknown(journal.newest_ms);
    let made = local(manifest.made_at());
    let (head, open, host) = (journal.head, journal.open_hazards, &manifest.of.host);
    let mut text = format!(
        "✔ 已恢复到 {data}\n  备份做于 {made}（主机 {host}，程序 {}）\n  记录到第 {head} 条（{newest}）为止，未关闭的报警 {open} 条；此后写入的记录不在这里，请人工核对现场\n",
        manifest.program
    );
    text += &format!(
        "  restored into {data}: made {made} on {host}; entries up to {head} ({newest}), {open} open hazards. What was written after that is not here: check the open hazards on site\n"
    );
    if let Some(aside) = aside {
        let aside = aside.display();
        text +=
            &format!("  原来的日志另存为 {aside}，没有删除\n  the old journal was set aside as {aside}\n");
    }
    let Some((_, placed)) = placed else { return text };
    for file in &placed.written {
        text += &format!("  配置文件 / written: {}\n", file.display());
    }
    for (from, was) in &placed.by_hand {
        let was = was.display();
        text += &match from {
            Some(from) => format!("  ! 请手工放好 / put in place by hand: {} → {was}\n", from.display()),
            None => format!("  ! 备份里没有，请手工准备 / not in the backup, prepare it by hand: {was}\n"),
        };
    }
    text
}
