//! NOUNS: typed ids. A `SiteId` can never be passed where a `DeviceId` is meant; all are parsed at the edge.

use std::fmt;
use std::sync::Arc;

/// The longest slug, in bytes: it has to fit a line of the duty log and an MQTT topic level.
pub const ID_LENGTH_MAX: usize = 64;

/// Why a text is no id. The message says what was wrong and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError {
    /// The text that was refused.
    pub text: String,
    /// What is wrong with it, in English.
    pub reason: &'static str,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no id: {}", self.text, self.reason)
    }
}

impl std::error::Error for IdError {}

fn check_slug(text: &str, extra: &[char]) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > ID_LENGTH_MAX {
        return Err("it is longer than 64 characters");
    }
    let allowed = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_') || extra.contains(&c)
    };
    if !text.chars().all(allowed) {
        return Err("only lower-case letters, digits, '-' and '_' are allowed");
    }
    Ok(())
}

macro_rules! slug_id {
    ($(#[$doc:meta])* $name:ident, $extra:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a slug: lower-case letters, digits, '-' and '_', at most [`ID_LENGTH_MAX`] bytes.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_slug(text, $extra).map_err(|reason| IdError { text: text.to_owned(), reason })?;
                Ok(Self(text.into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

slug_id!(
    /// A protected place: one nursing home, one clinic.
    SiteId, &[]
);
slug_id!(
    /// A detection zone of a site: a floor, a corridor, a pump room.
    ZoneId, &[]
);
slug_id!(
    /// An addressable box, unique on this gateway.
    DeviceId, &[]
);
slug_id!(
    /// A connection that devices are reached through: one broker, one Modbus bus.
    LinkId, &[]
);
slug_id!(
    /// A point class of the vocabulary, such as `residual_current`.
    ClassId, &[]
);
slug_id!(
    /// An alarm rule, such as `residual-current-alarm`.
    RuleId, &[]
);
slug_id!(
    /// A device model: `vendor/model`, the path of its profile below `device-profiles/` without `.toml`; a variant that the
    /// file has is `vendor/model@variant`.
    ProfileId, &['/', '.', '@']
);

/// One measurable thing on one device; prints as `device/point`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId(Arc<str>);

impl PointId {
    /// Joins a device and a point name. The name obeys the same rules as every slug.
    pub fn new(device: &DeviceId, name: &str) -> Result<Self, IdError> {
        check_slug(name, &[]).map_err(|reason| IdError { text: name.to_owned(), reason })?;
        Ok(Self(format!("{device}/{name}").into()))
    }

    /// Parses `device/point`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let refuse = |reason| IdError { text: text.to_owned(), reason };
        let (device, name) =
            text.split_once('/').ok_or_else(|| refuse("it lacks the '/' between device and point"))?;
        check_slug(device, &[]).map_err(refuse)?;
        check_slug(name, &[]).map_err(refuse)?;
        Ok(Self(text.into()))
    }

    /// The whole `device/point`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device's part.
    pub fn device(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(device, _)| device)
    }

    /// The point's part.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for PointId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_short_lower_case_slug() {
        assert!(DeviceId::parse("sd-01_a").is_ok());
        for bad in ["", "SD-01", "a b", "烟感", "a/b", &"x".repeat(65)] {
            assert!(DeviceId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(ProfileId::parse("milesight/gs524n").is_ok());
    }

    #[test]
    fn a_point_prints_as_device_and_name() {
        let point = PointId::new(&DeviceId::parse("sd-01").unwrap(), "smoke").unwrap();
        assert_eq!((point.as_str(), point.device(), point.name()), ("sd-01/smoke", "sd-01", "smoke"));
        assert_eq!(PointId::parse("sd-01/smoke").unwrap(), point);
        assert!(PointId::parse("sd-01").is_err());
    }
}
