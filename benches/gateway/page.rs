//! The duty-room page, as a browser sees it: signed in, the counters, the live stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[derive(Clone)]
pub(crate) struct Page {
    address: SocketAddr,
    cookie: String,
}

impl Page {
    pub(crate) fn sign_in(port: u16, password: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let body = format!("{{\"account\":\"duty\",\"password\":\"{password}\",\"person\":\"bench\"}}");
        let request = format!(
            "POST /api/v1/session HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let cookie = |answer: &str| {
            answer.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("set-cookie")
                    .then(|| value.trim().split(';').next().map(str::to_owned))?
            })
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(cookie) = exchange(address, &request).as_deref().and_then(cookie) {
                return Self { address, cookie };
            }
            assert!(Instant::now() < deadline, "could not sign in");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.figure(name) as u64
    }

    /// The mean of a histogram so far, in milliseconds.
    pub(crate) fn mean_millis(&self, name: &str) -> f64 {
        self.figure(&format!("{name}_sum")) / self.figure(&format!("{name}_count")) * 1000.0
    }

    fn figure(&self, name: &str) -> f64 {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nConnection: close\r\n\r\n",
            self.address, self.cookie
        );
        let text = exchange(self.address, &request).unwrap_or_default();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok());
        value.unwrap_or(0.0)
    }

    /// Waits until a counter has reached a figure.
    pub(crate) fn wait_for(&self, name: &str, figure: u64) {
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.counter(name) < figure {
            assert!(Instant::now() < deadline, "{name} did not reach {figure}: {}", self.counter(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads the live stream and tells when each device's hazard was first seen. The thread ends with the gateway.
    pub(crate) fn live(&self, seen: mpsc::Sender<(String, Instant)>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let (address, cookie) = (self.address, &self.cookie);
        write!(
            stream,
            "GET /api/v1/live HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nAccept: text/event-stream\r\n\r\n"
        )
        .unwrap();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while matches!(reader.read_line(&mut line), Ok(1..)) {
                let now = Instant::now();
                // A hazard's id is `<no>.<device>.<point>.<rule>`.
                for part in line.split('"').filter(|part| part.contains(".smoke.")) {
                    if let Some(device) = part.split('.').nth(1) {
                        drop(seen.send((device.to_owned(), now)));
                    }
                }
                line.clear();
            }
        });
    }
}

fn exchange(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
