//! What is migrated, and how: the scenarios, built in or in a file.

use std::path::Path;

use landfall_receiver::cpu_list::CpuList;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    contender::{Contender, Entry, MemorySetup, Receiver, Sender},
    content::Content,
};

/// A migration to compare receivers by, as its file (TOML) has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Guest RAM, MiB. With several every contender runs with each.
    #[serde(default = "one_gib")]
    pub ram_mib: Vec<u64>,
    /// Multifd channels, 0 for none.
    pub channels: u8,
    /// landfall's reader threads.
    pub readers: u8,
    /// What guest memory holds.
    pub content: Content,
    /// The source's `zero-page-detection`, where it is not QEMU's default.
    pub zero_page_detection: Option<String>,
    /// `multifd-compression` of both ends.
    pub compression: Option<String>,
    /// Every connection is under TLS.
    #[serde(default)]
    pub tls: bool,
    /// Capabilities that both ends have on, beside `multifd`. With `mapped-ram` the guest is saved
    /// to a file once, and every contender loads that.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Migration parameters of both ends, beside those above.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// A real source's memory is in its page tables before, as that of a guest that has been
    /// running (`prealloc` of its memory backend): the pages need not be found in their file while
    /// they are sent.
    #[serde(default)]
    pub source_prealloc: bool,
    /// CPUs that the source may use; without them all. Two sides that share no CPU do not run in
    /// each other's time.
    pub source_cpus: Option<CpuList>,
    /// CPUs that each receiver may use.
    pub receiver_cpus: Option<CpuList>,
    /// A guest that runs; without it, it is stopped.
    pub guest: Option<Guest>,
    /// Who receives, in this order.
    pub contenders: Vec<Entry>,
}

/// A guest that runs and writes to its memory. Its migration is recorded once and replayed to every
/// contender, since no two of them would be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Guest {
    /// How much of its memory it writes to, again and again, MiB.
    pub dirties_mib: u64,
    /// How many times the source looks for dirty pages before it may end.
    pub rounds: u64,
}

