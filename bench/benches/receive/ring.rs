//! One ring for one or many channels: linked, fused and separate receives.

use std::os::fd::AsRawFd;
use std::{io, process};

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, opcode, squeue};

use crate::contender::{Counts, Join, RingSetup};
use crate::place::{Lane, Next};
use crate::scatter::Scatter;

/// Receives all lanes to their ends.
pub(crate) fn receive(lanes: &mut [Lane<'_>], join: Join, setup: RingSetup) -> Counts {
    let entries = (2 * lanes.len()).next_power_of_two();
    let mut ring = setup.build(u32::try_from(entries).expect("few channels"));
    let mut work = Work {
        slots: lanes.iter().map(|_| Slot::new()).collect(),
        join,
        setup,
        in_flight: 0,
        open: lanes.len(),
        counts: Counts::default(),
    };
    work.serve(&mut ring, lanes);
    work.counts
}

struct Work {
    slots: Vec<Slot>,
    join: Join,
    setup: RingSetup,
    in_flight: usize,
    open: usize,
    counts: Counts,
}

/// What a channel's receives may write.
struct Slot {
    pages: Scatter,
    header: Scatter,
    header_in_flight: bool,
    pages_in_flight: bool,
}

impl Slot {
    fn new() -> Self {
        let (pages, header) = (Scatter::new(), Scatter::new());
        Self { pages, header, header_in_flight: false, pages_in_flight: false }
    }
}

impl Work {
    fn serve(&mut self, ring: &mut IoUring, lanes: &mut [Lane<'_>]) {
        let fds: Vec<_> = lanes.iter().map(|lane| lane.socket.as_raw_fd()).collect();
        let (mut submitter, mut queue, mut completions) = ring.split();
        if self.setup.fixed_files {
            submitter.register_files(&fds).expect("sockets can be registered");
        }
        if self.setup.ring_fd {
            submitter.register_ring_fd().expect("a ring can be registered");
        }
        for (slot, lane) in lanes.iter().enumerate() {
            let aim = if self.join == Join::Fused { Kind::Pages } else { Kind::Header };
            match aim {
                Kind::Pages => self.slots[slot].pages.aim(lane.ram, &[], true),
                Kind::Header => self.slots[slot].header.aim(lane.ram, &[], true),
            }
            self.push(&mut queue, &fds, slot, aim, squeue::Flags::empty());
        }
        while self.open > 0 {
            queue.sync();
            match submitter.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("io_uring_enter: {error}"),
            }
            self.counts.calls += 1;
            queue.sync();
            completions.sync();
            for entry in &mut completions {
                let slot = (entry.user_data() >> 1) as usize;
                let kind = if entry.user_data() & 1 == 0 { Kind::Header } else { Kind::Pages };
                self.counts.completions += 1;
                self.complete(&mut queue, lanes, &fds, slot, kind, entry.result());
            }
        }
        assert!(self.in_flight == 0, "the kernel may still write");
    }

    fn complete(
        &mut self,
        queue: &mut squeue::SubmissionQueue<'_>,
        lanes: &mut [Lane<'_>],
        fds: &[i32],
        at: usize,
        kind: Kind,
        result: i32,
    ) {
        self.in_flight -= 1;
        let slot = &mut self.slots[at];
        if self.join == Join::Quiet && kind == Kind::Header && slot.pages_in_flight {
            // Pages that succeed say nothing.
            assert!(result != -libc::ECANCELED, "pages that fail say so");
            self.in_flight -= 1;
            slot.pages_in_flight = false;
            slot.pages.advance(slot.pages.missing());
        }
        let scatter = match kind {
            Kind::Header => {
                slot.header_in_flight = false;
                &mut slot.header
            }
            Kind::Pages => {
                slot.pages_in_flight = false;
                &mut slot.pages
            }
        };
        match result {
            taken if taken > 0 => scatter.advance(taken.unsigned_abs() as usize),
            // Linked behind short pages.
            error if error == -libc::ECANCELED => {}
            error => panic!("receive: {error}"),
        }
        let none = squeue::Flags::empty();
        if scatter.missing() > 0 {
            self.counts.short += 1;
            let slot = &self.slots[at];
            // Pages come before the header that is behind them.
            let pages_first = kind == Kind::Header && slot.pages.missing() > 0;
            if pages_first && !slot.pages_in_flight {
                self.push(queue, fds, at, Kind::Pages, squeue::Flags::IO_LINK);
                self.push(queue, fds, at, Kind::Header, none);
            } else if !pages_first && !slot.header_in_flight {
                self.push(queue, fds, at, kind, none);
            }
            return;
        }
        match (self.join, kind) {
            // The header is on its way.
            (Join::Linked | Join::Quiet, Kind::Pages) => return,
            (Join::Separate, Kind::Pages) => {
                self.slots[at].header.aim(lanes[at].ram, &[], true);
                self.push(queue, fds, at, Kind::Header, none);
                return;
            }
            _ => {}
        }
        let slot = &mut self.slots[at];
        let header = match kind {
            Kind::Header => slot.header.header(),
            Kind::Pages => slot.pages.header(),
        };
        let lane = &mut lanes[at];
        if lane.take_header(header) == Next::End {
            self.open -= 1;
            return;
        }
        slot.pages.aim(lane.ram, &lane.runs, self.join == Join::Fused);
        if let Join::Linked | Join::Quiet = self.join {
            slot.header.aim(lane.ram, &[], true);
            let quiet = if self.join == Join::Quiet { squeue::Flags::SKIP_SUCCESS } else { none };
            self.push(queue, fds, at, Kind::Pages, squeue::Flags::IO_LINK | quiet);
            self.push(queue, fds, at, Kind::Header, none);
        } else {
            self.push(queue, fds, at, Kind::Pages, none);
        }
    }

    fn push(
        &mut self,
        queue: &mut squeue::SubmissionQueue<'_>,
        fds: &[i32],
        at: usize,
        kind: Kind,
        flags: squeue::Flags,
    ) {
        let slot = &mut self.slots[at];
        let (scatter, in_flight) = match kind {
            Kind::Header => (&mut slot.header, &mut slot.header_in_flight),
            Kind::Pages => (&mut slot.pages, &mut slot.pages_in_flight),
        };
        assert!(!*in_flight, "one receive of each kind at a time");
        *in_flight = true;
        let message = scatter.message();
        let entry = if self.setup.fixed_files {
            let index = u32::try_from(at).expect("few channels");
            opcode::RecvMsg::new(Fixed(index), message)
        } else {
            opcode::RecvMsg::new(Fd(fds[at]), message)
        };
        let poll_first = if self.setup.poll_first { POLL_FIRST } else { 0 };
        let entry = entry
            .ioprio(poll_first)
            .flags(libc::MSG_WAITALL.cast_unsigned())
            .build()
            .flags(flags)
            .user_data((at as u64) << 1 | u64::from(kind == Kind::Pages));
        // SAFETY: push needs an operation whose buffers stay valid until its completion.
        // - the message, iovecs and header are boxes of the slot, guest RAM is borrowed by the
        //   lane; `Work` ends the process rather than drop them with something in flight.
        // - in_flight keeps anybody else from touching them.
        let pushed = unsafe { queue.push(&entry) };
        pushed.expect("room for two receives of every channel");
        self.in_flight += 1;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            process::abort();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Header,
    Pages,
}

/// `IORING_RECVSEND_POLL_FIRST`.
const POLL_FIRST: u16 = 1;
