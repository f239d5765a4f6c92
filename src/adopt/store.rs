//! BESIDE THE FLOW · the plan file, changed in a person's name: read, checked as a whole, and replaced in one step, or not touched.

use super::guess::Sender;
use super::plan_file::{NewDevice, Zone, insert};
use super::{Adopt, InForce};
use crate::config::render::Colour;
use crate::config::{Config, Disk, Files};
use crate::model::{DeviceId, LINK_POINT, PointId, Text};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// The longest name or place, in characters: one line of a card that is read from two metres.
const NAME_CHARS_MAX: usize = 60;

/// What a person wants in the plan.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The device.
    pub device: NewDevice,
    /// Where it goes.
    pub zone: Zone,
    /// Who sent what it is made from.
    pub sender: Sender,
    /// What [`Adopt::plan_seen`] said when the page was opened.
    pub seen: String,
}

/// Which kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no plan file, or it cannot be written.
    ReadOnly,
    /// Somebody changed the file since the page was opened.
    Changed,
    /// The plan with the device in it would be wrong.
    Wrong,
    /// What was typed cannot be right.
    Typed,
    /// The file could not be replaced.
    Failed,
}

/// The plan file was not touched.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Which kind.
    pub why: Why,
    /// For a person.
    pub text: Text,
    /// Everything that would be wrong, as `fengsui check` prints it; mostly empty.
    pub report: String,
}

impl Refusal {
    fn new(why: Why, zh: impl AsRef<str>, en: impl AsRef<str>) -> Self {
        Self { why, text: Text::new(zh.as_ref(), en.as_ref()), report: String::new() }
    }

    fn read_only(error: impl std::fmt::Display) -> Self {
        Self::new(
            Why::ReadOnly,
            format!("网关不能改写 plan.toml（{error}）：请把下面这一段手工加进去"),
            format!("the gateway may not write plan.toml ({error}): add the lines below by hand"),
        )
    }

    fn changed() -> Self {
        Self::new(
            Why::Changed,
            "打开这一页以后 plan.toml 被改过（也许别人刚接入了一台）：没有写入，请核对后再按一次",
            "plan.toml was changed since this page was opened (somebody else may have added a device): nothing was written; look again and press once more",
        )
    }
}

impl Adopt {
    /// What the plan file says now, as a name for it; empty when it cannot be read. A wish brings it back, so that nobody writes
    /// over what he has not seen.
    pub async fn plan_seen(&self) -> String {
        let Some(plan) = self.now().plan_file.clone() else { return String::new() };
        let read = tokio::task::spawn_blocking(move || Disk.text(&plan)).await;
        read.ok().and_then(Result::ok).map(|text| name_of(&text)).unwrap_or_default()
    }

    /// Writes the device into the plan file. What is in force does not change by it: the caller asks that the files be read again.
    ///
    /// # Errors
    ///
    /// Nothing was written, and why.
    pub async fn write(&self, wish: Wish) -> Result<(), Refusal> {
        let _alone = self.0.writing.lock().await;
        let in_force = self.now();
        let work = tokio::task::spawn_blocking(move || in_force.write(&wish));
        work.await.unwrap_or_else(|panicked| {
            tracing::error!(error = %panicked, "writing the plan file ended by a defect");
            Err(Refusal::new(
                Why::Failed,
                "没有写入：内部错误，请看日志",
                "nothing was written: a defect, see the log",
            ))
        })
    }
}

impl InForce {
    fn write(&self, wish: &Wish) -> Result<(), Refusal> {
        self.is_sensible(wish)?;
        let plan =
            self.plan_file.as_deref().ok_or_else(|| Refusal::read_only("配置不是从文件读取的 / no file"))?;
        // A link is followed: what it points to is replaced, not the link.
        let file = fs::canonicalize(plan).map_err(Refusal::read_only)?;
        let old = Disk.text(&file).map_err(Refusal::read_only)?;
        if name_of(&old) != wish.seen {
            return Err(Refusal::changed());
        }
        let new = insert(&old, &wish.device, &wish.zone).map_err(|text| Refusal {
            why: Why::Wrong,
            text,
            report: String::new(),
        })?;
        self.check(plan, &new, &wish.device.id)?;
        replace(&file, &old, &new)
    }

