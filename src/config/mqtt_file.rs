//! Reads the MQTT links of `gateway.toml`: `[broker]` and `[[mqtt]]`. Every limit stands here, with its reason.

use super::gateway::{BrokerSettings, BrokerTls, BrokerUser, Login, MqttSettings, MqttTls, Secret};
use super::gateway_file::Reader;
use super::reader::Table;
use crate::model::LinkId;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Spanned;

/// mosquitto's `max_inflight_messages` when it is not set.
const INFLIGHT_WINDOW_DEFAULT: u16 = 20;
/// The protocol levels of MQTT 3.1.1 and MQTT 5, as they stand in CONNECT.
const PROTOCOL_3_1_1: i64 = 4;
const PROTOCOL_5: i64 = 5;
/// Topics beside those of the profiles. One filter covers a whole building; a list of a hundred is a plan in the wrong file.
const TOPICS_MAX: usize = 64;
/// MQTT allows 65 535 bytes; a broker of the field 128 levels and a few hundred bytes.
const TOPIC_BYTES_MAX: usize = 256;

impl Reader<'_> {
    pub(super) fn broker(&self, table: Table<'_>) -> Option<BrokerSettings> {
        let link = match table.text("name") {
            Some(_) => self.link(&table)?,
            None => self.unique_link(LinkId::parse("broker").ok()?, table.span.clone())?,
        };
        let tls_written = table.has("tls");
        let tls = table.table("tls").and_then(|tls| self.broker_tls(tls));
        // With TLS alone nobody listens in the clear.
        let listen = (table.has("listen") || !tls_written)
            .then(|| self.listen(&table, SocketAddr::from(([127, 0, 0, 1], 1883))));
        let anonymous = table.flag("anonymous").unwrap_or(false);
        let file = table.text("credentials_file");
        let users = file.as_ref().map_or_else(Vec::new, |file| self.broker_users(file));
        if file.is_none() && !anonymous {
            self.page.error(
                table.span.clone(),
                "谁可以连接？ / who may connect?",
                "credentials_file = \"broker.users\"（每行 user:password），或 / or anonymous = true",
            );
        }
        let mut everywhere = listen.into_iter().chain(tls.as_ref().map(|tls| tls.listen));
        if let Some(open) = everywhere.find(|at| anonymous && !at.ip().is_loopback()) {
            self.page.warning(
                table.span_of("anonymous"),
                format!("{open}：网络上任何人都能发布读数 / anybody on the network can publish readings"),
                "anonymous = false + credentials_file",
            );
        }
        let sparkplug_rebirth = table.flag("sparkplug_rebirth").unwrap_or(true);
        table.finish();
        let credentials_file = file.filter(|_| !anonymous).map(|file| self.path(file.get_ref()));
        Some(BrokerSettings { link, listen, tls, anonymous, users, credentials_file, sparkplug_rebirth })
    }

    fn broker_tls(&self, table: Table<'_>) -> Option<BrokerTls> {
        let listen = self.listen(&table, SocketAddr::from(([0, 0, 0, 0], 8883)));
        let cert = table.required("cert_file", "tls/broker.pem");
        let key = table.required("key_file", "tls/broker.key");
        let client_ca = table.text("client_ca_file");
        // The key is a secret: a backup leaves it out. What is in the files is looked at when the broker starts.
        for file in [&cert, &key].into_iter().flatten().chain(&client_ca) {
            drop(self.secret_text(file));
        }
        table.finish();
        Some(BrokerTls {
            listen,
            cert_file: self.path(cert?.get_ref()),
            key_file: self.path(key?.get_ref()),
            client_ca_file: client_ca.map(|file| self.path(file.get_ref())),
        })
    }

    fn broker_users(&self, file: &Spanned<&str>) -> Vec<BrokerUser> {
        let Some(text) = self.secret_text(file) else { return Vec::new() };
        let (users, wrong) = broker_users(&text);
        for at in wrong {
            // The line itself is not shown: it may hold a password.
            self.page.error(
                file.span(),
                format!("{} 第 {at} 行不是 user:password / line {at} is not", file.get_ref()),
                "每行一个 user:password 或 user:password:all / one user:password or user:password:all a line",
            );
        }
        users
    }

    pub(super) fn mqtt(&self, table: Table<'_>) -> Option<MqttSettings> {
        let link = self.link(&table);
        let url = self.url(&table, "mqtt://192.168.1.10:1883", &[("mqtt", 1883), ("mqtts", 8883)]);
        let protocol = table.integer("protocol", PROTOCOL_3_1_1..=PROTOCOL_5).map(Spanned::into_inner);
        let client_id = table.text("client_id").map(|id| (*id.get_ref()).to_owned());
        let user = table.text("user");
        let password_file = table.text("password_file").map(|file| self.path(file.get_ref()));
        let password = self.secret(&table, "password_file", "password_env");
        let window = table.integer("inflight_window", 1..=i64::from(u16::MAX));
        let window = window.and_then(|window| u16::try_from(window.into_inner()).ok());
        if user.is_none() && (table.has("password_file") || table.has("password_env")) {
            let help = "user = \"…\"";
            self.page.error(table.span.clone(), "有密码却没有用户 / a password without a user", help);
        }
        if user.is_some() && !(table.has("password_file") || table.has("password_env")) {
            let help = "password_file = \"…\" 或 / or password_env = \"…\"";
            self.page.error(table.span.clone(), "有用户却没有密码 / a user without a password", help);
        }
        let login =
            user.zip(password).map(|(user, password)| Login { user: (*user.get_ref()).to_owned(), password });
        let encrypted = url.as_ref().map(|url| url.scheme == "mqtts");
        let tls = self.mqtt_tls(&table, encrypted);
        let topics = self.topics(&table);
        let share = self.share(&table);
        let sparkplug_rebirth = table.flag("sparkplug_rebirth").unwrap_or(true);
        table.finish();
        let (link, url) = (link?, url?);
        let client_id = client_id.unwrap_or_else(|| format!("fengsui-{link}"));
        Some(MqttSettings {
            host: url.host,
            port: url.port,
            version_5: protocol == Some(PROTOCOL_5),
            tls: (encrypted == Some(true)).then_some(tls),
            client_id,
            login,
            password_file,
            inflight_window: window.unwrap_or(INFLIGHT_WINDOW_DEFAULT),
            topics,
            share,
            sparkplug_rebirth,
            link,
        })
    }

    /// The three files of certificates. `encrypted` is `None` when the url could not be read: then nothing is said of it.
    fn mqtt_tls(&self, table: &Table<'_>, encrypted: Option<bool>) -> MqttTls {
        let keys = ["ca_file", "client_cert_file", "client_key_file"];
        if encrypted == Some(false)
            && let Some(key) = keys.into_iter().find(|key| table.has(key))
        {
            let message = format!("{key} 只用于加密连接 / {key} is for encrypted connections only");
            self.page.error(table.span_of(key), message, "url = \"mqtts://…:8883\"");
        }
        let ca_file = self.pem(table, "ca_file", "CERTIFICATE");
        let certificate = self.pem(table, "client_cert_file", "CERTIFICATE");
        let key = self.pem(table, "client_key_file", "PRIVATE KEY");
        let (has_certificate, has_key) = (table.has("client_cert_file"), table.has("client_key_file"));
        if has_certificate != has_key {
            let missing = if has_key { "client_cert_file" } else { "client_key_file" };
            let message = "证书和密钥必须一起写 / a certificate needs its key, and a key its certificate";
            self.page.error(table.span.clone(), message, format!("{missing} = \"…\""));
        }
        MqttTls { ca_file, client: certificate.zip(key) }
    }

    /// A file in PEM that must hold a part of this kind. What is in the part is read when the link connects.
    fn pem(&self, table: &Table<'_>, key: &'static str, kind: &str) -> Option<PathBuf> {
        let file = table.text(key)?;
        // Certificates are no secret, but a backup that leaves one out leaves a box without its link.
        let text = self.secret_text(&file)?;
        let holds = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind));
        if !holds {
            let message = format!("{key} 里没有 {kind} / {key} holds no {kind}");
            let help = "PEM：以 -----BEGIN 开头 / a PEM file, beginning with -----BEGIN";
            self.page.error(file.span(), message, help);
        }
        Some(self.path(file.get_ref()))
    }

    fn topics(&self, table: &Table<'_>) -> Vec<String> {
        let mut topics: Vec<String> = Vec::new();
        for topic in table.texts("topics") {
            let text = *topic.get_ref();
            if let Some(fault) = filter_fault(text) {
                self.page.error(
                    topic.span(),
                    format!("不是主题过滤器 / {text:?} is no topic filter: {fault}"),
                    FILTER_HELP,
                );
            } else if topics.len() >= TOPICS_MAX {
                let message = format!("主题太多 / more than {TOPICS_MAX} topics");
                self.page.error(topic.span(), message, "用 + 或 # 合并 / join them with + or #");
                break;
            } else {
                topics.push(text.to_owned());
            }
        }
        topics
    }

    fn share(&self, table: &Table<'_>) -> Option<String> {
        let share = table.text("share")?;
        let name = *share.get_ref();
        if name.is_empty() || name.len() > TOPIC_BYTES_MAX || name.contains(['/', '+', '#', '\0']) {
            let message = format!("不能作为共享组名 / {name:?} cannot name a group");
            self.page.error(share.span(), message, "不含 / + # / without '/', '+' and '#': share = \"duty\"");
            return None;
        }
        let message = "每条消息只到组里的一台网关 / each message reaches only one gateway of the group";
        let help = "一台设备的读数会分散到几台网关，每台都看不全，隐患会漏报或重复；两台网关互为备份时不要共享，各自订阅 \
                    / the readings of one device are scattered, no gateway sees all of them. Two gateways for safety each \
                    subscribe on their own";
        self.page.warning(share.span(), message, help);
        Some(name.to_owned())
    }
}

