//! protobuf's wire format, as much as plain commands need.

pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// What must come next.
    pub fn tag(&mut self, tag: u8) -> Option<&mut Self> {
        (self.byte()? == tag).then_some(self)
    }

    /// Whether it comes next; taken then.
    pub fn has(&mut self, tag: u8) -> bool {
        let has = self.0.first() == Some(&tag);
        if has {
            self.0 = &self.0[1..];
        }
        has
    }

    pub fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        let last = self.byte()?; // the tenth holds one bit
        (last == 1).then_some(number | 1 << 63)
    }

    /// Varint fields in the order of their numbers, all above `last` and below 8, until `is_end`.
    pub fn numbers(
        &mut self,
        mut last: usize,
        found: &mut [u64; 8],
        is_end: impl Fn(&[u8]) -> bool,
    ) -> Option<()> {
        while !is_end(self.0) {
            let field = usize::from(self.byte()?);
            let number = field >> 3;
            if field & 7 != 0 || number <= last || number > 7 {
                return None;
            }
            found[number] = self.varint()?;
            last = number;
        }
        Some(())
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.varint()?).ok()?;
        let (found, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(found)
    }

    /// A message's content, to be read for itself.
    pub fn message(&mut self) -> Option<Input<'a>> {
        self.bytes().map(Input)
    }
}

pub fn varint(out: &mut Vec<u8>, tag: u8, mut number: u64) {
    out.push(tag);
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub fn sized(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    varint(out, tag, content.len() as u64);
    out.extend_from_slice(content);
}
