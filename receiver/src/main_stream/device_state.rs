//! What is left of a stream when it has ended.

use crate::wire::vmdesc::DescriptionError;
pub use crate::wire::vmdesc::DeviceSection;

/// A migration's parts beside RAM, taken out of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// The configuration section as it came, type byte 07 included; empty if
    /// there was none.
    pub configuration: Vec<u8>,
    /// The device state, from the first section's type byte to the EOF byte
    /// 00, both included.
    pub tail: Vec<u8>,
    /// The JSON text that describes it; empty if there was none.
    pub vmdesc: Vec<u8>,
    /// Where each device's section is in the tail; empty without a
    /// description.
    pub sections: Vec<DeviceSection>,
    /// Where the description's sizes did not lead through the tail for the first time, so that
    /// footers had to be searched for.
    pub misfit: Option<DescriptionError>,
    /// What the guest was doing on the source, from the section
    /// `globalstate`: `running`, `paused`, `prelaunch` and so on; `None`
    /// without that section (machine types up to 2.3) or without a
    /// description.
    pub run_state: Option<Box<str>>,
}
