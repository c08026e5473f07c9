//! Costs out of the reports of runs (docs/schema/x-query-receiver.schema.json).

use serde_json::Value;

use super::{
    Costs, GIB, Network, PAGE_BYTES, Pace, Question, ReceiverCosts, SEND_BUFFER_BYTES, Work,
    least_squares, least_squares::Row,
};

/// What one run tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    normal_pages: f64,
    zero_pages: f64,
    /// Without SYNC packets.
    packets: f64,
    sync_packets: f64,
    resent_pages: f64,
    /// CPU of readers and the main thread.
    cpu_s: f64,
    /// From the first sync point to the last page.
    pages_s: f64,
    device_state_s: f64,
    answer_s: f64,
    prefault_s_per_gib: Option<f64>,
    /// What it was taken for.
    pub taken_for: TakenFor,
}

/// The run of a calibration, for people: it speaks for runs like it and no others.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenFor {
    /// Guest RAM, bytes.
    pub ram_bytes: u64,
    /// Channels.
    pub channels: usize,
    /// Readers.
    pub readers: usize,
    /// The machine type of the source.
    pub machine: String,
    /// Who sent: the first channel's peer.
    pub peer: String,
    /// The CPU of the destination.
    pub cpu_model: String,
    /// Its kernel.
    pub kernel: String,
    /// What its memory was made of.
    pub backend: String,
    /// How its pages were compressed.
    pub compression: String,
    /// The version of TLS.
    pub tls: Option<String>,
    /// Bytes per second while pages came.
    pub bytes_per_second: f64,
    /// How busy its readers were then, 0 to 1.
    pub readers_busy: f64,
}

