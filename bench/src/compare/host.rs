//! What a sceptic asks of the machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::{
    sys::utsname::uname,
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

/// The machine as it is now: kernel, CPUs, memory, and the settings that decide figures. What
/// cannot be read is null.
#[must_use]
pub fn facts() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let uname = uname().ok();
    let kernel = uname.as_ref().map(|name| name.release().to_string_lossy());
    let governor = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let huge = |name: &str| text(&format!("/sys/kernel/mm/transparent_hugepage/{name}"));
    let sysctl = |name: &str| text(&format!("/proc/sys/{name}"));
    json!({
        "kernel": kernel,
        "cpu-model": field(&cpu, "model name"),
        "cpu-mhz": field(&cpu, "cpu MHz"),
        "cpus": thread::available_parallelism().ok().map(usize::from),
        "hypervisor": field(&cpu, "flags").map(|flags| flags.split(' ').any(|f| f == "hypervisor")),
        "governor": governor,
        "memory": field(&memory, "MemTotal"),
        "memory-available": field(&memory, "MemAvailable"),
        "hugepages-2m": text("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"),
        "hugepages-2m-free": text(FREE_HUGEPAGES),
        "transparent-hugepages": huge("enabled"),
        "transparent-hugepages-defrag": huge("defrag"),
        "transparent-hugepages-shmem": huge("shmem_enabled"),
        "numa-balancing": sysctl("kernel/numa_balancing"),
        "net.ipv4.tcp_congestion_control": sysctl("net/ipv4/tcp_congestion_control"),
        "net.ipv4.tcp_rmem": sysctl("net/ipv4/tcp_rmem"),
        "net.ipv4.tcp_wmem": sysctl("net/ipv4/tcp_wmem"),
        "load-average": text("/proc/loadavg"),
    })
}

/// The first line that a program prints of itself, and which file it is: two builds of one version
/// have other hashes. `path` is as it was given, the others are of the file that `PATH` has for it.
pub(super) fn program(path: &Path) -> Value {
    let output = Command::new(path).arg("--version").output().ok();
    let told = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let file = found(path).and_then(|path| fs::read(path).ok());
    json!({
        "path": path,
        "version": told.as_deref().and_then(|text| text.lines().next()),
        "bytes": file.as_ref().map(Vec::len),
        "blake3": file.map(|bytes| blake3::hash(&bytes).to_hex().to_string()),
    })
}

/// What a shell starts for it: a bare name is looked for in `PATH`.
fn found(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned());
    }
    let all = env::var_os("PATH")?;
    env::split_paths(&all).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| time.tv_sec())
}

/// How many hugepages of 2 MiB nobody has.
pub(super) fn free_hugepages() -> Option<u64> {
    text(FREE_HUGEPAGES)?.trim().parse().ok()
}

fn text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

const FREE_HUGEPAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_memory_and_hugepage_settings() {
        let facts = facts();
        for name in ["kernel", "cpus", "memory", "transparent-hugepages", "load-average"] {
            assert!(!facts[name].is_null(), "{name}: {facts}");
        }
    }

    #[test]
    fn a_program_is_told_by_the_hash_of_the_file_that_is_started() {
        let by_name = program(Path::new("true"));
        let path = found(Path::new("true")).expect("every host has it");
        let by_path = program(&path);
        assert_eq!(by_name["blake3"], by_path["blake3"]);
        assert_eq!(by_name["bytes"], fs::metadata(&path).expect("it is there").len());
        assert_eq!(by_name["blake3"].as_str().map(str::len), Some(64));
        assert!(program(Path::new("/nowhere/at-all"))["blake3"].is_null());
    }
}
