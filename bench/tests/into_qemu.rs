//! The synthetic source into real QEMUs, which know its encodings from elsewhere: they take all RAM,
//! every page as the seed promises, and then refuse the device state.

#[path = "../../tests/qemu/found.rs"]
#[allow(dead_code, reason = "not every test looks for the same")]
mod found;
#[path = "../../tests/real_qemu/listening.rs"]
#[allow(dead_code, reason = "it is the tests' with real QEMUs, which use all of it")]
mod listening;
#[path = "../../tests/real_qemu/process.rs"]
#[allow(dead_code, reason = "it is the tests' with real QEMUs, which use all of it")]
mod process;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use found::qemu_or_skip;
use landfall_bench::send::{End, Progress, SendOptions, Target, send};
use landfall_bench::{Plan, SourceConfig, Version, verify};
use listening::is_unix_listening;
use process::{Process, wait_until};

#[test]
fn a_real_qemu_has_every_page_after_xbzrle_and_after_compressed_pages() {
    for (version, xbzrle, compress) in
        [("7.2", true, false), ("10.0", true, false), ("7.2", false, true), ("7.2", true, true)]
    {
        let Some(qemu) = qemu_or_skip(version) else { return };
        let plan = plan(version, |config| {
            (config.xbzrle, config.patched_share) = (xbzrle, 0.75);
            (config.compress, config.compressible_share) = (compress, 0.5);
        });
        let capabilities: &[&str] = if compress { &["compress"] } else { &[] };
        let said = into(&qemu, &plan, capabilities, true);
        let label = format!("{version}, xbzrle {xbzrle}, compress {compress}: {said}");
        assert!(said.contains("Missing section footer for") && !said.contains("(ram)"), "{label}");
        let sent = plan.sent();
        assert_eq!((sent.xbzrle > 1000, sent.compressed_on_main > 1000), (xbzrle, compress));
    }
}

#[test]
fn compressed_pages_need_the_capability_on_a_real_destination() {
    let Some(qemu) = qemu_or_skip("7.2") else { return };
    let said = into(&qemu, &plan("7.2", |config| config.compress = true), &[], false);
    assert!(said.contains("Received an unexpected compressed page"), "{said}");
}

/// A guest of one block, in five rounds.
fn plan(version: &str, change: impl FnOnce(&mut SourceConfig)) -> Plan {
    let mut config = SourceConfig::new(61, RAM_BYTES, 0);
    config.blocks.truncate(1);
    let binary = Version::of_machine(version).expect("a version");
    config.speak_as(binary, &format!("pc-q35-{version}")).expect("a machine");
    (config.rounds, config.dirty_share) = (5, 0.4);
    change(&mut config);
    Plan::new(config).expect("possible")
}

/// Sends it to this QEMU with these capabilities, and says what that said. With `all` its memory
/// must then be the guest's.
fn into(qemu: &Path, plan: &Plan, capabilities: &[&str], all: bool) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let backend =
        format!("memory-backend-file,id=pc.ram,size={RAM_BYTES},share=on,mem-path={}", at("ram"));
    let machine = format!("{},memory-backend=pc.ram", plan.config().machine);
    let (ram, uri) = (format!("{}M", RAM_BYTES >> 20), format!("unix:{}", at("socket")));
    let fixed = ["-accel", "tcg", "-display", "none", "-object", &backend, "-M", &machine];
    let capabilities = capabilities.iter().map(|name| format!("migration.x-{name}=on"));
    let capabilities = capabilities.flat_map(|value| ["-global".to_owned(), value]);
    let arguments = fixed.map(str::to_owned).into_iter().chain(capabilities);
    let arguments = arguments.chain(["-m", &ram, "-incoming", &uri].map(str::to_owned));
    let mut process = Process::start(qemu, arguments, at("log").into()).expect("it starts");
    let listens = || match process.ended() {
        Some(status) => Err(format!("it ended with {status}: {}", process.log())),
        None => Ok(is_unix_listening(Path::new(&at("socket")))?.then_some(())),
    };
    wait_until("socket", LIMIT, listens).expect("it listens");
    let target: Target = uri.parse().expect("a target");
    let options = SendOptions { reply_timeout: Some(LIMIT), ..SendOptions::default() };
    let outcome = send(plan, &target, &options, &Progress::new());
    assert_ne!(outcome.end, End::Completed, "no QEMU takes invented devices");
    process.wait(LIMIT).expect("it gives up");
    if all {
        let ram = File::open(at("ram")).expect("its memory");
        let read = |_, offset, out: &mut [u8]| ram.read_exact_at(out, offset);
        verify(plan, 2, read).unwrap_or_else(|error| panic!("{error}: {}", process.log()));
    }
    process.log()
}

const RAM_BYTES: u64 = 32 << 20;
const LIMIT: Duration = Duration::from_secs(60);
