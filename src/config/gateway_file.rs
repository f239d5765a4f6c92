//! Reads `gateway.toml` into [`Gateway`]. Every limit and default is written here, with its reason.

use super::gateway::{BackupSettings, Gateway, JournalSettings, LogFormat, Secret};
use super::reader::{Page, Table};
use super::{Env, Files};
use crate::model::{LinkId, Problem, Span};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// How long readings are gathered, ms. A commit costs about 13 kB of flash whatever is in it: one a second is
/// 1.1 GB a day, ten a second would wear a small card out in a year. Hazards and commands never wait for it.
const COMMIT_WINDOW_MS_DEFAULT: i64 = 1000;
const COMMIT_WINDOW_MS_MIN: i64 = 10;
const COMMIT_WINDOW_MS_MAX: i64 = 10_000;
/// The journal's folder, beside gateway.toml.
const JOURNAL_DIR_DEFAULT: &str = "journal";
/// The database, MiB. 64 is the least that holds a day of a small site; 1 TiB is beyond any box this runs on.
const JOURNAL_MIB_DEFAULT: i64 = 2048;
const JOURNAL_MIB_MIN: i64 = 64;
const JOURNAL_MIB_MAX: i64 = 1024 * 1024;
/// Ten years.
const KEEP_DAYS_MAX: i64 = 3650;
/// A backup at most every hour (one of 2 GiB takes minutes) and at least every 31 days.
const BACKUP_HOURS_MAX: i64 = 31 * 24;
/// A week of daily backups; as many as a stick of 128 GB holds of the smallest.
const BACKUP_KEEP_DEFAULT: i64 = 7;
const BACKUP_KEEP_MAX: i64 = 1000;
/// Each link has a device `link-<name>` in the plan, whose id has at most 64 characters.
const LINK_NAME_MAX: usize = crate::model::id::ID_LENGTH_MAX - "link-".len();

/// What gateway.toml stands among: its folder, the other files, the environment.
pub(super) struct Surroundings<'a> {
    pub(super) folder: &'a Path,
    pub(super) files: &'a dyn Files,
    pub(super) env: Env<'a>,
}

/// What could be read of gateway.toml, so that the plan can be checked in the same run.
pub(super) struct Parsed {
    pub(super) gateway: Gateway,
    /// False when a link could not be read: a device that names an unknown link is then no news.
    pub(super) complete: bool,
}

/// Reads gateway.toml. `None` only when it is no TOML at all.
pub(super) fn parse(
    file: &str,
    text: &str,
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Parsed> {
    let page = Page::new(file);
    let parsed = page.parse(text, |root| {
        let (names, secret_files, folders) = Default::default();
        Reader { around, page: &page, names, secret_files, folders }.gateway(root)
    });
    problems.extend(page.into_problems());
    parsed
}

pub(super) struct Reader<'a> {
    around: &'a Surroundings<'a>,
    pub(super) page: &'a Page,
    /// Link names and store names seen so far.
    names: RefCell<Vec<String>>,
    /// Files of secrets named so far.
    secret_files: RefCell<Vec<PathBuf>>,
    /// The folders of sinks seen so far, where they really are, with the sinks' names.
    pub(super) folders: RefCell<Vec<(PathBuf, String)>>,
}

