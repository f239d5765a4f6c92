//! Modbus programs of others: a server of pymodbus, a hostile unit made with libmodbus, and the master mbpoll. None of them
//! shares a line with the gateway or with the servers of these tests.

use super::ports::soon;
use fengsui::model::RegisterTable;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A server in a process of its own. It ends with the value.
pub(crate) struct Peer {
    child: Child,
    /// Where it listens; 0 on a serial line.
    pub(crate) port: u16,
}

impl Peer {
    /// pymodbus on a port (0: a free one), with these units.
    pub(crate) async fn pymodbus_tcp(port: u16, units: &[u8]) -> Self {
        Self::pymodbus("tcp", &port.to_string(), units).await
    }

    /// pymodbus on its end of a serial line.
    pub(crate) async fn pymodbus_rtu(device: &Path, units: &[u8]) -> Self {
        Self::pymodbus("rtu", device.to_str().unwrap(), units).await
    }

    async fn pymodbus(way: &str, place: &str, units: &[u8]) -> Self {
        let script = support("pymodbus_server.py");
        // Debian's Python: its packages are not seen by another one that may be first on the path.
        let mut python = Command::new("/usr/bin/python3");
        python.arg(script).args([way, place]).args(units.iter().map(u8::to_string));
        Self::start(python).await
    }

    /// The hostile unit 1 on a free port.
    pub(crate) async fn hostile_tcp() -> Self {
        let mut unit = Command::new(hostile_unit());
        unit.arg("tcp");
        Self::start(unit).await
    }

    /// The hostile unit 1 on its end of a serial line.
    pub(crate) async fn hostile_rtu(device: &Path) -> Self {
        let mut unit = Command::new(hostile_unit());
        unit.arg("rtu").arg(device);
        Self::start(unit).await
    }

    async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("the peer is installed (tests/run installs all of them)");
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = soon("the peer is ready", said.next_line()).await.unwrap();
        let port = first.as_deref().and_then(|line| line.strip_prefix("ready ")?.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("{command:?} said {first:?}")) }
    }

    /// Ends it, and waits until its port is free.
    pub(crate) async fn stop(mut self) {
        soon("the peer ends", self.child.kill()).await.unwrap();
    }
}

fn support(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/peers").join(file)
}

/// The program, compiled once a run.
fn hostile_unit() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile_unit");
        // Under a name of its own first: another run may be using the file.
        let fresh = program.with_extension(std::process::id().to_string());
        let compiled = std::process::Command::new("gcc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-I/usr/include/modbus", "-o"])
            .arg(&fresh)
            .arg(support("hostile_unit.c"))
            .arg("-lmodbus")
            .output()
            .expect("gcc is not installed: run the README's test command");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::rename(fresh, &program).unwrap();
        program
    })
}

/// How mbpoll reaches the units.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'p> {
    Tcp(u16),
    Rtu(&'p Path),
}

/// What mbpoll reads there, or what it says instead.
pub(crate) async fn mbpoll(
    way: Way<'_>,
    unit: u8,
    table: RegisterTable,
    start: u16,
    count: u16,
) -> Result<Vec<u16>, String> {
    let kind = match table {
        RegisterTable::Coil => "0",
        RegisterTable::Discrete => "1",
        RegisterTable::Input => "3",
        RegisterTable::Holding => "4",
    };
    let mut command = Command::new("mbpoll");
    // Once, and with addresses from 0.
    command.args(["-1", "-0", "-o", "5", "-t", kind]);
    for (option, number) in [("-a", u16::from(unit)), ("-r", start), ("-c", count)] {
        command.args([option, &number.to_string()]);
    }
    match way {
        Way::Tcp(port) => command.args(["-m", "tcp", "-p", &port.to_string(), "127.0.0.1"]),
        Way::Rtu(device) => command.args(["-m", "rtu", "-b", "115200", "-P", "none"]).arg(device),
    };
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = soon("mbpoll has read", output).await.expect("mbpoll is not installed");
    let said = String::from_utf8_lossy(&output.stdout);
    // "[10]: \t1835"; of what is negative as a signed number that stands behind it in brackets.
    let value =
        |line: &str| line.strip_prefix('[')?.split_once("]:")?.1.split_whitespace().next()?.parse().ok();
    let values: Vec<u16> = said.lines().filter_map(value).collect();
    if values.len() == usize::from(count) {
        Ok(values)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
