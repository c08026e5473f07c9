//! The threads that write to the channels.

use std::thread;

use super::{
    Target,
    fault::Fault,
    queue::{Putter, Taker, queue},
    run::Run,
    socket::Socket,
};
use crate::{
    encode::packet,
    encoder::Encoder,
    message::Message,
    plan::Plan,
    script::{Op, Stream},
};

/// The queues to the threads, in the order in which steps are issued: a thread takes its steps in
/// that order too, so whatever a step of the destination waits for was written before.
#[derive(Debug)]
pub(super) struct Queues(Vec<Putter<Op>>);

impl Queues {
    /// As many queues as threads: each thread serves every `threads`-th channel.
    pub(super) fn new(threads: usize) -> (Self, Vec<Taker<Op>>) {
        let (senders, receivers) = (0..threads).map(|_| queue(STEPS_QUEUED)).unzip();
        (Self(senders), receivers)
    }

    /// Passes a step to its thread; false when that thread has ended.
    pub(super) fn push(&self, channel: u8, step: Op) -> bool {
        self.0[usize::from(channel) % self.0.len()].put(step)
    }
}

/// Serves the channels of one queue until it is closed or the run is over. Returns the connections,
/// which the source keeps open until it knows the outcome.
pub(super) fn serve(steps: &Taker<Op>, plan: &Plan, target: &Target, run: &Run<'_>) -> Vec<Socket> {
    let mut served = Served {
        plan,
        run,
        sockets: Vec::new(),
        slots: vec![usize::MAX; 256],
        message: Message::new(),
        encoder: plan.encoder(),
    };
    while let Some(step) = steps.take() {
        if run.is_over() {
            break;
        }
        match step {
            Op::Init { channel } => served.connect(channel, target),
            op => served.send(&op),
        }
    }
    served.sockets
}

struct Served<'a> {
    plan: &'a Plan,
    run: &'a Run<'a>,
    sockets: Vec<Socket>,
    /// Where in `sockets` a channel's is, by its id.
    slots: Vec<usize>,
    message: Message,
    /// Of all channels, of which those that are served here go through it.
    encoder: Encoder<'a>,
}

impl Served<'_> {
    fn connect(&mut self, channel: u8, target: &Target) {
        let stream = Stream::Channel(channel);
        let mut id = channel;
        let mut uuid = self.plan.config().uuid;
        for fault in self.run.faults() {
            match fault {
                Fault::NeverConnect { channel: never } if *never == channel => return,
                Fault::LateConnect { channel: late, delay } if *late == channel => {
                    self.run.nap(*delay);
                }
                Fault::WrongId { channel: wrong, id: claimed } if *wrong == channel => {
                    id = *claimed;
                }
                Fault::WrongUuid { channel: wrong, uuid: claimed } if *wrong == channel => {
                    uuid = *claimed;
                }
                _ => {}
            }
        }
        let result = target.connect().and_then(|fd| {
            let page = self.plan.config().page_bytes as usize;
            let mut socket = Socket::new(stream, fd, true, page, self.run)?;
            socket.write(&Message::of(&packet::init(&uuid, id)), self.run)?;
            Ok(socket)
        });
        match result {
            Ok(socket) => {
                self.slots[usize::from(channel)] = self.sockets.len();
                self.sockets.push(socket);
                self.run.progress().add_connected();
                self.run.change(|state| state.channels_ready += 1);
            }
            Err(error) => self.run.lost(stream, &error),
        }
    }

    fn send(&mut self, op: &Op) {
        let Some(Stream::Channel(channel)) = self.encoder.gather(op, &mut self.message) else {
            unreachable!("a step of main was given to a channel: {op:?}");
        };
        // A channel that never connected: its packets go nowhere.
        let Some(socket) = self.sockets.get_mut(self.slots[usize::from(channel)]) else {
            return;
        };
        if let Err(error) = socket.write(&self.message, self.run) {
            self.run.lost(Stream::Channel(channel), &error);
        }
        // Next to nothing where a CPU is free; on a machine that is shared with the destination it
        // may take what was just written while that is in a cache.
        thread::yield_now();
    }
}

/// How many steps wait for a thread: enough that it never starves and is seldom waited for, few
/// enough that a stop is quick and the round that is told is the one that is sent.
const STEPS_QUEUED: usize = 32;
