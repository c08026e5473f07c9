//! `latencies`: histograms, merged over all readers.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::stats::Latencies;

/// All histograms. They belong to the readers while a run goes on, so they are
/// there only after it.
pub(super) fn latencies(latencies: &Latencies) -> Value {
    json!({
        "packet": histogram(&latencies.packet_ns),
        "header-wait": histogram(&latencies.header_wait_ns),
        "sync-wait": histogram(&latencies.sync_wait_ns),
    })
}

fn histogram(histogram: &Histogram<u64>) -> Value {
    let some = !histogram.is_empty();
    let at = |quantile: f64| some.then(|| histogram.value_at_quantile(quantile));
    json!({
        "count": histogram.len(),
        "p50-ns": at(0.5),
        "p90-ns": at(0.9),
        "p99-ns": at(0.99),
        "p99.9-ns": at(0.999),
        "max-ns": some.then(|| histogram.max()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_has_a_count_and_no_percentiles() {
        let value = latencies(&Latencies::new());
        assert_eq!(value["packet"]["count"], 0);
        assert!(value["packet"]["p50-ns"].is_null() && value["packet"]["max-ns"].is_null());
    }

    #[test]
    fn percentiles_are_right_to_two_digits() {
        let mut all = Latencies::new();
        (1..=1000).for_each(|ns| all.packet_ns.record(ns * 1000).unwrap());
        let packet = &latencies(&all)["packet"];
        for (name, wanted) in [("p50-ns", 500e3), ("p90-ns", 900e3), ("p99.9-ns", 999e3)] {
            let found = packet[name].as_f64().unwrap();
            assert!((found / wanted - 1.0).abs() < 0.01, "{name}: {found}");
        }
        assert_eq!(packet["count"], 1000);
    }
}
