//! Paired comparison: the median of ratios, with an interval.

use std::fmt;

use crate::Cost;

/// The ratios of pairs that ran one after the other.
pub(crate) struct Paired {
    ratios: Vec<f64>,
}

impl Paired {
    pub(crate) fn of(ours: &[Cost], theirs: &[Cost]) -> Self {
        let pairs = ours.iter().zip(theirs);
        let mut ratios: Vec<f64> =
            pairs.map(|(a, b)| a.cpu_s_per_gib() / b.cpu_s_per_gib()).collect();
        ratios.sort_by(f64::total_cmp);
        Self { ratios }
    }

    /// A 95 % interval of the median from order statistics (sign test): the
    /// widest pair of ranks that misses the median with at most 5 %.
    fn interval(&self) -> (f64, f64) {
        let n = self.ratios.len();
        let mut below = 0.0;
        let mut skip = 0;
        let mut ways = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
        for k in 0..n / 2 {
            below += ways;
            if 2.0 * below > 0.05 {
                break;
            }
            skip = k + 1;
            ways *= (n - k) as f64 / (k + 1) as f64;
        }
        let skip = skip.saturating_sub(1);
        (self.ratios[skip], self.ratios[n - 1 - skip])
    }
}

impl fmt::Display for Paired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.interval();
        let median = median(self.ratios.iter().copied());
        write!(f, "{median:.3} ({low:.3} to {high:.3}, {} pairs)", self.ratios.len())
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
