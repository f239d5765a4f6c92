//! Reads the sinks of `gateway.toml`: `[[influx]]` and `[[folder]]`. Every limit stands here, with its reason.

use super::gateway::{FolderSettings, InfluxSettings, InfluxWay, Login};
use super::gateway_file::{Reader, mib};
use super::reader::Table;
use crate::model::{LinkId, Span};
use std::path::{Component, Path};
use toml::Spanned;

/// Lines a post. Below 50 each line's share of the post's own bytes is more than the line; 50 000 are 5 MB unpacked.
const BATCH_LINES_MIN: i64 = 50;
const BATCH_LINES_MAX: i64 = 50_000;
/// History, lines a second: at 10 a day's history of one reading a second takes two and a half hours. The top is no limit.
const BACKFILL_MIN: i64 = 10;
const BACKFILL_MAX: i64 = 1_000_000;
/// A hundred years, and ten.
const RETENTION_DAYS_MAX: i64 = 36_500;
const FUTURE_HOURS_MAX: i64 = 87_600;
/// One packed file, MiB: 16 hold about a million readings, and every machine can open that.
const FILE_MIB_DEFAULT: i64 = 16;
const FILE_MIB_MAX: i64 = 4000;
/// A file an hour; 0: at once, one for each commit, for a copy that is nearly live. An hour: 720 a month, and a stick that is pulled lacks the last hour at the most until it is back.
const FILE_MINUTES_DEFAULT: i64 = 60;
const FILE_MINUTES_MAX: i64 = 7 * 24 * 60;
/// Free space that is left, MiB: other people's files, and a file system that is not filled to its brim.
const KEEP_FREE_MIB_DEFAULT: i64 = 64;
const KEEP_FREE_MIB_MAX: i64 = 1024 * 1024;

