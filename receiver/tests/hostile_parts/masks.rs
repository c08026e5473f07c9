//! All of this once more without each feature of io_uring, as on an older
//! kernel.

#[path = "../mask_parts/each_mask.rs"]
mod each_mask;

use landfall_receiver::ring::RingFeatures;

use super::host::alone;
use each_mask::EachMask;

#[test]
fn all_of_this_holds_in_each_mask() {
    let features = RingFeatures::probe_masked("").unwrap().names();
    // What has no ring in it is not done again.
    let arguments = ["--skip", "every_rule_of_the_main_stream", "--skip", "bombs::"];
    let quiet = alone();
    let started = EachMask::start(&features, &arguments);
    drop(quiet);
    if let Some(masks) = started {
        masks.pass();
    }
}
