//! Standard output: the one place through which all commands print.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::exit::Failure;

/// True for `-`, as options name it.
pub(crate) fn is_named(path: Option<&Path>) -> bool {
    path == Some(Path::new("-"))
}

/// Prints `text` and the end of a line.
///
/// That whoever read has gone, as `head` does, is no fault: what a command found still decides how
/// it ends.
///
/// # Errors
/// Host: the text could not be written, for want of space for instance.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    to(&mut io::stdout().lock(), text)
}

fn to(output: &mut impl Write, text: impl fmt::Display) -> Result<(), Failure> {
    // In one piece: lines of several processes stay whole.
    let written = output.write_all(format!("{text}\n").as_bytes()).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::host(format!("standard output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_reader_that_has_gone_is_no_fault_and_a_full_disk_is_one() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        assert!(to(&mut writer, "nobody reads this").is_ok());
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let failure = to(&mut full, "there is no room for this").unwrap_err();
        assert_eq!(failure.exit, Exit::Host);
        assert!(failure.to_string().starts_with("standard output: "), "{failure}");
    }
}
