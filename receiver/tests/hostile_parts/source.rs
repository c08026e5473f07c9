//! A small legal migration, written byte by byte from the wire's tables
//! (docs/wire-format.md), so that every test can spoil one place of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// Where bytes go: main, or a channel by its place in the source's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Main,
    Channel(usize),
}

/// Bytes, and where they go.
pub(crate) type Step = (To, Vec<u8>);

/// What a source writes, in an order in which it never has to wait.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
}

impl Script {
    /// A guest of [`PAGES`] pages over `channels` channels, three sync points:
    /// each channel sends one packet of two pages and a zero page.
    pub(crate) fn legal(channels: usize) -> Self {
        let mut script = Self { steps: Vec::new() };
        let all = |script: &mut Self, bytes: &dyn Fn(usize) -> Vec<u8>| {
            (0..channels)
                .for_each(|channel| script.steps.push((To::Channel(channel), bytes(channel))));
        };
        all(&mut script, &|channel| init(7, channel as u8));
        script.main(start(BLOCK_BYTES));
        all(&mut script, &|_| sync());
        script.main([section(SECTION_PART), item(FLUSH)].concat());
        all(&mut script, &|channel| {
            let page = channel as u64 * 4;
            packet(0, BLOCK, &[page, page + 1], &[page + 2])
        });
        all(&mut script, &|_| sync());
        script.main(end_of_section());
        all(&mut script, &|_| sync());
        script.main([section(SECTION_END), item(FLUSH), end_of_section()].concat());
        script.main(device_state());
        script
    }

    fn main(&mut self, bytes: Vec<u8>) {
        self.steps.push((To::Main, bytes));
    }

    /// All bytes on all streams.
    pub(crate) fn bytes(&self) -> usize {
        self.steps.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// The number of the step that is the `nth` for `to`.
    pub(crate) fn step(&self, to: To, nth: usize) -> usize {
        let mut found = self.steps.iter().enumerate().filter(|(_, (of, _))| *of == to);
        found.nth(nth).expect("so many steps").0
    }

    /// A migration without multifd: `start`, then `part` in a PART of ram.
    pub(crate) fn plain(start: Vec<u8>, part: &[u8]) -> Self {
        let mut script = Self { steps: Vec::new() };
        script.main(start);
        script.main([&section(SECTION_PART), part, &end_of_section()].concat());
        script.main([section(SECTION_END), end_of_section()].concat());
        script.main(device_state());
        script
    }

    /// Puts other bytes in place of the `nth` step for `to`.
    pub(crate) fn replaced(mut self, to: To, nth: usize, bytes: Vec<u8>) -> Self {
        let step = self.step(to, nth);
        self.steps[step].1 = bytes;
        self
    }

    /// Puts other bytes in place of the `nth` step for `to`; what comes after it
    /// is not sent.
    pub(crate) fn spoilt(mut self, to: To, nth: usize, bytes: Vec<u8>) -> Self {
        let step = self.step(to, nth);
        self.steps.truncate(step);
        self.steps.push((to, bytes));
        self
    }
}

/// The connections of one source.
pub(crate) struct Source {
    main: TcpStream,
    channels: Vec<TcpStream>,
}

impl Source {
    /// Connects everything a script needs, main first.
    pub(crate) fn connect(port: u16, channels: usize) -> Self {
        let main = connect(port);
        Self { main, channels: (0..channels).map(|_| connect(port)).collect() }
    }

    /// The same over a unix socket.
    pub(crate) fn connect_unix(path: &Path, channels: usize) -> Self {
        let connect = || {
            let socket = UnixStream::connect(path).expect("somebody listens");
            // All that is asked of it here any stream socket can do.
            TcpStream::from(OwnedFd::from(socket))
        };
        Self { main: connect(), channels: (0..channels).map(|_| connect()).collect() }
    }

    /// Sockets that are connected already, main first.
    pub(crate) fn of(sockets: Vec<TcpStream>) -> Self {
        let mut sockets = sockets.into_iter();
        Self { main: sockets.next().expect("main"), channels: sockets.collect() }
    }

    /// Writes some steps.
    pub(crate) fn send(&mut self, steps: &[Step]) -> io::Result<()> {
        steps.iter().try_for_each(|(to, bytes)| self.stream(*to).write_all(bytes))
    }

