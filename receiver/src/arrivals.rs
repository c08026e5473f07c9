//! Which connections belong to a run: main by its magic, channels by Init.
//!
//! The channel count is not on the wire, a UUID may be nil, and anybody can
//! connect. So Inits are collected until one UUID has a whole set of ids; what
//! comes later is judged against that set. Generic over the connection, so that
//! the simulation can use it.

use uuid::Uuid;

use crate::error::{Family, RunError};
use crate::wire::Init;

/// Connections that have said what they are.
#[derive(Debug)]
pub struct Arrivals<C> {
    uuid: Option<Uuid>,
    main: Option<C>,
    main_came: bool,
    inits: Vec<(Init, C)>,
    awaited: usize,
    decided: Option<Decided>,
    last_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Decided {
    /// `None`: no channel and no configuration section has told it.
    uuid: Option<Uuid>,
    count: usize,
}

/// What to do with a connection that came too late or is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Kept.
    Ours,
    /// Not of this run: log it, close it, go on.
    Stray(String),
    /// It proves that the run cannot be right.
    Fatal(RunError),
}

impl<C> Arrivals<C> {
    /// Nothing has come. Only channels with `uuid` are ours, if it is given.
    pub fn new(uuid: Option<Uuid>) -> Self {
        Self {
            uuid,
            main: None,
            main_came: false,
            inits: Vec::new(),
            awaited: 0,
            decided: None,
            last_ns: 0,
        }
    }

    /// A main stream has come.
    pub fn add_main(&mut self, connection: C, now_ns: u64) -> Verdict {
        if self.main_came {
            return Verdict::Stray("a second main stream while a run is under way".to_owned());
        }
        self.main_came = true;
        self.main = Some(connection);
        self.last_ns = now_ns;
        Verdict::Ours
    }

    /// A multifd channel has come.
    pub fn add_channel(&mut self, init: Init, connection: C, now_ns: u64) -> Verdict {
        if let Some(expected) = self.uuid.filter(|&uuid| uuid != init.uuid) {
            let found = init.uuid;
            return Verdict::Stray(format!("Init has UUID {found}, the guest's is {expected}"));
        }
        if let Some(Decided { uuid, count }) = self.decided {
            // Without channels nobody may know the run's UUID. This may be a
            // stranger, but if it is not, all its pages would be lost.
            let ours = uuid.is_none_or(|uuid| uuid == init.uuid);
            return if ours && usize::from(init.channel_id) >= count {
                Verdict::Fatal(too_many(init.channel_id, count))
            } else {
                let Init { uuid, channel_id } = init;
                Verdict::Stray(format!(
                    "Init of channel {channel_id}, UUID {uuid}, is not of this run"
                ))
            };
        }
        if self.inits.len() >= INITS_MAX {
            return Verdict::Stray(format!("{INITS_MAX} channels wait for their run already"));
        }
        self.inits.push((init, connection));
        self.last_ns = now_ns;
        Verdict::Ours
    }

    /// The guest's UUID, as far as it is known.
    pub fn uuid(&self) -> Option<Uuid> {
        self.uuid
    }

    /// The UUID is known from elsewhere now (the configuration section).
    /// Returns the connections that are not ours.
    pub fn set_uuid(&mut self, uuid: Uuid) -> Vec<C> {
        self.uuid = Some(uuid);
        self.take_out(|init| init.uuid != uuid)
    }

    /// Takes out channels that `gone` names: their peers have hung up.
    pub fn drop_channels(&mut self, gone: impl Fn(&C) -> bool) -> usize {
        let before = self.inits.len();
        self.inits.retain(|(_, connection)| !gone(connection));
        before - self.inits.len()
    }

    /// Channels that wait for their run.
    pub fn waiting(&self) -> impl Iterator<Item = &C> {
        self.inits.iter().map(|(_, connection)| connection)
    }

    /// Whoever decides needs to look only when `count` channels are here.
    pub fn await_channels(&mut self, count: usize) {
        self.awaited = count;
    }

    /// True if as many channels wait for their run as are awaited, strangers' too.
    pub fn may_be_all(&self) -> bool {
        self.inits.len() >= self.awaited
    }

    /// When the last connection of the run came.
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// The main stream, once.
    pub fn take_main(&mut self) -> Option<C> {
        self.main.take()
    }

    /// The run has ended: whoever still waits for it is let go.
    pub fn let_go(&mut self) {
        self.main = None;
        self.inits.clear();
    }

    /// True once a main stream has come.
    pub fn has_main(&self) -> bool {
        self.main_came
    }

    /// The largest number of ids from 0 without a gap under one UUID.
    pub fn contiguous(&self) -> usize {
        self.best(contiguous).map_or(0, |(_, ids)| contiguous(&ids))
    }

    /// True if some UUID has exactly the ids 0 to n - 1, n at least 1, and no
    /// other has more of them.
    pub fn is_whole(&self) -> bool {
        self.best(contiguous).is_some_and(|(_, ids)| contiguous(&ids) == ids.len())
    }

