//! Reads the buses of `gateway.toml`: `[[modbus]]`. Every limit stands here, with its reason.

use super::gateway_file::Reader;
use super::reader::Table;
use crate::model::{LinkId, Span};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use toml::Spanned;

/// One Modbus answer, ms. A serial bus behind a gateway at 9600 baud needs about 270 ms for 125 registers.
const TIMEOUT_MS_DEFAULT: i64 = 1000;
/// Over a mobile network: its round trip is up to 2 s when the modem was asleep.
const TIMEOUT_MS_DEFAULT_DIAL_IN: i64 = 3000;
const TIMEOUT_MS_MIN: i64 = 50;
const TIMEOUT_MS_MAX: i64 = 30_000;
/// A pause after connecting of more than a few seconds would cost every unit behind the link a round.
const PAUSE_MS_MAX: i64 = 5000;
/// How much later than its time-out an answer may be: as late again. It costs only units that did not answer.
const LATE_MS_DEFAULT: i64 = 1000;
const LATE_MS_DEFAULT_DIAL_IN: i64 = 3000;
const LATE_MS_MAX: i64 = 60_000;
/// The silence before a question. On a line of our own the 3.5 characters of the standard are kept anyway; behind a
/// serial server its speed is not known: 5 ms are more than 3.5 characters at 9600 baud (4.0 ms).
const TURNAROUND_MS_DEFAULT_RTU_TCP: i64 = 5;
const TURNAROUND_MS_MAX: i64 = 1000;
/// From the slowest line in the field to the fastest that Linux has.
const BAUD_DEFAULT: i64 = 9600;
const BAUD_MIN: i64 = 300;
const BAUD_MAX: i64 = 4_000_000;
/// What a DTU may be told to say: its own limit is 20 to 128 bytes.
const SAYING_BYTES_MAX: usize = 128;
/// Heartbeats come every few seconds to every hour. After three that were missed and some, the connection is dead.
const HEARTBEAT_SECS_MAX: i64 = 3600;
const HEARTBEATS_MISSED: i64 = 3;
/// Units that answer: MODBUS over serial line V1.02, 2.2. 0 is for everybody, so nobody answers; 248 to 255 are reserved.
const UNIT_MAX: i64 = 247;
/// A device that speaks TCP itself has no unit id: 255 is recommended, 0 accepted (messaging on TCP/IP V1.0b, 4.4.2).
const UNITS_OF_TCP: [i64; 2] = [0, 255];

/// `[[modbus]]`: one bus.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusSettings {
    /// The link its devices name.
    pub link: LinkId,
    /// How it is reached.
    pub wire: ModbusWire,
    /// How long to wait for one answer.
    pub timeout: Span,
    /// How long it is left in peace after connecting: some serial gateways drop what comes at once.
    pub pause_after_connect: Span,
    /// Whether a second connection may be opened, on which a mute unit is asked apart from its neighbours.
    pub second_connection: bool,
    /// How long after its time-out an answer may still come, on lines without transaction numbers.
    pub late_answer_max: Span,
    /// The silence before each question, beyond the standard's.
    pub turnaround: Span,
    /// Whether the line gives back what is sent; `None`: it is found out.
    pub echo: Option<bool>,
    /// Whether the unit ids that the standard reserves may be used.
    pub reserved_units: bool,
}

/// How a bus is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum ModbusWire {
    /// `url = "tcp://…"`: Modbus TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// 502 unless the URL says otherwise.
        port: u16,
    },
    /// `url = "rtu-tcp://…"`: RTU through a transparent serial server.
    RtuTcp {
        /// Name or address.
        host: String,
        /// 8899 unless the URL says otherwise.
        port: u16,
    },
    /// `url = "serial://…"` or `usb = "…"`: RTU on a serial line of this machine.
    Serial {
        /// Which device.
        device: SerialDevice,
        /// Bits a second.
        baud: u32,
        /// The parity bit.
        parity: SerialParity,
        /// 1 or 2.
        stop_bits: u8,
    },
    /// `listen = "…"`: a DTU dials in.
    DialIn(DialInSettings),
}

/// Which serial device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SerialDevice {
    /// By its path.
    Path(PathBuf),
    /// By the numbers of its USB adapter.
    Usb {
        /// The vendor's.
        vendor: u16,
        /// The product's.
        product: u16,
        /// The serial number, if there are several.
        serial: Option<String>,
    },
}

