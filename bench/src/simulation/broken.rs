//! Receivers that are wrong in one way each.

/// A mistake that the simulation must find. Made by the simulation's own
/// drivers: no production code knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Now and then a channel goes on behind its SYNC although main has not
    /// passed the sync point.
    ChannelsGoOn,
    /// Now and then main passes a sync point without waiting for the channels.
    MainGoesOn,
    /// A page of a packet does not get to its place.
    PageSkipped,
    /// A page is counted that did not come.
    CountOff,
    /// Slots are not noted as written when they are lent, so that a packet
    /// that was cut leaves bytes in memory that is believed to be zero.
    LendForgotten,
    /// The stream ends at the first bytes that look like its end.
    ForgedTail,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ChannelsGoOn,
        Self::MainGoesOn,
        Self::PageSkipped,
        Self::CountOff,
        Self::LendForgotten,
        Self::ForgedTail,
    ];

    /// The counts at a sync point would tell at once; memory shall.
    pub(super) fn breaks_rounds(self) -> bool {
        matches!(self, Self::ChannelsGoOn | Self::MainGoesOn)
    }
}
