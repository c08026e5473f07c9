//! Real migrations kept as bytes: recorded by a proxy, replayed to any destination.
//!
//! A recording is a directory. [`order`] has one entry for everything that happened, in the order
//! in which the proxy saw it, over all channels; the bytes themselves lie in two files for each
//! connection, one for each direction. [`record`] makes one, [`mod@replay`] sends it.
//!
//! Nothing here knows the wire but for the magic numbers that tell main from a channel: what a
//! future QEMU sends can be recorded too. TLS cannot: no destination but the one that made the
//! keys could read it.

pub mod lag;
pub mod order;
mod pieces;
pub mod record;
pub mod replay;
#[allow(unsafe_code, reason = "maps the files of a recording: docs/unsafe.md#recording")]
mod store;
mod throttle;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use self::{
    order::{Entry, Event},
    store::Stored,
};

/// A recording whose parts fit together.
#[derive(Debug)]
pub struct Recording {
    directory: PathBuf,
    complete: bool,
    channels: Vec<RecordedChannel>,
    order: Vec<Entry>,
    /// What the source sent, by connection.
    data: Vec<Stored>,
}

/// One connection of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedChannel {
    /// What it said it was.
    pub kind: ChannelKind,
    /// Bytes from the source.
    pub bytes: u64,
    /// Bytes from the destination.
    pub reply_bytes: u64,
}

/// What a connection says it is with its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// `QEVM`.
    Main,
    /// The multifd magic.
    Multifd,
    /// Neither, or fewer than four bytes.
    Other,
}

impl ChannelKind {
    /// By the first bytes of a connection.
    #[must_use]
    pub fn of(first: &[u8]) -> Self {
        match first.first_chunk() {
            Some(b"QEVM") => Self::Main,
            Some([0x11, 0x22, 0x33, 0x44]) => Self::Multifd,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Multifd => "multifd",
            Self::Other => "other",
        }
    }

    fn of_str(text: &str) -> Option<Self> {
        [Self::Main, Self::Multifd, Self::Other].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What keeps a recording from being made, read or sent.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file of the recording.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The directory is no recording, or not a whole one.
    #[error("{}: {reason}", directory.display())]
    Broken {
        /// Which one.
        directory: PathBuf,
        /// What was found, and what a recording has there.
        reason: String,
    },
    /// A connection.
    #[error("connection {channel}: {error}")]
    Connection {
        /// Counted from 0 in the order in which they were made.
        channel: usize,
        /// What the system said.
        error: io::Error,
    },
    /// The source speaks TLS.
    #[error(
        "connection {channel} begins a TLS handshake: what it sends can be read only by the \
         destination that made the keys, so a recording of it would be of no use; migrate without \
         tls-creds"
    )]
    Tls {
        /// Which connection.
        channel: usize,
    },
    /// The recording has become as large as it may.
    #[error("the recording is full: {limit} bytes on connection {channel} (--max-size)")]
    Full {
        /// Which connection.
        channel: usize,
        /// How many bytes it may have.
        limit: u64,
    },
    /// The destination is silent where the recorded one answered.
    #[error(
        "connection {channel}: {came} bytes of replies in {seconds} s, the recorded destination \
         had sent {wanted} here"
    )]
    NoReply {
        /// Which connection.
        channel: usize,
        /// Bytes that came.
        came: u64,
        /// Bytes that had come when this was recorded.
        wanted: u64,
        /// How long they were waited for.
        seconds: u64,
    },
}