impl Reader<'_> {
    fn gateway(&self, root: &Table<'_>) -> Parsed {
        let plan = root.required("plan", "plan.toml").map_or("plan.toml", Spanned::into_inner);
        let profiles_dir = root.text("profiles_dir").map(|dir| self.path(dir.get_ref()));
        let window = root.table("commit").map(|commit| {
            let window = commit.integer("window_ms", COMMIT_WINDOW_MS_MIN..=COMMIT_WINDOW_MS_MAX);
            commit.finish();
            window
        });
        let window = window.flatten().map_or(COMMIT_WINDOW_MS_DEFAULT, Spanned::into_inner);
        let broker_table = root.table("broker");
        let mqtt_tables = root.tables("mqtt");
        let modbus_tables = root.tables("modbus");
        let push_tables = root.tables("push");
        let links_written =
            usize::from(broker_table.is_some()) + mqtt_tables.len() + modbus_tables.len() + push_tables.len();
        let web_listen = self.web(root.table("web"));
        let journal = self.journal(root.table("journal"));
        let folder = root.tables("folder").into_iter();
        let gateway = Gateway {
            file: PathBuf::from(&*self.page.file),
            plan_file: self.path(plan),
            profiles_dir,
            series: super::series_table::read(root.table("series")),
            web_listen,
            broker: broker_table.and_then(|table| self.broker(table)),
            mqtt: mqtt_tables.into_iter().filter_map(|table| self.mqtt(table)).collect(),
            modbus: self.all_modbus(modbus_tables),
            push: push_tables.into_iter().filter_map(|table| self.push(table, web_listen)).collect(),
            influx: root.tables("influx").into_iter().filter_map(|table| self.influx(table)).collect(),
            folder: folder.filter_map(|table| self.folder(table, &journal.dir)).collect(),
            journal,
            name: self.gateway_name(root),
            backup: root.table("backup").and_then(|table| self.backup(table)),
            secret_files: self.secret_files.take(),
            commit_window: Span::from_millis(window),
            log: self.log(root.table("log")),
        };
        let complete = gateway.links().count() == links_written;
        Parsed { gateway, complete }
    }

    /// Where a path leads, however it is spelt.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.around.files.place(path)
    }

    /// A relative path is relative to the folder of gateway.toml.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.around.folder.join(text)
    }

    fn journal(&self, table: Option<Table<'_>>) -> JournalSettings {
        let mut journal = JournalSettings {
            dir: self.path(JOURNAL_DIR_DEFAULT),
            size_max_bytes: mib(JOURNAL_MIB_DEFAULT),
            keep: None,
        };
        let Some(table) = table else { return journal };
        if let Some(dir) = table.text("dir") {
            journal.dir = self.path(dir.get_ref());
        }
        if let Some(size) = table.integer("size_max_mib", JOURNAL_MIB_MIN..=JOURNAL_MIB_MAX) {
            journal.size_max_bytes = mib(size.into_inner());
        }
        journal.keep = table
            .integer("keep_days", 1..=KEEP_DAYS_MAX)
            .map(|days| Span::from_secs(days.into_inner() * 86_400));
        table.finish();
        journal
    }

    fn web(&self, table: Option<Table<'_>>) -> Option<SocketAddr> {
        let default = SocketAddr::from(([127, 0, 0, 1], 8080));
        let Some(table) = table else { return Some(default) };
        let enabled = table.flag("enabled").unwrap_or(true);
        let listen = self.listen(&table, default);
        table.finish();
        enabled.then_some(listen)
    }

    fn backup(&self, table: Table<'_>) -> Option<BackupSettings> {
        let dir = table.required("dir", "/media/usb/fengsui").map(|dir| self.path(dir.get_ref()));
        let every = table.integer("every_hours", 1..=BACKUP_HOURS_MAX);
        let keep =
            table.integer("keep", 1..=BACKUP_KEEP_MAX).map_or(BACKUP_KEEP_DEFAULT, Spanned::into_inner);
        table.finish();
        Some(BackupSettings {
            dir: dir?,
            every: every.map(|hours| Span::from_secs(hours.into_inner() * 3600)),
            keep: usize::try_from(keep).unwrap_or(1),
        })
    }

    pub(super) fn listen(&self, table: &Table<'_>, default: SocketAddr) -> SocketAddr {
        let Some(text) = table.text("listen") else { return default };
        text.get_ref().parse().unwrap_or_else(|_| {
            self.page.error(
                text.span(),
                format!("不是 地址:端口 / {:?} is no address and port", text.get_ref()),
                format!("例如 / for example: listen = \"{default}\""),
            );
            default
        })
    }

    fn log(&self, table: Option<Table<'_>>) -> LogFormat {
        let Some(table) = table else { return LogFormat::default() };
        let format = match table.text("format") {
            None => LogFormat::default(),
            Some(text) => match *text.get_ref() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => {
                    let message = format!("未知的日志格式 / unknown log format {other:?}");
                    self.page.error(text.span(), message, "format = \"text\" | \"json\"");
                    LogFormat::default()
                }
            },
        };
        table.finish();
        format
    }

    pub(super) fn link(&self, table: &Table<'_>) -> Option<LinkId> {
        let id: Spanned<LinkId> = table.id("name", "hall")?;
        let span = id.span();
        self.unique_link(id.into_inner(), span)
    }

    pub(super) fn unique_link(&self, link: LinkId, span: Range<usize>) -> Option<LinkId> {
        if link.as_str().len() > LINK_NAME_MAX {
            let message = format!("名称太长 / {link} is longer than {LINK_NAME_MAX} characters");
            self.page.error(span, message, "");
            return None;
        }
        self.unique(link.to_string(), span).map(|_| link)
    }

    pub(super) fn unique(&self, name: String, span: Range<usize>) -> Option<String> {
        if self.names.borrow().contains(&name) {
            let message = format!("名称重复 / the name {name:?} is used twice");
            self.page.error(span, message, "每个连接一个名称 / one name for each connection: name = \"…\"");
            return None;
        }
        self.names.borrow_mut().push(name.clone());
        Some(name)
    }

    pub(super) fn url(
        &self,
        table: &Table<'_>,
        example: &str,
        schemes: &[(&'static str, u16)],
    ) -> Option<Url> {
        let text = table.required("url", example)?;
        let url = Url::parse(text.get_ref(), schemes);
        if url.is_none() {
            self.page.error(
                text.span(),
                format!("看不懂的地址 / {:?} is no address of this kind", text.get_ref()),
                format!("例如 / for example: url = {example:?}；密码不写在这里 / no password in it"),
            );
        }
        url
    }

    /// A secret from a file or from the environment; both keys together are an error.
    pub(super) fn secret(
        &self,
        table: &Table<'_>,
        file_key: &'static str,
        env_key: &'static str,
    ) -> Option<Secret> {
        let (file, variable) = (table.text(file_key), table.text(env_key));
        match (file, variable) {
            (None, None) => None,
            (Some(_), Some(variable)) => {
                let message =
                    format!("{file_key} 和 {env_key} 只能写一个 / only one of the two may be given");
                self.page.error(variable.span(), message, "");
                None
            }
            (Some(file), None) => {
                let text = self.secret_text(&file)?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    self.page.error(file.span(), "这个文件是空的 / this file is empty", "");
                    return None;
                }
                Some(Secret::new(text))
            }
            (None, Some(variable)) => {
                let name = *variable.get_ref();
                let value = (self.around.env)(name).filter(|value| !value.is_empty());
                if value.is_none() {
                    self.page.error(
                        variable.span(),
                        format!("环境变量没有设置 / the environment variable {name} is not set"),
                        format!("{name}=… fengsui run"),
                    );
                }
                value.map(|value| Secret::new(&value))
            }
        }
    }

    pub(super) fn secret_text(&self, file: &Spanned<&str>) -> Option<String> {
        let path = self.path(file.get_ref());
        self.secret_files.borrow_mut().push(path.clone());
        match self.around.files.text(&path) {
            Ok(text) => Some(text),
            Err(error) => {
                let message = format!("读不了 {} / cannot read it: {error}", path.display());
                self.page.error(file.span(), message, "");
                None
            }
        }
    }
}

