//! Whether what a run left is what was sent.

use landfall_pagepool::RamBlock;
use landfall_receiver::{error::RunError, main_stream::End, wire::Reply};

use super::{
    broken::Broken,
    fault::FaultKind,
    flow::Payload,
    model::Pages,
    shared::Shared,
    walk::{State, Walk},
    world::Ending,
};
use crate::{
    form::AckForm,
    guest::{Expected, PageRef, is_zero},
    plan::Plan,
};

/// Judges a run that ended so.
///
/// # Errors
/// What is wrong.
pub(super) fn judge(
    shared: &Shared<'_>,
    plan: &Plan,
    walk: &mut Walk<'_>,
    ending: Ending,
    error: Option<&RunError>,
) -> Result<(), String> {
    if shared.is(Broken::LendForgotten) {
        // What it breaks is for the next run to find.
        return Ok(());
    }
    let text = error.map_or("", |error| &error.text);
    match shared.scenario.fault {
        Some(fault) => fault.judge(shared.scenario, shared.flow, ending, text)?,
        None if ending == Ending::Completed => {}
        None => return Err(format!("{ending:?} without a fault: {text}")),
    }
    if ending != Ending::Completed {
        return check_bits(shared);
    }
    check_memory(shared, plan)?;
    check_bits(shared)?;
    if !shared.counts_hold() && !shared.is(Broken::ChannelsGoOn) {
        return Ok(());
    }
    check_counts(shared)?;
    let whole = shared.flow.main.len() as u64;
    if shared.scenario.fault.is_some() && shared.main.wire_bytes.get() < whole {
        // Cut where the receiver could take it for the end: all RAM is here.
        return Ok(());
    }
    check_main(shared)?;
    check_device_state(shared, plan, walk)?;
    check_replies(shared)
}

/// What has been counted when main passes a sync point is what was sent before
/// it, no page more and none less.
///
/// # Errors
/// It is not.
pub(super) fn check_round(shared: &Shared<'_>, sync_point: u64) -> Result<(), String> {
    let mut found = Pages { normal: shared.main.normal.get(), zero: shared.main.zero.get() };
    for channel in &shared.channels().counters {
        found.normal += channel.normal.get();
        found.zero += channel.zero.get();
    }
    let sent = shared.flow.model.sync_points.get(sync_point as usize - 1);
    if sent == Some(&found) {
        return Ok(());
    }
    Err(format!("sync point {sync_point}: {found:?} received, {sent:?} sent"))
}

/// Whatever happened: what is not written is zero, and what was counted as
/// unique was marked.
fn check_bits(shared: &Shared<'_>) -> Result<(), String> {
    let Some(ram) = shared.ram.get() else { return Ok(()) };
    let mut bytes = vec![0; ram.page_bytes() as usize];
    for (index, block) in ram.iter().enumerate() {
        let unique = shared.sum(|counters| counters.unique.get(), index);
        let received = block.received_count();
        let came = shared.sum(|counters| counters.normal.get() + counters.zero.get(), index);
        if unique != received || came < unique {
            return Err(format!("{block:?}: {unique} unique, {received} received, {came} came"));
        }
        for page in (0..block.pages()).filter(|_| shared.scenario.keep) {
            if !block.is_written(page) && !is_zero(read(block, page, &mut bytes)) {
                return Err(format!("{block:?}, page {page}: not zero, and not noted as written"));
            }
        }
    }
    Ok(())
}

fn check_memory(shared: &Shared<'_>, plan: &Plan) -> Result<(), String> {
    let (guest, ram) = (plan.guest(), shared.ram());
    let page_bytes = guest.page_bytes() as usize;
    let fault = shared.scenario.fault;
    if !shared.scenario.keep || fault.is_some_and(|f| !f.spares_memory(shared.flow, page_bytes)) {
        return Ok(());
    }
    let flipped = fault.and_then(|fault| fault.flipped(shared.flow, page_bytes));
    let mut found = vec![0; page_bytes];
    for (block, ram) in (0..).zip(ram.iter()) {
        for page in 0..ram.pages() {
            let expected = guest.expected(block, page);
            read(ram, page, &mut found);
            let last = flipped.filter(|flip| is_last(flip, plan, block, page));
            let matches = match last {
                None => guest.matches(block, page, expected, &found),
                Some(flip) => {
                    let zero = expected == Expected::Zero;
                    let reference = PageRef { page, generation: flip.generation, zero };
                    let mut sent = vec![0; page_bytes];
                    guest.fill(block, reference, &mut sent);
                    let at = fault.map_or(0, |fault| fault.at - flip.at);
                    sent[at] != found[at] && {
                        sent[at] = found[at];
                        sent == found
                    }
                }
            };
            if !matches || !ram.is_received(page) {
                let received = ram.is_received(page);
                return Err(format!(
                    "RAM block {ram:?}, page {page}: not what was sent ({expected:?}, received: \
                     {received})"
                ));
            }
        }
    }
    Ok(())
}

