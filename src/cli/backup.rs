//! `fengsui backup`: everything that a gateway knows, into one folder, while it runs or not.

use super::check::EXIT_CONFIG;
use super::known::{Known, refuse, say, tell};
use crate::backup::{self, Household, LeftOut, Made, Order, Trouble};
use crate::clock::Clock;
use std::path::PathBuf;
use std::sync::Arc;

/// The target folder is not there (EX_UNAVAILABLE of sysexits.h): a script may wait for the stick.
pub(super) const EXIT_MISSING: u8 = 69;

/// What can be chosen.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The gateway's configuration.
    #[arg(long, default_value = "gateway.toml")]
    config: PathBuf,
    /// The folder that the backup is made in; `[backup] dir` unless given.
    #[arg(long)]
    to: Option<PathBuf>,
    /// Copy the files with passwords and tokens as well. Keep such a backup under lock and key.
    #[arg(long)]
    with_secrets: bool,
    /// How many backups of this gateway are kept in the folder; `[backup] keep` unless `--to` is given, then all.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let known = match Known::insist(&arguments.config) {
        Ok(known) => known,
        Err(code) => return code,
    };
    let settings = known.gateway.backup.as_ref();
    let Some(to) = arguments.to.clone().or_else(|| settings.map(|settings| settings.dir.clone())) else {
        tell(
            "✘ 备份到哪里？请写 --to 目录，或在 gateway.toml 写 [backup] dir = \"…\"\n  Where to? Name it with --to DIR, or write [backup] dir = \"…\" in gateway.toml\n",
        );
        return EXIT_CONFIG;
    };
    let usual = arguments.to.is_none().then(|| settings.map(|settings| settings.keep)).flatten();
    let order = Order {
        household: Household::of(&known.gateway, known.plan.as_deref()),
        to,
        with_secrets: arguments.with_secrets,
        keep: arguments.keep.map(usize::from).or(usual),
        now: Clock::system().now(),
        log_max: backup::WAL_BYTES_MAX,
    };
    let go_on: backup::GoOn = Arc::new(|| true);
    match backup::make(&order, &go_on) {
        Ok(made) => {
            say(&told(&made));
            0
        }
        Err(error) => {
            refuse(&error);
            if error.kind == Trouble::Missing { EXIT_MISSING } else { 1 }
        }
    }
}

fn told(made: &Made) -> String {
    let Made { dir, manifest, pruned, same_disk } = made;
    let (dir, files, journal) = (dir.display(), manifest.files.len(), &manifest.journal);
    let size = shown(manifest.bytes());
    let mut text = format!(
        "✔ 备份完成并已验证：{dir}\n  {files} 个文件，{size}，日志到第 {} 条，未关闭的报警 {} 条\n  校验链头（可抄在值班簿上）：{}\n",
        journal.head, journal.open_hazards, journal.audit
    );
    text += &format!(
        "  made and verified: {files} files, {size}, the journal up to entry {}, {} open hazards\n",
        journal.head, journal.open_hazards
    );
    for old in pruned {
        text += &format!("  已删除旧备份 / deleted: {}\n", old.display());
    }
    for LeftOut { from, why } in &manifest.left_out {
        let from = from.display();
        text += &match why.as_str() {
            "secret" => {
                format!("  ! 密码文件没有备份，请另行保管 / not copied, a secret: {from}（--with-secrets）\n")
            }
            why => format!("  ! 没有备份 / not copied: {from}: {why}\n"),
        };
    }
    if *same_disk {
        text +=
            "  ! 备份和数据在同一块盘上：盘坏了会一起丢 / on the same disk as the journal: it dies with it\n";
    }
    text
}

/// A size for people.
pub(super) fn shown(bytes: u64) -> String {
    match bytes {
        0..=1_048_575 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}
