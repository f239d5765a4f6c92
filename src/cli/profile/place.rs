//! Where a tool reaches a broker or a device: `scheme://host:port/unit`.

/// A place that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scheme: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
    /// The unit behind it.
    pub(super) unit: Option<u8>,
}

impl Place {
    /// One of these schemes, each with its usual port.
    pub(super) fn parse(text: &str, schemes: &[(&'static str, u16)]) -> Option<Self> {
        let (written, rest) = text.split_once("://")?;
        let &(scheme, usual) = schemes.iter().find(|(scheme, _)| *scheme == written)?;
        let (place, unit) = match rest.split_once('/') {
            None => (rest, None),
            Some((place, "")) => (place, None),
            Some((place, unit)) => (place, Some(unit.parse().ok()?)),
        };
        // An IPv6 address stands in brackets, because of its own colons.
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, after)) => (host, Some(after.strip_prefix(':')?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port != 0))?;
        let strange = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
        let named = !host.is_empty() && !host.contains(strange);
        named.then(|| Self { scheme, host: host.to_owned(), port, unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_scheme_a_host_a_port_and_perhaps_a_unit() {
        let parse = |text: &str| {
            let place = Place::parse(text, &[("tcp", 502), ("rtu-tcp", 8899)])?;
            Some((place.scheme, place.host, place.port, place.unit))
        };
        assert_eq!(parse("tcp://10.0.0.9:1502/7"), Some(("tcp", "10.0.0.9".into(), 1502, Some(7))));
        assert_eq!(parse("rtu-tcp://hall"), Some(("rtu-tcp", "hall".into(), 8899, None)));
        assert_eq!(parse("tcp://[::1]:502/1"), Some(("tcp", "::1".into(), 502, Some(1))));
        for wrong in [
            "hall",
            "http://hall",
            "tcp://",
            "tcp://hall:0",
            "tcp://hall:1/256",
            "tcp://hall/a",
            "tcp://u@hall",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