    /// The channels 0 to `count` - 1 in order of id, if all have come: from now
    /// on these are the run's. Also returned: the strays among the others.
    ///
    /// As long as nobody knows the UUID, a stranger's id may be anything: it
    /// counts only with ids that a run of `count` channels has.
    ///
    /// # Errors
    /// Misbehaved: an id twice, or one that is not below `count`.
    #[expect(clippy::type_complexity, reason = "ours and theirs")]
    pub fn decide(&mut self, count: usize) -> Result<Option<(Vec<C>, Vec<C>)>, RunError> {
        let fit = |ids: &[u8]| ids.iter().filter(|&&id| usize::from(id) < count).count();
        let Some((uuid, ids)) = self.best(fit) else {
            if count == 0 {
                self.decided = Some(Decided { uuid: self.uuid, count });
                return Ok(Some((Vec::new(), Vec::new())));
            }
            return Ok(None);
        };
        if count > 0 && fit(&ids) == 0 {
            return Ok(None);
        }
        if let Some(&id) = ids.iter().find(|&&id| usize::from(id) >= count) {
            return Err(too_many(id, count));
        }
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            let text = format!("two multifd channels have id {}, UUID {uuid}", pair[0]);
            return Err(RunError::new(Family::Misbehaved, text));
        }
        if ids.len() < count {
            return Ok(None);
        }
        let strays = self.take_out(|init| init.uuid != uuid);
        self.inits.sort_by_key(|(init, _)| init.channel_id);
        self.decided = Some(Decided { uuid: Some(uuid), count });
        Ok(Some((self.inits.drain(..).map(|(_, connection)| connection).collect(), strays)))
    }

    /// [`Arrivals::decide`] for a run whose channel count nobody has told: if
    /// what has come can be all of it, ids from 0 without a gap, or nothing where
    /// nothing proves that there are channels. To be asked when nobody knocks any
    /// more.
    ///
    /// # Errors
    /// Misbehaved: an id twice.
    #[expect(clippy::type_complexity, reason = "ours and theirs")]
    pub fn derive(&mut self, multifd: bool) -> Result<Option<(Vec<C>, Vec<C>)>, RunError> {
        // With every id that there can be, one more says that something is wrong.
        let full = self.contiguous() == usize::from(CHANNELS_MAX);
        let enough = full || self.is_whole() || (self.inits.is_empty() && !multifd);
        if enough { self.decide(self.contiguous()) } else { Ok(None) }
    }

    /// The UUID whose ids have the highest rank, or of equals the most, and its
    /// ids sorted.
    fn best(&self, rank: impl Fn(&[u8]) -> usize) -> Option<(Uuid, Vec<u8>)> {
        let mut uuids: Vec<Uuid> = self.inits.iter().map(|(init, _)| init.uuid).collect();
        uuids.sort_unstable();
        uuids.dedup();
        uuids
            .into_iter()
            .map(|uuid| {
                let of_uuid = self.inits.iter().filter(|(init, _)| init.uuid == uuid);
                let mut ids: Vec<u8> = of_uuid.map(|(init, _)| init.channel_id).collect();
                ids.sort_unstable();
                (uuid, ids)
            })
            .max_by_key(|(_, ids)| (rank(ids), ids.len()))
    }

    fn take_out(&mut self, theirs: impl Fn(&Init) -> bool) -> Vec<C> {
        let (out, kept) = self.inits.drain(..).partition(|(init, _)| theirs(init));
        self.inits = kept;
        let out: Vec<(Init, C)> = out;
        out.into_iter().map(|(_, connection)| connection).collect()
    }
}

/// How many of the sorted ids are 0, 1, 2 and so on.
fn contiguous(ids: &[u8]) -> usize {
    ids.iter().zip(0..CHANNELS_MAX).take_while(|(id, n)| *id == n).count()
}

fn too_many(id: u8, count: usize) -> RunError {
    let text = format!(
        "a multifd channel has id {id}, but the channel count is {count}: set multifd-channels to \
         the source's value"
    );
    RunError::new(Family::Misbehaved, text)
}

/// Channels that a run may have: ids 0 to 254 (`multifd-channels`, 1 to 255).
const CHANNELS_MAX: u8 = 255;

/// Channels that may wait for their run at once: four full sets.
const INITS_MAX: usize = 1020;

#[cfg(test)]
mod tests {
    use super::*;

    fn init(uuid: u128, channel_id: u8) -> Init {
        Init { uuid: Uuid::from_u128(uuid), channel_id }
    }

    fn arrivals(inits: &[(u128, u8)]) -> Arrivals<(u128, u8)> {
        let mut arrivals = Arrivals::new(None);
        for &(uuid, id) in inits {
            assert_eq!(arrivals.add_channel(init(uuid, id), (uuid, id), 0), Verdict::Ours);
        }
        arrivals
    }