impl Reader<'_> {
    /// What the gateway calls itself to others: part of file names and a tag in stores.
    pub(super) fn gateway_name(&self, root: &Table<'_>) -> Option<String> {
        let text = root.text("name")?;
        root.parse_id::<LinkId>("name", &text).map(|id| id.into_inner().to_string())
    }

    pub(super) fn influx(&self, table: Table<'_>) -> Option<InfluxSettings> {
        let name = self.sink_name(&table, "influx");
        let url = self.url(&table, "http://127.0.0.1:8086", &[("http", 80), ("https", 443)]);
        let way = match table.integer("version", 1..=2).map(Spanned::into_inner) {
            Some(1) => self.version_1(&table),
            _ => self.version_2(&table),
        };
        let lines = table.integer("batch_lines_max", BATCH_LINES_MIN..=BATCH_LINES_MAX);
        let backfill = table.integer("backfill_lines_per_second", BACKFILL_MIN..=BACKFILL_MAX);
        let days = table.integer("retention_days", 1..=RETENTION_DAYS_MAX);
        let hours = table.integer("future_max_hours", 1..=FUTURE_HOURS_MAX);
        table.finish();
        Some(InfluxSettings {
            name: name?,
            url: url?.text,
            way: way?,
            batch_lines_max: lines.and_then(|lines| usize::try_from(lines.into_inner()).ok()),
            backfill_lines_per_second: backfill.and_then(|lines| u32::try_from(lines.into_inner()).ok()),
            retention: days.map(|days| Span::from_secs(days.into_inner() * 86_400)),
            future_max: hours.map(|hours| Span::from_secs(hours.into_inner() * 3600)),
        })
    }

    fn version_1(&self, table: &Table<'_>) -> Option<InfluxWay> {
        let database = table.required("database", "telemetry");
        let retention_policy = table.text("retention_policy").map(|policy| (*policy.get_ref()).to_owned());
        let user = table.text("user");
        let password = self.secret(table, "password_file", "password_env");
        let has_password = table.has("password_file") || table.has("password_env");
        if user.is_some() != has_password {
            let message = "用户和密码要么都写，要么都不写 / a user and a password belong together";
            let help = "user = \"…\" + password_file = \"…\" | password_env = \"…\"";
            self.page.error(table.span.clone(), message, help);
            return None;
        }
        self.only_for(table, ["org", "bucket", "token_file", "token_env"], 2);
        let login =
            user.zip(password).map(|(user, password)| Login { user: (*user.get_ref()).to_owned(), password });
        Some(InfluxWay::V1 { database: (*database?.get_ref()).to_owned(), retention_policy, login })
    }

    fn version_2(&self, table: &Table<'_>) -> Option<InfluxWay> {
        let org = table.required("org", "fengsui");
        let bucket = table.required("bucket", "telemetry");
        let token = self.secret(table, "token_file", "token_env");
        self.only_for(table, ["database", "retention_policy", "user", "password_file"], 1);
        self.only_for(table, ["password_env"], 1);
        Some(InfluxWay::V2 {
            org: (*org?.get_ref()).to_owned(),
            bucket: (*bucket?.get_ref()).to_owned(),
            token,
        })
    }

    /// Refuses the keys of the other version, with the word that is missing.
    fn only_for<const N: usize>(&self, table: &Table<'_>, keys: [&'static str; N], version: u8) {
        for key in keys {
            if table.text(key).is_some() {
                let message =
                    format!("{key} 属于 version = {version} / {key} belongs to version = {version}");
                let help = format!("version = {version}，或删除这一行 / or remove this line");
                self.page.error(table.span_of(key), message, help);
            }
        }
    }

    /// `journal`: the data directory.
    pub(super) fn folder(&self, table: Table<'_>, journal: &Path) -> Option<FolderSettings> {
        let name = self.sink_name(&table, "folder");
        let dir = table.required("dir", "/media/fengsui");
        if let (Some(dir), Some(name)) = (&dir, &name) {
            self.own_folder(dir, name, journal);
        }
        let dir = dir.map(|dir| self.path(dir.get_ref()));
        let require = table.text("require");
        let mut parts = Path::new(require.as_ref().map_or("x", |file| file.get_ref())).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if let (Some(file), false) = (&require, plain) {
            let message = "这里要一个文件名 / this must be the name of a file, without a folder";
            self.page.error(file.span(), message, "require = \"FENGSUI\"");
        }
        let size = table.integer("file_max_mib", 1..=FILE_MIB_MAX);
        let minutes = table.integer("file_minutes", 0..=FILE_MINUTES_MAX);
        let free = table.integer("keep_free_mib", 1..=KEEP_FREE_MIB_MAX);
        table.finish();
        let or = |value: Option<Spanned<i64>>, default: i64| value.map_or(default, Spanned::into_inner);
        Some(FolderSettings {
            name: name?,
            dir: dir?,
            require: require.map(|file| (*file.get_ref()).to_owned()),
            file_max_bytes: mib(or(size, FILE_MIB_DEFAULT)),
            file_every: Span::from_secs(or(minutes, FILE_MINUTES_DEFAULT) * 60),
            keep_free_bytes: mib(or(free, KEEP_FREE_MIB_DEFAULT)),
        })
    }

    /// Refuses a folder that another sink fills, whose files this one would take for its own, and one in the data directory,
    /// which is the journal's alone.
    fn own_folder(&self, dir: &Spanned<&str>, name: &str, journal: &Path) {
        let place = self.place(&self.path(dir.get_ref()));
        if place.starts_with(self.place(journal)) {
            let message =
                format!("目录在日志的数据目录里 / it lies in the journal's folder: {}", place.display());
            let help = "换成 U 盘或别的目录，数据目录只归日志用 / a stick or another folder; that one is the journal's: dir = \"/media/fengsui\"";
            self.page.error(dir.span(), message, help);
        }
        let mut folders = self.folders.borrow_mut();
        if let Some((_, other)) = folders.iter().find(|(taken, _)| *taken == place) {
            let message =
                format!("目录已被 {other} 使用 / the folder of {other:?} already: {}", place.display());
            let help = "每个 [[folder]] 一个目录 / a folder of its own for each [[folder]]: dir = \"…\"";
            self.page.error(dir.span(), message, help);
        }
        folders.push((place, name.to_owned()));
    }

    /// The sink's name, which no link and no other sink may have.
    fn sink_name(&self, table: &Table<'_>, default: &str) -> Option<String> {
        let name = match table.text("name") {
            Some(text) => table.parse_id::<LinkId>("name", &text)?.into_inner().to_string(),
            None => default.to_owned(),
        };
        self.unique(name, table.span_of("name"))
    }
}
