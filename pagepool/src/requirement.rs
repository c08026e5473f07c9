//! Things a test needs from the host.

use std::io::Write;

/// Says that a test skips a part because the host lacks `thing`; with `LANDFALL_REQUIRE_ALL=1` only
/// the things that a host may lack are let through, anything else panics.
pub(crate) fn skip(thing: &str, why: &str) {
    // Past the capture of test output: a log without it would look complete.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {thing}: {why}");
    let require_all = std::env::var("LANDFALL_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(
        !require_all || MAY_LACK.contains(&thing),
        "LANDFALL_REQUIRE_ALL=1 and {thing} is missing: {why}"
    );
}

/// Nodes and instructions are a matter of hardware.
const MAY_LACK: [&str; 2] = ["second NUMA node", "AVX-512"];
