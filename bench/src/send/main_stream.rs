//! The caller's thread: the script step by step, main, and the end.

use std::{io, thread, time::Duration};

use super::{
    End, Fault, SendOptions, Target,
    channels::Queues,
    opened::Running,
    pace::Pace,
    run::{self, Run, Waited},
    socket::Socket,
};
use crate::{
    encoder::Encoder,
    message::Message,
    plan::Plan,
    script::{Op, Stream},
};

/// The caller's thread: goes through the script and writes main.
pub(super) struct MainStream<'a> {
    pub(super) plan: &'a Plan,
    pub(super) encoder: Encoder<'a>,
    pub(super) options: &'a SendOptions,
    pub(super) run: &'a Run<'a>,
    pub(super) target: &'a Target,
    pub(super) main: Socket,
    pub(super) command: Option<Running>,
    pub(super) message: Message,
}

impl MainStream<'_> {
    pub(super) fn send_all(&mut self, queues: Queues) {
        let mut pace = self.options.bytes_per_second.map(Pace::new);
        let mut syncs = vec![0; 256];
        let kill_at = self.options.faults.iter().find_map(|fault| match fault {
            Fault::KillAtStep { step } => Some(*step),
            _ => None,
        });
        let mut script = self.plan.script();
        let mut step = 0;
        let mut next = script.next();
        while let Some(op) = next {
            next = script.next();
            if next == Some(Op::AwaitShut) {
                // Before the write, as the answer may be there before the write returns.
                self.run.change(|state| state.replies.ending_sent = true);
            }
            if self.run.is_over() {
                return;
            }
            if let Some(error) = self.plan.guest().image_error() {
                return self.run.end(End::ImageLost { error: error.to_string() });
            }
            if kill_at == Some(step) {
                return self.run.kill();
            }
            step += 1;
            self.run.progress().set_round(script.round());
            if let Some(pace) = &mut pace {
                pace.wait(self.plan.plain_bytes(&op), || self.run.is_over());
            }
            let going = match op {
                Op::Init { channel } => queues.push(channel, op),
                Op::Packet(mut packet) => {
                    let channel = packet.channel;
                    if packet.sync {
                        let nth = syncs[usize::from(channel)];
                        syncs[usize::from(channel)] += 1;
                        let skipped = Fault::SkipSync { channel, sync: nth };
                        packet.sync = !self.options.faults.contains(&skipped);
                        if !packet.sync && packet.pages.is_empty() {
                            continue;
                        }
                    }
                    queues.push(channel, Op::Packet(packet))
                }
                Op::DevicePacket(packet) => queues.push(packet.channel, op),
                Op::AwaitShut => true, // everything is written first: conclude()
                op => self.main_step(&op),
            };
            if !going {
                return;
            }
        }
    }

    /// A step of main; false when the run cannot go on.
    fn main_step(&mut self, op: &Op) -> bool {
        match op {
            Op::AwaitChannels => {
                let channels = usize::from(self.plan.config().channels);
                self.wait(None, "channels", |state| {
                    (state.channels_ready == channels).then_some(true)
                })
            }
            Op::AwaitSwitchoverAck => {
                let limit = self.options.reply_timeout;
                self.wait(limit, "SWITCHOVER_ACK", |state| {
                    (state.replies.switchover_acks > 0).then_some(true)
                })
            }
            op => {
                let stream = self.encoder.gather(op, &mut self.message);
                debug_assert_eq!(stream, Some(Stream::Main));
                let written = self.main.write(&self.message, self.run);
                if let Err(error) = &written {
                    self.write_failed(error);
                }
                written.is_ok()
            }
        }
    }

    /// Main takes no more. Of a command it is told how it ended: that its pipe broke says nothing.
    fn write_failed(&mut self, error: &io::Error) {
        let ended = match &mut self.command {
            Some(command) if !self.run.is_over() => command.ended_soon(),
            _ => None,
        };
        let told = match (self.target, ended) {
            (_, Some(status)) => {
                let told = format!("the command ended with {status} before it had all ({error})");
                self.target.named(&io::Error::new(error.kind(), told))
            }
            (Target::File { .. } | Target::Command { .. }, None) => self.target.named(error),
            _ => return self.run.lost(Stream::Main, error),
        };
        self.run.lost(Stream::Main, &told);
    }

    /// Everything is written, or the run is over: finds out how it ended.
    pub(super) fn conclude(&mut self) {
        if self.run.is_over() {
            self.run.end(End::Stopped);
            return;
        }
        let return_path = self.plan.config().return_path;
        if !return_path {
            return match self.command.take().map(|command| self.command_ended(command)) {
                Some(Err(error)) => self.run.lost(Stream::Main, &self.target.named(&error)),
                Some(Ok(())) | None => self.run.end(End::Completed),
            };
        }
        let verdict = self.run.wait(self.options.reply_timeout, |state| {
            let verdict = state.replies.verdict();
            verdict.or_else(|| state.replies_over.then_some(End::Unanswered))
        });
        self.run.end(match verdict {
            Waited::Ready(end) => end,
            Waited::TimedOut => End::TimedOut { awaited: "SHUT" },
            Waited::Over => End::Stopped,
        });
    }

    /// Closes the command's standard input and waits until it has made of the stream what it does.
    fn command_ended(&mut self, mut command: Running) -> io::Result<()> {
        self.main.close();
        loop {
            match command.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(io::Error::other(format!("the command ended with {status}")));
                }
                None if self.run.is_over() => return Err(io::ErrorKind::Interrupted.into()),
                None => thread::sleep(COMMAND_TICK),
            }
        }
    }

    fn wait(
        &self,
        limit: Option<Duration>,
        awaited: &'static str,
        ready: impl Fn(&run::State) -> Option<bool>,
    ) -> bool {
        // A destination that is gone will answer nothing any more.
        let ready = |state: &run::State| ready(state).or(state.replies_over.then_some(false));
        match self.run.wait(limit, ready) {
            Waited::Ready(true) => true,
            Waited::Ready(false) => {
                let verdict = self.run.change(|state| state.replies.verdict());
                self.run.end(verdict.unwrap_or(End::Unanswered));
                false
            }
            Waited::Over => false,
            Waited::TimedOut => {
                self.run.end(End::TimedOut { awaited });
                false
            }
        }
    }
}

/// How often a command is asked whether it has ended.
const COMMAND_TICK: Duration = Duration::from_millis(2);
