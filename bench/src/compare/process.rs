//! A program under measurement: killed when dropped, and its CPU clock.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    time::{ClockId, clock_gettime},
    unistd::{Pid, SysconfVar, sysconf},
};

use landfall_receiver::cpu_list::CpuList;

use super::cpus::spawn_on;

/// A running program. Its standard output is a pipe, its errors go to a log file.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    name: String,
    command_line: Vec<String>,
}

/// CPU time of a process, ended threads included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    /// To the nanosecond.
    pub(super) total_s: f64,
    /// To a clock tick.
    pub(super) user_s: f64,
    /// To a clock tick.
    pub(super) system_s: f64,
}

impl Process {
    /// Starts it on `cpus`, or on all without any.
    pub(super) fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        cpus: Option<&CpuList>,
        log: PathBuf,
    ) -> Result<Self, String> {
        let name = program.display().to_string();
        let failed = |error: std::io::Error| format!("{name}: {error}");
        let errors = File::create(&log).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let command_line = words.map(|word| word.to_string_lossy().into_owned()).collect();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let child = spawn_on(&mut command, cpus).map_err(failed)?;
        Ok(Self { child, log, name, command_line })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The program and its arguments.
    pub(super) fn command_line(&self) -> &[String] {
        &self.command_line
    }

    /// Its standard output, once.
    pub(super) fn output(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("taken once")
    }

    /// What it has used so far.
    pub(super) fn cpu(&self) -> Result<Cpu, String> {
        let failed = |error: &dyn std::fmt::Display| format!("CPU time of {}: {error}", self.name);
        let id = i32::try_from(self.child.id()).map_err(|error| failed(&error))?;
        // The clock id of a process, as the kernel encodes it (include/linux/posix-timers.h:
        // CPUCLOCK_SCHED).
        let time = clock_gettime(ClockId::from_raw((!id << 3) | 2)).map_err(|e| failed(&e))?;
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).map_err(|e| failed(&e))?;
        // Fields 14 and 15 of proc_pid_stat(5); the second, the name, may hold blanks.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut ticks = after_name.split_whitespace().skip(11).map(str::parse::<f64>);
        let mut next = || ticks.next().and_then(Result::ok).ok_or_else(|| failed(&"no such field"));
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
        Ok(Cpu {
            total_s: time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9,
            user_s: next()? / per_second,
            system_s: next()? / per_second,
        })
    }

    /// True once it has ended; an error if it ended badly. Its CPU clock can still be read then.
    pub(super) fn has_ended(&mut self) -> Result<bool, String> {
        let id = Id::Pid(Pid::from_raw(self.child.id().cast_signed()));
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(id, flags) {
            Ok(WaitStatus::StillAlive) => Ok(false),
            Ok(WaitStatus::Exited(_, 0)) => Ok(true),
            Ok(status) => Err(format!("{} ended with {}: {}", self.name, how(status), self.log())),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// Why it is gone, in place of `reason`, which is only what was noticed of that first: the
    /// connection to a program that dies breaks before it has ended. `reason` if it goes on.
    pub(super) fn end_or(&mut self, reason: String) -> String {
        let ended = wait_for("end", DYING_LIMIT, || Ok(Some(self.has_ended()).filter(is_over)));
        match ended {
            Ok(Err(how)) => how,
            Ok(Ok(_)) => format!("{} ended: {}", self.name, self.log()),
            Err(_) => reason,
        }
    }

    /// The last lines of what it complained of, or that there are none.
    pub(super) fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.lines().count().saturating_sub(LOG_LINES);
        let lines: Vec<_> = text.lines().skip(from).collect();
        if lines.is_empty() {
            return format!("{} logged nothing", self.name);
        }
        format!("{} logged: {}", self.name, lines.join("; "))
    }
}

fn is_over(ended: &Result<bool, String>) -> bool {
    *ended != Ok(false)
}

/// `exit status 3`, `signal 9`.
fn how(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, status) => format!("exit status {status}"),
        WaitStatus::Signaled(_, signal, _) => format!("signal {}", signal as i32),
        other => format!("{other:?}"),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks `probe` until it has an answer; after `limit` the error names `what`.
pub(super) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if begin.elapsed() > limit {
            return Err(format!("no {what} within {limit:?}"));
        }
        thread::sleep(PROBE_EVERY);
    }
}

const LOG_LINES: usize = 20;
/// How long a program may take to end whose connection broke.
const DYING_LIMIT: Duration = Duration::from_secs(1);
/// Before a run only. Seldom enough to cost next to nothing, often enough for a run of a second.
const PROBE_EVERY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(directory: &tempfile::TempDir, script: &str) -> Process {
        let log = directory.path().join("log");
        Process::start(Path::new("sh"), ["-c", script], None, log).expect("a shell")
    }

    #[test]
    fn the_end_of_a_program_stands_in_place_of_what_was_noticed_first() {
        let directory = tempfile::tempdir().expect("a directory");
        for (script, says) in [
            ("sleep 0.1; echo why >&2; exit 3", "sh ended with exit status 3: sh logged: why"),
            ("kill -9 $$", "sh ended with signal 9: sh logged nothing"),
            ("exit 0", "sh ended: sh logged nothing"),
            ("exec sleep 60", "broken"),
        ] {
            assert_eq!(shell(&directory, script).end_or("broken".to_owned()), says);
        }
    }
}
