//! What a slot's receive waits for, and what is known to be there.

use std::os::fd::OwnedFd;

use crate::low_water::{Expected, Hope, LowWater};

/// How TCP wakes a slot's receive.
pub(super) struct Waiting {
    low_water: LowWater,
    hope: Hope,
    /// Bytes without which the present wait is for nothing.
    surely: u64,
    /// So many bytes are known to be there.
    there: u64,
    patient: Option<Patient>,
}

/// A wait for more than is needed.
#[derive(Clone, Copy)]
pub(super) struct Patient {
    /// As [`super::patience::Patience`] has numbered it.
    pub(super) number: u64,
    /// For so many packets.
    pub(super) packets: u64,
    /// So many bytes.
    pub(super) mark: u64,
}

impl Waiting {
    /// Of a socket that nobody has waited for.
    pub(super) fn of(socket: &OwnedFd) -> Self {
        let low_water = LowWater::of(socket);
        Self { low_water, hope: Hope::ONE, surely: 1, there: 0, patient: None }
    }

    /// True while it has the patient wait of this number.
    pub(super) fn is_patient(&self, number: u64) -> bool {
        self.patient.is_some_and(|patient| patient.number == number)
    }

    /// For how many packets and bytes to wait, if for more than is needed: of `bytes_max` bytes,
    /// unless one packet has more.
    pub(super) fn hoped(&mut self, expected: Expected, bytes_max: u64) -> Option<(u64, u64)> {
        let Expected { surely, packet } = expected;
        self.surely = surely.max(1);
        if self.is_there() || packet == 0 || !self.low_water.is_minded() {
            return None;
        }
        let packets = self.hope.packets(packet, bytes_max);
        // What surely comes is one of them.
        let more = if surely > 0 { packets.saturating_sub(1) } else { packets };
        (more > 0).then_some((packets, surely + more * packet))
    }

    /// The wait begins, for what is needed or for more. True if the receive should poll first: to
    /// be woken for all at once is worth it only if what is there is not taken before.
    pub(super) fn begin(&mut self, socket: &OwnedFd, patient: Option<Patient>) -> bool {
        self.patient = patient;
        let mark = patient.map_or(self.surely, |patient| patient.mark);
        self.low_water.set(socket, mark);
        mark > 1 && !self.is_there() && self.low_water.is_minded()
    }

    /// The wait goes on for what is needed only; for how many packets it was.
    pub(super) fn be_content(&mut self, socket: &OwnedFd) -> Option<u64> {
        let patient = self.patient.take()?;
        self.low_water.set(socket, self.surely);
        Some(patient.packets)
    }

    /// It has been for more than is needed for too long.
    pub(super) fn lose_patience(&mut self, socket: &OwnedFd) {
        if let Some(packets) = self.be_content(socket) {
            self.hope.vain(packets);
        }
    }

    /// The receive has brought so many bytes.
    pub(super) fn ended(&mut self, bytes: u64) {
        if let Some(Patient { packets, mark, .. }) = self.patient.take() {
            self.hope.met(packets);
            self.there = mark;
        }
        self.there = self.there.saturating_sub(bytes);
    }

    fn is_there(&self) -> bool {
        self.there >= self.surely
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1000;

    /// A wait with hope or without it; its mark.
    fn begin(waiting: &mut Waiting, socket: &OwnedFd, surely: u64) -> (u64, bool) {
        let hoped = waiting.hoped(Expected { surely, packet: PACKET }, 4 * PACKET);
        let patient = hoped.map(|(packets, mark)| Patient { number: 1, packets, mark });
        let polls_first = waiting.begin(socket, patient);
        (hoped.map_or(surely.max(1), |(_, mark)| mark), polls_first)
    }

    fn tcp() -> OwnedFd {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap().into()
    }

    #[test]
    fn what_a_wait_has_brought_is_used_up_before_the_next_one() {
        let socket = tcp();
        let mut waiting = Waiting::of(&socket);
        // One packet, header and pages, then two.
        assert_eq!(begin(&mut waiting, &socket, 0), (PACKET, true));
        waiting.ended(100);
        assert_eq!(begin(&mut waiting, &socket, 900), (900, false), "it is there");
        waiting.ended(900);
        assert_eq!(begin(&mut waiting, &socket, 0), (2 * PACKET, true));
        waiting.ended(100);
        for surely in [900, 0, 900] {
            let (mark, polls_first) = begin(&mut waiting, &socket, surely);
            assert_eq!((mark, polls_first), (surely.max(1), false), "it is there");
            waiting.ended(if surely == 0 { 100 } else { surely });
        }
        // Pages whose header came along are the first of four packets.
        assert_eq!(begin(&mut waiting, &socket, 900), (900 + 3 * PACKET, true));
        // Nobody came: from now on what is needed is enough, and half as much is hoped for.
        waiting.lose_patience(&socket);
        waiting.ended(900);
        assert_eq!(begin(&mut waiting, &socket, 0), (2 * PACKET, true));
    }

    #[test]
    fn who_is_hurried_neither_loses_nor_gains_hope() {
        let socket = tcp();
        let mut waiting = Waiting::of(&socket);
        begin(&mut waiting, &socket, 0);
        waiting.ended(PACKET);
        assert_eq!(begin(&mut waiting, &socket, 0).0, 2 * PACKET);
        assert_eq!(waiting.be_content(&socket), Some(2));
        waiting.ended(PACKET);
        assert_eq!(begin(&mut waiting, &socket, 0).0, 2 * PACKET);
    }

    #[test]
    fn sockets_that_know_no_mark_are_received_as_they_come() {
        let socket = OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
        let mut waiting = Waiting::of(&socket);
        assert_eq!(begin(&mut waiting, &socket, 0), (1, false));
        waiting.ended(PACKET);
        assert_eq!(begin(&mut waiting, &socket, 900), (900, false));
    }
}
