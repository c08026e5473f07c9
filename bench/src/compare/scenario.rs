//! What is migrated, and how: the named scenarios.

use serde_json::{Map, Value, json};

use super::content::{Content, Kind};

/// A migration to compare receivers by.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Multifd channels, 0 for none.
    pub channels: u8,
    /// landfall's reader threads.
    pub readers: u8,
    /// What guest memory holds.
    pub content: Content,
    /// The source's `zero-page-detection`, where it is not QEMU's default.
    pub zero_page_detection: Option<&'static str>,
    /// `multifd-compression` of both ends.
    pub compression: Option<&'static str>,
    /// Every connection is under TLS, with the certificates of [`super::Comparison::tls_creds`].
    pub is_tls: bool,
    /// A receiver that looks at nothing could receive it: the ceiling is run too.
    pub has_ceiling: bool,
    /// Nobody's memory is there before: what starting up costs belongs to it.
    pub is_default_memory: bool,
}

impl Scenario {
    /// What a recording of `channels` channels holds, whatever it is: sent by the replayer.
    #[must_use]
    pub fn recorded(channels: u8) -> Self {
        let about = "a migration that was recorded";
        Self { name: "recording", about, channels, has_ceiling: false, ..BASE }
    }

    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Capabilities that both ends have on.
    pub(super) fn capabilities(&self) -> Vec<&'static str> {
        if self.channels > 0 { vec!["multifd"] } else { Vec::new() }
    }

    /// Parameters that both ends must agree about.
    pub(super) fn parameters(&self) -> Map<String, Value> {
        let mut parameters = Map::new();
        if self.channels > 0 {
            parameters.insert("multifd-channels".to_owned(), json!(self.channels));
        }
        if let Some(method) = self.compression {
            parameters.insert("multifd-compression".to_owned(), json!(method));
        }
        parameters
    }
}

const RANDOM: Content = Content { kind: Kind::Random, zero_percent: 0 };

const BASE: Scenario = Scenario {
    name: "random",
    about: "pages that do not compress, none of them zero, over 2 channels",
    channels: 2,
    readers: 2,
    content: RANDOM,
    zero_page_detection: None,
    compression: None,
    is_tls: false,
    has_ceiling: true,
    is_default_memory: false,
};

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    BASE,
    Scenario {
        name: "mixed",
        about: "half of the pages zero, so that packets are thinned and permuted",
        content: Content { zero_percent: 50, ..RANDOM },
        ..BASE
    },
    Scenario {
        name: "idle",
        about: "98 % of the pages zero, told in packets",
        content: Content { zero_percent: 98, ..RANDOM },
        has_ceiling: false,
        ..BASE
    },
    Scenario {
        name: "zero-legacy",
        about: "98 % of the pages zero, told on the main stream",
        content: Content { zero_percent: 98, ..RANDOM },
        zero_page_detection: Some("legacy"),
        has_ceiling: false,
        ..BASE
    },
    Scenario { name: "main-only", about: "no multifd", channels: 0, readers: 1, ..BASE },
    Scenario { name: "many-channels", about: "64 channels, 2 readers", channels: 64, ..BASE },
    Scenario {
        name: "default-memory",
        about: "no pool, nothing prefaulted: what starting up costs is counted",
        has_ceiling: false,
        is_default_memory: true,
        ..BASE
    },
    Scenario {
        name: "zlib",
        about: "multifd-compression zlib, pages a quarter random and the rest words",
        content: Content { kind: Kind::QuarterRandom, zero_percent: 0 },
        compression: Some("zlib"),
        has_ceiling: false,
        ..BASE
    },
    Scenario {
        name: "zstd",
        about: "multifd-compression zstd, pages a quarter random and the rest words, adjoining",
        content: Content { kind: Kind::QuarterRandom, zero_percent: 0 },
        compression: Some("zstd"),
        has_ceiling: false,
        ..BASE
    },
    Scenario {
        name: "zstd-scattered",
        about: "the same with half of the pages zero, so that pages do not adjoin",
        content: Content { kind: Kind::QuarterRandom, zero_percent: 50 },
        compression: Some("zstd"),
        has_ceiling: false,
        ..BASE
    },
    Scenario {
        name: "tls",
        about: "pages that do not compress under TLS, certificates on both sides",
        is_tls: true,
        has_ceiling: false,
        ..BASE
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_own_name() {
        for scenario in SCENARIOS {
            assert_eq!(Scenario::named(scenario.name), Some(scenario));
        }
        assert_eq!(Scenario::named("no-such"), None);
    }
}
