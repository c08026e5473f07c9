//! The bare ceiling as a process: listens, receives until all sockets end, says so.

use std::{
    io::{self, Read, Write},
    net::TcpListener,
    os::fd::OwnedFd,
    thread,
};

use memmap2::{Advice, MmapOptions};

use crate::ceiling::{self, Memory};

/// Receives one migration of `channels` channels with `kind` (`blocking`, `patient` or `ring`) into `ram_bytes`
/// of prefaulted hugepages, with at most `readers` threads. Prints the URI that it listens at, and
/// `done` and how many bytes when everything has come; then waits to be killed.
///
/// # Errors
/// No hugepages, no port, or what the system says of a receive.
pub fn run(kind: &str, channels: u8, readers: u8, ram_bytes: u64) -> io::Result<()> {
    let too_large = |_| io::Error::from(io::ErrorKind::OutOfMemory);
    let bytes = usize::try_from(ram_bytes).map_err(too_large)?.next_multiple_of(HUGE);
    let map = MmapOptions::new().huge(Some(HUGE.trailing_zeros() as u8)).len(bytes).map_anon()?;
    map.advise(Advice::PopulateWrite)?;
    let memory = Memory::leak_map(map);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("tcp:{}", listener.local_addr()?);
    io::stdout().flush()?;
    let (main, _) = listener.accept()?;
    let main = vec![OwnedFd::from(main)];
    let receive = |sockets: &[OwnedFd]| {
        let threads = sockets.len().min(usize::from(readers));
        match kind {
            "blocking" => ceiling::blocking(sockets, memory, threads),
            "patient" => ceiling::patient(sockets, memory, threads),
            _ => ceiling::ring(sockets, memory, threads),
        }
    };
    let bytes = if channels == 0 {
        receive(&main)?.bytes
    } else {
        let others: Result<Vec<_>, _> =
            (0..channels).map(|_| listener.accept().map(|(socket, _)| socket.into())).collect();
        // Main carries next to nothing: its share of the memory is as small.
        let drain =
            thread::spawn(move || ceiling::blocking(&main, Memory::leak(vec![0; 1 << 20]), 1));
        let of_channels = receive(&others?)?.bytes;
        of_channels + drain.join().expect("main's thread does not panic")?.bytes
    };
    println!("done {bytes}");
    io::stdout().flush()?;
    // Its CPU clock is read now: it must not end before.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    loop {
        thread::park();
    }
}

const HUGE: usize = 2 << 20;
