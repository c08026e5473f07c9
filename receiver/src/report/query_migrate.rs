//! QEMU's `query-migrate`, with the members that a source has and a destination
//! has not.

use serde_json::{Map, Value, json};

use crate::receiver::Migration;
use crate::status::Status;

use super::snapshot::Snapshot;

/// The answer to `query-migrate` as of now; `{}` if nothing was ever started.
///
/// Members and their order are those of the proposal "migration: expose RAM
/// stats and timing on destination via query-migrate" (qemu-devel, April 2026);
/// what only a source can know is absent.
pub fn query_migrate(migration: Option<&Migration>) -> Value {
    migration.map_or_else(|| json!({}), |migration| answer(&Snapshot::take(migration)))
}

/// The answer for one look at a run.
pub(super) fn answer(snapshot: &Snapshot<'_>) -> Value {
    let status = snapshot.status;
    let mut members = Map::new();
    if status == Status::None {
        return Value::Object(members);
    }
    members.insert("status".into(), status.as_str().into());
    let error = snapshot.ended().and_then(|ended| ended.error.as_ref());
    if let Some(error) = error {
        members.insert("error-desc".into(), error.text.as_str().into());
    }
    // Then nobody listens any more (QEMU's `migration_incoming_transport_cleanup`).
    if !status.is_terminal() {
        let address = &snapshot.migration.socket_address;
        // Of a file, a command or a descriptor QEMU tells none either.
        if address.as_array().is_some_and(|places| !places.is_empty()) {
            members.insert("socket-address".into(), address.clone());
        }
    }
    let begun = match status {
        Status::None | Status::Setup => false,
        Status::Active | Status::Completed => true,
        Status::Failed => snapshot.phases.connected.is_some(),
    };
    if begun {
        let figures = snapshot.figures();
        members.insert("total-time".into(), figures.total_time_ms.into());
        // A source whose channels are counted as they come is active before it
        // has told its RAM.
        if figures.page_bytes > 0 {
            members.insert("ram".into(), figures.ram());
        }
    }
    Value::Object(members)
}

/// What the members of `ram` are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Where the run stands.
    pub status: Status,
    /// Milliseconds from the last expected connection to the end or now; at
    /// least 1 in a terminal state.
    pub total_time_ms: u64,
    /// Bytes of all RAM blocks (QEMU `used_length`).
    pub ram_bytes: u64,
    /// The target's page size.
    pub page_bytes: u32,
    /// Pages that arrived with their data, as often as they did.
    pub normal: u64,
    /// Pages announced as zero, as often as they were.
    pub zero: u64,
    /// Pages that arrived at least once.
    pub unique: u64,
}

impl Figures {
    /// The object `ram`.
    pub fn ram(&self) -> Value {
        json!({
            "total": self.ram_bytes,
            "pages-per-second": self.pages_per_second(),
            "page-size": self.page_bytes,
            "remaining": self.remaining(),
            "mbps": self.mbps(),
            "transferred": self.normal_bytes(),
            "duplicate": self.zero,
            "normal-bytes": self.normal_bytes(),
            "normal": self.normal,
        })
    }

    /// Bytes of pages that arrived with their data.
    pub fn normal_bytes(&self) -> u64 {
        self.normal * u64::from(self.page_bytes)
    }

    /// Bytes that have never arrived; 0 once completed.
    pub fn remaining(&self) -> u64 {
        match self.status {
            Status::Completed => 0,
            _ => self.ram_bytes.saturating_sub(self.unique * u64::from(self.page_bytes)),
        }
    }

    /// Megabits of page data per second; 0 before the first millisecond.
    pub fn mbps(&self) -> f64 {
        if self.total_time_ms == 0 {
            return 0.0;
        }
        self.normal_bytes() as f64 * 8.0 / self.total_time_ms as f64 / 1000.0
    }

    /// Arrivals per second, rounded down; 0 before the first millisecond.
    pub fn pages_per_second(&self) -> u64 {
        // Pages times 1000 fit: they arrived one by one, at least a bit each.
        ((self.normal + self.zero) * 1000).checked_div(self.total_time_ms).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Figures, Status};

    #[test]
    fn the_sample_of_the_proposal_comes_out_number_for_number() {
        let sample: Value = serde_json::from_str(SAMPLE).unwrap();
        assert_eq!(FIGURES.ram(), sample);
        let text = FIGURES.ram().to_string();
        let order = |name: &str| text.find(&format!("\"{name}\":")).expect(name);
        let names = ["total", "pages-per-second", "page-size", "remaining", "mbps", "transferred"];
        let more = ["duplicate", "normal-bytes", "normal"];
        let places: Vec<_> = names.into_iter().chain(more).map(order).collect();
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn rates_are_0_before_the_first_millisecond() {
        let figures = Figures { status: Status::Active, total_time_ms: 0, ..FIGURES };
        assert_eq!(figures.mbps(), 0.0);
        assert_eq!(figures.pages_per_second(), 0);
    }

    #[test]
    fn what_remains_are_the_bytes_that_never_came_and_none_once_completed() {
        let live = Figures { status: Status::Active, unique: 100, ..FIGURES };
        assert_eq!(live.remaining(), 554_508_288 - 100 * 4096);
        let failed = Figures { status: Status::Failed, ..live };
        assert_eq!(failed.remaining(), live.remaining());
        // Completed although pages never came: what a source never sends is zero.
        let completed = Figures { status: Status::Completed, ..live };
        assert_eq!(completed.remaining(), 0);
    }

    const FIGURES: Figures = Figures {
        status: Status::Completed,
        total_time_ms: 94,
        ram_bytes: 554_508_288,
        page_bytes: 4096,
        normal: 281,
        zero: 135_101,
        unique: 135_378,
    };
    const SAMPLE: &str = r#"{"total": 554508288, "pages-per-second": 1440234, "page-size": 4096,
        "remaining": 0, "mbps": 97.955404255319152, "transferred": 1150976, "duplicate": 135101,
        "normal-bytes": 1150976, "normal": 281}"#;
}
