//! Cuts an endless stream of tokens into messages (`qobject/json-streamer.c`).
//!
//! A message ends when as many braces *and* as many brackets have been closed as opened, or one too
//! many; whether they nest properly is looked at only then. So after a mistake inside a message the
//! stream is in step again at its end, and one mistake makes one error.

use serde_json::Value;

use super::{
    code_point::to_text_lossy,
    lexer::{Lexer, Token},
    tree::{Tree, clip},
};

/// One value from the stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The value, or what is wrong with it in QEMU's words.
    pub(crate) value: Result<Value, String>,
    /// How large its tokens were, as a measure of the memory it holds.
    pub(crate) bytes: usize,
}

/// The reading end of a session: bytes in, messages out.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    lexer: Lexer,
    tree: Tree,
    /// Opened less closed; QEMU counts the two kinds apart.
    braces: i32,
    brackets: i32,
    token_bytes: usize,
    token_count: usize,
}

impl Stream {
    /// Reads up to the end of the next message, taking from the front of `input` what it has read.
    ///
    /// `None`: `input` is used up and no message has ended.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Option<Message> {
        while let Some((&byte, rest)) = input.split_first() {
            let step = self.lexer.step(byte);
            if step.consumed {
                *input = rest;
            }
            let ended = match step.token {
                Some(token) => self.token(token),
                None if self.lexer.text().len() > MESSAGE_BYTES_MAX => {
                    self.lexer.reset();
                    Some(self.emit(Err("JSON token size limit exceeded".into())))
                }
                None => None,
            };
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    fn token(&mut self, token: Token) -> Option<Message> {
        match token {
            Token::LeftBrace => self.braces += 1,
            Token::RightBrace => self.braces -= 1,
            Token::LeftBracket => self.brackets += 1,
            Token::RightBracket => self.brackets -= 1,
            Token::Error => {
                let stray = clip(to_text_lossy(self.lexer.text()));
                return Some(self.emit(Err(format!("JSON parse error, stray '{stray}'"))));
            }
            _ => {}
        }
        self.token_bytes += self.lexer.text().len();
        self.token_count += 1;
        let limit = if self.token_bytes >= MESSAGE_BYTES_MAX {
            Some("JSON token size limit exceeded")
        } else if self.token_count > MESSAGE_TOKENS_MAX {
            Some("JSON token count limit exceeded")
        } else if self.braces + self.brackets > NESTING_MAX {
            Some("JSON nesting depth limit exceeded")
        } else {
            None
        };
        if let Some(limit) = limit {
            return Some(self.emit(Err(limit.into())));
        }
        self.tree.push(token, self.lexer.text());
        let open = self.braces > 0 || self.brackets > 0;
        if open && self.braces >= 0 && self.brackets >= 0 {
            return None;
        }
        let value = self.tree.finish();
        Some(self.emit(value.map_err(|error| format!("JSON parse error, {error}"))))
    }

    fn emit(&mut self, value: Result<Value, String>) -> Message {
        let bytes = self.token_bytes;
        if bytes > IDLE_BYTES_MAX {
            self.lexer.release();
        }
        self.tree = Tree::default();
        self.braces = 0;
        self.brackets = 0;
        self.token_bytes = 0;
        self.token_count = 0;
        Message { value, bytes }
    }
}

/// Bytes of all tokens of one message. QEMU allows 64 MiB (`MAX_TOKEN_SIZE`); the largest message a
/// migration destination is sent has a few KiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Tokens of one message. QEMU allows 2 Mi (`MAX_TOKEN_COUNT`); a token can cost a hundred bytes of
/// memory, so this is what bounds a hostile message to a few MiB.
const MESSAGE_TOKENS_MAX: usize = 1 << 16;

/// Braces and brackets open at once; QEMU's `MAX_NESTING`. It also bounds the recursion with which a
/// value is written and dropped.
const NESTING_MAX: i32 = 1 << 10;

/// A message larger than this leaves no buffer behind.
const IDLE_BYTES_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: &[u8]) -> Vec<Result<Value, String>> {
        let mut rest = input;
        let mut stream = Stream::default();
        let mut found = Vec::new();
        while let Some(message) = stream.next(&mut rest) {
            found.push(message.value);
        }
        assert!(rest.is_empty());
        found
    }

    fn error(input: &[u8]) -> String {
        match read(input).as_slice() {
            [Err(error)] => error.clone(),
            other => panic!("{:?} gave {other:?}", input.escape_ascii().to_string()),
        }
    }

    #[test]
    fn messages_need_nothing_between_them() {
        assert_eq!(
            read(b"{}[1]{'a':'b'}\"x\""),
            [json!({}), json!([1]), json!({"a": "b"}), json!("x")].map(Ok)
        );
    }

    #[test]
    fn a_number_or_keyword_ends_with_what_follows_it() {
        assert_eq!(read(b"1"), []);
        assert_eq!(read(b"1 "), [Ok(json!(1))]);
        assert_eq!(read(b"null{}"), [Ok(Value::Null), Ok(json!({}))]);
    }

    #[test]
    fn escapes_become_characters() {
        assert_eq!(
            read(br#""\"\'\\\/\b\f\n\r\t\u00e9\ud83D\uDE00\u0000""#),
            [Ok(json!("\"'\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600}\0"))]
        );
        assert_eq!(read(b"'\xc0\x80\xc3\xa9'"), [Ok(json!("\0\u{e9}"))]);
    }

    #[test]
    fn integers_keep_64_bits_and_then_become_doubles() {
        assert_eq!(
            read(b"[-9223372036854775808,18446744073709551615,18446744073709551616,-0]"),
            [Ok(json!([i64::MIN, u64::MAX, 18_446_744_073_709_551_616.0, 0]))]
        );
        assert_eq!(error(b"1e999 "), "JSON parse error, number out of range");
    }

    /// Input and error as QEMU 7.2.22 gave them.
    #[test]
    fn mistakes_are_named_as_qemu_names_them() {
        let table: &[(&[u8], &str)] = &[
            (b"{'a':1,'a':2}", "duplicate key"),
            (b"{'a':1,}", "expecting value"),
            (b"[1,]", "expecting value"),
            (b"{,}", "expecting value"),
            (b"{1:2}", "key is not a string in object"),
            (b"{[1]:2}", "key is not a string in object"),
            (b"{'a' 1}", "missing : in object pair"),
            (b"{'a'}", "missing : in object pair"),
            (b"{'a':1 'b':2}", "expected separator in dict"),
            (b"[1 2]", "expected separator in list"),
            (b"{[}]", "expecting value"),
            (b"{]", "expecting value"),
            (b"[1}", "expected separator in list"),
            (b"}", "expecting value"),
            (b"]", "expecting value"),
            (b",", "expecting value"),
            (b"nul ", "invalid keyword 'nul'"),
            (b"{'a':nul}", "invalid keyword 'nul'"),
            (b"%p", "stray '%'"),
            (b"ABC \n", "stray 'A'"),
            (b"\xff\n", "stray '\u{fffd}'"),
            (b"\0\n", "stray ''"),
            (b"-x\n", "stray '-x'"),
            (b"1ex\n", "stray '1ex'"),
            (b"{'a':'\xe9'}", "invalid UTF-8 sequence in string"),
            (b"'\xc3('", "invalid UTF-8 sequence in string"),
            (b"'\xf4\x90\x80\x80'", "invalid UTF-8 sequence in string"),
            (b"'\\x'", "invalid escape sequence in string"),
            (b"'\\ud800'", "\\ud800 is not a valid Unicode character"),
            (b"'\\ud800\\u0041'", "\\ud800 is not a valid Unicode character"),
            (b"'\\udc00'", "\\udc00 is not a valid Unicode character"),
            (b"\"\\u12\"", "\\u12\" is not a valid Unicode character"),
            (b"'\\uffff'", "\\uffff is not a valid Unicode character"),
        ];
        for (input, expected) in table {
            assert_eq!(error(input), format!("JSON parse error, {expected}"));
        }
    }

    #[test]
    fn after_a_mistake_the_stream_is_in_step_at_the_end_of_the_message() {
        assert_eq!(read(b"{'a' {} [1}] 2} {}").last(), Some(&Ok(json!({}))));
        let found = read(b"{'a':%p}{}");
        assert_eq!(
            found,
            [
                Err("JSON parse error, stray '%'".into()),
                Err("JSON parse error, expecting value".into()),
                Ok(json!({}))
            ]
        );
    }

    #[test]
    fn nesting_up_to_the_limit_is_fine_and_beyond_is_an_error() {
        let depth = NESTING_MAX as usize;
        let fine = ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(matches!(read(fine.as_bytes()).as_slice(), [Ok(_)]));
        let deep = "[".repeat(depth + 1);
        assert_eq!(error(deep.as_bytes()), "JSON nesting depth limit exceeded");
    }

    #[test]
    fn one_endless_token_and_many_small_ones_are_errors_not_memory() {
        let mut stream = Stream::default();
        let mut errors = 0;
        let chunk = [b'a'; 4096];
        let mut quote = &b"\""[..];
        assert_eq!(stream.next(&mut quote), None);
        for _ in 0..1024 {
            let mut rest = &chunk[..];
            while let Some(message) = stream.next(&mut rest) {
                assert_eq!(message.value, Err("JSON token size limit exceeded".to_owned()));
                errors += 1;
            }
            assert!(stream.lexer.text().len() <= MESSAGE_BYTES_MAX + 1);
        }
        assert!(errors > 0);
        let many = ["[", &"1,".repeat(MESSAGE_TOKENS_MAX)].concat();
        assert_eq!(
            read(many.as_bytes()).first(),
            Some(&Err("JSON token count limit exceeded".to_owned()))
        );
    }

    #[test]
    fn long_errors_are_cut() {
        let found = error(format!("[{}]", "z".repeat(2000)).as_bytes());
        assert_eq!(found.len(), "JSON parse error, ".len() + 1023);
        let found = error(format!("'{}\n", "\u{e9}".repeat(2000)).as_bytes());
        assert!(found.len() < 1100);
    }

    #[test]
    fn chunking_makes_no_difference() {
        let input = b"{'a' : [1, 2.5e3, 'x\\u00e9\\'', null ]} %p {1:2} 12 {}\xff\n[{'b':{}}]";
        let whole = read(input);
        for size in 1..input.len() {
            let mut stream = Stream::default();
            let mut found = Vec::new();
            for mut chunk in input.chunks(size) {
                while let Some(message) = stream.next(&mut chunk) {
                    found.push(message.value);
                }
            }
            assert_eq!(found, whole, "chunks of {size}");
        }
    }
}
