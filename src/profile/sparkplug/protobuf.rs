//! FRAMES → READINGS, Sparkplug B: the few rules of protobuf's wire format that its payload needs. No crate: five field
//! kinds in eighty lines are less to trust than a code generator in the build.

/// One field as it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'m> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'m [u8]),
}

/// The fields of one message, in their order.
#[derive(Debug, Clone)]
pub(super) struct Fields<'m> {
    rest: &'m [u8],
}

impl<'m> Fields<'m> {
    pub(super) fn of(message: &'m [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field with its number; `Ok(None)` at the end; `Err` when the bytes are no protobuf.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Field<'m>)>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| "长度越界")?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or("报文被截断")?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err("未知的字段类型"),
        };
        if key >> 3 == 0 {
            return Err("字段号为 0");
        }
        Ok(Some((key >> 3, field)))
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or("报文被截断")?;
            self.rest = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("整数过长")
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or("报文被截断")?;
        self.rest = rest;
        Ok(*bytes)
    }
}

/// Appends a field of an integer.
pub(super) fn put_varint(message: &mut Vec<u8>, field: u64, number: u64) {
    varint(message, field << 3);
    varint(message, number);
}

/// Appends a field of bytes: a text or a message.
pub(super) fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(message, field << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    message.push(number.to_le_bytes()[0]);
}
