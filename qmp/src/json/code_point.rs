//! Modified UTF-8, as QEMU's `util/unicode.c` defines it: U+0000 may be written as C0 80, and
//! surrogates, noncharacters and overlong forms are no characters.

/// Decodes the sequence at the start of `bytes`: the character, or `None` if it is not one, and how
/// many bytes it takes. A broken sequence ends before the first byte that cannot continue it.
///
/// Takes 0 bytes only if there are none.
pub(super) fn decode(bytes: &[u8]) -> (Option<char>, usize) {
    let Some((&first, rest)) = bytes.split_first() else {
        return (None, 0);
    };
    let continuations = match first {
        0x00..0x80 => return (Some(char::from(first)), 1),
        0x80..0xc0 | 0xfe.. => return (None, 1),
        0xc0..0xe0 => 1,
        0xe0..0xf0 => 2,
        0xf0..0xf8 => 3,
        0xf8..0xfc => 4,
        0xfc..0xfe => 5,
    };
    let mut code = u32::from(first) & (0x3f >> continuations);
    for (seen, at) in (0..continuations).enumerate() {
        match rest.get(at) {
            Some(&byte) if byte & 0xc0 == 0x80 => code = code << 6 | u32::from(byte & 0x3f),
            _ => return (None, 1 + seen),
        }
    }
    let bytes = 1 + continuations;
    let overlong = code < SMALLEST[continuations - 1] && !(code == 0 && continuations == 1);
    if overlong {
        return (None, bytes);
    }
    (character(code), bytes)
}

/// The character with this number, unless Unicode says that it never will be one.
pub(super) fn character(code: u32) -> Option<char> {
    let noncharacter = (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
    if noncharacter {
        return None;
    }
    char::from_u32(code)
}

/// Text for a person from bytes of a peer: what is no character becomes U+FFFD, and as in C the text
/// ends at a NUL.
pub(super) fn to_text_lossy(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    let mut rest = bytes.split_at(end.unwrap_or(bytes.len())).0;
    let mut text = String::with_capacity(rest.len());
    while !rest.is_empty() {
        let (found, used) = decode(rest);
        text.push(found.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = rest.split_at(used).1;
    }
    text
}

/// The smallest code that needs 1, 2, … continuation bytes.
const SMALLEST: [u32; 5] = [0x80, 0x800, 0x1_0000, 0x20_0000, 0x400_0000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_decodes_to_itself_unless_it_is_a_noncharacter() {
        for c in '\u{1}'..=char::MAX {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            let (found, used) = decode(bytes);
            assert_eq!(used, bytes.len(), "{c:?}");
            assert_eq!(found, character(u32::from(c)), "{c:?}");
        }
    }

    #[test]
    fn a_nul_may_take_two_bytes_and_nothing_else_may() {
        assert_eq!(decode(b"\xc0\x80"), (Some('\0'), 2));
        assert_eq!(decode(b"\xc0\x81"), (None, 2));
        assert_eq!(decode(b"\xc1\xbf"), (None, 2));
        assert_eq!(decode(b"\xe0\x80\x80"), (None, 3));
    }

    #[test]
    fn a_broken_sequence_ends_before_the_byte_that_breaks_it() {
        assert_eq!(decode(b"\xe2\x82("), (None, 2));
        assert_eq!(decode(b"\xf0"), (None, 1));
        assert_eq!(decode(b"\x80\x80"), (None, 1));
        assert_eq!(decode(b"\xff"), (None, 1));
        assert_eq!(decode(b"\xfd\xbf\xbf\xbf\xbf\xbf"), (None, 6));
        assert_eq!(decode(b"\xed\xa0\x80"), (None, 3), "a surrogate");
        assert_eq!(decode(b"\xf4\x90\x80\x80"), (None, 4), "beyond Unicode");
        assert_eq!(decode(b""), (None, 0));
    }

    #[test]
    fn noncharacters_are_refused() {
        for code in [0xfdd0, 0xfdef, 0xfffe, 0xffff, 0x1_fffe, 0x10_ffff] {
            assert_eq!(character(code), None, "{code:x}");
        }
        assert_eq!(character(0xfffd), Some('\u{fffd}'));
    }

    #[test]
    fn text_replaces_what_is_no_character_and_ends_at_a_nul() {
        assert_eq!(to_text_lossy(b"a\xffb\xc3\xa9\x00c"), "a\u{fffd}b\u{e9}");
    }
}
