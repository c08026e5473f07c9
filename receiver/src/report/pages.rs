//! `pages`, `blocks`, `wire` and `rounds`: what arrived.

use landfall_pagepool::{RamBlock, ram_file_name};
use serde_json::{Map, Value, json};

use crate::run::{Run, lock};
use crate::stats::Round;

use super::totals::{PageTotals, Totals};

/// Pages of all blocks.
pub(super) fn pages(totals: &Totals) -> Value {
    let mut members = Map::new();
    members.insert("page-bytes".into(), totals.page_bytes.into());
    let ram_pages = totals.ram_bytes.checked_div(totals.page_bytes.into());
    members.insert("ram-pages".into(), ram_pages.unwrap_or(0).into());
    members.insert("xbzrle-pages".into(), totals.xbzrle.into());
    insert_pages(&mut members, totals.pages);
    Value::Object(members)
}

/// Every RAM block: its name, its file in a run directory, its pages.
pub(super) fn blocks(run: &Run, totals: &Totals) -> Option<Value> {
    let blocks = run.ram()?.iter().zip(&totals.blocks);
    Some(blocks.map(|(block, pages)| one_block(block, *pages)).collect())
}

fn one_block(block: &RamBlock, pages: PageTotals) -> Value {
    let mut members = Map::new();
    members.insert("name".into(), block.name().as_str().into());
    members.insert("file".into(), ram_file_name(block.name()).into());
    members.insert("bytes".into(), block.bytes().into());
    members.insert("backend".into(), block.backend().as_str().into());
    insert_pages(&mut members, pages);
    Value::Object(members)
}

fn insert_pages(members: &mut Map<String, Value>, pages: PageTotals) {
    for (name, count) in [
        ("normal-pages", Some(pages.normal)),
        ("zero-pages", Some(pages.zero)),
        ("unique-pages", Some(pages.unique)),
        ("resent-pages", Some(pages.resent())),
        ("zero-written-pages", pages.zeros.map(|zeros| zeros.written)),
        ("zero-skipped-pages", pages.zero_skipped()),
        ("zero-sent-full-pages", pages.zeros.map(|zeros| zeros.sent_full)),
    ] {
        members.insert(name.into(), count.into());
    }
}

/// Bytes as read from sockets, and what they were divided into.
pub(super) fn wire(totals: &Totals) -> Value {
    json!({
        "bytes": totals.wire_bytes(),
        "main-bytes": totals.main_wire_bytes,
        "device-state-bytes": totals.device_state_bytes,
        "channel-bytes": totals.channel_wire_bytes,
        "device-packet-bytes": totals.device_packet_bytes,
        "packets": totals.packets,
        "sync-packets": totals.syncs,
        "sync-points": totals.sync_points,
    })
}

/// Every round that was kept, in order.
pub(super) fn rounds(run: &Run) -> Value {
    // Copied first: main's thread takes this lock at every sync point.
    let rounds: Vec<Round> = lock(&run.rounds).clone();
    let one = |round: &Round| {
        json!({
            "duration-ns": round.duration_ns,
            "normal-pages": round.normal,
            "zero-pages": round.zero,
            "wire-bytes": round.wire_bytes,
            "sync-wait-ns": round.sync_wait_ns,
        })
    };
    rounds.iter().map(one).collect()
}
