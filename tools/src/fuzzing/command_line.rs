//! The command line, and the values on it that are more than text.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fmt::{Debug, Display};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use landfall_pagepool::{Hugepages, Numa};
use landfall_receiver::settings::QemuVersion;

use crate::cli::Cli;

/// Reads `bytes` as a command line, an argument a line.
///
/// One that is taken is written anew, every option in its long form and before the values without
/// one, and that must mean the same.
///
/// # Panics
///
/// Where it does not.
pub fn command_line(bytes: &[u8]) {
    let arguments = bytes.split(|&byte| byte == b'\n').map(OsStr::from_bytes);
    for text in arguments.clone().filter_map(OsStr::to_str) {
        reads_what_it_prints::<Hugepages>(text);
        reads_what_it_prints::<Numa>(text);
        reads_what_it_prints::<QemuVersion>(text);
    }
    if let Some((matches, cli)) = parse(arguments.map(OsString::from).collect()) {
        let anew = written_anew(&matches);
        let again = parse(anew.clone());
        let again = again.map(|(_, again)| format!("{again:?}"));
        assert_eq!(again, Some(format!("{cli:?}")), "written anew: {anew:?}");
    }
}

/// A command line for each command.
pub fn command_line_seeds() -> Vec<Vec<u8>> {
    [
        "receive\ntcp:0:4444\n--multifd\n4\n--pool=4G\n--hugepages\n2M\n--numa=0,1\n--max-ram\n1T",
        "-vv\nreceive\ndefer\n--qmp=unix:/run/q,server=on,wait=off\n--qemu-version\n7.2\n-i\n0.5",
        "receive\nunix:/x\n--sink\ndiscard\n--digest\n--allow=10.0.0.0/8\n--allow\n::1/128\n--json=-",
        "receive\ntcp::1\ntcp::2\n--mem-path\n/d\n--uuid=12345678-1234-5678-1234-56789abcdef0",
        "demo\n--ram=512M\n--multifd=8\n--seed\n7\n--rounds=2\n--dirty=0\n--zero=100\n--cpus=0-3,8\n-q",
        "send\ntcp:h:1\n--speak=7.2\n-M\npc-i440fx-2.3\n--no-return-path\n--page-size=64K\n--pace\n1M",
        "send\nunix:/x\n--zero-page-detection=legacy\n--forged-tails\n3\n--image=/f\n--reply-timeout=9",
        "send\nexec:cat\n--multifd=0\n--xbzrle\n--compress\n--speak\n9.0\n--block\n--dirty-bitmaps",
        "send\nfile:/f,offset=4k\n--multifd\n0\n--x-ignore-shared\n--rounds=5",
        "verify\n/a\n/b\n--block\nmem=/x\n--block=pc.bios=/y",
        "record\ntcp:0:4444\n--to=unix:/y\n/d\n--max-size\n4G",
        "replay\n/d\ntcp:h:1\n--paced\n--cold\n--reply-timeout=0.25",
        "--help",
        "receive\n--",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn reads_what_it_prints<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug + PartialEq,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse(), Ok(value));
    }
}

fn parse(arguments: Vec<OsString>) -> Option<(ArgMatches, Cli)> {
    thread_local! {
        static COMMAND: RefCell<Command> = RefCell::new(Cli::command());
    }
    let with_name = std::iter::once(OsString::from("landfall")).chain(arguments);
    let matches = COMMAND.with_borrow_mut(|command| command.try_get_matches_from_mut(with_name));
    match matches {
        Ok(matches) => {
            let cli = Cli::from_arg_matches(&matches).expect("what clap took");
            Some((matches, cli))
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Arguments that mean what was found.
fn written_anew(matches: &ArgMatches) -> Vec<OsString> {
    let command = Cli::command();
    let (mut options, _) = arguments(&command, matches);
    if let Some((name, matches)) = matches.subcommand() {
        options.push(name.into());
        let subcommand = command.find_subcommand(name).expect("it was found");
        let (more, values) = arguments(subcommand, matches);
        options.extend(more);
        options.push("--".into());
        options.extend(values);
    }
    options
}

/// Options, and values without one.
fn arguments(command: &Command, matches: &ArgMatches) -> (Vec<OsString>, Vec<OsString>) {
    let (mut options, mut values) = (Vec::new(), Vec::new());
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let long = argument.get_long().map(|long| OsString::from(format!("--{long}")));
        match (argument.get_action(), long) {
            (ArgAction::Count, Some(long)) => {
                let count = usize::from(matches.get_count(id));
                options.extend(std::iter::repeat_n(long, count));
            }
            (ArgAction::SetTrue, Some(long)) => options.push(long),
            (_, long) => {
                for value in matches.get_raw(id).into_iter().flatten() {
                    match &long {
                        Some(long) => {
                            options.push([long, OsStr::new("="), value].into_iter().collect())
                        }
                        None => values.push(value.to_owned()),
                    }
                }
            }
        }
    }
    (options, values)
}
