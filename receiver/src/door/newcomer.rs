//! A connection that has not said what it is yet.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::unistd;

use super::Connection;
use crate::tls::{Handshake, Opened, Progress, RecordReader, Step, TlsError, TlsServer, TlsStream};
use crate::wire::{INIT_BYTES, Init, MAIN_MAGIC, MULTIFD_MAGIC};

/// A connection that has not said what it is yet.
pub(super) struct Newcomer {
    fd: OwnedFd,
    pub(super) peer: String,
    /// The how manieth of the run's door it is.
    pub(super) number: u64,
    pub(super) since_ns: u64,
    way: Way,
    /// What it has said, in the clear.
    bytes: Vec<u8>,
    /// The handshake waits for room to send, not for bytes.
    sends: bool,
}

/// How bytes come from it.
enum Way {
    Plain,
    Handshake(Box<Handshake>),
    Tls { stream: Box<TlsStream>, records: RecordReader },
}

/// How a look at a newcomer ended.
pub(super) enum Look {
    Wait,
    Main,
    Channel(Init),
    Gone(String),
}

/// How an attempt to get more of its bytes ended.
enum Got {
    Some,
    Nothing,
    End,
}

impl Newcomer {
    /// Who came as the `number`th at `now`; under TLS if there is a `server`.
    ///
    /// # Errors
    /// See [`Handshake::new`].
    pub(super) fn new(
        fd: OwnedFd,
        peer: String,
        number: u64,
        now_ns: u64,
        server: Option<&Arc<TlsServer>>,
    ) -> Result<Self, TlsError> {
        let way = match server {
            None => Way::Plain,
            Some(server) => Way::Handshake(Box::new(Handshake::new(Arc::clone(server))?)),
        };
        Ok(Self { fd, peer, number, since_ns: now_ns, way, bytes: Vec::new(), sends: false })
    }

    /// Its descriptor.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// What to wait for.
    pub(super) fn waits_for(&self) -> EpollFlags {
        if self.sends { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN }
    }

    /// True while its TLS handshake goes on: who is here is not clear yet.
    pub(super) fn is_in_handshake(&self) -> bool {
        matches!(self.way, Way::Handshake(_))
    }

    /// True if it is in the clear, and no byte has come.
    pub(super) fn has_said_nothing(&self) -> bool {
        matches!(self.way, Way::Plain) && self.bytes.is_empty()
    }

    /// What has come of it so far, for the log.
    pub(super) fn progress(&self) -> String {
        match &self.way {
            Way::Plain | Way::Tls { .. } => format!("{} bytes", self.bytes.len()),
            Way::Handshake(handshake) => {
                format!("{} bytes of a TLS handshake", handshake.received())
            }
        }
    }

    /// Takes what has come, as far as its beginning.
    pub(super) fn look(&mut self) -> Look {
        loop {
            let wanted = match self.magic() {
                None => MAGIC_BYTES,
                Some(MAIN_MAGIC) => return Look::Main,
                Some(MULTIFD_MAGIC) => match self.bytes.first_chunk() {
                    None => INIT_BYTES,
                    Some(init) => {
                        return match Init::parse(init) {
                            Ok(init) => Look::Channel(init),
                            Err(error) => Look::Gone(format!("Init: {error}")),
                        };
                    }
                },
                Some(magic) if magic >> 16 == TLS_HANDSHAKE => {
                    return Look::Gone(
                        "TLS, and this run has no tls-creds: set them here, or turn them off on \
                         the source"
                            .to_owned(),
                    );
                }
                Some(magic) => return Look::Gone(format!("unknown channel magic {magic:#010x}")),
            };
            match self.get(wanted) {
                Ok(Got::Some) => {}
                Ok(Got::Nothing) => return Look::Wait,
                Ok(Got::End) => return Look::Gone(format!("closed after {}", self.progress())),
                Err(why) => return Look::Gone(why),
            }
        }
    }

    /// Gets more of its bytes: in the clear no more than `wanted` in all, under
    /// TLS what a record holds.
    fn get(&mut self, wanted: usize) -> Result<Got, String> {
        match &mut self.way {
            Way::Plain => {
                let have = self.bytes.len();
                self.bytes.resize(wanted, 0);
                let read = unistd::read(&self.fd, &mut self.bytes[have..]);
                self.bytes.truncate(have + read.unwrap_or(0));
                match read {
                    Ok(0) => Ok(Got::End),
                    Ok(_) | Err(Errno::EINTR) => Ok(Got::Some),
                    Err(Errno::EAGAIN) => Ok(Got::Nothing),
                    Err(error) => Err(format!("lost: {error}")),
                }
            }
            Way::Handshake(handshake) => {
                let step = handshake.step(&self.fd).map_err(|error| error.to_string())?;
                self.sends = matches!(step, Step::Write);
                match step {
                    Step::Read | Step::Write => Ok(Got::Nothing),
                    Step::Done(stream) => {
                        self.way = Way::Tls { stream, records: RecordReader::default() };
                        Ok(Got::Some)
                    }
                }
            }
            Way::Tls { stream, records } => {
                match records.read(&self.fd).map_err(|error| error.to_string())? {
                    Progress::Blocked => return Ok(Got::Nothing),
                    Progress::End => return Ok(Got::End),
                    Progress::Whole => {}
                }
                let record = records.whole();
                let opened = stream.open(record).map_err(|error| error.to_string())?;
                stream.pay(&self.fd);
                match opened {
                    Opened::Record { plain, bytes } => {
                        self.bytes.extend_from_slice(&record[plain]);
                        records.use_up(bytes);
                        Ok(Got::Some)
                    }
                    Opened::Closed => Ok(Got::End),
                    Opened::Partial { .. } => unreachable!("the record is whole"),
                }
            }
        }
    }

    fn magic(&self) -> Option<u32> {
        self.bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The connection, which has said what it is in its first `said` bytes.
    pub(super) fn into_connection(mut self, said: usize) -> Connection {
        let tls = match self.way {
            Way::Tls { stream, .. } => Some(stream),
            Way::Plain | Way::Handshake(_) => None,
        };
        let first = self.bytes.split_off(said);
        Connection { fd: Arc::new(self.fd), peer: self.peer, number: self.number, first, tls }
    }
}

const MAGIC_BYTES: usize = 4;
/// The first half of a TLS handshake record's header: type 22, version 3.
const TLS_HANDSHAKE: u32 = 0x1603;
