//! What a source's command asks of the destination.

use crate::error::{Family, RunError};
use crate::wire::{Command, SectionType};

/// What to do upon a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The return path is open from now on.
    OpenReturnPath,
    /// Say PONG with this value.
    Pong(u32),
    /// The guest has stopped on the source.
    SwitchoverStart,
    /// Postcopy may come, and will be refused then.
    Advised,
    /// Go on.
    Nothing,
}

/// What `command` asks for.
///
/// # Errors
/// Unsupported: the command begins something that we do not do.
pub fn answer_to(command: Command<'_>) -> Result<Answer, RunError> {
    let postcopy = || unsupported("postcopy", "the capability postcopy-ram, or do not start it");
    match command {
        Command::OpenReturnPath => Ok(Answer::OpenReturnPath),
        Command::Ping(value) => Ok(Answer::Pong(value)),
        Command::SwitchoverStart => Ok(Answer::SwitchoverStart),
        Command::PostcopyAdvise(Some(_)) => Ok(Answer::Advised),
        Command::PostcopyAdvise(None) => Ok(Answer::Nothing),
        Command::EnableColo => Err(unsupported("COLO", "the capability x-colo")),
        Command::PostcopyListen
        | Command::PostcopyRun
        | Command::PostcopyRamDiscard(_)
        | Command::Packaged(_)
        | Command::PostcopyResume
        | Command::RecvBitmap(_) => Err(postcopy()),
    }
}

/// The error for `what` we do not do; `turn_off` is what makes a source stop
/// sending it.
pub fn unsupported(what: &str, turn_off: &str) -> RunError {
    RunError::new(
        Family::Unsupported,
        format!("{what} cannot be received: turn off {turn_off} on the source"),
    )
}

/// Says in the log that an iterable beside ram has begun: it is walked, and its content is not
/// kept. Who loads the guest somewhere else would need it.
pub fn note_passed_over(section_type: SectionType, idstr: &str) {
    if section_type == SectionType::START && idstr != "ram" {
        tracing::warn!("section {idstr}: its content is passed over, and not kept");
    }
}

/// True if a source of this machine type takes exactly one SWITCHOVER_ACK for
/// the whole migration: up to 11.0. From 11.1 on it counts devices, and an ACK
/// too many is fatal to it (`migration/migration.c`).
pub fn acks_once(machine: Option<&str>) -> bool {
    let version = machine.and_then(|name| name.rsplit_once('-')).map(|(_, version)| version);
    let Some((major, minor)) = version.and_then(|version| version.split_once('.')) else {
        return true;
    };
    match (major.parse::<u32>(), minor.parse::<u32>()) {
        (Ok(major), Ok(minor)) => (major, minor) <= (11, 0),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::acks_once;

    #[test]
    fn one_switchover_ack_goes_to_machines_up_to_11_0() {
        for (machine, once) in [
            ("pc-q35-10.0", true),
            ("pc-q35-11.0", true),
            ("pc-q35-11.1", false),
            ("pc-i440fx-7.2", true),
            ("virt-12.0", false),
            ("microvm", true),
        ] {
            assert_eq!(acks_once(Some(machine)), once, "{machine}");
        }
    }
}