/// True if what was flipped is the last that came of this page.
fn is_last(flip: &Payload, plan: &Plan, block: u16, page: u64) -> bool {
    flip.block == block
        && flip.page == page
        && plan.guest().generation(block, page) == flip.generation
}

fn check_counts(shared: &Shared<'_>) -> Result<(), String> {
    let model = &shared.flow.model;
    let keep = shared.scenario.keep;
    for (index, sent) in model.blocks.iter().enumerate() {
        let check = |what, found: u64, sent: u64| {
            if found == sent {
                return Ok(());
            }
            let block = &shared.ram()[index];
            Err(format!("{block:?}: {what} is {found}, sent were {sent}"))
        };
        check("normal", shared.sum(|c| c.normal.get(), index), sent.pages.normal)?;
        check("zero", shared.sum(|c| c.zero.get(), index), sent.pages.zero)?;
        check("unique", shared.sum(|c| c.unique.get(), index), sent.unique)?;
        let zero_sent_full = if keep { sent.zero_sent_full } else { 0 };
        check("zero_sent_full", shared.sum(|c| c.zero_sent_full.get(), index), zero_sent_full)?;
        let zero_written = if keep { sent.zero_written } else { 0 };
        check("zero_written", shared.sum(|c| c.zero_written.get(), index), zero_written)?;
    }
    let sync_points = model.sync_points.len() as u64;
    let channels = &shared.channels().counters;
    for (id, channel) in channels.iter().enumerate() {
        let found = [channel.syncs.get(), channel.packets.get(), channel.wire_bytes.get()];
        let sent = [sync_points, model.packets[id], shared.flow.channels[id].len() as u64];
        if found != sent {
            return Err(format!("channel {id}: SYNCs, packets, bytes {found:?}, sent {sent:?}"));
        }
    }
    let found = shared.main.sync_points.get();
    if !channels.is_empty() && found != sync_points {
        return Err(format!("main passed {found} sync points, sent were {sync_points}"));
    }
    Ok(())
}

fn check_main(shared: &Shared<'_>) -> Result<(), String> {
    let main = &shared.main;
    let found = [main.wire_bytes.get(), main.device_state_bytes.get()];
    let len = shared.flow.main.len();
    let sent = [len as u64, (len - shared.flow.device_state_at) as u64];
    if found != sent {
        return Err(format!("main: bytes, device state bytes {found:?}, sent {sent:?}"));
    }
    Ok(())
}

fn check_device_state(shared: &Shared<'_>, plan: &Plan, walk: &mut Walk<'_>) -> Result<(), String> {
    let found = walk.stream.take_device_state();
    let mut tail = plan.device_state();
    tail.push(0);
    let vmdesc = plan.vmdesc().unwrap_or_default();
    let end = if vmdesc.is_empty() { End::WithoutDescription } else { End::Complete };
    if walk.state != State::Ended(end) {
        return Err(format!("main is {:?}, {end:?} was to be", walk.state));
    }
    if found.tail != tail || found.vmdesc != vmdesc.as_bytes() {
        let found = (found.tail.len(), found.vmdesc.len());
        let sent = (tail.len(), vmdesc.len());
        return Err(format!("device state and description of {found:?} bytes, sent {sent:?}"));
    }
    let devices = plan.devices().tail.len();
    if !vmdesc.is_empty() && found.sections.len() != devices {
        return Err(format!("{} device sections, sent {devices}", found.sections.len()));
    }
    let configuration = shared.scenario.source.form.configuration;
    if found.configuration.is_empty() == configuration {
        return Err("the configuration section was not kept".to_owned());
    }
    Ok(())
}

fn check_replies(shared: &Shared<'_>) -> Result<(), String> {
    let source = &shared.scenario.source;
    let replies = shared.replies.borrow();
    let count = |reply| replies.iter().filter(|&&said| said == reply).count();
    let on = usize::from(source.return_path);
    // Without a configuration section nobody can tell what such a source wants.
    let known = source.form.configuration || source.form.acks != AckForm::NoneExactly;
    let acks = source.switchover_ack && source.form.acks != AckForm::NoneExactly;
    let shut = Reply::Shut(u32::from(!shared.scenario.keep));
    let said_as_wanted = count(Reply::Pong(1)) == on
        && count(shut) == on
        && (!known || count(Reply::SwitchoverAck) == usize::from(acks));
    if said_as_wanted { Ok(()) } else { Err(format!("wrong replies: {replies:?}")) }
}

impl Shared<'_> {
    /// True if nothing has happened that changes what is to be counted.
    pub(super) fn counts_hold(&self) -> bool {
        let flips = self.scenario.fault.is_some_and(|fault| fault.kind == FaultKind::Flip);
        !flips && !self.scenario.broken.is_some_and(Broken::breaks_rounds)
    }
}

fn read<'a>(block: &RamBlock, page: u64, bytes: &'a mut [u8]) -> &'a [u8] {
    block.read(page * bytes.len() as u64, bytes);
    bytes
}