    /// What a person can be told better than the checker does.
    fn is_sensible(&self, wish: &Wish) -> Result<(), Refusal> {
        let device = &wish.device;
        let typed = |zh: &str, en: &str| Err(Refusal::new(Why::Typed, zh, en));
        let unfit = |text: &str| text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control);
        if device.name.is_empty() {
            return typed("请填写设备名称", "give the device a name");
        }
        if unfit(&device.name) || unfit(&device.place) {
            return typed(
                "名称和位置最多 60 个字，写在一行里",
                "a name or place has one line of 60 characters at most",
            );
        }
        if matches!(&wish.zone, Zone::New { name, .. } if name.is_empty() || unfit(name)) {
            return typed(
                "请填写新分区的名称（最多 60 个字）",
                "give the new zone a name of 60 characters at most",
            );
        }
        let id = DeviceId::parse(&device.id);
        if !id.is_ok_and(|id| PointId::new(&id, LINK_POINT).is_ok()) {
            return typed(
                "编号只能用小写字母、数字、- 和 _",
                "an id has lower-case letters, digits, - and _ only",
            );
        }
        if let Some((.., known)) = self.plan.device(&device.id) {
            return Err(Refusal::new(
                Why::Typed,
                format!("编号 {} 已经是“{}”：换一个", device.id, known.name),
                format!("the id {} is {} already: choose another", device.id, known.name),
            ));
        }
        if let Some(known) = self.planned(&wish.sender) {
            return Err(Refusal::new(
                Why::Changed,
                format!("这个地址已经接入为 {known}，没有再写一次"),
                format!("this address is {known} of the plan already; nothing was written"),
            ));
        }
        let Some(profile) = self.library.profiles.get(&*device.profile) else {
            return Err(Refusal::new(
                Why::Typed,
                format!("没有型号“{}”：请从列表里选", device.profile),
                format!("there is no model {:?}: choose one of the list", device.profile),
            ));
        };
        if super::guess::listens(profile, &wish.sender).is_none() {
            let topics: Vec<&str> = profile.topics().iter().map(|topic| topic.as_str()).collect();
            return Err(Refusal::new(
                Why::Typed,
                format!(
                    "型号 {} 只听主题 {}，听不到 {}：先改设备的主题，或换一个型号",
                    profile.id,
                    topics.join("、"),
                    wish.sender.topic
                ),
                format!(
                    "{} listens on {} and would not hear {}: change the device's topic, or choose another model",
                    profile.id,
                    topics.join(", "),
                    wish.sender.topic
                ),
            ));
        }
        Ok(())
    }

    /// Checks the whole configuration with the new plan in it, as `fengsui check` does.
    fn check(&self, plan: &Path, text: &str, id: &str) -> Result<(), Refusal> {
        let files = Changed { plan: Disk.place(plan), text };
        let env = |name: &str| std::env::var(name).ok();
        match Config::read(&self.gateway_file, &files, &env) {
            Ok((config, _)) if config.plan.device(id).is_some() => Ok(()),
            Ok(_) => Err(Refusal::changed()),
            Err(report) => {
                let first = report.problems.iter().find(|problem| !problem.warning);
                let first = first.map(|problem| problem.message.clone()).unwrap_or_default();
                let refusal = Refusal::new(
                    Why::Wrong,
                    format!("没有写入，因为配置会有 {} 个错误，第一个：{first}", report.errors()),
                    format!(
                        "nothing was written: the configuration would have {} errors, the first: {first}",
                        report.errors()
                    ),
                );
                Err(Refusal { report: report.render(Colour::No), ..refusal })
            }
        }
    }
}

/// The disk with another plan on it.
struct Changed<'t> {
    plan: PathBuf,
    text: &'t str,
}

impl Files for Changed<'_> {
    fn text(&self, path: &Path) -> io::Result<String> {
        if Disk.place(path) == self.plan { Ok(self.text.to_owned()) } else { Disk.text(path) }
    }

    fn models_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.models_below(folder)
    }

    fn place(&self, path: &Path) -> PathBuf {
        Disk.place(path)
    }
}

/// A name for what a text says.
fn name_of(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts the new text in the place of the old one in one step: after a power cut there is the old file or the new one, whole.
/// Mode and, as far as it may be, owner stay.
fn replace(file: &Path, old: &str, new: &str) -> Result<(), Refusal> {
    let failed = |error: io::Error| {
        Refusal::new(
            Why::Failed,
            format!("plan.toml 没有写成（{error}），原文件未动"),
            format!("plan.toml could not be written ({error}); the old file is untouched"),
        )
    };
    let metadata = fs::metadata(file).map_err(Refusal::read_only)?;
    if metadata.permissions().readonly() {
        return Err(Refusal::read_only("只读 / read-only"));
    }
    // Whoever may not write the file itself does not replace it either, whatever he may in the folder.
    drop(OpenOptions::new().append(true).open(file).map_err(Refusal::read_only)?);
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    // What a power cut left of an earlier one.
    fs::remove_file(&part).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(Refusal::read_only(error)),
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    let mut written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(Refusal::read_only)?;
    let done = (|| {
        written.write_all(new.as_bytes())?;
        if fchown(&written, Some(metadata.uid()), Some(metadata.gid())).is_err() {
            tracing::warn!(file = %file.display(), "the plan file belongs to the gateway's user now: it may give it to nobody else");
        }
        written.set_permissions(fs::Permissions::from_mode(mode))?;
        written.sync_all()?;
        // The last look before it: an editor may have saved meanwhile.
        if Disk.text(file)? != old {
            return Ok(false);
        }
        fs::rename(&part, file)?;
        Ok(true)
    })();
    if !matches!(done, Ok(true)) {
        fs::remove_file(&part).ok();
    }
    match done {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::changed()),
        Err(error) => return Err(failed(error)),
    }
    // The new name has to be on the disk as well. It is in force already: a failure here is no refusal.
    let folder = file.parent().unwrap_or(Path::new("."));
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::warn!(%error, folder = %folder.display(), "the folder of the plan file could not be synchronised");
    }
    tracing::info!(file = %file.display(), "a device was written into the plan file");
    Ok(())
}
