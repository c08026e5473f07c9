//! The threads that write to the channels.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Target, fault::Fault, run::Run, socket::Socket};
use crate::{
    encode::packet,
    encoder::Encoder,
    plan::Plan,
    script::{DevicePacket, Packet, Stream},
};

/// One step of a channel.
#[derive(Debug)]
pub(super) enum Step {
    /// Connects and introduces itself.
    Init(u8),
    /// Sends a packet.
    Packet(Packet),
    /// Sends a packet of device state.
    DevicePacket(DevicePacket),
}

/// The queues to the threads, in the order in which steps are issued: a thread takes its steps in
/// that order too, so whatever a step of the destination waits for was written before.
#[derive(Debug)]
pub(super) struct Queues(Vec<Sender<Step>>);

impl Queues {
    /// As many queues as threads: each thread serves every `threads`-th channel.
    pub(super) fn new(threads: usize) -> (Self, Vec<Receiver<Step>>) {
        let (senders, receivers) = (0..threads).map(|_| bounded(STEPS_QUEUED)).unzip();
        (Self(senders), receivers)
    }

    /// Passes a step to its thread; false when that thread has ended.
    pub(super) fn push(&self, channel: u8, step: Step) -> bool {
        self.0[usize::from(channel) % self.0.len()].send(step).is_ok()
    }
}

/// Serves the channels of one queue until it is closed or the run is over. Returns the connections,
/// which the source keeps open until it knows the outcome.
pub(super) fn serve(
    steps: &Receiver<Step>,
    plan: &Plan,
    target: &Target,
    run: &Run<'_>,
) -> Vec<Socket> {
    let mut served = Served {
        plan,
        run,
        sockets: Vec::new(),
        slots: vec![usize::MAX; 256],
        header: Vec::new(),
        encoder: plan.encoder(),
    };
    for step in steps {
        if run.is_over() {
            break;
        }
        match step {
            Step::Init(channel) => served.connect(channel, target),
            Step::Packet(packet) => served.send(&packet),
            Step::DevicePacket(packet) => served.send_device_state(packet),
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
    header: Vec<u8>,
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
            let mut socket = Socket::new(stream, fd, page, self.run)?;
            socket.write(&packet::init(&uuid, id), &[], self.run)?;
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

    fn send(&mut self, packet: &Packet) {
        // A channel that never connected: its packets go nowhere.
        let Some(socket) = self.sockets.get_mut(self.slots[usize::from(packet.channel)]) else {
            return;
        };
        let payload = self.encoder.payload(packet);
        self.header.clear();
        self.plan.encode_packet_header(packet, payload.len(), &mut self.header);
        if let Err(error) = socket.write(&self.header, payload, self.run) {
            self.run.lost(Stream::Channel(packet.channel), &error);
        }
    }

    fn send_device_state(&mut self, packet: DevicePacket) {
        let Some(socket) = self.sockets.get_mut(self.slots[usize::from(packet.channel)]) else {
            return;
        };
        self.header.clear();
        packet.encode(&mut self.header);
        if let Err(error) = socket.write(&self.header, &[], self.run) {
            self.run.lost(Stream::Channel(packet.channel), &error);
        }
    }
}

/// How many steps wait for a thread: enough that it never starves, few enough that a pace is kept
/// and a stop is quick.
const STEPS_QUEUED: usize = 4;
