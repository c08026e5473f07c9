//! `environment`: the host, as far as it bears on how fast a run can be.

use std::fs;
use std::sync::OnceLock;

use nix::sys::utsname::uname;
use serde_json::{Map, Value, json};

use crate::ring::RingFeatures;

/// This host as of now.
pub(super) fn environment(features: RingFeatures) -> Value {
    json!({
        "landfall-version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel(),
        "architecture": std::env::consts::ARCH,
        "cpu-model": cpu_model(),
        "cpus-online": read("/sys/devices/system/cpu/online"),
        "cpus-allowed": crate::receiver::allowed_cpus().len(),
        "io-uring-features": features.names(),
        "sysctls": sysctls(),
        "transparent-hugepages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
    })
}

fn kernel() -> Option<String> {
    let names = uname().ok()?;
    let text =
        [names.sysname(), names.release(), names.version()].map(|name| name.to_string_lossy());
    Some(text.join(" "))
}

/// `model name` of the first CPU; not every architecture tells one.
fn cpu_model() -> Option<&'static str> {
    static MODEL: OnceLock<Option<String>> = OnceLock::new();
    MODEL.get_or_init(|| model_in(&read("/proc/cpuinfo")?)).as_deref()
}

fn model_in(cpuinfo: &str) -> Option<String> {
    let named = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    };
    cpuinfo.lines().find_map(named)
}

/// Those that this kernel has, by name.
fn sysctls() -> Value {
    let value_of = |name: &&str| Some(((*name).to_owned(), read(&path_of(name))?.into()));
    Value::Object(SYSCTLS.iter().filter_map(value_of).collect::<Map<_, _>>())
}

fn path_of(sysctl: &str) -> String {
    format!("/proc/sys/{}", sysctl.replace('.', "/"))
}

/// A small file, its white space made single blanks.
fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    if path.starts_with("/proc/sys/") {
        return Some(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    Some(text.trim_end().to_owned())
}

/// What people turn when a run is slow, or what forbids one.
pub(super) const SYSCTLS: [&str; 13] = [
    "kernel.io_uring_disabled",
    "kernel.numa_balancing",
    "net.core.busy_poll",
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "vm.nr_hugepages",
    "vm.nr_overcommit_hugepages",
    "vm.overcommit_memory",
    "vm.zone_reclaim_mode",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named_where_the_kernel_names_it() {
        let x86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU @ 2.5 GHz: fast\nflags : x\n";
        assert_eq!(model_in(x86).as_deref(), Some("A CPU @ 2.5 GHz: fast"));
        assert_eq!(model_in("processor : 0\nCPU part : 0xd0c\n"), None);
    }

    #[test]
    fn sysctls_have_the_values_of_this_host() {
        let found = sysctls();
        assert_eq!(
            found["vm.overcommit_memory"].as_str().map(|value| value.parse::<u8>().is_ok()),
            Some(true)
        );
        let rmem = found["net.ipv4.tcp_rmem"].as_str().map(|value| value.split(' ').count());
        assert_eq!(rmem, Some(3), "three numbers, single blanks");
    }
}
