//! FRAMES → READINGS, the poll plan: which register reads bring all points of a profile, in as few as it allows.

use super::schema::{Field, Profile, ProfileLink, Source};
use crate::model::{RegisterTable, Span};

/// The most registers one answer can hold: 250 bytes ÷ 2 ("MODBUS Application Protocol" 1.1b3, 6.3 and 6.4).
pub const REGISTERS_PER_READ_MAX: u16 = 125;

/// The most coils or discrete inputs one answer can hold (the same, 6.1 and 6.2).
pub const BITS_PER_READ_MAX: u16 = 2000;

/// One read to be made again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRead {
    /// Which table.
    pub table: RegisterTable,
    /// The first address, counted from 0.
    pub start: u16,
    /// How many registers or bits.
    pub count: u16,
    /// How often.
    pub every: Span,
    /// One of its points is urgent.
    pub urgent: bool,
}

/// The longest period of a read with an urgent point. A fire must be told within 10 s of the device having it
/// (GB 26875.1-2011 4.1.2.1), and a fire rule may wait 5 s of them: two reads in the rest, and 1 s for the commit.
pub const URGENT_EVERY_MAX: Span = Span::from_secs(2);

impl Profile {
    /// The reads that bring every point, sorted by period, table and address; empty for MQTT. Points are merged
    /// into one read when they lie in one table, have one period and at most `hole_limit` registers between them.
    pub fn poll_plan(&self) -> Vec<BlockRead> {
        self.poll_plan_with(&|_| false)
    }

    /// The same, when something that must not wait depends on some of the points. `is_urgent` is asked with a point's
    /// place in [`Profile::points`]. Such a point is read at least every [`URGENT_EVERY_MAX`]; ordinary points that lie
    /// beside it and have the same period ride along in its read. Urgent reads come first.
    pub fn poll_plan_with(&self, is_urgent: &dyn Fn(usize) -> bool) -> Vec<BlockRead> {
        let ProfileLink::Modbus { hole_limit, read_max, .. } = self.link else { return Vec::new() };
        let mut fields: Vec<(Span, bool, &Field)> = Vec::new();
        for (place, point) in self.points.iter().enumerate() {
            if let Source::Register(field) = &point.source {
                let urgent = is_urgent(place);
                let every = if urgent { field.every.min(URGENT_EVERY_MAX) } else { field.every };
                fields.push((every, urgent, field));
            }
        }
        fields.sort_by_key(|(every, _, field)| (*every, field.table, field.address));
        let mut plan: Vec<BlockRead> = Vec::new();
        for (every, urgent, field) in fields {
            let is_same_read = |read: &BlockRead| read.table == field.table && read.every == every;
            let merged = plan
                .last()
                .filter(|read| is_same_read(read))
                .and_then(|read| merge(read, field, hole_limit, read_max));
            match (merged, plan.last_mut()) {
                (Some(merged), Some(last)) => *last = BlockRead { urgent: last.urgent || urgent, ..merged },
                _ => plan.push(BlockRead {
                    table: field.table,
                    start: field.address,
                    count: field.kind.words(),
                    every,
                    urgent,
                }),
            }
        }
        // Stable: within a class the order stays.
        plan.sort_by_key(|read| !read.urgent);
        plan
    }
}

/// The read widened by the field, if the limits allow it. Fields come in the order of their addresses.
fn merge(read: &BlockRead, field: &Field, hole_limit: u16, read_max: u16) -> Option<BlockRead> {
    let read_end = u32::from(read.start) + u32::from(read.count);
    let field_end = u32::from(field.address) + u32::from(field.kind.words());
    let hole = u32::from(field.address).saturating_sub(read_end);
    let count = u16::try_from(field_end.max(read_end) - u32::from(read.start)).ok()?;
    let protocol_max = match read.table {
        RegisterTable::Coil | RegisterTable::Discrete => BITS_PER_READ_MAX,
        RegisterTable::Holding | RegisterTable::Input => REGISTERS_PER_READ_MAX,
    };
    let fits = hole <= u32::from(hole_limit) && count <= read_max.min(protocol_max);
    fits.then_some(BlockRead { count, ..*read })
}
