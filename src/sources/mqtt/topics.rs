//! One shared text per topic: a device sends on the same topic for years.

use std::collections::HashSet;
use std::sync::Arc;

/// Topics remembered: 1000 devices with a few topics each. At 60 bytes a topic half a megabyte.
const TOPICS_MAX: usize = 4096;

/// Gives out the same `Arc<str>` for the same topic.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    known: HashSet<Arc<str>>,
}

impl Topics {
    /// The shared text. When too many different topics came, all are forgotten: it is a saving, not a record.
    pub(crate) fn intern(&mut self, topic: &str) -> Arc<str> {
        if let Some(known) = self.known.get(topic) {
            return Arc::clone(known);
        }
        if self.known.len() >= TOPICS_MAX {
            self.known.clear();
        }
        let new: Arc<str> = topic.into();
        self.known.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_allocated_once_and_the_memory_is_bounded() {
        let mut topics = Topics::default();
        let first = topics.intern("site/a");
        assert!(Arc::ptr_eq(&first, &topics.intern("site/a")));
        for n in 0..3 * TOPICS_MAX {
            topics.intern(&format!("noise/{n}"));
            assert!(topics.known.len() <= TOPICS_MAX);
        }
        assert_eq!(&*topics.intern("site/a"), "site/a");
    }
}
