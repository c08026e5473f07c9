//! Where a source sends to.

use std::path::PathBuf;

use landfall_bench::SourceConfig;
use landfall_bench::send::{NO_ANSWER, NOT_MULTI_CHANNEL, Target};
use landfall_receiver::listen::{Address, take_inherited};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use crate::exit::Failure;

/// Reads the URI of a destination; a descriptor is taken, nothing else is opened yet.
pub(super) fn target(uri: &str) -> Result<Target, Failure> {
    let Some("file" | "exec" | "fd") = uri.split_once(':').map(|(scheme, _)| scheme) else {
        return uri.parse().map_err(|error| {
            let more = "for one stream file:PATH[,offset=N], exec:COMMAND and fd:N";
            Failure::usage(format!("{error}; {more}"))
        });
    };
    match Address::parse(uri).map_err(Failure::usage)? {
        Address::File { path, offset } => Ok(Target::File { path, offset }),
        Address::Exec { args } => Ok(Target::Command { args }),
        Address::Fd { name } => {
            let number = name.parse().map_err(|_| {
                Failure::usage(format!("fd:{name} is no number; names are for monitors (getfd)"))
            })?;
            let descriptor = take_inherited(number).map_err(|_| {
                let found = "it is not open, or was not inherited";
                let allowed = "a descriptor from 3 on that was left open, as in 3>FILE";
                Failure::usage(format!("fd:{number}: {found}; allowed is {allowed}"))
            })?;
            match getsockopt(&descriptor, sockopt::SockType) {
                Ok(kind) if kind != SockType::Stream => {
                    Err(Failure::usage(format!("{uri} is a socket, but not a stream socket")))
                }
                _ => Ok(Target::stream(descriptor)),
            }
        }
        other => Err(Failure::usage(format!("{other} is no destination"))),
    }
}

/// The file that `--mapped-ram` writes to, and where in it.
pub(super) fn file(uri: &str) -> Result<(PathBuf, u64), Failure> {
    match Address::parse(uri) {
        Ok(Address::File { path, offset }) => Ok((path, offset)),
        _ => Err(Failure::usage("--mapped-ram writes to a file:PATH[,offset=N]")),
    }
}

/// Fits what is sent to where it goes, or says why it cannot go there.
pub(super) fn fit(config: &mut SourceConfig, tls: bool, target: &Target) -> Result<(), Failure> {
    if config.channels > 0 && !target.multi_channel() {
        let found = config.channels;
        let text = format!("{NOT_MULTI_CHANNEL}: --multifd is {found}, allowed is 0");
        return Err(Failure::usage(text));
    }
    if !target.answers() {
        if tls {
            return Err(Failure::usage(NO_ANSWER));
        }
        config.return_path = false;
    }
    Ok(())
}