pub(super) const fn mib(count: i64) -> u64 {
    count.unsigned_abs() * 1024 * 1024
}

/// `scheme://host[:port]`, nothing more: no user, no password, no path.
#[derive(Debug, PartialEq)]
pub(super) struct Url {
    pub(super) scheme: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) text: String,
}

impl Url {
    fn parse(text: &str, schemes: &[(&'static str, u16)]) -> Option<Self> {
        let (written, rest) = text.split_once("://")?;
        let &(scheme, default_port) = schemes.iter().find(|(scheme, _)| *scheme == written)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An IPv6 address stands in brackets, because of its own colons.
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let strange = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
        if host.is_empty() || host.contains(strange) {
            return None;
        }
        let port = match port {
            None => default_port,
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        };
        Some(Self { scheme, host: host.to_owned(), port, text: text.trim_end_matches('/').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        let schemes = [("mqtt", 1883), ("mqtts", 8883)];
        let parse = |text: &str| Url::parse(text, &schemes).map(|url| (url.scheme, url.host, url.port));
        assert_eq!(parse("mqtt://hall"), Some(("mqtt", "hall".into(), 1883)));
        assert_eq!(parse("mqtts://10.0.0.1:1884/"), Some(("mqtts", "10.0.0.1".into(), 1884)));
        assert_eq!(parse("mqtt://[::1]:1885"), Some(("mqtt", "::1".into(), 1885)));
        for bad in [
            "hall",
            "tcp://hall",
            "mqtt://",
            "mqtt://a:b",
            "mqtt://a:0",
            "mqtt://u:p@hall:1",
            "mqtt://[::1]x",
        ] {
            assert_eq!(parse(bad), None, "{bad} was accepted");
        }
    }
}
