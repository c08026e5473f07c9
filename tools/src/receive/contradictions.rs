//! Options of `landfall receive` that cannot be had together.

use landfall_qmp::MonitorAddress;

use crate::cli::{ReceiveArguments, SinkOption};
use crate::exit::Failure;
use crate::standard_output;

/// Looks at all options before anything is opened or mapped.
pub(super) fn refuse(arguments: &ReceiveArguments) -> Result<(), Failure> {
    if arguments.sink == SinkOption::Discard {
        for (option, given) in [
            ("--mem-path", arguments.mem_path.is_some()),
            ("--dump", arguments.dump.is_some()),
            ("--digest", arguments.digest),
        ] {
            if given {
                return Err(Failure::usage(format!(
                    "{option} cannot be used with --sink discard: pages are dropped as they come, \
                     so there is no memory to keep, write or hash"
                )));
            }
        }
    }
    let reports = [("--json", &arguments.json), ("--json-lines", &arguments.json_lines)];
    let printed = reports
        .iter()
        .filter(|(_, path)| standard_output::is_named(path.as_deref()))
        .map(|&(option, _)| option);
    match printed.collect::<Vec<_>>()[..] {
        [option] if has_stdio(&arguments.qmp) => Err(Failure::usage(format!(
            "{option} - cannot be used with --qmp stdio: standard output is the monitor's, and a \
             report among its replies would be no QMP; give {option} a file"
        ))),
        [_, _] => Err(Failure::usage(
            "--json - cannot be used with --json-lines -: each would stand in the other's way on \
             standard output; give one of them a file",
        )),
        _ => Ok(()),
    }
}

/// Does something else than the table go to standard output?
pub(super) fn is_stdout_taken(arguments: &ReceiveArguments) -> bool {
    let reports = [&arguments.json, &arguments.json_lines];
    reports.into_iter().any(|path| standard_output::is_named(path.as_deref()))
        || has_stdio(&arguments.qmp)
}

/// Is standard output a monitor's?
fn has_stdio(monitors: &[MonitorAddress]) -> bool {
    monitors.contains(&MonitorAddress::Stdio)
}
