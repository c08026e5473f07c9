//! The conversations once more without each feature of io_uring, as on an older
//! kernel.

#[path = "../../../tests/mask_parts/each_mask.rs"]
mod each_mask;

use crate::ring::RingFeatures;
use each_mask::EachMask;

#[test]
fn all_conversations_hold_in_each_mask() {
    let features = RingFeatures::probe_masked("").unwrap().names();
    if let Some(masks) = EachMask::start(&features, &["monitor::tests::"]) {
        masks.pass();
    }
}