const FILTER_HELP: &str = "例如 / for example: topics = [\"building-7/#\", \"site/+/device/+/up\"]";

/// What is wrong with a topic filter (MQTT 5, section 4.7); `None`: nothing.
fn filter_fault(filter: &str) -> Option<&'static str> {
    let levels = || filter.split('/');
    let mut above = levels().rev().skip(1);
    if filter.is_empty() {
        Some("空的 / it is empty")
    } else if filter.len() > TOPIC_BYTES_MAX {
        Some("太长 / it is too long")
    } else if filter.contains('\0') {
        Some("含有 NUL / it holds a NUL")
    } else if filter.starts_with("$share/") {
        Some("用 share = \"…\" / the key share is for that")
    } else if above.any(|level| level == "#") {
        Some("# 只能在最后 / '#' stands at the end only")
    } else if levels().any(|level| level.len() > 1 && level.contains(['+', '#'])) {
        Some("+ 和 # 必须单独占一层 / '+' and '#' stand alone between two '/'")
    } else {
        None
    }
}

/// The lines of a broker's credentials file, and the numbers of those that are none. A user is a device (topics with his
/// name as a level) unless his line ends in `:all`; `:device` may be written as well.
pub fn broker_users(text: &str) -> (Vec<BrokerUser>, Vec<usize>) {
    let (mut users, mut wrong) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (line, everything) = match line.rsplit_once(':') {
            Some((rest, "all")) if rest.contains(':') => (rest, true),
            Some((rest, "device")) if rest.contains(':') => (rest, false),
            _ => (line, false),
        };
        match line.split_once(':') {
            Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                let login = Login { user: user.to_owned(), password: Secret::new(password) };
                users.push(BrokerUser { login, everything });
            }
            _ => wrong.push(at + 1),
        }
    }
    (users, wrong)
}

#[cfg(test)]
mod tests {
    use super::filter_fault;
    use proptest::prelude::*;

    #[test]
    fn a_filter_has_its_wildcards_alone_and_the_hash_at_the_end() {
        for good in ["#", "+", "a", "a/b", "/", "a//b", "a/+/b/#", "+/+", "$SYS/#", "楼/三层/#"] {
            assert_eq!(filter_fault(good), None, "{good}");
        }
        for bad in ["", "a/#/b", "a#", "#a", "a+/b", "a/b+", "$share/g/a", "a\0b", &"x".repeat(300)] {
            assert!(filter_fault(bad).is_some(), "{bad} was taken");
        }
    }

    proptest! {
        #[test]
        fn a_filter_that_is_taken_has_no_wildcard_beside_a_letter(filter in "[ab+#/$]{0,12}") {
            if filter_fault(&filter).is_none() {
                let whole = format!("/{filter}/");
                let wildcards = whole.matches(['+', '#']).count();
                let alone = whole.split('/').filter(|level| matches!(*level, "+" | "#")).count();
                prop_assert_eq!(wildcards, alone);
                prop_assert!(filter.matches('#').count() == 0 || filter.find('#') == Some(filter.len() - 1));
            }
        }
    }
}