    /// Writes the first `bytes` bytes of all steps.
    pub(crate) fn send_bytes(&mut self, steps: &[Step], mut bytes: usize) -> io::Result<()> {
        for (to, step) in steps {
            let part = &step[..bytes.min(step.len())];
            self.stream(*to).write_all(part)?;
            bytes -= part.len();
        }
        Ok(())
    }

    pub(crate) fn stream(&mut self, to: To) -> &mut TcpStream {
        match to {
            To::Main => &mut self.main,
            To::Channel(channel) => &mut self.channels[channel],
        }
    }

    /// The last reply on the return path: all of it, up to the end.
    pub(crate) fn replies(&mut self) -> Vec<u8> {
        let mut replies = Vec::new();
        self.main.set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            let mut reply = [0; 64];
            match self.main.read(&mut reply) {
                Ok(0) => return replies,
                Ok(bytes) => replies.extend(&reply[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return replies,
                // The kernel interrupts a thread whose ring it takes down.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("return path: {error}, so far {replies:02x?}"),
            }
        }
    }

    /// True once the receiver has closed every connection.
    pub(crate) fn is_let_go(&mut self) -> bool {
        let Self { main, channels } = self;
        std::iter::once(main).chain(channels).all(is_closed)
    }

    /// Ends one stream by a RST.
    pub(crate) fn reset(&mut self, to: To) {
        let now = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(self.stream(to), sockopt::Linger, &now).unwrap();
        let other = TcpStream::from(OwnedFd::from(UnixStream::pair().unwrap().0));
        drop(std::mem::replace(self.stream(to), other));
    }

    /// Says on one stream that nothing more comes.
    pub(crate) fn close(&mut self, to: To) {
        let _ = self.stream(to).shutdown(Shutdown::Write);
    }
}

/// Reads to the end; true if it comes soon.
pub(crate) fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 64];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A connection that sends at once what it is given.
pub(crate) fn connect(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    socket.set_nodelay(true).unwrap();
    socket
}

/// `MultiFDInit_t`.
pub(crate) fn init(uuid: u128, id: u8) -> Vec<u8> {
    let mut bytes = [&MULTIFD_MAGIC[..], &1u32.to_be_bytes(), &uuid.to_be_bytes(), &[id]].concat();
    bytes.resize(64, 0);
    bytes
}

/// A packet with its pages; page n is filled with the byte n + 1.
pub(crate) fn packet(flags: u32, block: &str, normal: &[u64], zero: &[u64]) -> Vec<u8> {
    let mut bytes = header(flags, block, normal, zero, normal.len() as u32);
    for page in normal {
        bytes.extend([*page as u8 + 1; 4096]);
    }
    bytes
}

/// A packet's header that claims `normal_count` pages with data.
pub(crate) fn header(
    flags: u32,
    block: &str,
    normal: &[u64],
    zero: &[u64],
    normal_count: u32,
) -> Vec<u8> {
    let mut bytes = MULTIFD_MAGIC.to_vec();
    for word in [1, flags, 128, normal_count, normal_count.saturating_mul(4096), 0, 1] {
        bytes.extend(u32::to_be_bytes(word));
    }
    bytes.extend((zero.len() as u32).to_be_bytes());
    bytes.resize(64, 0);
    bytes.extend(block.as_bytes());
    bytes.resize(320, 0);
    for page in normal.iter().chain(zero) {
        bytes.extend((page * 4096).to_be_bytes());
    }
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

/// A packet with SYNC alone.
pub(crate) fn sync() -> Vec<u8> {
    let mut bytes = [&MULTIFD_MAGIC[..], &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

/// Main, up to the end of ram's START: one block of `block_bytes`.
pub(crate) fn start(block_bytes: u64) -> Vec<u8> {
    let list = [list(&[(BLOCK.as_bytes(), block_bytes)]), item(FLUSH)].concat();
    start_of(&configuration(MACHINE), &commands(), &list)
}

/// Main, up to the end of ram's START, from its parts.
pub(crate) fn start_of(configuration: &[u8], commands: &[u8], list: &[u8]) -> Vec<u8> {
    [MAIN_MAGIC_3, configuration, commands, START_RAM, list, &end_of_section()].concat()
}

/// The configuration section without subsections.
pub(crate) fn configuration(machine: &[u8]) -> Vec<u8> {
    [&[7][..], &(machine.len() as u32).to_be_bytes(), machine].concat()
}

/// A subsection of it.
pub(crate) fn subsection(name: &str, version: u32, body: &[u8]) -> Vec<u8> {
    [&[5, name.len() as u8][..], name.as_bytes(), &version.to_be_bytes(), body].concat()
}

/// OPEN_RETURN_PATH and PING 1.
pub(crate) fn commands() -> Vec<u8> {
    [command(1, &[]), command(2, &[0, 0, 0, 1])].concat()
}

/// The list of RAM blocks.
pub(crate) fn list(blocks: &[(&[u8], u64)]) -> Vec<u8> {
    let total: u64 = blocks.iter().map(|(_, bytes)| bytes).sum();
    [item(total | MEM_SIZE), entries(blocks)].concat()
}

/// The entries of a list of RAM blocks.
pub(crate) fn entries(blocks: &[(&[u8], u64)]) -> Vec<u8> {
    let entry = |(name, bytes): &(&[u8], u64)| {
        [&[name.len() as u8][..], name, &bytes.to_be_bytes()].concat()
    };
    blocks.iter().flat_map(entry).collect()
}

/// An item of ram that names [`BLOCK`], with what follows the name.
pub(crate) fn page_item(flags: u64, offset: u64, rest: &[u8]) -> Vec<u8> {
    [&item(flags | offset)[..], &[BLOCK.len() as u8], BLOCK.as_bytes(), rest].concat()
}

/// The beginning of a PART or END of ram.
pub(crate) fn section(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 1]
}

/// One item of ram.
pub(crate) fn item(word: u64) -> Vec<u8> {
    word.to_be_bytes().to_vec()
}

/// EOS and the footer.
pub(crate) fn end_of_section() -> Vec<u8> {
    [item(EOS), vec![0x7e, 0, 0, 0, 1]].concat()
}

/// A command.
pub(crate) fn command(id: u16, payload: &[u8]) -> Vec<u8> {
    [&[8][..], &id.to_be_bytes(), &(payload.len() as u16).to_be_bytes(), payload].concat()
}

/// One device, the end, and the description that fits them.
pub(crate) fn device_state() -> Vec<u8> {
    described(br#"{"page_size": 4096, "devices": [{"name": "timer", "instance_id": 0, "fields": [{"size": 24}]}]}"#)
}

/// One device, the end, and this description.
pub(crate) fn described(text: &[u8]) -> Vec<u8> {
    [&undescribed()[..], &[6], &(text.len() as u32).to_be_bytes(), text].concat()
}

/// One device and the end.
pub(crate) fn undescribed() -> Vec<u8> {
    let mut bytes = b"\x04\0\0\0\x04\x05timer\0\0\0\0\0\0\0\x02".to_vec();
    bytes.extend([0; 24]);
    bytes.extend(b"\x7e\0\0\0\x04\0");
    bytes
}

pub(crate) const MACHINE: &[u8] = b"pc-q35-10.0";
pub(crate) const MAIN_MAGIC_3: &[u8] = b"QEVM\0\0\0\x03";
/// START of ram, before its payload.
pub(crate) const START_RAM: &[u8] = b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04";
pub(crate) const BLOCK: &str = "mem";
pub(crate) const PAGES: u64 = 64;
pub(crate) const BLOCK_BYTES: u64 = PAGES * 4096;
pub(crate) const HEADER_BYTES: usize = 1344;
pub(crate) const SECTION_PART: u8 = 2;
pub(crate) const SECTION_END: u8 = 3;
pub(crate) const ZERO: u64 = 2;
pub(crate) const MEM_SIZE: u64 = 4;
pub(crate) const PAGE: u64 = 8;
pub(crate) const EOS: u64 = 0x10;
pub(crate) const CONTINUE: u64 = 0x20;
pub(crate) const XBZRLE: u64 = 0x40;
pub(crate) const FLUSH: u64 = 0x200;
/// PONG 1, and SHUT with 0 or 1.
pub(crate) const PONG: [u8; 8] = [0, 2, 0, 4, 0, 0, 0, 1];
pub(crate) const SHUT_0: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];
pub(crate) const SHUT_1: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 1];
const MULTIFD_MAGIC: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
/// Longer than any of these tests needs.
const PATIENCE: Duration = Duration::from_secs(5);
