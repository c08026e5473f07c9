//! The end of a run: what is still on its way, and the answer to the source.

use super::super::settle;
use super::{GRACE_POLL_MS, Sink, Walk};
use crate::clock::{NS_PER_S, now_ns, seconds};
use crate::device_packets::Outstanding;
use crate::error::{Family, RunError};
use crate::run::ChannelStats;
use crate::stats::ChannelPhase;
use crate::wire::Reply;
use crate::wire::vmdesc::DeviceSection;

impl Walk<'_> {
    /// Device state may still be on its way on the channels when main is at its end. QEMU's
    /// packets tell which is a device's last; of others only silence tells.
    fn device_packets(&self) -> Result<(), RunError> {
        let channels = self.run.channels();
        let announced = || {
            let sections = self.received.device_state.sections.iter();
            let on_channels = |one: &&DeviceSection| {
                one.idstr.ends_with("/vfio") && one.body_bytes == VFIO_NOTHING_BYTES
            };
            let vfio = sections.filter(on_channels);
            vfio.map(|section| (&*section.idstr, section.instance_id))
        };
        let came = channels.iter().any(|channel| channel.counters.device_packets.get() > 0);
        if channels.is_empty() || !(came || announced().next().is_some()) {
            return Ok(());
        }
        let since_ns = now_ns();
        loop {
            let is_any = |phase| channels.iter().any(|channel| phase_of(channel) == phase);
            let is_inside = is_any(ChannelPhase::Inside);
            let is_over = channels.iter().all(|one| phase_of(one) == ChannelPhase::Ended);
            let newest_ns = channels.iter().map(ChannelStats::active_ns).fold(since_ns, u64::max);
            let silent_ns = now_ns().saturating_sub(newest_ns);
            let stall_ns = self.plan.stall_ns;
            // Asked last: a packet that was not inside a channel any more is counted.
            match self.run.terms.device_packets.outstanding(announced()) {
                Outstanding::Nothing if !is_inside => return Ok(()),
                Outstanding::Unknown
                    if is_over || (!is_inside && silent_ns >= QUIET_NS.min(stall_ns)) =>
                {
                    return Ok(());
                }
                Outstanding::Packet(index, idstr, instance_id)
                    if is_over || (!is_inside && silent_ns > stall_ns) =>
                {
                    let text = format!(
                        "device state on channels: packet {index} of '{idstr}', instance \
                         {instance_id}, has not come, and nothing else for {} s (--stall-timeout \
                         {})",
                        seconds(silent_ns),
                        seconds(stall_ns)
                    );
                    return Err(RunError::new(Family::Misbehaved, text));
                }
                Outstanding::Nothing | Outstanding::Unknown | Outstanding::Packet(..) => {}
            }
            settle::wait(self.run, GRACE_POLL_MS)?;
        }
    }

    pub(super) fn finish(mut self) -> Result<(), RunError> {
        self.received.device_state = self.stream.take_device_state();
        if let Some(misfit) = self.received.device_state.misfit {
            // Sources up to 9.2 of every s390x guest do that.
            tracing::warn!("{misfit}; this and what follows was found by its footers");
        }
        self.device_packets()?;
        self.run.phases().device_state_done = Some(now_ns());
        self.rounds.check_end(self.run.sync(), self.run.main.normal.get())?;
        if let Some(file) = &self.file {
            file.check_unchanged()?;
        }
        self.received.machine = self.machine.take();
        self.received.modern_sync = self.rounds.is_modern();
        self.received.return_path = self.return_path.is_open();
        if !self.run.finish() {
            return settle::check(self.run);
        }
        // Only a destination that keeps what it received may take the guest.
        let shut = match self.plan.sink {
            Sink::Ram if !self.run.terms.device_packets.has_dropped() => SHUT_TAKEN,
            Sink::Ram | Sink::Discard => SHUT_REFUSED,
        };
        if let Err(error) = self.return_path.say(Reply::Shut(shut)) {
            tracing::warn!("{error}");
        }
        Ok(())
    }
}

fn phase_of(channel: &ChannelStats) -> ChannelPhase {
    ChannelPhase::of_number(channel.counters.phase.get())
}

/// Silence behind packets that do not say which is the last: TCP sends again within that what was
/// lost on its way, twice.
const QUIET_NS: u64 = NS_PER_S;
/// A VFIO device whose state comes on channels has no more than an END tag on main; any other has its
/// configuration there (`hw/vfio/migration.c`, `vfio_save_state`).
const VFIO_NOTHING_BYTES: usize = 8;
/// SHUT: the destination has taken the guest.
const SHUT_TAKEN: u32 = 0;
/// SHUT: it has not; the source resumes it.
const SHUT_REFUSED: u32 = 1;
