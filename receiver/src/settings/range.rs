//! What values parameters may have together (`migration/options.c`,
//! `migrate_params_check`). Everything is checked after a change, not only
//! what changed: a limit may hang on another parameter.

use super::QemuVersion;

/// A rule about one number.
pub(super) struct Rule {
    pub(super) name: &'static str,
    allows: fn(u64) -> bool,
    expects: &'static str,
}

impl Rule {
    /// Judges `found`.
    ///
    /// # Errors
    /// The text `version` refuses it with.
    pub(super) fn check(&self, found: u64, version: QemuVersion) -> Result<(), String> {
        if (self.allows)(found) {
            return Ok(());
        }
        Err(refusal(self.name, self.expects, version))
    }
}

/// The largest CPU throttle, which may not be under the first one.
///
/// # Errors
/// The text `version` refuses it with.
pub(super) fn check_max_cpu_throttle(
    max: u64,
    initial: u64,
    version: QemuVersion,
) -> Result<(), String> {
    if (initial..=99).contains(&max) {
        return Ok(());
    }
    let expects = if version >= QemuVersion::V11_1 {
        "an integer in the range of cpu-throttle-initial to 99"
    } else {
        "an integer in the range of cpu_throttle_initial to 99"
    };
    Err(refusal("max-cpu-throttle", expects, version))
}

/// The three spellings of a refused number: underscores and `Parameter` up to
/// 10.0, dashes and `Option` in 11.1, each with its exceptions.
fn refusal(name: &str, expects: &str, version: QemuVersion) -> String {
    let newer = version >= QemuVersion::V11_1;
    let underscored = name.replace('-', "_");
    match name {
        "vcpu-dirty-limit" if newer => format!("Parameter '{name}' {expects}"),
        "vcpu-dirty-limit" => format!("Parameter '{underscored}' {expects}"),
        "x-rdma-chunk-size" => format!("Option {underscored} expects {expects}"),
        "x-vcpu-dirty-limit-period" if !newer => format!("Parameter '{name}' expects {expects}"),
        _ if newer => format!("Option {name} expects {expects}"),
        _ => format!("Parameter '{underscored}' expects {expects}"),
    }
}

const PERCENT: &str = "an integer in the range of 1 to 99";
const BYTE: &str = "a value between 1 and 255";

/// In QEMU's order. `max-cpu-throttle`, which comes after the cache size, is
/// not here: a second parameter judges it.
pub(super) static RULES: [Rule; 19] = [
    Rule { name: "compress-level", allows: |n| n <= 9, expects: "a value between 0 and 9" },
    Rule { name: "compress-threads", allows: |n| n >= 1, expects: BYTE },
    Rule { name: "decompress-threads", allows: |n| n >= 1, expects: BYTE },
    Rule {
        name: "throttle-trigger-threshold",
        allows: |n| (1..=100).contains(&n),
        expects: "an integer in the range of 1 to 100",
    },
    Rule { name: "cpu-throttle-initial", allows: |n| (1..=99).contains(&n), expects: PERCENT },
    Rule { name: "cpu-throttle-increment", allows: |n| (1..=99).contains(&n), expects: PERCENT },
    Rule {
        name: "downtime-limit",
        allows: |ms| ms <= 2_000_000,
        // QEMU prints the expression, not its value.
        expects: "an integer in the range of 0 to (2000 * 1000) ms",
    },
    Rule { name: "multifd-channels", allows: |n| n >= 1, expects: BYTE },
    Rule { name: "multifd-zlib-level", allows: |n| n <= 9, expects: "a value between 0 and 9" },
    Rule {
        name: "multifd-qatzip-level",
        allows: |n| (1..=9).contains(&n),
        expects: "a value between 1 and 9",
    },
    Rule { name: "multifd-zstd-level", allows: |n| n <= 20, expects: "a value between 0 and 20" },
    Rule {
        name: "xbzrle-cache-size",
        allows: |bytes| bytes >= 4096 && bytes.is_power_of_two(),
        expects: "a power of two no less than the target page size",
    },
    Rule {
        name: "announce-initial",
        allows: |ms| ms <= 100_000,
        expects: "a value between 0 and 100000",
    },
    Rule {
        name: "announce-max",
        allows: |ms| ms <= 100_000,
        expects: "a value between 0 and 100000",
    },
    Rule { name: "announce-rounds", allows: |n| n <= 1000, expects: "a value between 0 and 1000" },
    Rule {
        name: "announce-step",
        allows: |ms| (1..=10_000).contains(&ms),
        // The text says 0, the check says 1: so does QEMU.
        expects: "a value between 0 and 10000",
    },
    Rule {
        name: "x-vcpu-dirty-limit-period",
        allows: |ms| (1..=1000).contains(&ms),
        expects: "a value between 1 and 1000",
    },
    Rule { name: "vcpu-dirty-limit", allows: |mb| mb >= 1, expects: "must be greater than 1 MB/s" },
    Rule {
        name: "x-rdma-chunk-size",
        allows: |bytes| (1 << 20..=1 << 30).contains(&bytes) && bytes.is_power_of_two(),
        expects: "a power of 2 in the range 1MiB to 1024MiB",
    },
];
