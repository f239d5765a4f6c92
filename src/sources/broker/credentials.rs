//! Who may connect to the embedded broker, and what he may say and hear there.

use crate::sources::same;
use std::collections::HashMap;

/// Who may connect.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Anybody, with all rights: only on the loopback address, for the demo and for tests.
    Anonymous,
    /// These users and nobody else, by user name.
    Users(HashMap<String, User>),
}

/// One user of the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// His password, as it is sent.
    pub password: String,
    /// What he may do.
    pub rights: Rights,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// A device: publishes and subscribes only where its own user name is a level of the topic, so that a stolen
    /// password of one detector cannot speak for another.
    Device,
    /// A concentrator or a technician's tool: everything but the topics that start with `$`.
    Everything,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("rights", &self.rights).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whether that user with that password may connect.
    pub(super) fn admit(&self, user: Option<&str>, password: Option<&[u8]>) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Users(users) => {
                let Some(known) = user.and_then(|name| users.get(name)) else { return false };
                password.is_some_and(|given| same(given, known.password.as_bytes()))
            }
        }
    }

    /// Whether that user may publish on that topic.
    pub(super) fn may_publish(&self, user: Option<&str>, topic: &str) -> bool {
        match self.rights(user) {
            None => false,
            Some(_) if topic.starts_with('$') => false,
            Some(Rights::Everything) => true,
            Some(Rights::Device) => user.is_some_and(|name| topic.split('/').any(|level| level == name)),
        }
    }

    /// Whether that user may subscribe to that filter. A wildcard is no name: `+/x` is not under `x`'s name, `x/#` is.
    pub(super) fn may_subscribe(&self, user: Option<&str>, filter: &str) -> bool {
        match self.rights(user) {
            None => false,
            Some(Rights::Everything) => !filter.starts_with("$SYS"),
            Some(Rights::Device) => {
                !filter.starts_with('$')
                    && user.is_some_and(|name| {
                        !name.contains(['+', '#']) && filter.split('/').any(|level| level == name)
                    })
            }
        }
    }

    /// Whether somebody of that name may connect at all.
    pub(super) fn knows(&self, user: &str) -> bool {
        matches!(self, Self::Users(users) if users.contains_key(user))
    }

    /// Whether nothing changed for that user.
    pub(super) fn says_the_same(&self, other: &Self, user: &str) -> bool {
        match (self, other) {
            (Self::Users(ours), Self::Users(theirs)) => ours.get(user) == theirs.get(user),
            _ => false,
        }
    }

    fn rights(&self, user: Option<&str>) -> Option<Rights> {
        match self {
            Self::Anonymous => Some(Rights::Everything),
            Self::Users(users) => user.and_then(|name| users.get(name)).map(|known| known.rights),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Credentials {
        let user = |password: &str, rights| User { password: password.to_owned(), rights };
        Credentials::Users(HashMap::from([
            ("smoke-1".to_owned(), user("secret", Rights::Device)),
            ("bridge".to_owned(), user("other", Rights::Everything)),
        ]))
    }

    #[test]
    fn only_the_right_password_is_admitted() {
        let users = users();
        assert!(users.admit(Some("smoke-1"), Some(b"secret")));
        for (user, password) in [
            (Some("smoke-1"), Some(&b"secre"[..])),
            (Some("smoke-1"), Some(b"secrets")),
            (Some("smoke-1"), Some(b"other")),
            (Some("smoke-1"), None),
            (Some("nobody"), Some(b"secret")),
            (None, None),
        ] {
            assert!(!users.admit(user, password), "{user:?} {password:?}");
        }
    }

    #[test]
    fn a_device_speaks_only_under_its_own_name() {
        let users = users();
        assert!(users.may_publish(Some("smoke-1"), "site/a/smoke-1/up"));
        assert!(users.may_subscribe(Some("smoke-1"), "site/a/smoke-1/#"));
        for topic in ["site/a/smoke-2/up", "site/a/smoke-11/up", "smoke", "$SYS/smoke-1", ""] {
            assert!(!users.may_publish(Some("smoke-1"), topic), "{topic}");
        }
        for filter in ["#", "site/+/+/up", "$share/smoke-1/#"] {
            assert!(!users.may_subscribe(Some("smoke-1"), filter), "{filter}");
        }
        assert!(users.may_publish(Some("bridge"), "site/a/smoke-2/up"));
        assert!(users.may_subscribe(Some("bridge"), "#"));
        assert!(!users.may_publish(Some("bridge"), "$SYS/x"));
        assert!(!users.may_publish(None, "x"));
    }
}
