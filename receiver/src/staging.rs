//! Staging memory: bytes of channels that are not pages yet, and what decodes
//! them. One budget for all of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a run may take for payloads on their way to a decoder, for decoders, for
/// buffers of TLS, and for device state that came on channels (`--staging-max`).
#[derive(Debug)]
pub struct Staging {
    max: u64,
    lent: AtomicU64,
}

impl Staging {
    /// A budget of `max` bytes.
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, lent: AtomicU64::new(0) })
    }

    /// Notes that `bytes` are about to be allocated; ask before allocating.
    ///
    /// # Errors
    /// They would be more than the budget has left.
    pub fn lend(self: &Arc<Self>, bytes: u64) -> Result<Lease, StagingFull> {
        let fits = |lent: u64| lent.checked_add(bytes).filter(|&sum| sum <= self.max);
        match self.lent.fetch_update(Relaxed, Relaxed, fits) {
            Ok(_) => Ok(Lease { staging: Arc::clone(self), bytes }),
            Err(lent) => Err(StagingFull { wanted: bytes, lent, max: self.max }),
        }
    }

    /// Bytes lent now.
    pub fn lent(&self) -> u64 {
        self.lent.load(Relaxed)
    }

    /// Bytes that may be lent at once.
    pub fn max(&self) -> u64 {
        self.max
    }
}

/// Bytes of the budget, given back when this is dropped.
#[derive(Debug)]
pub struct Lease {
    staging: Arc<Staging>,
    bytes: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.staging.lent.fetch_sub(self.bytes, Relaxed);
    }
}

/// The budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} more bytes of staging memory are needed, {lent} of {max} are in use: raise \
     --staging-max"
)]
pub struct StagingFull {
    /// Bytes asked for.
    pub wanted: u64,
    /// Bytes lent before.
    pub lent: u64,
    /// The budget.
    pub max: u64,
}

/// `--staging-max` unless told otherwise: room for 255 channels with decoders of
/// common windows, and for some device state.
pub const STAGING_MAX_DEFAULT: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_lent_again_and_never_more_than_the_budget() {
        let staging = Staging::new(100);
        let first = staging.lend(60).unwrap();
        let full = StagingFull { wanted: 41, lent: 60, max: 100 };
        assert_eq!(staging.lend(41).unwrap_err(), full);
        assert!(staging.lend(u64::MAX).is_err());
        let second = staging.lend(40).unwrap();
        drop(first);
        assert_eq!(staging.lent(), 40);
        drop(second);
        assert!(staging.lend(100).is_ok());
    }
}
