//! WIRE → FRAMES: a serial line of this machine, and finding it again.
//!
//! A USB adapter that was pulled out comes back under another name (`ttyUSB0`, then `ttyUSB1`). So a device is looked up
//! anew whenever it is opened: by a path that udev keeps (`/dev/serial/by-id/…`), or by what the adapter says of itself.

use rustix::fs::OFlags;
use rustix::termios::{ControlModes, OptionalActions, QueueSelector};
use std::fs::{OpenOptions, read_to_string};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// Where Linux says what its serial devices hang on.
pub(super) const SYSFS_TTYS: &str = "/sys/class/tty";

/// How many folders above a tty its USB device may be: port, interface, device are three; hubs come above that.
const USB_DEPTH_MAX: usize = 5;

/// The speed above which the silence between two frames is fixed: V1.02, 2.5.1.1.
const FIXED_GAP_ABOVE_BAUD: u32 = 19_200;
const FIXED_GAP: Duration = Duration::from_micros(1750);

/// A character of RTU is 11 bits by the standard, whatever the line's own setting: V1.02, 2.5.1.
const BITS_OF_CHARACTER: u32 = 11;

/// A serial line and how it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialSettings {
    /// Which device.
    pub device: Device,
    /// Bits a second.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// How a serial device is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// By a path, best one of `/dev/serial/by-id/`.
    Path(PathBuf),
    /// By what the USB adapter says of itself.
    Usb {
        /// The vendor's number.
        vendor: u16,
        /// The product's number.
        product: u16,
        /// The serial number, where several of one kind are plugged in.
        serial: Option<String>,
    },
}

/// The parity bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// None.
    None,
    /// Even: the standard's default, and seldom what is set.
    Even,
    /// Odd.
    Odd,
}

impl SerialSettings {
    /// What the field has: 9600 baud, no parity, 1 stop bit. Data bits are always 8.
    pub fn new(device: Device) -> Self {
        Self { device, baud: 9600, parity: Parity::None, stop_bits: 1 }
    }

    /// The silence that parts two frames, 3.5 characters: V1.02, 2.5.1.1.
    pub(super) fn frame_gap(&self) -> Duration {
        if self.baud > FIXED_GAP_ABOVE_BAUD {
            return FIXED_GAP;
        }
        Duration::from_secs(1) * BITS_OF_CHARACTER * 7 / 2 / self.baud.max(1)
    }

    /// How long so many bytes are on the line.
    pub(super) fn time_of(&self, bytes: usize) -> Duration {
        let bits = BITS_OF_CHARACTER.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        Duration::from_secs(1) * bits / self.baud.max(1)
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Usb { vendor, product, serial: None } => write!(f, "USB {vendor:04x}:{product:04x}"),
            Self::Usb { vendor, product, serial: Some(serial) } => {
                write!(f, "USB {vendor:04x}:{product:04x} {serial}")
            }
        }
    }
}

