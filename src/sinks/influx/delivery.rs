//! JOURNAL → WORLD: one post of line protocol, and what its answer means.

use super::InfluxSettings;
use crate::metrics::Metrics;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
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
    /// Something in it is wrong; the same post will always be refused.
    Refused(String),
    /// Not now.
    Later { reason: String, after: Option<Duration> },
}

/// The way to one server.
pub(super) struct Delivery {
    client: reqwest::Client,
    url: String,
    query: [(&'static str, String); 3],
    token: Option<String>,
    gzip: bool,
}

impl Delivery {
    pub(super) fn new(settings: &InfluxSettings) -> Result<Self, reqwest::Error> {
        // Already installed by whoever was first; both are the same provider.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            client,
            url: format!("{}/api/v2/write", settings.url.trim_end_matches('/')),
            query: [
                ("org", settings.org.clone()),
                ("bucket", settings.bucket.clone()),
                ("precision", "ms".to_owned()),
            ],
            token: settings.token.clone(),
            gzip: settings.gzip,
        })
    }

    pub(super) async fn post(&self, lines: &[String], metrics: &Metrics) -> Verdict {
        let verdict = match self.send(lines).await {
            Ok((204 | 200, ..)) => Verdict::Accepted,
            Ok((status, after, reason)) => classify(status, after.as_deref(), &reason, &self.url),
            Err(reason) => Verdict::Later { reason, after: None },
        };
        if matches!(verdict, Verdict::Later { .. }) {
            metrics.influx_retries.inc();
        }
        verdict
    }

    async fn send(&self, lines: &[String]) -> Result<(u16, Option<String>, String), String> {
        let text = lines.concat().into_bytes();
        let mut post = self.client.post(&self.url).query(&self.query);
        post = post.header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if let Some(token) = &self.token {
            post = post.header(AUTHORIZATION, format!("Token {token}"));
        }
        if self.gzip {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            let body = packed.write_all(&text).and_then(|()| packed.finish());
            post = post.header(CONTENT_ENCODING, "gzip").body(body.map_err(|error| error.to_string())?);
        } else {
            post = post.body(text);
        }
        let mut answer = post.send().await.map_err(|error| self.unreachable(&error))?;
        let after =
            answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok().map(str::to_owned));
        let mut reason = Vec::new();
        if !answer.status().is_success() {
            while reason.len() < REASON_BYTES_MAX {
                let Ok(Some(more)) = answer.chunk().await else { break };
                reason.extend_from_slice(&more);
            }
            reason.truncate(REASON_BYTES_MAX);
        }
        Ok((answer.status().as_u16(), after, String::from_utf8_lossy(&reason).trim().to_owned()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> String {
        use std::error::Error;
        let mut text = format!("cannot post to {}", self.url);
        let mut cause = error.source();
        if error.is_timeout() {
            text.push_str(": no answer within the time-out");
        }
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

fn classify(status: u16, retry_after: Option<&str>, reason: &str, url: &str) -> Verdict {
    let later = |what: &str| Verdict::Later {
        reason: format!(
            "{url} answered {status}: {what}{}{reason}",
            if reason.is_empty() { "" } else { ": " }
        ),
        after: retry_after
            .and_then(|text| text.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
    };
    match status {
        // 413: too much at once. In halves it may pass.
        400 | 413 | 422 => Verdict::Refused(reason.to_owned()),
        401 | 403 => later("it refuses the token; check the token and that it may write to the bucket"),
        404 => later("it does not know the place; check the address, the organisation and the bucket"),
        429 => later("it is asked too often"),
        300..400 => later("it points elsewhere; write the final address into the configuration"),
        _ => later("it cannot take it now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_will_never_pass_is_refused() {
        let classify = |status, after| classify(status, after, "why", "http://db");
        for status in [400, 413, 422] {
            assert_eq!(classify(status, None), Verdict::Refused("why".to_owned()));
        }
        for status in [301, 401, 403, 404, 408, 409, 418, 429, 500, 502, 503, 504] {
            assert!(matches!(classify(status, None), Verdict::Later { after: None, .. }), "{status}");
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
