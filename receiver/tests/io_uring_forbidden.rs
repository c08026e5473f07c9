//! A host that forbids io_uring: told by its cause, before anybody connects.
//! The filter is put on a child alone, for it cannot be taken off again.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use landfall_receiver::receiver::{Receiver, ReceiverConfig};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

#[test]
fn a_filter_that_forbids_io_uring_is_named_as_the_cause() {
    if let Ok(case) = std::env::var(CHILD) {
        return be_the_child(&case);
    }
    let filter = "a seccomp filter or security module";
    for (case, wanted) in [
        ("setup EPERM", filter),
        ("setup ENOSYS", "no seccomp filter that hides it"),
        ("enter EPERM", filter),
        ("register EPERM", filter),
        ("none", "works"),
    ] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_filter_that_forbids_io_uring_is_named_as_the_cause"])
            .args(["--nocapture", "--test-threads=1"])
            .env(CHILD, case)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{case}: {said}");
        let line = said.lines().find(|line| line.contains(ANSWER)).unwrap_or_default();
        assert!(line.contains(wanted), "{case}: '{line}' lacks '{wanted}'");
    }
}

fn be_the_child(case: &str) {
    if let Some((call, errno)) = case.split_once(' ') {
        let call = match call {
            "setup" => libc::SYS_io_uring_setup,
            "enter" => libc::SYS_io_uring_enter,
            _ => libc::SYS_io_uring_register,
        };
        let errno = if errno == "EPERM" { libc::EPERM } else { libc::ENOSYS };
        forbid(call, errno);
    }
    let receiver = Receiver::new(ReceiverConfig::default(), Arc::new(|_, _| {}), &|_, _| {});
    match receiver {
        Ok(_) => println!("{ANSWER} works"),
        Err(error) => println!("{ANSWER} {}: {error}", error.family),
    }
}

/// From now on `call` fails with `errno` on this thread and those it starts.
fn forbid(call: libc::c_long, errno: i32) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        std::env::consts::ARCH.try_into().expect("an architecture with seccomp filters"),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).expect("a process may forbid itself things");
}

/// Makes this test its own child, and says what is forbidden there.
const CHILD: &str = "LANDFALL_TEST_FORBIDDEN";
const ANSWER: &str = "the receiver says:";
