//! `fengsui profile new`: a profile file for a maintainer who writes no code: from a capture, from registers that are read now,
//! or by questions and answers. What is written checks clean and its examples pass; what is a guess says so in the file.

mod ask;
mod capture;
mod probe;
mod talk;

pub(super) use probe::wire_of;

use super::test::write_drafts;
use super::whole;
use super::{Asked, EXIT_CONFIG};
use crate::pipeline::{Rehearsal, Why};
use crate::profile::drafting::{Drafted, Identity, Refused};
use crate::profile::profile_id;
use clap::Args;
use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Exit code where nothing could be drafted.
pub(super) const EXIT_REFUSED: u8 = 1;

/// Points of one file that are named when it is written; the file has all of them.
const TOLD_MAX: usize = 40;

#[derive(Debug, Args)]
pub(in crate::cli) struct New {
    /// The file, <vendor>/<model>.toml; or a folder, below which it gets that name.
    #[arg(default_value = "device-profiles")]
    file: PathBuf,
    /// A file of `fengsui capture`, or lines of JSON payloads (then with --topic).
    #[arg(long, value_name = "CAPTURE", conflicts_with = "probe")]
    from: Option<PathBuf>,
    /// One payload as it came, with --topic. May be given several times.
    #[arg(long, value_name = "PAYLOAD", conflicts_with_all = ["from", "probe"])]
    sample: Vec<String>,
    /// The topic of the payloads; or a pattern such as site/{address}/up. Of a capture: only these.
    #[arg(long)]
    topic: Option<String>,
    /// The vendor's JavaScript codec for payloads that a LoRaWAN network server sends on. It is copied beside the profile.
    #[arg(long, value_name = "FILE.js", conflicts_with = "probe")]
    codec: Option<PathBuf>,
    /// A Modbus device to read, tcp://host:port/unit, or rtu-tcp:// for a transparent serial server. Nothing is written to it.
    #[arg(long, value_name = "URL")]
    probe: Option<String>,
    /// Which addresses are read, counted from 0, both ends included.
    #[arg(long, default_value = "0..63", requires = "probe")]
    range: String,
    /// Which tables are read.
    #[arg(long, value_name = "TABLE", default_values = ["holding", "input"], requires = "probe")]
    table: Vec<String>,
    /// A point: 'PATH CLASS UNIT' of a message ('PATH -' leaves it out); 'holding@4 f32 CDAB temperature' of registers.
    #[arg(long, value_name = "POINT")]
    pick: Vec<String>,
    /// The maker.
    #[arg(long)]
    vendor: Option<String>,
    /// The model number.
    #[arg(long)]
    model: Option<String>,
    /// What it is, in Chinese.
    #[arg(long, value_name = "NAME")]
    name_zh: Option<String>,
    /// What it is, in English.
    #[arg(long, value_name = "NAME")]
    name_en: Option<String>,
    /// The manual: title, revision, page.
    #[arg(long)]
    source: Option<String>,
    /// Overwrite the file if it is there.
    #[arg(long)]
    force: bool,
}

/// Why a command ends without a file: its exit code; the reason is told already.
struct Ended(u8);

pub(super) fn run(arguments: &New, out: &mut String) -> u8 {
    match draft(arguments, out) {
        Ok(drafted) => write(arguments, &drafted, out),
        Err(Ended(code)) => code,
    }
}

fn draft(arguments: &New, out: &mut String) -> Result<Drafted, Ended> {
    let vocabulary = Asked::of(&[]).vocabulary;
    let drafted = if let Some(url) = &arguments.probe {
        probe::draft(arguments, url, &vocabulary, out)?
    } else if arguments.from.is_some() || !arguments.sample.is_empty() {
        capture::draft(arguments, &vocabulary, out)?
    } else {
        ask::draft(arguments, &vocabulary, out)?
    };
    drafted.map_err(|Refused { why, seen }| {
        for line in &seen {
            _ = writeln!(out, "  {line}");
        }
        _ = writeln!(out, "✗ {why}");
        Ended(EXIT_REFUSED)
    })
}

impl New {
    /// What the arguments say of the model; a file's own path says vendor and model.
    fn identity(&self) -> Identity {
        let named = self.is_file().then(|| profile_id(&self.file.to_string_lossy()).ok()).flatten();
        let (vendor, model) = named.as_ref().and_then(|id| id.as_str().split_once('/')).unwrap_or_default();
        let or = |given: &Option<String>, other: &str| given.clone().unwrap_or_else(|| other.to_owned());
        Identity {
            vendor: or(&self.vendor, vendor),
            model: or(&self.model, model),
            zh: or(&self.name_zh, ""),
            en: or(&self.name_en, ""),
            source: or(&self.source, ""),
        }
    }

