//! A migration as it was invented: source, receiver, network, strangers.

use super::{
    broken::Broken,
    fault::{Fault, FaultKind},
    flow::Flow,
    guest,
    random::Random,
    socket::Pieces,
};
use crate::{
    config::SourceConfig,
    encode::{compressed::Compression, packet},
};

/// Everything about a migration but the order in which things happen.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) source: SourceConfig,
    /// The receiver's channel count; `None` derives it.
    pub(super) count: Option<u8>,
    /// Pages are kept, not dropped.
    pub(super) keep: bool,
    /// Readers that share the channels.
    pub(super) readers: usize,
    /// Main takes pages the quick way.
    pub(super) quick: bool,
    /// How the network cuts streams, by stream in turn.
    pub(super) pieces: [Pieces; 4],
    /// How fast actors are, of 256, by actor in turn.
    pub(super) pace: [u8; 8],
    pub(super) strays: Vec<Stray>,
    pub(super) fault: Option<Fault>,
    pub(super) broken: Option<Broken>,
}

/// A connection that is none of the migration's.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    pub(super) bytes: Vec<u8>,
    /// It comes after the main stream: else it would be taken for one.
    pub(super) after_main: bool,
    /// It closes behind its bytes.
    pub(super) closes: bool,
}

impl Scenario {
    /// A migration without a fault.
    pub(super) fn invent(random: &mut Random, broken: Option<Broken>) -> Self {
        let mut source = guest::invent(random);
        if broken == Some(Broken::ForgedTail) {
            source.devices.forged_tails = 2;
        }
        if broken.is_some() {
            // What they do wrong, they do to pages that come as they are.
            source.compression = Compression::None;
            source.devices.packets = 0;
        }
        let channels = source.channels;
        let keep = broken.is_some() || !random.one_in(24);
        let piece = |random: &mut Random| {
            let all = [Pieces::Tiny, Pieces::Small, Pieces::Small, Pieces::Large];
            random.pick(&[all, [Pieces::Large; 4]])[random.below(4)]
        };
        let pieces = [(); 4].map(|()| piece(random));
        let pace = [(); 8].map(|()| random.pick(&[255, 255, 255, 100, 20]));
        let strays = strays(random, &source);
        Self {
            count: (!random.one_in(3)).then_some(channels),
            keep,
            readers: random.within(1, 4),
            quick: !random.one_in(4),
            pieces,
            pace,
            strays,
            fault: None,
            broken,
            source,
        }
    }

    /// Adds a fault, or not.
    pub(super) fn invent_fault(&mut self, random: &mut Random, flow: &Flow, may_fail: bool) {
        self.fault = match self.broken {
            Some(Broken::LendForgotten) => Some(Fault::cut_inside_a_page(random, flow)),
            Some(_) => None,
            None if may_fail && random.one_in(2) => {
                // What becomes of a bit inside a compressed payload nobody can tell.
                let plain = self.source.compression == Compression::None;
                let invented = Fault::invent(random, self, flow);
                invented.filter(|fault| plain || fault.kind != FaultKind::Flip)
            }
            None => None,
        };
    }
}

fn strays(random: &mut Random, source: &SourceConfig) -> Vec<Stray> {
    if !random.one_in(4) {
        return Vec::new();
    }
    // Of two whole sets of channels nobody could tell which is the source's.
    let told = source.validate_uuid && source.form.configuration;
    let may_introduce_itself = told || source.channels >= 2;
    let count = random.within(1, 4);
    (0..count).map(|_| stray(random, may_introduce_itself)).collect()
}

fn stray(random: &mut Random, may_introduce_itself: bool) -> Stray {
    let mut uuid = [0; 16];
    uuid.iter_mut().for_each(|byte| *byte = random.below(256) as u8);
    let mut after_main = false;
    let init = packet::init(&uuid, random.below(3) as u8);
    let bytes = match random.below(7) {
        0 => Vec::new(),
        1 => init[..random.below(init.len())].to_vec(),
        // The first bytes of a TLS hello.
        2 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        3 => {
            after_main = true;
            b"QEVM\0\0\0\x03".to_vec()
        }
        4 if may_introduce_itself => init.to_vec(),
        5 => {
            let mut wrong = init.to_vec();
            wrong[7] = 2; // the version
            wrong
        }
        _ => (0..random.below(80)).map(|_| random.within(0x61, 0x7a) as u8).collect(),
    };
    Stray { bytes, after_main, closes: random.one_in(2) }
}
