//! JOURNAL → WORLD: one post of line protocol, and what its answer means.

use super::line::Line;
use super::{InfluxSettings, Way, refusal};
use crate::model::{Text, Timestamp};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER};
use std::io::Write;
use std::time::Duration;

/// How much of a refusal is read. The reason stands at its beginning.
const REASON_BYTES_MAX: usize = 2048;

/// The longest pause that a server may ask for: a mistaken header must not silence a sink for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What the server made of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has it.
    Accepted,
    /// Something in it is wrong, and will be every time. The rest of it may be stored or not.
    Refused(String),
    /// Too much at once.
    TooLarge(String),
    /// Not now.
    Later {
        reason: Text,
        /// The pause that the server asks for.
        after: Option<Duration>,
        /// A smaller post might have passed: it was too slow, or fell over.
        busy: bool,
    },
}

/// The way to one server.
pub(super) struct Delivery {
    client: reqwest::Client,
    url: String,
    query: Vec<(&'static str, String)>,
    login: Login,
    gzip: bool,
}

enum Login {
    None,
    Token(String),
    Password { user: String, password: String },
}

impl Delivery {
    pub(super) fn new(settings: &InfluxSettings) -> Result<Self, reqwest::Error> {
        // Already installed by whoever was first; both are the same provider.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let (path, mut query, login) = match &settings.way {
            Way::V2 { org, bucket, token } => {
                let query = vec![("org", org.clone()), ("bucket", bucket.clone())];
                ("/api/v2/write", query, token.clone().map_or(Login::None, Login::Token))
            }
            Way::V1 { database, retention_policy, login } => {
                let mut query = vec![("db", database.clone())];
                query.extend(retention_policy.clone().map(|policy| ("rp", policy)));
                let login = login.clone().map(|(user, password)| Login::Password { user, password });
                ("/write", query, login.unwrap_or(Login::None))
            }
        };
        query.push(("precision", "ms".to_owned()));
        let url = format!("{}{path}", settings.url.trim_end_matches('/'));
        Ok(Self { client, url, query, login, gzip: settings.gzip })
    }

    pub(super) async fn post(&self, lines: &[Line]) -> Verdict {
        match self.send(lines).await {
            Ok((204, ..)) => Verdict::Accepted,
            // A store has nothing to say; the page of a captive portal, or of whoever else answers there, is no store.
            Ok((200, _, text)) if text.is_empty() => Verdict::Accepted,
            Ok((status, after, reason)) => classify(status, after.as_deref(), &reason, &self.url),
            Err((reason, busy)) => Verdict::Later { reason, after: None, busy },
        }
    }

    /// The server's own time, from the head of an answer, whatever that answers; `None`: it does not say.
    pub(super) async fn their_time(&self) -> Result<Option<Timestamp>, Text> {
        let answer = self.client.head(&self.url).send().await.map_err(|error| self.unreachable(&error))?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
            Some(Timestamp::from_millis(date.as_millisecond()))
        }))
    }

    /// Status, Retry-After and the beginning of the answer's text; or why there is none, and whether it was slow.
    async fn send(&self, lines: &[Line]) -> Result<(u16, Option<String>, String), (Text, bool)> {
        let text = lines.iter().map(|line| line.text.as_str()).collect::<String>().into_bytes();
        let mut post = self.client.post(&self.url).query(&self.query);
        post = post.header(CONTENT_TYPE, "text/plain; charset=utf-8");
        post = match &self.login {
            Login::None => post,
            Login::Token(token) => post.header(AUTHORIZATION, format!("Token {token}")),
            Login::Password { user, password } => post.basic_auth(user, Some(password)),
        };
        if self.gzip {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            let body = packed.write_all(&text).and_then(|()| packed.finish());
            let body = body.map_err(|error| (Text::new(&error.to_string(), &error.to_string()), false))?;
            post = post.header(CONTENT_ENCODING, "gzip").body(body);
        } else {
            post = post.body(text);
        }
        let answer = post.send().await;
        let mut answer = answer.map_err(|error| (self.unreachable(&error), error.is_timeout()))?;
        let after =
            answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok().map(str::to_owned));
        let mut reason = Vec::new();
        if answer.status().as_u16() != 204 {
            while reason.len() < REASON_BYTES_MAX {
                let Ok(Some(more)) = answer.chunk().await else { break };
                reason.extend_from_slice(&more);
            }
            reason.truncate(REASON_BYTES_MAX);
        }
        Ok((answer.status().as_u16(), after, String::from_utf8_lossy(&reason).trim().to_owned()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Text {
        use std::error::Error;
        let (late_zh, late_en) = if error.is_timeout() {
            ("：超时无应答", ": no answer within the time-out")
        } else {
            ("", "")
        };
        let mut causes = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push_str(&format!(": {error}"));
            cause = error.source();
        }
        let url = &self.url;
        Text::new(
            &format!("连不上 {url}{late_zh}{causes}"),
            &format!("cannot post to {url}{late_en}{causes}"),
        )
    }
}