    fn is_file(&self) -> bool {
        self.file.extension().is_some_and(|extension| extension == "toml")
    }

    /// Where the draft goes.
    fn place(&self, drafted: &Drafted) -> PathBuf {
        if self.is_file() { self.file.clone() } else { self.file.join(format!("{}.toml", drafted.profile)) }
    }
}

fn write(arguments: &New, drafted: &Drafted, out: &mut String) -> u8 {
    let path = arguments.place(drafted);
    let shown = path.display().to_string();
    if let Err(problems) = profile_id(&std::path::absolute(&path).unwrap_or_default().to_string_lossy()) {
        let why: Vec<String> = problems.iter().map(ToString::to_string).collect();
        _ = writeln!(out, "{shown} 不是 <厂商>/<型号>.toml / is no name for a profile: {}", why.join("; "));
        return EXIT_CONFIG;
    }
    if let Some(codec) = &arguments.codec
        && let Err(error) = beside(codec, &path, arguments.force)
    {
        _ = writeln!(out, "写不了 {shown} 旁的解码脚本 / cannot put the codec beside it: {error}");
        return EXIT_CONFIG;
    }
    if let Err(error) = store(&path, &drafted.text, arguments.force) {
        _ = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                writeln!(
                    out,
                    "{shown} 已存在，没有改动；加 --force 覆盖 / it exists and was not changed; --force overwrites it"
                )
            }
            _ => writeln!(out, "写不了 {shown} / cannot write it: {error}"),
        };
        return EXIT_CONFIG;
    }
    // What comes of the examples under the default rules, for a person to read.
    if let Err(why) = write_drafts(&Asked::of(std::slice::from_ref(&path))) {
        _ = writeln!(out, "{why}");
        return EXIT_CONFIG;
    }
    tell(&path, drafted, out)
}

/// The codec into the profile's folder, unless it lies there. Another one of that name is another model's.
fn beside(codec: &Path, profile: &Path, force: bool) -> std::io::Result<()> {
    let place = profile.with_file_name(codec.file_name().unwrap_or_default());
    if let Some(folder) = place.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let text = fs::read_to_string(codec)?;
    match fs::read_to_string(&place) {
        Ok(there) if there == text => Ok(()),
        Ok(_) if !force => Err(std::io::Error::other(format!(
            "{} 已存在，内容不同；加 --force 覆盖，或给文件改名 / another codec of that name is there; --force overwrites it, or rename yours",
            place.display()
        ))),
        _ => whole::replace(&place, &text),
    }
}

/// A new file, whole; an older one is replaced only by order.
fn store(path: &Path, text: &str, force: bool) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    if force {
        return whole::replace(path, text);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What was written, checked as the gateway reads it, and what to do next.
fn tell(path: &Path, drafted: &Drafted, out: &mut String) -> u8 {
    let asked = Asked::of(&[path.to_owned()]);
    out.push_str(&asked.problems());
    let [profile] = asked.profiles.as_slice() else { return EXIT_CONFIG };
    let shown = path.display();
    _ = writeln!(out, "✓ 已写 wrote {shown}（{} 个测点 points）", profile.points.len());
    for point in profile.points.iter().take(TOLD_MAX) {
        let class = asked.vocabulary.class(point.class.as_str());
        let name = class.map(|class| &*class.name.zh).unwrap_or_default();
        _ = writeln!(out, "  {:<20} {:<20} {name}", point.name, point.class);
    }
    for line in drafted.told.iter().take(TOLD_MAX) {
        _ = writeln!(out, "  ! {line}");
    }
    if let Some(rehearsal) = Rehearsal::new(profile, &asked.vocabulary) {
        for due in rehearsal.unshown().iter().filter(|due| due.why == Why::FireLimit) {
            _ = writeln!(
                out,
                "  ! {}：没有收到达到火警阈值（{}）的报文，请写一条这样的示例和报警示例 / nothing that came reaches the fire limit; write such an example and its hazard example",
                due.point, due.rule
            );
        }
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    let guesses = written.lines().filter(|line| line.contains("按说明书核对")).count();
    _ = writeln!(
        out,
        "接下来：打开文件，把 {guesses} 处“按说明书核对”逐条改对，然后 / next: compare each of these {guesses} places with the manual, then"
    );
    for command in ["check", "test", "explain"] {
        _ = writeln!(out, "  fengsui profile {command} {shown}");
    }
    _ = writeln!(out, "  fengsui profile try {shown} --frame '…'");
    0
}
