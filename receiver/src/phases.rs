//! When a run passed its milestones.

/// `CLOCK_MONOTONIC` nanoseconds of each milestone; `None` until it is passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// The listener opened.
    pub listen: Option<u64>,
    /// Main's first bytes came.
    pub main_came: Option<u64>,
    /// Every expected channel was connected: `total-time` counts from here.
    pub connected: Option<u64>,
    /// The first sync point was passed: content comes from here on.
    pub first_byte: Option<u64>,
    /// The RAM blocks were mapped.
    pub ram_mapped: Option<u64>,
    /// The source said that it stopped the guest (SWITCHOVER_START, or the
    /// beginning of ram's END where it does not say).
    pub switchover_start: Option<u64>,
    /// The last sync point was passed and ram's END section had ended.
    pub ram_done: Option<u64>,
    /// The end of the stream was found.
    pub device_state_done: Option<u64>,
    /// SHUT was sent, where there is a return path, and all was counted.
    pub completed: Option<u64>,
}