fn classify(status: u16, retry_after: Option<&str>, reason: &str, url: &str) -> Verdict {
    let colon = if reason.is_empty() { "" } else { ": " };
    let later = |zh: &str, en: &str| Verdict::Later {
        reason: Text::new(
            &format!("{url} 应答 {status}：{zh}{colon}{reason}"),
            &format!("{url} answered {status}: {en}{colon}{reason}"),
        ),
        after: retry_after
            .and_then(|text| text.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
        busy: status >= 500 || status == 408,
    };
    match status {
        400 | 422 => Verdict::Refused(reason.to_owned()),
        // InfluxDB 2.0 answers 500 when it stored all but some lines.
        _ if refusal::is_partial(reason) => Verdict::Refused(reason.to_owned()),
        413 => Verdict::TooLarge(reason.to_owned()),
        401 | 403 => later(
            "登录被拒：请检查令牌或用户密码及其写入权限",
            "it refuses the sign-in; check the token, or the user and the password, and that they may write here",
        ),
        404 => later(
            "目标不存在：请检查地址、组织、存储桶或数据库名",
            "it does not know the place; check the address, the organisation and the bucket, or the database",
        ),
        200 => later(
            "应答是一个网页而不是数据库的：请检查地址，或网络是否要先登录认证",
            "that is somebody's page and no store's answer; check the address, and whether the network wants a sign-in first",
        ),
        429 => later("请求太频繁", "it is asked too often"),
        300..400 => later(
            "地址已转移：请在配置中写最终地址",
            "it points elsewhere; write the final address into the configuration",
        ),
        // InfluxDB 1 answers 500 for a retention policy that does not exist.
        _ if reason.contains("retention policy not found") => {
            later("没有这个保留策略：请检查 retention_policy", "check retention_policy")
        }
        _ => later("暂时不能接收", "it cannot take it now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_will_never_pass_is_refused() {
        let classify = |status, after| classify(status, after, "why", "http://db");
        for status in [400, 422] {
            assert_eq!(classify(status, None), Verdict::Refused("why".to_owned()));
        }
        let some = "partial write: points beyond retention policy dropped=1";
        assert!(matches!(super::classify(500, None, some, "http://db"), Verdict::Refused(_)));
        assert_eq!(classify(413, None), Verdict::TooLarge("why".to_owned()));
        for (status, expected) in [
            (200, false),
            (301, false),
            (401, false),
            (403, false),
            (404, false),
            (408, true),
            (409, false),
            (418, false),
            (429, false),
            (500, true),
            (502, true),
            (503, true),
            (504, true),
        ] {
            match classify(status, None) {
                Verdict::Later { after: None, busy, .. } => assert_eq!(busy, expected, "{status}"),
                other => panic!("{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_pause_that_is_asked_for_is_kept_within_reason() {
        let after = |text| match classify(429, Some(text), "", "http://db") {
            Verdict::Later { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("86400"), Some(RETRY_AFTER_MAX));
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None, "then our own pause");
    }
}
