//! Paired comparison: the median of ratios, with an interval.

use std::fmt;

/// The ratios of pairs that ran one after the other, sorted.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    ratios: Vec<f64>,
}

impl Ratio {
    /// Ours divided by theirs, pair by pair.
    pub fn of(ours: impl Iterator<Item = f64>, theirs: impl Iterator<Item = f64>) -> Self {
        let mut ratios: Vec<f64> = ours.zip(theirs).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        Self { ratios }
    }

    /// The median.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(self.ratios.iter().copied())
    }

    /// A 95 % interval of the median from order statistics (sign test): the innermost pair of
    /// ranks that misses the median with at most 5 %. `None` with fewer than six pairs, which
    /// cannot tell.
    #[must_use]
    pub fn interval(&self) -> Option<(f64, f64)> {
        let n = self.ratios.len();
        // The chance that fewer than `rank` of n ratios are below the median.
        let mut below = 0.0;
        let mut ways = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
        let mut rank = 0;
        while rank < n / 2 {
            below += ways;
            if 2.0 * below > 0.05 {
                break;
            }
            ways *= (n - rank) as f64 / (rank + 1) as f64;
            rank += 1;
        }
        let rank = rank.checked_sub(1)?;
        Some((self.ratios[rank], self.ratios[n - 1 - rank]))
    }

    /// True if the interval holds 1: no difference was shown. Without an interval none was either.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.interval().is_none_or(|(low, high)| low <= 1.0 && 1.0 <= high)
    }
}

/// The median and its interval, after `none` if that shows no difference; or a question mark.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = self.median();
        match self.interval() {
            Some((low, high)) if self.is_none() => {
                write!(f, "none: {median:.3} ({low:.3} to {high:.3})")
            }
            Some((low, high)) => write!(f, "{median:.3} ({low:.3} to {high:.3})"),
            None => write!(f, "{median:.3} (?)"),
        }
    }
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratios(n: u32) -> Ratio {
        Ratio::of((1..=n).map(f64::from), std::iter::repeat(1.0))
    }

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // The ranks of the tables: n = 6 takes all, 10 leaves out 1 at each end, 20 leaves out 5.
        assert_eq!(ratios(5).interval(), None);
        assert_eq!(ratios(6).interval(), Some((1.0, 6.0)));
        assert_eq!(ratios(10).interval(), Some((2.0, 9.0)));
        assert_eq!(ratios(20).interval(), Some((6.0, 15.0)));
    }

    #[test]
    fn an_interval_that_holds_1_is_no_difference() {
        assert!(ratios(6).is_none() && ratios(5).is_none());
        assert_eq!(ratios(6).to_string(), "none: 3.500 (1.000 to 6.000)");
        assert_eq!(ratios(5).to_string(), "3.000 (?)");
        assert_eq!(ratios(10).to_string(), "5.500 (2.000 to 9.000)");
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!([ratios(1).median(), ratios(5).median(), ratios(10).median()], [1.0, 3.0, 5.5]);
    }
}