/// The parity bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerialParity {
    /// None.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// A DTU that dials in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialInSettings {
    /// Where it dials to.
    pub listen: SocketAddr,
    /// What it says first.
    pub registration: Vec<u8>,
    /// What it says now and then; empty: nothing.
    pub heartbeat: Vec<u8>,
    /// Nothing heard for so long: the connection is dead.
    pub silent_max: Option<Span>,
    /// RTU, as most do; else the framing of Modbus TCP.
    pub rtu: bool,
    /// From where; empty: from anywhere.
    pub allow: Vec<AllowedNetwork>,
}

/// Addresses that may dial in: `10.8.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedNetwork {
    /// Its first address.
    pub address: IpAddr,
    /// How many bits of it count.
    pub bits: u8,
}

impl ModbusSettings {
    /// Why a unit id cannot be used on this bus, and what to do; `None`: it can.
    pub(super) fn unit_fault(&self, unit: i64) -> Option<(String, &'static str)> {
        let is_tcp = match &self.wire {
            ModbusWire::Tcp { .. } => true,
            ModbusWire::DialIn(dial_in) => !dial_in.rtu,
            ModbusWire::RtuTcp { .. } | ModbusWire::Serial { .. } => false,
        };
        if (1..=UNIT_MAX).contains(&unit) || is_tcp && UNITS_OF_TCP.contains(&unit) {
            None
        } else if unit == 0 {
            let message = "0 是广播地址，没有设备会应答 / 0 is for all units, so none answers";
            Some((message.to_owned(), "从站号 / the unit id: 1..=247"))
        } else if self.reserved_units {
            None
        } else {
            let message = format!("从站号 {unit} 是保留的 / the unit id {unit} is reserved (248..=255)");
            Some((
                message,
                "如果设备真用它 / if the device really uses it: reserved_units = true, in [[modbus]]",
            ))
        }
    }
}

