//! As much of Protocol Buffers' wire format as OpenTelemetry's messages need
//! (<https://protobuf.dev/programming-guides/encoding/>). A code generator would be more than what is written here.

/// Kinds of fields.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A message that is being written, field by field. Zeros and what is empty are left out, as the format has it.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn varint(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, VARINT);
            self.raw(value);
        }
    }

    /// Also a zero, where it must be told from nothing.
    pub fn some_varint(&mut self, field: u64, value: u64) {
        self.key(field, VARINT);
        self.raw(value);
    }

    pub fn fixed64(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, FIXED64);
            self.0.extend(value.to_le_bytes());
        }
    }

    pub fn bytes(&mut self, field: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.some_bytes(field, bytes);
        }
    }

    pub fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Also an empty one.
    pub fn some_bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, BYTES);
        self.raw(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn message(&mut self, field: u64, message: Self) {
        self.some_bytes(field, &message.0);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.raw(field << 3 | kind);
    }

    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The value of a message's last field of this number; none where there is none, or what is before it is no message.
pub(super) fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    let mut found = None;
    while !message.is_empty() {
        let key = read_varint(&mut message)?;
        let value = match key & 7 {
            VARINT => Some(Field::Varint(read_varint(&mut message)?)),
            FIXED64 => {
                message = message.get(8..)?;
                None
            }
            BYTES => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                let bytes = message.get(..length)?;
                message = &message[length..];
                Some(Field::Bytes(bytes))
            }
            FIXED32 => {
                message = message.get(4..)?;
                None
            }
            _ => return None,
        };
        if key >> 3 == wanted && value.is_some() {
            found = value;
        }
    }
    found
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.varint(1, 300);
        inner.text(2, "why");
        let mut message = Message::default();
        message.fixed64(7, 5);
        message.message(1, inner);
        let bytes = message.into_bytes();
        let Some(Field::Bytes(inner)) = field(&bytes, 1) else { panic!("{bytes:?}") };
        assert_eq!(field(inner, 1), Some(Field::Varint(300)));
        assert_eq!(field(inner, 2), Some(Field::Bytes(b"why")));
        assert_eq!((field(&bytes, 9), field(&[0xff; 12], 1), field(&[0x0a, 9, 1], 1)), (None, None, None));
    }
}
