//! XBZRLE: what changed in a page, as runs. (QEMU: migration/xbzrle.c.)

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Nothing changed: a source sends nothing.
    Same,
    /// The runs have so many bytes.
    Runs(usize),
    /// They would not be shorter than the page: it is sent whole.
    Overflow,
}

/// Appends the runs that make `new` of `old`: an unchanged one's length, a changed one's length and
/// its bytes, and so on; what is unchanged at the end is not said. After an overflow `out` is as it
/// was.
///
/// # Panics
/// When the pages differ in length.
pub fn encode(old: &[u8], new: &[u8], out: &mut Vec<u8>) -> Delta {
    assert_eq!(old.len(), new.len(), "a page keeps its length");
    let start = out.len();
    let room = |out: &Vec<u8>| old.len() - (out.len() - start);
    let mut at = 0;
    loop {
        let unchanged = run(old, new, at, |old, new| old == new);
        let changed_at = at + unchanged;
        if changed_at == old.len() {
            let bytes = out.len() - start;
            return if bytes == 0 { Delta::Same } else { Delta::Runs(bytes) };
        }
        let changed = run(old, new, changed_at, |old, new| old != new);
        at = changed_at + changed;
        // A source keeps room for a length of two bytes even where it needs one only.
        let fits = room(out) >= LENGTH_BYTES_MAX
            && length(unchanged, out)
            && room(out) >= LENGTH_BYTES_MAX
            && length(changed, out)
            && room(out) >= changed;
        if !fits {
            out.truncate(start);
            return Delta::Overflow;
        }
        out.extend_from_slice(&new[changed_at..at]);
    }
}

/// How many bytes from `at` on are alike in what `same` asks.
fn run(old: &[u8], new: &[u8], at: usize, same: impl Fn(u8, u8) -> bool) -> usize {
    old[at..].iter().zip(&new[at..]).take_while(|&(&old, &new)| same(old, new)).count()
}

/// Seven bits a byte, the low ones first; false for what two of them cannot say.
fn length(length: usize, out: &mut Vec<u8>) -> bool {
    let low = (length % 128) as u8;
    match length / 128 {
        0 => out.push(low),
        high @ 1..=127 => out.extend([low | 0x80, high as u8]),
        _ => return false,
    }
    true
}

const LENGTH_BYTES_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    fn encoded(old: &[u8], new: &[u8]) -> (Delta, Vec<u8>) {
        let mut out = Vec::new();
        (encode(old, new, &mut out), out)
    }

    /// A page of zeros and what some places of it became.
    fn patched(places: &[(usize, u8)]) -> Vec<u8> {
        let mut page = vec![0; 4096];
        places.iter().for_each(|&(at, byte)| page[at] = byte);
        page
    }

    #[test]
    fn the_observed_page_is_encoded_as_observed() {
        let new = patched(&[(100, 0x31), (2000, 0x38)]);
        let (delta, bytes) = encoded(&[0; 4096], &new);
        assert_eq!((delta, bytes), (Delta::Runs(7), hex("64 01 31 eb 0e 01 38")));
    }

    #[test]
    fn changes_at_both_ends_begin_with_an_empty_run_and_end_with_the_last_byte() {
        let (delta, bytes) = encoded(&[0; 4096], &patched(&[(0, 1), (4095, 2)]));
        assert_eq!((delta, bytes), (Delta::Runs(7), hex("00 01 01 fe 1f 01 02")));
    }

    #[test]
    fn nothing_changed_is_nothing() {
        assert_eq!(encoded(&[7; 4096], &[7; 4096]), (Delta::Same, Vec::new()));
    }

    #[test]
    fn what_would_fill_a_page_overflows_and_what_leaves_one_byte_does_not() {
        assert_eq!(encoded(&[0; 4096], &[1; 4096]), (Delta::Overflow, Vec::new()));
        let mut new = vec![1; 4096];
        // One length of one byte, one of two: 3 + 4093.
        new[..3].fill(0);
        let (delta, bytes) = encoded(&[0; 4096], &new);
        assert_eq!((delta, &bytes[..3]), (Delta::Runs(4096), &hex("03 fd 1f")[..]));
        new[2] = 1;
        assert_eq!(encoded(&[0; 4096], &new).0, Delta::Overflow);
        // Every other byte: three bytes for two.
        let new: Vec<u8> = (0..4096).map(|at| (at % 2) as u8).collect();
        assert_eq!(encoded(&[0; 4096], &new).0, Delta::Overflow);
    }

    #[test]
    fn a_run_that_two_bytes_cannot_say_overflows() {
        let mut new = vec![0; 32768];
        new[16383] = 1;
        assert_eq!(encoded(&[0; 32768], &new).0, Delta::Runs(4));
        new[16383] = 0;
        new[16384] = 1;
        assert_eq!(encoded(&[0; 32768], &new).0, Delta::Overflow);
    }
}
