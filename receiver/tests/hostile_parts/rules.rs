//! What is checked of a stream (docs/wire-format.md), rule by rule: the value
//! at the limit is taken, the next one refused with place, found and allowed.

use landfall_receiver::error::Family::{self, Environment};

use super::host::Host;
use super::source::*;
use super::{rules_of_main as main, rules_of_pages as pages};

/// What becomes of a stream.
type Fate = Result<(), (Family, &'static str)>;

/// Rows of a rule: what is sent, and what becomes of it.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) rows: Vec<(&'static str, Script, Fate)>,
}

#[test]
fn every_rule_of_the_main_stream_holds_at_its_limit_and_past_it() {
    let rules = [
        main::header(),
        main::subsections(),
        main::block_list(),
        pages::page_items(),
        pages::zero_items(),
        pages::xbzrle(),
        pages::compressed_pages(),
        main::sections(),
        main::commands_in_their_place(),
        main::packages(),
        main::descriptions(),
    ];
    hold(0, &rules);
}

/// Sends every row of every rule to one receiver.
pub(super) fn hold(channels: usize, rules: &[Rule]) {
    let host = Host::with(|config| {
        config.memory.max_ram_bytes = Some(RAM_BYTES_MAX);
        config.stall = std::time::Duration::from_secs(5);
    });
    for Rule { name, rows } in rules {
        let taken = rows.iter().filter(|(_, _, fate)| fate.is_ok()).count();
        assert!(taken > 0 && taken < rows.len(), "{name}: a limit has two sides");
        for (row, script, fate) in rows {
            let label = format!("{name}: {row}");
            let found = host.outcome(&label, channels, script, channels == 0 && fate.is_err());
            match (found, *fate) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err((family, part))) => {
                    assert_eq!(error.family, family, "{label}: {error}");
                    assert!(error.text.contains(part), "{label}: '{part}' is not in: {error}");
                    let place = PLACES.iter().any(|place| error.text.starts_with(place));
                    assert!(place || family == Environment, "{label}: where? {error}");
                }
                (found, wanted) => panic!("{label}: {found:?}, must be {wanted:?}"),
            }
        }
    }
    host.is_at_rest("all rules");
}

/// It is taken, and the migration completes.
pub(super) fn taken() -> Fate {
    Ok(())
}

/// It is refused by this family with these words.
pub(super) fn refused(family: Family, part: &'static str) -> Fate {
    Err((family, part))
}

/// A list of one block.
pub(super) fn one_block() -> Vec<u8> {
    list(&[(BLOCK.as_bytes(), BLOCK_BYTES)])
}

/// These bytes in a PART of ram.
pub(super) fn part(bytes: &[u8]) -> Script {
    Script::plain(start_of(&configuration(MACHINE), &commands(), &one_block()), bytes)
}

/// What `--max-ram` allows here.
pub(super) const RAM_BYTES_MAX: u64 = 16 << 20;
/// How an error says where it is.
const PLACES: [&str; 5] = [
    "main stream, byte ",
    "main stream, before byte ",
    "channel 1, packet ",
    "a multifd channel has id ",
    "two multifd channels have id ",
];