impl Scenario {
    /// The scenario in a file's text.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check().map_err(|reason| format!("{}: {reason}", scenario.name))?;
        Ok(scenario)
    }

    /// The built-in scenario of this name, or else the file of this path.
    ///
    /// # Errors
    /// The file cannot be read, or what is wrong with it.
    pub fn open(name: &str) -> Result<Self, String> {
        if let Some(text) = text_of(name) {
            return Self::parse(text);
        }
        let path = Path::new(name);
        if path.components().count() < 2 && path.extension().is_none() {
            let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
            return Err(format!("must be a file, or one of {}", names.join(", ")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::parse(&text)
    }

    /// What a recording of `channels` channels holds, whatever it is: sent by the replayer.
    #[must_use]
    pub fn recorded(channels: u8) -> Self {
        let scenario = Self::open("random").expect("it is built in");
        let contenders =
            scenario.contenders.into_iter().filter(|entry| !entry.receiver.is_ceiling());
        Self {
            name: "recording".to_owned(),
            about: "a migration that was recorded".to_owned(),
            channels,
            contenders: contenders.collect(),
            ..scenario
        }
    }

    /// Every contender with every size of guest RAM.
    #[must_use]
    pub fn contenders(&self) -> Vec<Contender> {
        let of_size = |ram_mib: u64| {
            self.contenders.iter().map(move |entry| Contender {
                receiver: entry.receiver,
                memory: entry.memory,
                channels: entry.channels.unwrap_or(self.channels),
                readers: entry.readers.unwrap_or(self.readers),
                ram_bytes: ram_mib << 20,
                source: entry.source,
            })
        };
        self.ram_mib.iter().copied().flat_map(of_size).collect()
    }

    /// True if a file is loaded in place of a migration.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.capabilities.iter().any(|name| name == "mapped-ram")
    }

    /// True if landfall's own source is held against the one that is given.
    #[must_use]
    pub fn has_two_sources(&self) -> bool {
        self.contenders.iter().any(|entry| entry.source == Sender::Landfall)
    }

    /// Capabilities of both ends.
    pub(super) fn capabilities(&self, channels: u8) -> Vec<&str> {
        let multifd = (channels > 0).then_some("multifd");
        let own = self.capabilities.iter().map(String::as_str);
        // Told of its end by an event, a process is not asked whether it has come.
        multifd.into_iter().chain(own).chain(["events"]).collect()
    }

    /// Parameters that both ends must agree about.
    pub(super) fn parameters(&self, channels: u8) -> Map<String, Value> {
        let mut parameters = self.parameters.clone();
        if channels > 0 {
            parameters.insert("multifd-channels".to_owned(), json!(channels));
        }
        if let Some(method) = &self.compression {
            parameters.insert("multifd-compression".to_owned(), json!(method));
        }
        parameters
    }

    /// An error that says what of it no comparison can have.
    ///
    /// # Errors
    /// Sizes, contents, contenders or capabilities that do not go together.
    pub fn check(&self) -> Result<(), String> {
        if self.contenders.is_empty() || self.ram_mib.is_empty() {
            return Err("contenders and ram-mib must not be empty".to_owned());
        }
        if let Some(mib) = self.ram_mib.iter().find(|&&mib| mib < 32 || mib % 2 != 0) {
            return Err(format!("ram-mib {mib} must be even and at least 32"));
        }
        if self.content.zero_percent > 100 {
            return Err(format!("zero-percent {} must be at most 100", self.content.zero_percent));
        }
        for entry in &self.contenders {
            if entry.readers.unwrap_or(self.readers) == 0 {
                return Err("readers must be at least 1".to_owned());
            }
            let only = match entry.receiver {
                Receiver::Landfall => continue,
                Receiver::Qemu => &[MemorySetup::Default, MemorySetup::Hugepages],
                _ => &[MemorySetup::Hugepages][..],
            };
            if !only.contains(&entry.memory) {
                return Err(format!("{} has no memory of kind {}", entry.receiver, entry.memory));
            }
            let is_plain = self.compression.is_none() && !self.tls && self.guest.is_none();
            if entry.receiver.is_ceiling() && (self.is_file() || !is_plain) {
                return Err(format!("{} can only receive plain pages", entry.receiver));
            }
        }
        if self.has_two_sources() && (self.guest.is_some() || self.is_file()) {
            return Err("what is replayed or loaded has one source".to_owned());
        }
        match self.guest {
            Some(_) if self.tls => Err("a guest that runs is recorded, TLS cannot be".to_owned()),
            Some(_) if self.is_file() => Err("a guest that runs has no mapped-ram file".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The file of a built-in scenario.
#[must_use]
pub fn text_of(name: &str) -> Option<&'static str> {
    SCENARIOS.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| *text)
}

fn one_gib() -> Vec<u64> {
    vec![1024]
}

macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("scenarios/", $name, ".toml")))),*]
    };
}

/// The built-in scenarios: names and files.
pub const SCENARIOS: &[(&str, &str)] = built_in!(
    "random" "mixed" "idle" "idle-slope" "zero-legacy" "main-only" "many-channels"
    "default-memory" "large" "zlib" "zlib-text" "zstd" "zstd-scattered" "zstd-text" "tls" "xbzrle"
    "mapped-ram" "mapped-ram-dense" "source"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_right_and_has_the_name_of_its_file() {
        for (name, text) in SCENARIOS {
            match Scenario::parse(text) {
                Ok(scenario) => assert_eq!(scenario.name, *name),
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let (_, text) = SCENARIOS[0];
        let error = Scenario::parse(&format!("chanels = 3\n{text}")).unwrap_err();
        assert!(error.contains("line 1") && error.contains("unknown field `chanels`"), "{error}");
        let nested = text.replace("zero-percent", "zero-share");
        let line =
            text.lines().position(|line| line.contains("zero-percent")).expect("it is there");
        let error = Scenario::parse(&nested).unwrap_err();
        assert!(error.contains(&format!("line {}", line + 1)), "{error}");
    }

    #[test]
    fn a_ceiling_is_refused_what_it_cannot_receive() {
        let text = text_of("random").expect("it is built in");
        let error = Scenario::parse(&format!("compression = \"zlib\"\n{text}")).unwrap_err();
        assert!(error.contains("plain pages"), "{error}");
    }

    #[test]
    fn contenders_have_their_own_channels_and_every_size() {
        let scenario = Scenario {
            ram_mib: vec![64, 128],
            ..Scenario::open("many-channels").expect("it is built in")
        };
        let all = scenario.contenders();
        assert_eq!(all.len(), 2 * scenario.contenders.len());
        let is =
            |one: &Contender| (one.channels, one.readers, one.ram_bytes) == (255, 1, 128 << 20);
        assert!(all.iter().any(is), "{all:?}");
    }
}