impl Recording {
    /// Opens the recording in `directory` and checks that its parts fit together.
    ///
    /// # Errors
    /// A file that cannot be read, or that is not what the others say.
    pub fn open(directory: &Path) -> Result<Self, RecordingError> {
        let broken =
            |reason: String| RecordingError::Broken { directory: directory.to_owned(), reason };
        let path = directory.join(DESCRIPTION);
        let text = fs::read(&path).map_err(|error| RecordingError::File { path, error })?;
        let description: Value =
            serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        if description["format"] != FORMAT {
            let format = &description["format"];
            return Err(broken(format!("format {format}, this landfall reads {FORMAT}")));
        }
        let complete = description["complete"].as_bool();
        let complete = complete.ok_or_else(|| broken("lacks \"complete\"".to_owned()))?;
        let listed = description["channels"].as_array().map_or(&[][..], Vec::as_slice);
        let channels: Option<Vec<_>> = listed.iter().map(channel_of_json).collect();
        let channels = channels.ok_or_else(|| broken("a channel lacks a member".to_owned()))?;
        let path = directory.join(ORDER);
        let bytes = fs::read(&path).map_err(|error| RecordingError::File { path, error })?;
        let order = order::read(&bytes).map_err(broken)?;
        let directory = directory.to_owned();
        let mut recording = Self { directory, complete, channels, order, data: Vec::new() };
        recording.check().map_err(broken)?;
        for index in 0..recording.channels.len() {
            let path = recording.directory.join(data_name(index));
            let data = Stored::open(&path).map_err(|error| RecordingError::File { path, error })?;
            recording.data.push(data);
        }
        Ok(recording)
    }

    /// False if the recorder was stopped, or one end left before the other was done: what is here
    /// is the beginning of a migration, and can be sent as such.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Its connections in the order in which they were made.
    #[must_use]
    pub fn channels(&self) -> &[RecordedChannel] {
        &self.channels
    }

    /// Everything that happened, in order.
    #[must_use]
    pub fn order(&self) -> &[Entry] {
        &self.order
    }

    /// Bytes from the source, all connections together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.channels.iter().map(|channel| channel.bytes).sum()
    }

    /// The order's sums are the files' sizes and the description's.
    fn check(&self) -> Result<(), String> {
        let mut sums = vec![(0u64, 0u64); self.channels.len()];
        let mut opened = vec![false; self.channels.len()];
        for entry in &self.order {
            let index = entry.channel as usize;
            let Some((bytes, replies)) = sums.get_mut(index) else {
                return Err(format!("an entry of connection {index}, of {}", sums.len()));
            };
            match entry.event {
                Event::Opened if opened[index] => {
                    return Err(format!("connection {index} is opened twice"));
                }
                Event::Opened => opened[index] = true,
                _ if !opened[index] => {
                    return Err(format!("an entry of connection {index} before it is opened"));
                }
                Event::Data { bytes: more } => *bytes += more,
                Event::Reply { bytes: more } => *replies += more,
                Event::SourceClosed | Event::DestinationClosed => {}
            }
        }
        for (index, (channel, (bytes, replies))) in self.channels.iter().zip(&sums).enumerate() {
            let told = [(data_name(index), *bytes, channel.bytes)];
            let also = [(replies_name(index), *replies, channel.reply_bytes)];
            for (name, by_order, by_description) in told.into_iter().chain(also) {
                let on_disk = fs::metadata(self.directory.join(&name)).map_or(0, |meta| meta.len());
                if by_order != on_disk || by_description != on_disk {
                    return Err(format!(
                        "{name} has {on_disk} bytes, by {ORDER} {by_order}, by {DESCRIPTION} \
                         {by_description}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn channel_of_json(value: &Value) -> Option<RecordedChannel> {
    Some(RecordedChannel {
        kind: ChannelKind::of_str(value["kind"].as_str()?)?,
        bytes: value["bytes"].as_u64()?,
        reply_bytes: value["reply-bytes"].as_u64()?,
    })
}

/// The description that stands beside the bytes.
fn description(channels: &[RecordedChannel], duration_ns: u64, complete: bool) -> Value {
    let channels: Vec<Value> = channels
        .iter()
        .map(|channel| {
            json!({
                "kind": channel.kind.as_str(),
                "bytes": channel.bytes,
                "reply-bytes": channel.reply_bytes,
            })
        })
        .collect();
    json!({
        "format": FORMAT,
        "landfall": env!("CARGO_PKG_VERSION"),
        "complete": complete,
        "duration-ns": duration_ns,
        "channels": channels,
    })
}

fn data_name(index: usize) -> String {
    format!("channel-{index:03}.data")
}

fn replies_name(index: usize) -> String {
    format!("channel-{index:03}.replies")
}

const DESCRIPTION: &str = "recording.json";
const ORDER: &str = "order";
const FORMAT: u64 = 1;
