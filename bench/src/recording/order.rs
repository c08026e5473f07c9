//! What happened when: one entry of 24 bytes for each thing, over all channels.
//!
//! Big-endian: be64 nanoseconds since the first connection, be64 bytes, be32 connection, be32 what.

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the first connection.
    pub at_ns: u64,
    /// Which connection, counted from 0.
    pub channel: u32,
    /// What.
    pub event: Event,
}

/// What can happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The source made it.
    Opened,
    /// Bytes came from the source.
    Data {
        /// How many.
        bytes: u64,
    },
    /// Bytes came from the destination.
    Reply {
        /// How many.
        bytes: u64,
    },
    /// The source sends no more on it.
    SourceClosed,
    /// The destination sends no more on it.
    DestinationClosed,
}

impl Entry {
    /// The entry as it stands in the file.
    #[must_use]
    pub fn encode(self) -> [u8; ENTRY_BYTES] {
        let (what, length) = match self.event {
            Event::Opened => (OPENED, 0),
            Event::Data { bytes } => (DATA, bytes),
            Event::Reply { bytes } => (REPLY, bytes),
            Event::SourceClosed => (SOURCE_CLOSED, 0),
            Event::DestinationClosed => (DESTINATION_CLOSED, 0),
        };
        let mut out = [0; ENTRY_BYTES];
        out[..8].copy_from_slice(&self.at_ns.to_be_bytes());
        out[8..16].copy_from_slice(&length.to_be_bytes());
        out[16..20].copy_from_slice(&self.channel.to_be_bytes());
        out[20..].copy_from_slice(&what.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let (&at_ns, rest) = bytes.split_first_chunk()?;
        let (&length, rest) = rest.split_first_chunk()?;
        let (&channel, rest) = rest.split_first_chunk()?;
        let (&what, _) = rest.split_first_chunk()?;
        let bytes = u64::from_be_bytes(length);
        let event = match u32::from_be_bytes(what) {
            OPENED => Event::Opened,
            DATA => Event::Data { bytes },
            REPLY => Event::Reply { bytes },
            SOURCE_CLOSED => Event::SourceClosed,
            DESTINATION_CLOSED => Event::DestinationClosed,
            _ => return None,
        };
        let (at_ns, channel) = (u64::from_be_bytes(at_ns), u32::from_be_bytes(channel));
        Some(Self { at_ns, channel, event })
    }
}

/// All entries of a file.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(format!("order has {} bytes, no multiple of {ENTRY_BYTES}", bytes.len()));
    }
    let decode = |(index, entry)| {
        Entry::decode(entry).ok_or_else(|| format!("entry {index} of order is of no known kind"))
    };
    entries.iter().enumerate().map(decode).collect()
}

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 24;

const OPENED: u32 = 0;
const DATA: u32 = 1;
const REPLY: u32 = 2;
const SOURCE_CLOSED: u32 = 3;
const DESTINATION_CLOSED: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_as_they_were_written() {
        let events = [
            Event::Opened,
            Event::Data { bytes: 1 << 40 },
            Event::Reply { bytes: 8 },
            Event::SourceClosed,
            Event::DestinationClosed,
        ];
        let entries = events.map(|event| Entry { at_ns: 7, channel: 300, event });
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.encode()).collect();
        assert_eq!(read(&bytes).unwrap(), entries);
    }

    #[test]
    fn a_torn_file_and_an_unknown_kind_are_refused() {
        let entry = Entry { at_ns: 0, channel: 0, event: Event::Opened }.encode();
        assert!(read(&entry[1..]).unwrap_err().contains("multiple"));
        let mut unknown = entry;
        unknown[23] = 9;
        assert!(read(&unknown).unwrap_err().contains("entry 0"));
    }
}
