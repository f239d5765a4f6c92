//! The far side, in a process of its own so that its cost is not the source's: units that answer after a while, mute ones,
//! and a note of when each question came.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The period of the paced polls.
const PERIOD: Duration = Duration::from_secs(1);

/// The child, from outside.
pub(crate) struct Simulator {
    pub(crate) ports: Vec<u16>,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// What the child saw of the units that answer.
pub(crate) struct Seen {
    pub(crate) polls: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Simulator {
    /// So many ports; on each, units 1 to `mute` say nothing.
    pub(crate) fn start(ports: usize, answer_after: Duration, mute: u8) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--simulate",
                &ports.to_string(),
                &answer_after.as_millis().to_string(),
                &mute.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut simulator = Self { ports: Vec::new(), child, to, from: BufReader::new(from) };
        simulator.ports = simulator.line().split(' ').map(|port| port.parse().unwrap()).collect();
        simulator
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// From now on it counts.
    pub(crate) fn begin(&mut self) {
        self.to.write_all(b"begin\n").unwrap();
    }

    pub(crate) fn report(&mut self) -> Seen {
        self.to.write_all(b"report\n").unwrap();
        let line = self.line();
        let mut words = line.split(' ').map(|word| word.parse::<f64>().unwrap());
        let mut next = || words.next().unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let polls = next() as u64;
        Seen { polls, p50: next(), p99: next(), max: next() }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// When each unit that answers was asked: port and unit.
type Asked = Arc<Mutex<Option<HashMap<(u16, u8), Vec<Instant>>>>>;

/// The child, from inside: ends with its parent.
pub(crate) async fn simulate(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<u64>().unwrap();
    let (ports, answer_after) = (number(0), Duration::from_millis(number(1)));
    let mute = u8::try_from(number(2)).unwrap();
    let asked: Asked = Arc::default();
    let mut names = Vec::new();
    for _ in 0..ports {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        names.push(port.to_string());
        let asked = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, port, answer_after, mute, asked.clone()));
            }
        });
    }
    println!("{}", names.join(" "));
    let commands = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            match line.as_deref() {
                Ok("begin") => *asked.lock().unwrap() = Some(HashMap::new()),
                Ok("report") => println!("{}", summary(&asked.lock().unwrap().take().unwrap())),
                _ => return,
            }
        }
    });
    commands.await.unwrap();
}

async fn serve(mut stream: TcpStream, port: u16, answer_after: Duration, mute: u8, asked: Asked) {
    stream.set_nodelay(true).unwrap();
    let mut request = [0; 12];
    while stream.read_exact(&mut request).await.is_ok() {
        let [t0, t1, _, _, _, _, unit, function, s0, s1, _, count] = request;
        if unit <= mute {
            continue;
        }
        if let Some(asked) = asked.lock().unwrap().as_mut() {
            asked.entry((port, unit)).or_default().push(Instant::now());
        }
        if answer_after > Duration::ZERO {
            tokio::time::sleep(answer_after).await;
        }
        let mut answer = vec![t0, t1, 0, 0, 0, 3 + 2 * count, unit, function, 2 * count];
        answer.extend([s0, s1].repeat(usize::from(count)));
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// The second of two polls in one period is a question that only tries a new connection: what is nearer to the unit's usual
/// place counts. Polls, and p50, p99 and the longest of their lateness in milliseconds.
fn summary(asked: &HashMap<(u16, u8), Vec<Instant>>) -> String {
    let mut late = Vec::new();
    for times in asked.values() {
        let since = |time: &Instant| (*time - times[0]).as_secs_f64() / PERIOD.as_secs_f64();
        let mut all: Vec<f64> = times.iter().map(|time| since(time) - since(time).round()).collect();
        all.sort_by(f64::total_cmp);
        let usual = all[all.len() / 2];
        let mut slots: HashMap<u64, f64> = HashMap::new();
        for time in times {
            // From the middle between two usual places to the next, so that the edge of a slot is where nothing comes.
            let place = since(time) - usual + 1.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above zero")]
            let slot = slots.entry(place.round() as u64).or_insert(f64::INFINITY);
            let off = place - place.round();
            if off.abs() < slot.abs() {
                *slot = off;
            }
        }
        let off: Vec<f64> = slots.into_values().collect();
        let earliest = off.iter().copied().fold(f64::INFINITY, f64::min);
        late.extend(off.iter().map(|off| (off - earliest) * PERIOD.as_secs_f64() * 1000.0));
    }
    late.sort_by(f64::total_cmp);
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = ((late.len() as f64 - 1.0) * share).round() as usize;
        late.get(index).copied().unwrap_or(0.0)
    };
    format!("{} {} {} {}", late.len(), at(0.5), at(0.99), at(1.0))
}