impl Reader<'_> {
    /// All buses. Several DTUs may dial one port when each says who it is.
    pub(super) fn all_modbus(&self, tables: Vec<Table<'_>>) -> Vec<ModbusSettings> {
        let mut ports: HashMap<SocketAddr, Vec<DialInSettings>> = HashMap::new();
        let mut buses = Vec::new();
        for table in tables {
            let (header, listen) = (table.span_of("registration"), table.span_of("allow"));
            let Some(bus) = self.modbus(table) else { continue };
            if let ModbusWire::DialIn(dial_in) = &bus.wire {
                let others = ports.entry(dial_in.listen).or_default();
                if others.iter().any(|other| other.registration == dial_in.registration) {
                    self.page.error(
                        header,
                        "注册包重复：两个 DTU 分不清 / two DTUs on one port with the same registration",
                        "每个 DTU 一个 / each DTU its own: registration = \"FS-0002\"",
                    );
                } else if others.first().is_some_and(|first| first.allow != dial_in.allow) {
                    self.page.error(
                        listen,
                        format!(
                            "{} 的 allow 不一致 / allow differs between the DTUs of one port",
                            dial_in.listen
                        ),
                        "同一端口写成一样 / write the same for all of them",
                    );
                }
                others.push(dial_in.clone());
            }
            buses.push(bus);
        }
        buses
    }

    fn modbus(&self, table: Table<'_>) -> Option<ModbusSettings> {
        let link = self.link(&table);
        let wire = self.wire(&table);
        let is_dial_in = table.has("listen");
        let or = |dial_in: i64, other: i64| if is_dial_in { dial_in } else { other };
        let millis = |key: &'static str, allowed, default| {
            Span::from_millis(table.integer(key, allowed).map_or(default, Spanned::into_inner))
        };
        let timeout_default = or(TIMEOUT_MS_DEFAULT_DIAL_IN, TIMEOUT_MS_DEFAULT);
        let timeout = millis("timeout_ms", TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX, timeout_default);
        let pause_after_connect = millis("pause_after_connect_ms", 0..=PAUSE_MS_MAX, 0);
        let late_default = or(LATE_MS_DEFAULT_DIAL_IN, LATE_MS_DEFAULT);
        let is_rtu = !matches!(
            &wire,
            Some(ModbusWire::Tcp { .. } | ModbusWire::DialIn(DialInSettings { rtu: false, .. }))
        );
        let (mut late_answer_max, mut turnaround) = (Span::from_millis(late_default), Span::from_millis(0));
        let (mut echo, mut second_connection) = (None, true);
        if is_rtu {
            late_answer_max = millis("late_answer_max_ms", 0..=LATE_MS_MAX, late_default);
            let behind_server = matches!(&wire, Some(ModbusWire::RtuTcp { .. }));
            let default = if behind_server { TURNAROUND_MS_DEFAULT_RTU_TCP } else { 0 };
            turnaround = millis("turnaround_ms", 0..=TURNAROUND_MS_MAX, default);
            echo = table.flag("echo");
        }
        if !is_rtu || wire.is_none() {
            second_connection = table.flag("second_connection").unwrap_or(true);
        }
        let reserved_units = table.flag("reserved_units").unwrap_or(false);
        table.finish();
        let (link, wire) = (link?, wire?);
        Some(ModbusSettings {
            link,
            wire,
            timeout,
            pause_after_connect,
            second_connection,
            late_answer_max,
            turnaround,
            echo,
            reserved_units,
        })
    }

    /// Exactly one of `url`, `usb` and `listen`.
    fn wire(&self, table: &Table<'_>) -> Option<ModbusWire> {
        let ways: Vec<_> = ["url", "usb", "listen"].into_iter().filter(|key| table.has(key)).collect();
        match ways[..] {
            ["usb"] => {
                let device = self.usb(table);
                self.serial(table, device)
            }
            ["listen"] => self.dial_in(table).map(ModbusWire::DialIn),
            ["url"] | [] => self.modbus_url(table),
            _ => {
                ["url", "usb", "listen"].into_iter().for_each(|key| table.pass_over(key));
                for key in ["baud", "parity", "stop_bits", "data_bits", "registration", "heartbeat"] {
                    table.pass_over(key);
                }
                let message = "url、usb、listen 只能写一个 / only one of url, usb and listen may be given";
                self.page.error(table.span.clone(), message, "");
                None
            }
        }
    }

    fn modbus_url(&self, table: &Table<'_>) -> Option<ModbusWire> {
        if let Some(path) = table.text("url").and_then(|url| url.get_ref().strip_prefix("serial://")) {
            let device = path.starts_with('/').then(|| SerialDevice::Path(PathBuf::from(path)));
            if device.is_none() {
                self.page.error(
                    table.span_of("url"),
                    "串口要写完整路径 / a serial device is named by its whole path",
                    "url = \"serial:///dev/serial/by-id/…\" (ls -l /dev/serial/by-id)",
                );
            }
            return self.serial(table, device);
        }
        // Keys of a serial line are known nowhere else: they would be unknown here, which is the right complaint.
        let url = self.url(table, "tcp://192.168.1.20:502", &[("tcp", 502), ("rtu-tcp", 8899)])?;
        let (host, port) = (url.host, url.port);
        Some(if url.scheme == "tcp" {
            ModbusWire::Tcp { host, port }
        } else {
            ModbusWire::RtuTcp { host, port }
        })
    }

    fn serial(&self, table: &Table<'_>, device: Option<SerialDevice>) -> Option<ModbusWire> {
        let baud = table.integer("baud", BAUD_MIN..=BAUD_MAX).map_or(BAUD_DEFAULT, Spanned::into_inner);
        let stop_bits = table.integer("stop_bits", 1..=2).map_or(1, Spanned::into_inner);
        if let Some(bits) = table.integer("data_bits", 5..=8)
            && *bits.get_ref() != 8
        {
            let message =
                "RTU 每字节 8 位 / RTU has 8 data bits (fewer is Modbus ASCII, which is not spoken)";
            self.page.error(bits.span(), message, "data_bits = 8");
        }
        let parity = match table.text("parity") {
            None => SerialParity::None,
            Some(text) => match *text.get_ref() {
                "none" => SerialParity::None,
                "even" => SerialParity::Even,
                "odd" => SerialParity::Odd,
                other => {
                    let message = format!("未知的校验 / unknown parity {other:?}");
                    self.page.error(text.span(), message, "parity = \"none\" | \"even\" | \"odd\"");
                    SerialParity::None
                }
            },
        };
        Some(ModbusWire::Serial {
            device: device?,
            baud: u32::try_from(baud).ok()?,
            parity,
            stop_bits: u8::try_from(stop_bits).ok()?,
        })
    }

    /// `1a86:7523`, or `1a86:7523:SERIAL` where several of one kind are plugged in.
    fn usb(&self, table: &Table<'_>) -> Option<SerialDevice> {
        let text = table.required("usb", "1a86:7523")?;
        let mut parts = text.get_ref().splitn(3, ':');
        let mut number = || {
            parts.next().filter(|part| part.len() == 4).and_then(|part| u16::from_str_radix(part, 16).ok())
        };
        let (vendor, product) = (number(), number());
        let serial = parts.next().map(str::to_owned);
        let (Some(vendor), Some(product)) = (vendor, product) else {
            self.page.error(
                text.span(),
                "不是 USB 编号 / this is no pair of USB numbers",
                "用 lsusb 查看 / lsusb shows them: usb = \"1a86:7523\"；同型号有几个 / several of one kind: \"0403:6001:A50285BI\"",
            );
            return None;
        };
        Some(SerialDevice::Usb { vendor, product, serial })
    }

    fn dial_in(&self, table: &Table<'_>) -> Option<DialInSettings> {
        let listen = self.listen(table, SocketAddr::from(([0, 0, 0, 0], 8502)));
        let registration = table.required("registration", "FS-0001").and_then(|text| self.saying(&text));
        let heartbeat = table.text("heartbeat").map(|text| self.saying(&text));
        let every = table.integer("heartbeat_secs", 1..=HEARTBEAT_SECS_MAX);
        if let (Some(every), None) = (&every, &heartbeat) {
            let message = "没有 heartbeat / there is no heartbeat that could come so often";
            self.page.error(every.span(), message, "heartbeat = \"…\"");
        }
        let rtu = match table.text("framing") {
            None => true,
            Some(text) => match *text.get_ref() {
                "rtu" => true,
                "tcp" => false,
                other => {
                    let message = format!("未知的帧格式 / unknown framing {other:?}");
                    self.page.error(text.span(), message, "framing = \"rtu\" | \"tcp\"");
                    true
                }
            },
        };
        let mut allow = Vec::new();
        for text in table.texts("allow") {
            match network(text.get_ref()) {
                Some(network) => allow.push(network),
                None => self.page.error(
                    text.span(),
                    format!("不是网段 / {:?} is no range of addresses", text.get_ref()),
                    "allow = [\"10.8.0.0/16\"]",
                ),
            }
        }
        if allow.is_empty() && !listen.ip().is_loopback() {
            self.page.warning(
                table.span_of("listen"),
                format!("{listen}：任何知道注册包的人都能冒充 DTU / whoever knows the registration can pose as the DTU"),
                "allow = [\"10.8.0.0/16\"]，或用 VPN / or a VPN",
            );
        }
        Some(DialInSettings {
            listen,
            registration: registration?,
            heartbeat: heartbeat.unwrap_or_else(|| Some(Vec::new()))?,
            silent_max: every.map(|every| Span::from_secs(every.into_inner() * (HEARTBEATS_MISSED + 1))),
            rtu,
            allow,
        })
    }

    /// A text, or bytes: `hex:46 53 2D`.
    fn saying(&self, text: &Spanned<&str>) -> Option<Vec<u8>> {
        let bytes = match text.get_ref().strip_prefix("hex:") {
            Some(digits) => hex(digits),
            None => Some(text.get_ref().as_bytes().to_vec()),
        };
        let bytes = bytes.filter(|bytes| (1..=SAYING_BYTES_MAX).contains(&bytes.len()));
        if bytes.is_none() {
            self.page.error(
                text.span(),
                format!("要 1 到 {SAYING_BYTES_MAX} 个字节 / 1 to {SAYING_BYTES_MAX} bytes, as a text or in hexadecimal"),
                "\"FS-0001\" 或 / or \"hex:46 53 2D 30 30 30 31\"",
            );
        }
        bytes
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = (digits.chars().filter(|c| !c.is_whitespace()))
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn network(text: &str) -> Option<AllowedNetwork> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(longest);
    (bits <= longest).then_some(AllowedNetwork { address, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_networks_are_read() {
        assert_eq!(hex("46 53 2d"), Some(b"FS-".to_vec()));
        assert_eq!(hex("4"), None);
        assert_eq!(hex("4x"), None);
        let net = |text: &str| network(text).map(|net| (net.address.to_string(), net.bits));
        assert_eq!(net("10.8.0.0/16"), Some(("10.8.0.0".to_owned(), 16)));
        assert_eq!(net("::1"), Some(("::1".to_owned(), 128)));
        for bad in ["10.8.0.0/33", "10.8", "", "10.8.0.0/x"] {
            assert_eq!(net(bad), None, "{bad}");
        }
    }
}
