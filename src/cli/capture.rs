//! `fengsui capture`: the frames of a running gateway, as they arrive, into a file. The gateway's own page hands them out;
//! the way in is a token in the data directory, so whoever may read that directory needs no password.

use super::check::EXIT_CONFIG;
use crate::capture::{End, Line};
use crate::config::Config;
use crate::config::render::Colour;
use crate::web::capture::token_file;
use anyhow::{Context, bail};
use clap::Args;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long the gateway may take to answer that it begins.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long it may say nothing at all: it writes an empty line every 5 s.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// The longest line: the largest message as base64, with its topic, four times over. More is no capture.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Writes frames as JSON lines. Ends by itself; Ctrl-C ends it early and leaves a whole file.
#[derive(Debug, Args)]
pub(super) struct Capture {
    /// The running gateway's configuration: its page and its data directory are found there.
    #[arg(long, default_value = "gateway.toml")]
    config: PathBuf,
    /// The file. Without it: standard output.
    #[arg(long)]
    out: Option<PathBuf>,
    /// At most so long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// At most so many frames.
    #[arg(long)]
    frames: Option<u64>,
    /// At most so many bytes; 16 MiB unless given.
    #[arg(long)]
    bytes: Option<u64>,
    /// Only frames of this link.
    #[arg(long)]
    link: Option<String>,
    /// Only frames of this planned device.
    #[arg(long)]
    device: Option<String>,
    /// Only messages on topics of this MQTT filter: `+` is one level, `#` the rest.
    #[arg(long)]
    topic: Option<String>,
}

impl Capture {
    /// Exit codes: 0 written, 64 the configuration is wrong, 1 it failed.
    #[expect(clippy::print_stderr, reason = "a person reads it in his terminal")]
    pub(super) fn run(&self) -> ExitCode {
        // Secrets are of no use here: one that is missing is no mistake.
        let env = |name: &str| std::env::var(name).ok().or_else(|| Some("-".to_owned()));
        let config = match Config::load(&self.config, &env) {
            Ok((config, _)) => config,
            Err(report) => {
                eprintln!("{}", report.render(Colour::No));
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let written = runtime
            .context("cannot start the runtime")
            .and_then(|runtime| runtime.block_on(self.write(&config)));
        match written {
            Ok(End { end, frames, dropped }) => {
                eprintln!("{frames} 条报文（{}）/ {frames} frames ({end})", zh(&end));
                if dropped > 0 {
                    eprintln!(
                        "来不及写而漏掉 {dropped} 条 / {dropped} frames were missed: the file was written too slowly"
                    );
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("抓包失败 / the capture failed: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    async fn write(&self, config: &Config) -> anyhow::Result<End> {
        let Some(listen) = config.gateway.web_listen else {
            bail!("gateway.toml 里的 [web] 已关闭，无法抓包 / [web] is switched off, and a capture needs it");
        };
        let file = token_file(&config.gateway.journal.dir);
        let token = fs::read_to_string(&file).with_context(|| {
            let path = file.display();
            format!(
                "读不了 {path}：网关启动时写它，用运行网关的账号（或 root）执行本命令 / cannot read {path}: the gateway writes it when it starts; run this as the gateway's account or as root"
            )
        })?;
        let answer = self.ask(listen, token.trim()).await?;
        let Some(path) = &self.out else {
            let mut out = io::stdout().lock();
            return copy(answer, &mut out).await;
        };
        // Under another name until it is whole, so that nobody takes a half one for all.
        let mut part: OsString = path.clone().into();
        part.push(".part");
        let part = PathBuf::from(part);
        let named = || path.display().to_string();
        let mut out = BufWriter::new(File::create(&part).with_context(named)?);
        let end = copy(answer, &mut out).await?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&part, path).with_context(named)?;
        Ok(end)
    }

    async fn ask(&self, listen: SocketAddr, token: &str) -> anyhow::Result<reqwest::Response> {
        // Every TLS user shares one provider; a second call only says that there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = format!("http://{}/api/v1/capture", reachable(listen));
        let number = |name, value: Option<u64>| value.map(|value| (name, value.to_string()));
        let text = |name, value: &Option<String>| value.clone().map(|value| (name, value));
        let order = [
            number("seconds", Some(self.seconds)),
            number("frames", self.frames),
            number("bytes", self.bytes),
            text("link", &self.link),
            text("device", &self.device),
            text("topic", &self.topic),
        ];
        let order: Vec<(&str, String)> = order.into_iter().flatten().collect();
        let client =
            reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_WITHIN).read_timeout(SILENT_MAX);
        let answer =
            client.build()?.get(&url).query(&order).bearer_auth(token).send().await.with_context(|| {
                format!("网关没有应答，它在运行吗？ / no answer from {url}: is the gateway running?")
            })?;
        let status = answer.status();
        if !status.is_success() {
            let why: serde_json::Value =
                serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or_default();
            let words =
                |key: &str| why.get(key).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
            bail!("{status} {} / {}", words("message_zh"), words("message_en"));
        }
        Ok(answer)
    }
}

/// Where the page is reached from the box itself.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Copies whole lines until the last one; Ctrl-C writes a last line of our own.
async fn copy(mut answer: reqwest::Response, out: &mut dyn Write) -> anyhow::Result<End> {
    let (mut waiting, mut frames) = (Vec::new(), 0);
    loop {
        let chunk = tokio::select! {
            chunk = answer.chunk() => chunk?,
            _ = tokio::signal::ctrl_c() => {
                let end = End { end: "interrupted".into(), frames, dropped: 0 };
                writeln!(out, "{}", end.to_line())?;
                return Ok(end);
            }
        };
        let Some(chunk) = chunk else { bail!("网关中断了连接 / the gateway broke off") };
        waiting.extend_from_slice(&chunk);
        while let Some(length) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=length).collect();
            let Ok(text) = std::str::from_utf8(&line) else { bail!("不是文本 / the answer is no text") };
            let text = text.trim();
            if text.is_empty() {
                out.flush()?;
                continue;
            }
            out.write_all(text.as_bytes())?;
            out.write_all(b"\n")?;
            match Line::parse(text) {
                Ok(Line::End(end)) => {
                    out.flush()?;
                    return Ok(end);
                }
                Ok(Line::Frame(_)) => frames += 1,
                Err(error) => bail!("{error}"),
            }
        }
        if io::stdout().is_terminal() {
            out.flush()?;
        }
        if waiting.len() > LINE_BYTES_MAX {
            bail!("一行太长 / a line is too long");
        }
    }
}

/// Why it ended.
fn zh(end: &str) -> &str {
    match end {
        "seconds" => "时间到",
        "frames" => "条数到",
        "bytes" => "大小到",
        "stopped" => "网关停止",
        "interrupted" => "已中断",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_listens_everywhere_is_reached_on_the_box() {
        for (listen, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
