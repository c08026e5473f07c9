//! Guests whose target has other pages than 4 KiB, from the synthetic source over sockets into a
//! receiver: the packets' headers have another length, and nothing may count on 128 pages.

#[path = "mask_parts/masks.rs"]
mod masks;

use std::sync::Arc;

use landfall_bench::form::ZeroForm;
use landfall_bench::plan::Plan;
use landfall_bench::send::{End, Progress, SendOptions, Target, send};
use landfall_bench::{BlockConfig, SourceConfig, verify};
use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::listen::Address;
use landfall_receiver::receiver::{Incoming, Receiver, ReceiverConfig};

fn config(seed: u64, page_bytes: u32, channels: u8, zero: ZeroForm) -> SourceConfig {
    let mut config = SourceConfig::new(seed, 24 << 20, channels);
    config.page_bytes = page_bytes;
    config.target_page_bits = true;
    // Lengths that fill no packet, and a block far smaller than one.
    config.blocks.truncate(2);
    config.blocks.push(BlockConfig::new("odd", 37 * u64::from(page_bytes)));
    config.blocks.push(BlockConfig::new("one", page_bytes.into()));
    config.form.zero = zero;
    "virt-10.0".clone_into(&mut config.machine);
    config
}

#[test]
fn every_page_arrives_whatever_its_size_on_channels_and_on_main() {
    let memory = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
    let config_of_receiver = ReceiverConfig { memory, ..ReceiverConfig::default() };
    let receiver =
        Receiver::new(config_of_receiver, Arc::new(|_, _| {}), &|_, _| {}).expect("io_uring");
    let mut seed = 0;
    for page_bytes in [8192, 16384, 32768, 65536] {
        for channels in [0, 1, 5] {
            for zero in [ZeroForm::InPackets, ZeroForm::OnMain, ZeroForm::FullPages] {
                seed += 1;
                let plan = Plan::new(config(seed, page_bytes, channels, zero)).expect("possible");
                let label = format!("{page_bytes} bytes, {channels} channels, {zero:?}");
                arrives(&receiver, &plan, channels, &label);
            }
        }
    }
}

fn arrives(receiver: &Receiver, plan: &Plan, channels: u8, label: &str) {
    let address = Address::parse("tcp:127.0.0.1:0").expect("an address");
    let incoming = Incoming { channels: Some(channels), ..Incoming::default() };
    let migration = receiver.start(&[address], incoming, &mut |_| None).expect("listens");
    let port = migration.socket_address[0]["port"].as_str().expect("a port");
    let target: Target = format!("tcp:127.0.0.1:{port}").parse().expect("a target");
    let outcome = send(plan, &target, &SendOptions::default(), &Progress::new());
    let ended = migration.wait();
    assert_eq!(ended.error, None, "{label}");
    assert_eq!(outcome.end, End::Completed, "{label}");
    let ram = ended.received.ram.as_ref().expect("a completed run has RAM");
    assert_eq!(ram.page_bytes(), plan.config().page_bytes, "{label}");
    let read = |block: u16, offset: u64, out: &mut [u8]| {
        ram[usize::from(block)].read(offset, out);
        Ok(())
    };
    verify(plan, 1, read).unwrap_or_else(|error| panic!("{label}: {error}"));
}
