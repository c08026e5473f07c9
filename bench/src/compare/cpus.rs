//! The CPUs that one side of a comparison may use.

use std::{
    fs, io,
    process::{Child, Command},
};

use landfall_receiver::cpu_list::CpuList;

/// Starts `command` so that it, its threads and its children run on `cpus` only; anywhere
/// without any.
///
/// A process begins with the CPUs of the thread that starts it (sched_setaffinity(2)). So a
/// thread that has only these starts it, and nothing of it ever runs elsewhere.
pub(super) fn spawn_on(command: &mut Command, cpus: Option<&CpuList>) -> io::Result<Child> {
    let Some(cpus) = cpus else { return command.spawn() };
    cpus.on(|| command.spawn())?
}

/// An error if a thread of process `id`, those of the kernel that work for it included, may
/// run on others than `cpus`.
pub(super) fn look(id: u32, cpus: Option<&CpuList>) -> Result<(), String> {
    let Some(cpus) = cpus else { return Ok(()) };
    let failed = |error: io::Error| format!("threads of process {id}: {error}");
    for thread in fs::read_dir(format!("/proc/{id}/task")).map_err(failed)? {
        // One that has ended meanwhile says nothing.
        let path = thread.map_err(failed)?.path().join("status");
        let Ok(status) = fs::read_to_string(path) else { continue };
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let (name, allowed) = (line("Name:").unwrap_or(""), line("Cpus_allowed_list:"));
        let allowed = allowed.ok_or("no Cpus_allowed_list in /proc/PID/task/TID/status")?.trim();
        let list: CpuList = allowed.parse()?;
        if !list.cpus().iter().all(|cpu| cpus.cpus().contains(cpu)) {
            return Err(format!("thread {} may run on CPU {allowed}, not {cpus}", name.trim()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use landfall_receiver::receiver::allowed_cpus;

    use super::*;

    /// All that this process may use.
    fn all() -> CpuList {
        let all: Vec<String> = allowed_cpus().iter().map(usize::to_string).collect();
        all.join(",").parse().expect("a list")
    }

    #[test]
    fn a_process_and_its_children_have_the_cpus_and_whoever_starts_it_keeps_its_own() {
        let before = all();
        for &cpu in before.cpus() {
            let one: CpuList = cpu.to_string().parse().expect("a list");
            let mut command = Command::new("sh");
            command.args(["-c", "grep Cpus_allowed_list: /proc/self/status | cat; read line"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = spawn_on(&mut command, Some(&one)).expect("started");
            // Once it has said something it is sh by name, too.
            let mut told = String::new();
            let stdout = child.stdout.take().expect("a pipe");
            BufReader::new(stdout).read_line(&mut told).expect("a line");
            assert_eq!(told.trim(), format!("Cpus_allowed_list:\t{cpu}"));
            assert_eq!(look(child.id(), Some(&one)), Ok(()));
            if let Some(other) = before.cpus().iter().find(|&&other| other != cpu) {
                let other = other.to_string().parse().expect("a list");
                let error = look(child.id(), Some(&other)).expect_err("it is kept elsewhere");
                assert_eq!(error, format!("thread sh may run on CPU {cpu}, not {other}"));
            }
            drop(child.stdin.take());
            child.wait().expect("ended");
        }
        assert_eq!(all(), before);
    }
}