/// Why a report is no calibration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalibrationError {
    /// It is something else.
    #[error("is no report of landfall receive: {0}")]
    NoReport(String),
    /// It is newer, or older, than what is understood.
    #[error("has version {found} of landfall.x-query-receiver, understood is {SCHEMA_VERSION}")]
    Version {
        /// Its version.
        found: u64,
    },
    /// The run came to no good end.
    #[error("is of a run that is {status}, not completed")]
    NotCompleted {
        /// The run's status.
        status: String,
    },
    /// Something is missing that a forecast is made from.
    #[error("has no {0}")]
    Missing(&'static str),
    /// It measured something else.
    #[error("cannot calibrate: {0}")]
    OfNoUse(&'static str),
}

impl TakenFor {
    /// Whether its bytes came as fast as this network passes any: then it does not tell how fast
    /// the source is.
    #[must_use]
    pub fn is_held_back_by(&self, network: &Network) -> bool {
        self.bytes_per_second >= FULL_LINK * network.payload_bytes_per_second()
    }
}

impl Calibration {
    /// Reads a report.
    ///
    /// # Errors
    /// What keeps it from being a calibration.
    pub fn read(text: &str) -> Result<Self, CalibrationError> {
        use CalibrationError::{Missing, NoReport, NotCompleted, OfNoUse, Version};
        let report: Value =
            serde_json::from_str(text).map_err(|error| NoReport(error.to_string()))?;
        if report.pointer("/schema/name").and_then(Value::as_str) != Some(SCHEMA_NAME) {
            return Err(NoReport(format!("its schema is not {SCHEMA_NAME}")));
        }
        let version = report.pointer("/schema/version").and_then(Value::as_u64).unwrap_or(0);
        if version != SCHEMA_VERSION {
            return Err(Version { found: version });
        }
        let status = report["status"].as_str().unwrap_or("unknown");
        if status != "completed" {
            return Err(NotCompleted { status: status.to_owned() });
        }
        let number =
            |path: &'static str| report.pointer(path).and_then(Value::as_f64).ok_or(Missing(path));
        let text = |path: &str| {
            report.pointer(path).and_then(Value::as_str).unwrap_or("unknown").to_owned()
        };
        let lists = |name| report[name].as_array().filter(|list| !list.is_empty());
        let channels = lists("channels").ok_or(OfNoUse("it came without multifd channels"))?;
        let readers = lists("readers").ok_or(Missing("/readers"))?;
        let Some(backend) = report.pointer("/memory/backend").and_then(Value::as_str) else {
            return Err(OfNoUse("its pages were not kept (--sink discard)"));
        };
        let page_bytes = number("/pages/page-bytes")?;
        if page_bytes != PAGE_BYTES as f64 {
            return Err(OfNoUse("its pages are not of 4 KiB"));
        }
        let pages_s = (number("/phases/ram-done-ns")? - number("/phases/first-byte-ns")?) / 1e9;
        let normal_pages = number("/pages/normal-pages")?;
        let zero_pages = number("/pages/zero-pages")?;
        if pages_s < PAGES_S_MIN || normal_pages + zero_pages < PAGES_MIN {
            return Err(OfNoUse("it is too short: 64 MiB and 10 ms of pages are the least"));
        }
        let of_all = |name: &'static str| -> Result<f64, CalibrationError> {
            let each = readers.iter().map(|reader| reader[name].as_f64().ok_or(Missing(name)));
            each.sum()
        };
        let cpu_ns = of_all("cpu-ns")? + number("/main-thread/cpu-ns")?;
        // Reports from before it was told have it in `decompressing-ns`.
        let decrypting_ns: f64 =
            readers.iter().filter_map(|reader| reader["decrypting-ns"].as_f64()).sum();
        let busy_ns = of_all("receiving-ns")?
            + of_all("placing-ns")?
            + of_all("decompressing-ns")?
            + decrypting_ns;
        let channel_bytes = number("/wire/channel-bytes")?;
        let ram_bytes = number("/pages/ram-pages")? * page_bytes;
        let prefault_s = number("/memory/prefault-ns")? / 1e9 * number("/memory/prefault-threads")?;
        let prefault_gib = number("/memory/bytes")? / GIB;
        Ok(Self {
            normal_pages,
            zero_pages,
            packets: number("/wire/packets")? - number("/wire/sync-packets")?,
            sync_packets: number("/wire/sync-packets")?,
            resent_pages: number("/pages/resent-pages")?,
            cpu_s: cpu_ns / 1e9,
            pages_s,
            device_state_s: (number("/phases/device-state-done-ns")?
                - number("/phases/ram-done-ns")?)
                / 1e9,
            answer_s: (number("/phases/completed-ns")? - number("/phases/device-state-done-ns")?)
                / 1e9,
            prefault_s_per_gib: (prefault_gib > 0.0).then(|| prefault_s / prefault_gib),
            taken_for: TakenFor {
                ram_bytes: ram_bytes as u64,
                channels: channels.len(),
                readers: readers.len(),
                machine: text("/guest/machine"),
                peer: channels[0]["peer"].as_str().unwrap_or("unknown").to_owned(),
                cpu_model: text("/environment/cpu-model"),
                kernel: text("/environment/kernel"),
                backend: backend.to_owned(),
                compression: text("/compression/method"),
                tls: report.pointer("/tls/version").and_then(Value::as_str).map(str::to_owned),
                bytes_per_second: channel_bytes / pages_s,
                readers_busy: busy_ns / 1e9 / (pages_s * readers.len() as f64),
            },
        })
    }

    /// The costs that several runs tell together. Five or more of different shapes tell a GiB, a
    /// packet, a run between zero pages, a SYNC packet and a page that comes again apart; fewer only
    /// scale what was measured elsewhere (docs/scaling.md). How fast the source is, the runs tell that
    /// the network of `question` did not hold back; without one it is taken to be as fast as is known.
    ///
    /// # Panics
    /// Without a run.
    #[must_use]
    pub fn costs(runs: &[Self], question: &Question) -> Costs {
        assert!(!runs.is_empty(), "a calibration is at least one run");
        let median =
            |figure: &dyn Fn(&Self) -> f64| crate::compare::median(runs.iter().map(figure));
        let assumed = Costs::assumed_low(question.source.channels);
        let free: Vec<_> =
            runs.iter().filter(|run| !run.taken_for.is_held_back_by(&question.network)).collect();
        let pace = if free.is_empty() { assumed.pace } else { Self::pace(&free) };
        let prefault: Vec<f64> = runs.iter().filter_map(|run| run.prefault_s_per_gib).collect();
        Costs {
            receiver: Self::receiver_costs(runs),
            pace,
            device_state_s: median(&|run: &Self| run.device_state_s),
            answer_s: median(&|run: &Self| run.answer_s),
            prefault_s_per_gib: if prefault.is_empty() {
                assumed.prefault_s_per_gib
            } else {
                crate::compare::median(prefault.into_iter())
            },
            // Nothing at the destination tells these, or only a run under `max-bandwidth`.
            rest_s: assumed.rest_s,
            sync_s_per_tib: assumed.sync_s_per_tib,
            stop_s: assumed.stop_s,
            in_flight_bytes: SEND_BUFFER_BYTES,
        }
    }

    /// What the runs tell of the receiver alone.
    ///
    /// # Panics
    /// Without a run.
    #[must_use]
    pub fn receiver_costs(runs: &[Self]) -> ReceiverCosts {
        let known = ReceiverCosts::LOOPBACK;
        let rows: Vec<_> = runs.iter().map(Self::cpu_row).collect();
        least_squares::fit(&rows).map_or_else(
            || {
                let factors = runs.iter().map(|run| run.cpu_s / run.cpu_s_by(&known));
                known.times(crate::compare::median(factors))
            },
            ReceiverCosts::of,
        )
    }

    /// What a GiB, a packet and a run alone cost, seconds, by runs of one number of channels in which
    /// nothing came again; `None` if they do not tell these apart.
    #[must_use]
    pub fn page_costs(runs: &[&Self]) -> Option<[f64; 3]> {
        let row = |run: &&Self| {
            let [gib, packets, cut, ..] = run.work().amounts();
            Row { amounts: [gib, packets, cut], cost: run.cpu_s }
        };
        least_squares::fit(&runs.iter().map(row).collect::<Vec<_>>())
    }

    fn pace(runs: &[&Self]) -> Pace {
        let rows: Vec<_> = runs.iter().map(|run| run.pace_row()).collect();
        if let Some([normal_s, zero_s]) = least_squares::fit(&rows) {
            return Pace { ns_per_normal_page: normal_s * 1e9, ns_per_zero_page: zero_s * 1e9 };
        }
        let normal_s = crate::compare::median(
            runs.iter()
                .map(|run| run.pages_s / (run.normal_pages + ZERO_TO_NORMAL * run.zero_pages)),
        );
        let ns_per_normal_page = normal_s * 1e9;
        Pace { ns_per_normal_page, ns_per_zero_page: ns_per_normal_page * ZERO_TO_NORMAL }
    }

    /// CPU seconds of the run's readers and main thread.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.cpu_s
    }

    /// What they would have been by these costs.
    #[must_use]
    pub fn cpu_s_by(&self, costs: &ReceiverCosts) -> f64 {
        costs.cpu_s(&self.work())
    }

    /// From the last page to the end of the run, seconds: the device state and the answer.
    #[must_use]
    pub fn after_pages_s(&self) -> f64 {
        self.device_state_s + self.answer_s
    }

    fn work(&self) -> Work {
        let first_pages = self.normal_pages + self.zero_pages - self.resent_pages;
        Work {
            normal_gib: self.normal_pages * PAGE_BYTES as f64 / GIB,
            packets: self.packets,
            runs: Work::runs(first_pages, self.zero_pages.min(first_pages)),
            sync_packets: self.sync_packets,
            resent_pages: self.resent_pages,
        }
    }

    fn cpu_row(&self) -> Row<5> {
        Row { amounts: self.work().amounts(), cost: self.cpu_s }
    }

    fn pace_row(&self) -> Row<2> {
        Row { amounts: [self.normal_pages, self.zero_pages], cost: self.pages_s }
    }
}

/// A network is full from this share of its rate on.
const FULL_LINK: f64 = 0.9;
const SCHEMA_NAME: &str = "landfall.x-query-receiver";
const SCHEMA_VERSION: u64 = 1;
/// Below these a run is all beginning and end.
const PAGES_S_MIN: f64 = 0.01;
const PAGES_MIN: f64 = 16_384.0;
/// The time of a zero page against one with its data: docs/scaling.md, "What a page costs".
const ZERO_TO_NORMAL: f64 = 0.5;