    #[test]
    fn a_whole_set_is_found_in_any_order_among_strays() {
        let mut arrivals = arrivals(&[(7, 2), (9, 0), (7, 0), (7, 1)]);
        assert_eq!(arrivals.contiguous(), 3);
        let (ours, strays) = arrivals.decide(3).unwrap().unwrap();
        assert_eq!(ours, [(7, 0), (7, 1), (7, 2)]);
        assert_eq!(strays, [(9, 0)]);
    }

    #[test]
    fn channels_may_be_all_when_so_many_as_are_awaited_are_here() {
        let mut arrivals = arrivals(&[(7, 2)]);
        assert!(arrivals.may_be_all(), "nobody said how many");
        arrivals.await_channels(3);
        for (id, is_enough) in [(0, false), (1, true)] {
            arrivals.add_channel(init(7, id), (7, id), 0);
            assert_eq!(arrivals.may_be_all(), is_enough);
        }
    }

    #[test]
    fn a_missing_id_waits_and_a_doubled_or_large_one_fails() {
        assert_eq!(arrivals(&[(7, 0), (7, 2)]).decide(3).unwrap(), None);
        assert!(arrivals(&[(7, 1), (7, 1)]).decide(2).is_err());
        let error = arrivals(&[(7, 0), (7, 2)]).decide(2).unwrap_err();
        assert!(error.text.contains("id 2, but the channel count is 2"), "{error}");
        assert!(arrivals(&[(7, 0)]).decide(0).is_err(), "multifd on at the source only");
    }

    #[test]
    fn after_the_decision_a_large_id_of_our_uuid_is_fatal_and_all_else_stray() {
        let mut arrivals = arrivals(&[(7, 0), (7, 1)]);
        arrivals.decide(2).unwrap().unwrap();
        assert!(matches!(arrivals.add_channel(init(7, 2), (7, 2), 0), Verdict::Fatal(_)));
        assert!(matches!(arrivals.add_channel(init(7, 1), (7, 1), 0), Verdict::Stray(_)));
        assert!(matches!(arrivals.add_channel(init(8, 5), (8, 5), 0), Verdict::Stray(_)));
    }

    #[test]
    fn a_known_uuid_turns_all_others_into_strays() {
        let mut arrivals = arrivals(&[(7, 0), (9, 0)]);
        assert_eq!(arrivals.set_uuid(Uuid::from_u128(9)), [(7, 0)]);
        assert!(matches!(arrivals.add_channel(init(7, 1), (7, 1), 0), Verdict::Stray(_)));
    }

    #[test]
    fn a_channel_of_an_unknown_guest_is_fatal_where_none_was_expected() {
        let mut arrivals = arrivals(&[]);
        assert_eq!(arrivals.derive(false).unwrap(), Some((Vec::new(), Vec::new())));
        assert!(matches!(arrivals.add_channel(init(7, 0), (7, 0), 0), Verdict::Fatal(_)));
        let mut arrivals = Arrivals::new(Some(Uuid::from_u128(9)));
        arrivals.decide(0).unwrap().unwrap();
        assert!(matches!(arrivals.add_channel(init(7, 0), (7, 0), 0), Verdict::Stray(_)));
    }

    #[test]
    fn a_derived_run_waits_for_ids_without_a_gap() {
        assert_eq!(arrivals(&[]).derive(true).unwrap(), None);
        assert_eq!(arrivals(&[(7, 1)]).derive(false).unwrap(), None);
        let (ours, _) = arrivals(&[(7, 1), (7, 0)]).derive(true).unwrap().unwrap();
        assert_eq!(ours, [(7, 0), (7, 1)]);
    }

    #[test]
    fn strangers_whose_ids_do_not_fit_are_waited_out() {
        let mut configured = arrivals(&[(9, 2), (8, 0)]);
        assert_eq!(configured.decide(2).unwrap(), None);
        configured.add_channel(init(7, 1), (7, 1), 0);
        configured.add_channel(init(7, 0), (7, 0), 0);
        let (ours, strays) = configured.decide(2).unwrap().unwrap();
        assert_eq!((ours.len(), strays.len()), (2, 2));
        let mut derived = arrivals(&[(9, 5), (9, 6), (9, 7), (7, 1), (7, 0)]);
        assert_eq!(derived.derive(true).unwrap().unwrap().0, [(7, 0), (7, 1)]);
    }

    #[test]
    fn id_255_is_too_large_for_any_run() {
        let all: Vec<(u128, u8)> = (0..=255).map(|id| (7, id)).collect();
        let error = arrivals(&all).derive(true).unwrap_err();
        assert!(error.text.contains("id 255, but the channel count is 255"), "{error}");
        assert_eq!(arrivals(&all[..255]).derive(true).unwrap().unwrap().0.len(), 255);
    }

    #[test]
    fn only_the_first_main_stream_counts() {
        let mut arrivals = Arrivals::new(None);
        assert_eq!(arrivals.add_main((), 0), Verdict::Ours);
        assert!(matches!(arrivals.add_main((), 0), Verdict::Stray(_)));
        assert_eq!(arrivals.take_main(), Some(()));
        assert_eq!(arrivals.take_main(), None);
        assert!(arrivals.has_main());
    }
}
