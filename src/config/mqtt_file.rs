//! Reads the MQTT links of `gateway.toml`: `[broker]` and `[[mqtt]]`. Every limit stands here, with its reason.

use super::gateway::{BrokerSettings, BrokerTls, BrokerUser, Login, MqttSettings, Secret};
use super::gateway_file::Reader;
use super::reader::Table;
use crate::model::LinkId;
use std::net::SocketAddr;
use toml::Spanned;

/// mosquitto's `max_inflight_messages` when it is not set.
const INFLIGHT_WINDOW_DEFAULT: u16 = 20;

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
        table.finish();
        let credentials_file = file.filter(|_| !anonymous).map(|file| self.path(file.get_ref()));
        Some(BrokerSettings { link, listen, tls, anonymous, users, credentials_file })
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
        let client_id = table.text("client_id").map(|id| (*id.get_ref()).to_owned());
        let user = table.text("user");
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
        table.finish();
        let (link, url) = (link?, url?);
        let client_id = client_id.unwrap_or_else(|| format!("fengsui-{link}"));
        Some(MqttSettings {
            host: url.host,
            port: url.port,
            tls: url.scheme == "mqtts",
            client_id,
            login,
            inflight_window: window.unwrap_or(INFLIGHT_WINDOW_DEFAULT),
            link,
        })
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
