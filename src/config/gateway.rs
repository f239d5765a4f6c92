//! What `gateway.toml` says, checked: links, journal, web, sinks. `gateway_file.rs` reads it.

use super::modbus_file::ModbusSettings;
use super::push_table::PushSettings;
use super::series_table::SeriesSettings;
use crate::model::{LinkId, Span};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Something that must never be printed, logged or stored: a password, a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself. Every call of this is a place to look at in a review.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The settings of one gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// `gateway.toml` itself, as it was named.
    pub file: PathBuf,
    /// The site plan's file, resolved against the folder of `gateway.toml`.
    pub plan_file: PathBuf,
    /// The folder of additional device profiles, resolved likewise.
    pub profiles_dir: Option<PathBuf>,
    /// Where everything that happened is kept.
    pub journal: JournalSettings,
    /// How long the time series is kept in which detail.
    pub series: SeriesSettings,
    /// Where the duty-room page listens; `None`: `[web] enabled = false`.
    pub web_listen: Option<SocketAddr>,
    /// The embedded MQTT broker, if there is one.
    pub broker: Option<BrokerSettings>,
    /// Connections to other MQTT brokers.
    pub mqtt: Vec<MqttSettings>,
    /// Modbus buses.
    pub modbus: Vec<ModbusSettings>,
    /// Platforms that post over HTTP.
    pub push: Vec<PushSettings>,
    /// Time-series stores to write to.
    pub influx: Vec<InfluxSettings>,
    /// Folders to write files to.
    pub folder: Vec<FolderSettings>,
    /// What the gateway calls itself to others; `None`: as its machine is called.
    pub name: Option<String>,
    /// Where backups go, and how often; `None`: only when somebody asks for one.
    pub backup: Option<BackupSettings>,
    /// Every file that holds a password or a token: a backup leaves them out unless it is told otherwise.
    pub secret_files: Vec<PathBuf>,
    /// How long ordinary readings may be gathered before they are committed together.
    pub commit_window: Span,
    /// How log lines look.
    pub log: LogFormat,
}

/// `[journal]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// The folder; made when it is missing.
    pub dir: PathBuf,
    /// The database never grows beyond this, bytes.
    pub size_max_bytes: u64,
    /// Entries older than this are dropped even when there is room; `None`: only the size counts.
    pub keep: Option<Span>,
}

/// `[backup]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSettings {
    /// The folder that backups are made in. It must be there: what is not mounted is not written to.
    pub dir: PathBuf,
    /// How often the running gateway makes one; `None`: only `fengsui backup` does.
    pub every: Option<Span>,
    /// How many are kept.
    pub keep: usize,
}

/// `[broker]`: devices connect to the gateway itself.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerSettings {
    /// The link its devices name; `broker` unless the file says otherwise.
    pub link: LinkId,
    /// Where it listens without TLS.
    pub listen: Option<SocketAddr>,
    /// `[broker.tls]`.
    pub tls: Option<BrokerTls>,
    /// Whether a device may connect without a password.
    pub anonymous: bool,
    /// Who may connect, as the credentials file says now.
    pub users: Vec<BrokerUser>,
    /// The credentials file; it is read again when it changes.
    pub credentials_file: Option<PathBuf>,
    /// Whether Sparkplug edge nodes may be asked for their births.
    pub sparkplug_rebirth: bool,
}

/// `[broker.tls]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerTls {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its certificate.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authority whose certificate clients must show.
    pub client_ca_file: Option<PathBuf>,
}

/// One line of the broker's credentials file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUser {
    /// Name and password.
    pub login: Login,
    /// `:all` at the end of the line: every topic. Otherwise those with the user's name as a level.
    pub everything: bool,
}

/// A user and his password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// His password.
    pub password: Secret,
}

