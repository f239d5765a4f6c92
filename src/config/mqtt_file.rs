//! Reads the MQTT links of `gateway.toml`: `[broker]` and `[[mqtt]]`. Every limit stands here, with its reason.

use super::gateway::{BrokerSettings, Login, MqttSettings, Secret};
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
        let listen = self.listen(&table, SocketAddr::from(([127, 0, 0, 1], 1883)));
        let anonymous = table.flag("anonymous").unwrap_or(false);
        let file = table.text("credentials_file");
        let logins = file.as_ref().map_or_else(Vec::new, |file| self.logins(file));
        if file.is_none() && !anonymous {
            self.page.error(
                table.span.clone(),
                "谁可以连接？ / who may connect?",
                "credentials_file = \"broker.users\"（每行 user:password），或 / or anonymous = true",
            );
        }
        if anonymous && !listen.ip().is_loopback() {
            self.page.warning(
                table.span_of("anonymous"),
                format!("{listen}：网络上任何人都能发布读数 / anybody on the network can publish readings"),
                "anonymous = false + credentials_file",
            );
        }
        let sparkplug_rebirth = table.flag("sparkplug_rebirth").unwrap_or(true);
        table.finish();
        Some(BrokerSettings { link, listen, anonymous, logins, sparkplug_rebirth })
    }

    fn logins(&self, file: &Spanned<&str>) -> Vec<Login> {
        let Some(text) = self.secret_text(file) else { return Vec::new() };
        let mut logins: Vec<Login> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                    logins.push(Login { user: user.to_owned(), password: Secret::new(password) });
                }
                // The line itself is not shown: it may hold a password.
                _ => self.page.error(
                    file.span(),
                    format!("{} 第 {} 行不是 user:password / line {} is not", file.get_ref(), at + 1, at + 1),
                    "每行一个 user:password / one user:password a line",
                ),
            }
        }
        logins
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
        let sparkplug_rebirth = table.flag("sparkplug_rebirth").unwrap_or(true);
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
            sparkplug_rebirth,
            link,
        })
    }
}
