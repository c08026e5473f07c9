//! Options of `landfall receive` that cannot be had together.

use std::path::Path;

use landfall_qmp::MonitorAddress;

use crate::cli::{ReceiveArguments, SinkOption};
use crate::exit::Failure;

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
    if arguments.json.as_deref() == Some(Path::new("-")) && has_stdio(&arguments.qmp) {
        return Err(Failure::usage(
            "--json - cannot be used with --qmp stdio: standard output is the monitor's, and a \
             report among its replies would be no QMP; give --json a file",
        ));
    }
    Ok(())
}

/// Is standard output a monitor's?
pub(super) fn has_stdio(monitors: &[MonitorAddress]) -> bool {
    monitors.contains(&MonitorAddress::Stdio)
}