/// `[[mqtt]]`: a broker somewhere else.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSettings {
    /// The link its devices name.
    pub link: LinkId,
    /// Name or address of the broker.
    pub host: String,
    /// 1883, or 8883 with TLS, unless the URL says otherwise.
    pub port: u16,
    /// Whether it is spoken to in MQTT 5, else in MQTT 3.1.1.
    pub version_5: bool,
    /// How an encrypted connection (`mqtts://`) is made; `None`: it is not encrypted.
    pub tls: Option<MqttTls>,
    /// The client id. Must be the same at every start: the broker keeps the session under this name.
    pub client_id: String,
    /// User and password, if the broker wants them.
    pub login: Option<Login>,
    /// The file that the password stands in, to be read again for each connection.
    pub password_file: Option<PathBuf>,
    /// How many unacknowledged QoS 1 messages the BROKER sends before it waits for us: its own setting
    /// (mosquitto `max_inflight_messages`, 20 unless set), and with MQTT 5 also what we ask for. The pipeline commits
    /// before so many are waiting.
    pub inflight_window: u16,
    /// Topic filters beside those of the profiles.
    pub topics: Vec<String>,
    /// The group of a shared subscription; `None`: every message comes to us.
    pub share: Option<String>,
    /// Whether Sparkplug edge nodes may be asked for their births: the only thing that is published besides the status.
    pub sparkplug_rebirth: bool,
}

/// The certificates of an encrypted connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MqttTls {
    /// PEM of the only authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM of our own certificate and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `[[influx]]`: one store that understands `/write` or `/api/v2/write`.
#[derive(Debug, Clone, PartialEq)]
pub struct InfluxSettings {
    /// Names its cursor in the journal: a renamed store starts again from the oldest entry.
    pub name: String,
    /// `http://host:8086`, without a path.
    pub url: String,
    /// How it is written to.
    pub way: InfluxWay,
    /// The most lines a post; `None`: the sink's own default.
    pub batch_lines_max: Option<usize>,
    /// Lines of history a second after an outage; `None`: the sink's own default.
    pub backfill_lines_per_second: Option<u32>,
    /// How far back the store keeps points; older ones are not sent.
    pub retention: Option<Span>,
    /// How far in the future it takes them.
    pub future_max: Option<Span>,
}

/// `version` of `[[influx]]`, with what it needs.
#[derive(Debug, Clone, PartialEq)]
pub enum InfluxWay {
    /// `version = 1`.
    V1 {
        /// The database.
        database: String,
        /// The retention policy; `None`: the database's default.
        retention_policy: Option<String>,
        /// User and password, if the store wants them.
        login: Option<Login>,
    },
    /// `version = 2`, also for InfluxDB 3 and VictoriaMetrics.
    V2 {
        /// The organisation.
        org: String,
        /// The bucket.
        bucket: String,
        /// The token, if the store wants one.
        token: Option<Secret>,
    },
}

/// `[[folder]]`: packed files in a folder, for a stick that is carried away or a copy by rsync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSettings {
    /// Names its cursor in the journal: a renamed folder starts again from the oldest entry.
    pub name: String,
    /// Where; it must exist, for an empty mount point must not be filled.
    pub dir: PathBuf,
    /// A file that must lie in it.
    pub require: Option<String>,
    /// A file is closed at this size, bytes.
    pub file_max_bytes: u64,
    /// A file is written at the latest when its oldest entry is this old.
    pub file_every: Span,
    /// Bytes that stay free there.
    pub keep_free_bytes: u64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Gateway {
    /// Every link that devices may name, in the order of the file.
    pub fn links(&self) -> impl Iterator<Item = (&LinkId, LinkKind)> {
        let broker = self.broker.iter().map(|broker| (&broker.link, LinkKind::Mqtt));
        let mqtt = self.mqtt.iter().map(|mqtt| (&mqtt.link, LinkKind::Mqtt));
        let modbus = self.modbus.iter().map(|modbus| (&modbus.link, LinkKind::Modbus));
        let push = self.push.iter().map(|push| (&push.link, LinkKind::Push));
        broker.chain(mqtt).chain(modbus).chain(push)
    }
}

/// What is spoken on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// MQTT, by the embedded broker or another.
    Mqtt,
    /// Modbus, on whatever wire.
    Modbus,
    /// A platform posts over HTTP. Its posts are messages on topics, as those of MQTT.
    Push,
}

impl LinkKind {
    /// Whether devices are told apart by topics.
    pub fn has_topics(self) -> bool {
        matches!(self, Self::Mqtt | Self::Push)
    }

    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "MQTT",
            Self::Modbus => "Modbus",
            Self::Push => "HTTP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let login = Login { user: "gw".into(), password: Secret::new("hunter2") };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
