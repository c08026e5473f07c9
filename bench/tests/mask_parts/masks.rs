//! All of a suite once more without each feature of io_uring, as on an older kernel.

#[path = "../../../receiver/tests/mask_parts/each_mask.rs"]
mod each_mask;

use landfall_receiver::ring::RingFeatures;

use each_mask::EachMask;

#[test]
fn all_of_this_holds_in_each_mask() {
    let features = RingFeatures::probe_masked("").expect("this host has io_uring").names();
    if let Some(masks) = EachMask::start(&features, &[]) {
        masks.pass();
    }
}