impl Device {
    /// The path it has now. `ttys` is [`SYSFS_TTYS`].
    pub(super) fn path(&self, ttys: &Path) -> io::Result<PathBuf> {
        let Self::Usb { vendor, product, serial } = self else {
            let Self::Path(path) = self else { return Err(ErrorKind::NotFound.into()) };
            return Ok(path.clone());
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(ttys)?.flatten() {
            let is_it = usb_device(&entry.path()).is_some_and(|folder| {
                number(&folder, "idVendor") == Some(*vendor)
                    && number(&folder, "idProduct") == Some(*product)
                    && serial.as_ref().is_none_or(|serial| line(&folder, "serial").as_ref() == Some(serial))
            });
            if is_it {
                found.push(entry.file_name());
            }
        }
        found.sort();
        match &found[..] {
            [name] => Ok(Path::new("/dev").join(name)),
            [] => Err(ErrorKind::NotFound.into()),
            several => {
                let names: Vec<_> = several.iter().map(|name| name.to_string_lossy()).collect();
                let message = format!("several adapters match: {}; name it by its path", names.join(", "));
                Err(io::Error::new(ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// The folder of the USB device that a tty hangs on.
fn usb_device(tty: &Path) -> Option<PathBuf> {
    let device = tty.join("device").canonicalize().ok()?;
    device
        .ancestors()
        .take(USB_DEPTH_MAX)
        .find(|folder| folder.join("idVendor").is_file())
        .map(Path::to_owned)
}

fn line(folder: &Path, file: &str) -> Option<String> {
    read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned())
}

fn number(folder: &Path, file: &str) -> Option<u16> {
    u16::from_str_radix(&line(folder, file)?, 16).ok()
}

/// An open serial line. For the event loop a tty is like the two ends of a pipe, which is what tokio has a type for.
pub(super) struct SerialPort {
    input: pipe::Receiver,
    output: pipe::Sender,
}

impl SerialPort {
    /// Opens it for ourselves alone, sets it up, and throws away what came before.
    pub(super) fn open(settings: &SerialSettings) -> io::Result<Self> {
        let path = settings.device.path(Path::new(SYSFS_TTYS))?;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let mut termios = rustix::termios::tcgetattr(&file)?;
        termios.make_raw();
        termios.set_speed(settings.baud)?;
        let control = &mut termios.control_modes;
        control.remove(
            ControlModes::CSIZE
                | ControlModes::PARENB
                | ControlModes::PARODD
                | ControlModes::CSTOPB
                | ControlModes::CRTSCTS,
        );
        // Modem lines are not wired on RS-485: without CLOCAL nothing would be read.
        control.insert(ControlModes::CLOCAL | ControlModes::CREAD);
        // RTU is binary: V1.02, 2.5.1.
        control.insert(ControlModes::CS8);
        control.set(ControlModes::PARENB, settings.parity != Parity::None);
        control.set(ControlModes::PARODD, settings.parity == Parity::Odd);
        control.set(ControlModes::CSTOPB, settings.stop_bits == 2);
        rustix::termios::tcsetattr(&file, OptionalActions::Now, &termios)?;
        rustix::termios::ioctl_tiocexcl(&file)?;
        rustix::termios::tcflush(&file, QueueSelector::IOFlush)?;
        let input = pipe::Receiver::from_file_unchecked(file.try_clone()?)?;
        Ok(Self { input, output: pipe::Sender::from_file_unchecked(file)? })
    }

    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).await
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    #[test]
    fn the_silence_between_frames_follows_the_speed() {
        let gap = |baud| SerialSettings { baud, ..SerialSettings::new(Device::Path("x".into())) }.frame_gap();
        assert_eq!(gap(9600).as_micros(), 4010);
        assert_eq!(gap(19_200).as_micros(), 2005);
        assert_eq!(gap(38_400).as_micros(), 1750);
        let nine = SerialSettings::new(Device::Path("x".into()));
        assert_eq!(nine.time_of(255 + 8).as_millis(), 301);
    }

    /// As Linux shows adapters: tty, its port, the interface, the device that says who it is.
    fn plug(root: &Path, tty: &str, device: &str, ids: (&str, &str, &str)) {
        let usb = root.join("devices").join(device);
        let port = usb.join(format!("{device}:1.0")).join(tty);
        create_dir_all(&port).unwrap();
        let (vendor, product, serial) = ids;
        for (file, text) in [("idVendor", vendor), ("idProduct", product), ("serial", serial)] {
            write(usb.join(file), format!("{text}\n")).unwrap();
        }
        let entry = root.join("tty").join(tty);
        create_dir_all(&entry).unwrap();
        symlink(port, entry.join("device")).unwrap();
    }

    #[test]
    fn an_adapter_is_found_by_what_it_says_of_itself_under_whatever_name() {
        let root = tempfile::tempdir().unwrap();
        let ttys = root.path().join("tty");
        create_dir_all(ttys.join("tty0")).unwrap();
        let ch340 = Device::Usb { vendor: 0x1a86, product: 0x7523, serial: None };
        assert_eq!(ch340.path(&ttys).unwrap_err().kind(), ErrorKind::NotFound);
        plug(root.path(), "ttyUSB0", "1-1", ("1a86", "7523", ""));
        plug(root.path(), "ttyUSB3", "1-2", ("0403", "6001", "A5"));
        assert_eq!(ch340.path(&ttys).unwrap(), Path::new("/dev/ttyUSB0"));
        std::fs::remove_dir_all(ttys.join("ttyUSB0")).unwrap();
        plug(root.path(), "ttyUSB1", "1-4", ("1a86", "7523", ""));
        assert_eq!(ch340.path(&ttys).unwrap(), Path::new("/dev/ttyUSB1"), "it came back under another name");

        plug(root.path(), "ttyUSB4", "1-5", ("0403", "6001", "B6"));
        let ftdi = |serial: Option<&str>| Device::Usb {
            vendor: 0x0403,
            product: 0x6001,
            serial: serial.map(str::to_owned),
        };
        let error = ftdi(None).path(&ttys).unwrap_err();
        assert!(error.to_string().contains("ttyUSB3, ttyUSB4"), "{error}");
        assert_eq!(ftdi(Some("B6")).path(&ttys).unwrap(), Path::new("/dev/ttyUSB4"));
    }
}
