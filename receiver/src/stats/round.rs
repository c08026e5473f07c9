//! What came between two sync points.

/// One round: from one sync point to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// How long it took, nanoseconds.
    pub duration_ns: u64,
    /// Pages with their data.
    pub normal: u64,
    /// Zero pages.
    pub zero: u64,
    /// Bytes from all sockets.
    pub wire_bytes: u64,
    /// Main waited this long for the channels, nanoseconds.
    pub sync_wait_ns: u64,
}

/// CPU time of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUse {
    /// In user space, nanoseconds.
    pub user_ns: u64,
    /// In the kernel, nanoseconds.
    pub system_ns: u64,
}

impl CpuUse {
    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
        }
    }

    /// Both together, nanoseconds.
    pub fn total_ns(self) -> u64 {
        self.user_ns + self.system_ns
    }
}
