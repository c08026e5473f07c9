//! Encoders of the wire, written from tables and golden bytes.
//!
//! They append to a `Vec<u8>` and are not the mirror of any decoder: what a test wants to send
//! wrongly can be said as easily as what is right. All integers are big-endian.

pub mod bitmaps;
pub mod compressed;
pub mod compressed_page;
pub mod device;
pub mod disk;
pub mod mapped_ram;
pub mod packet;
pub mod ram;
pub mod stream;
pub mod xbzrle;

/// Big-endian integers and counted strings, appended.
pub(crate) trait Append {
    /// One byte.
    fn byte(&mut self, value: u8);
    /// Two bytes.
    fn be16(&mut self, value: u16);
    /// Four bytes.
    fn be32(&mut self, value: u32);
    /// Eight bytes.
    fn be64(&mut self, value: u64);
    /// A length byte and that many bytes.
    ///
    /// # Panics
    /// When the name has more than 255 bytes.
    fn counted(&mut self, name: &str);
}

impl Append for Vec<u8> {
    fn byte(&mut self, value: u8) {
        self.push(value);
    }

    fn be16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn be32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn be64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn counted(&mut self, name: &str) {
        self.push(u8::try_from(name.len()).expect("names on the wire have at most 255 bytes"));
        self.extend_from_slice(name.as_bytes());
    }
}

/// The bytes of a hex dump; blanks are ignored. For golden bytes in tests.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("hex")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte")).collect()
}
