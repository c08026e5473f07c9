//! Bytes to tokens, with QEMU's extensions and QEMU's way back after garbage
//! (`qobject/json-lexer.c`).
//!
//! Beyond RFC 8259 it takes strings in single quotes and leaves escapes, encodings and keywords to
//! the next stage. A byte that fits nowhere ends in an error token; then everything is skipped up to
//! a structural character, a control character other than TAB (a newline, say), FE or FF, which start
//! afresh.

/// What kind of token has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Colon,
    Comma,
    Integer,
    Float,
    Keyword,
    /// In [`Lexer::text`] with its quotes, escapes as written.
    String,
    /// The text is what could not be read, up to and including the byte at fault.
    Error,
}

/// What one byte led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The token that ended, if one did.
    pub(super) token: Option<Token>,
    /// Was the byte used up? If not it must be offered again.
    pub(super) consumed: bool,
}

/// A tokenizer that is given one byte at a time.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    state: State,
    text: Vec<u8>,
}

impl Lexer {
    /// Takes one byte, or ends the token before it.
    pub(super) fn step(&mut self, byte: u8) -> Step {
        if self.state == State::Start {
            self.text.clear();
        }
        let next = self.state.next(byte);
        match next {
            Next::State(State::Start) => {}
            Next::State(_) | Next::Token(_) => self.text.push(byte),
            Next::Ended(_) | Next::Afresh => {}
            Next::Skipped => self.text.clear(),
        }
        self.state = match next {
            Next::State(state) => state,
            Next::Token(Token::Error) | Next::Skipped => State::Recovery,
            Next::Token(_) | Next::Ended(_) | Next::Afresh => State::Start,
        };
        match next {
            Next::State(_) | Next::Skipped => Step { token: None, consumed: true },
            Next::Token(token) => Step { token: Some(token), consumed: true },
            Next::Ended(token) => Step { token: Some(token), consumed: false },
            Next::Afresh => Step { token: None, consumed: false },
        }
    }

    /// The text of the token being read, or of the one that has just ended.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Forgets the token being read and gives back its memory.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Gives back the memory of the last token.
    pub(super) fn release(&mut self) {
        self.text = Vec::new();
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    /// Skipping after an error.
    Recovery,
    /// Inside a string with this quote.
    Text(u8),
    /// After a backslash inside such a string.
    Escape(u8),
    Keyword,
    Sign,
    Zero,
    Digits,
    /// After the decimal point, before a digit.
    Point,
    Fraction,
    /// After `e`, before anything else.
    Exponent,
    /// After the sign of an exponent, before a digit.
    ExponentSign,
    ExponentDigits,
}

enum Next {
    /// The byte belongs to the token, which goes on; or to white space.
    State(State),
    /// The byte ends the token and belongs to it.
    Token(Token),
    /// The token ended before the byte.
    Ended(Token),
    /// The byte is dropped.
    Skipped,
    /// Recovered: the byte is to be read afresh.
    Afresh,
}

impl State {
    fn next(self, byte: u8) -> Next {
        match self {
            Self::Start => start(byte),
            Self::Recovery => match byte {
                b'\t' => Next::Skipped,
                0..0x20 | 0xfe.. | b'[' | b']' | b'{' | b'}' | b':' | b',' => Next::Afresh,
                _ => Next::Skipped,
            },
            Self::Text(quote) => match byte {
                0..0x20 | 0xfe.. => Next::Token(Token::Error),
                b'\\' => Next::State(Self::Escape(quote)),
                _ if byte == quote => Next::Token(Token::String),
                _ => Next::State(self),
            },
            Self::Escape(quote) => match byte {
                0..0x20 | 0xfe.. => Next::Token(Token::Error),
                _ => Next::State(Self::Text(quote)),
            },
            Self::Keyword => match byte {
                b'a'..=b'z' => Next::State(self),
                _ => Next::Ended(Token::Keyword),
            },
            Self::Sign => match byte {
                b'0' => Next::State(Self::Zero),
                b'1'..=b'9' => Next::State(Self::Digits),
                _ => Next::Token(Token::Error),
            },
            Self::Zero => match byte {
                b'0'..=b'9' => Next::Token(Token::Error),
                b'.' => Next::State(Self::Point),
                _ => Next::Ended(Token::Integer),
            },
            Self::Digits => match byte {
                b'0'..=b'9' => Next::State(self),
                b'.' => Next::State(Self::Point),
                b'e' | b'E' => Next::State(Self::Exponent),
                _ => Next::Ended(Token::Integer),
            },
            Self::Point => match byte {
                b'0'..=b'9' => Next::State(Self::Fraction),
                _ => Next::Token(Token::Error),
            },
            Self::Fraction => match byte {
                b'0'..=b'9' => Next::State(self),
                b'e' | b'E' => Next::State(Self::Exponent),
                _ => Next::Ended(Token::Float),
            },
            Self::Exponent => match byte {
                b'+' | b'-' => Next::State(Self::ExponentSign),
                b'0'..=b'9' => Next::State(Self::ExponentDigits),
                _ => Next::Token(Token::Error),
            },
            Self::ExponentSign => match byte {
                b'0'..=b'9' => Next::State(Self::ExponentDigits),
                _ => Next::Token(Token::Error),
            },
            Self::ExponentDigits => match byte {
                b'0'..=b'9' => Next::State(self),
                _ => Next::Ended(Token::Float),
            },
        }
    }
}

fn start(byte: u8) -> Next {
    match byte {
        b' ' | b'\t' | b'\r' | b'\n' => Next::State(State::Start),
        b'"' | b'\'' => Next::State(State::Text(byte)),
        b'a'..=b'z' => Next::State(State::Keyword),
        b'-' => Next::State(State::Sign),
        b'0' => Next::State(State::Zero),
        b'1'..=b'9' => Next::State(State::Digits),
        b'{' => Next::Token(Token::LeftBrace),
        b'}' => Next::Token(Token::RightBrace),
        b'[' => Next::Token(Token::LeftBracket),
        b']' => Next::Token(Token::RightBracket),
        b':' => Next::Token(Token::Colon),
        b',' => Next::Token(Token::Comma),
        _ => Next::Token(Token::Error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(input: &[u8]) -> Vec<(Token, Vec<u8>)> {
        let mut lexer = Lexer::default();
        let mut tokens = Vec::new();
        for &byte in input {
            loop {
                let step = lexer.step(byte);
                if let Some(token) = step.token {
                    tokens.push((token, lexer.text().to_vec()));
                }
                if step.consumed {
                    break;
                }
            }
        }
        tokens
    }

    fn kinds(input: &[u8]) -> Vec<Token> {
        lex(input).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn tokens_need_no_space_between_them() {
        use Token::*;
        assert_eq!(
            kinds(b"{'a':1,\"b\":[-2.5e+3,null]}"),
            [
                LeftBrace,
                String,
                Colon,
                Integer,
                Comma,
                String,
                Colon,
                LeftBracket,
                Float,
                Comma,
                Keyword,
                RightBracket,
                RightBrace
            ]
        );
    }

    #[test]
    fn a_quote_of_the_other_sort_or_behind_a_backslash_does_not_end_a_string() {
        for input in [&br#""it's \" so""#[..], br#"'say \'"\' so'"#] {
            assert_eq!(lex(input), [(Token::String, input.to_vec())]);
        }
    }

    #[test]
    fn an_error_holds_the_bad_byte_and_skips_to_the_next_structural_character() {
        assert_eq!(
            lex(b"0123 4,"),
            [(Token::Error, b"01".to_vec()), (Token::Comma, b",".to_vec())]
        );
        assert_eq!(
            lex(b"\"a\nb}\n"),
            [(Token::Error, b"\"a\n".to_vec()), (Token::RightBrace, b"}".to_vec())]
        );
    }

    #[test]
    fn a_control_character_and_ff_restart_and_err_again() {
        assert_eq!(kinds(b"\xff\xff"), [Token::Error, Token::Error]);
        assert_eq!(kinds(b"%p\x01"), [Token::Error, Token::Error]);
        assert_eq!(kinds(b"%p\n"), [Token::Error]);
        assert_eq!(kinds(b"%p\t1 "), [Token::Error], "a TAB does not");
    }

    #[test]
    fn numbers_follow_rfc_8259() {
        for good in ["0 ", "-0 ", "10 ", "1.50 ", "1e5 ", "1E-5 ", "0.1e+05 "] {
            let tokens = lex(good.as_bytes());
            assert_eq!(tokens.len(), 1, "{good}");
            assert_eq!(tokens[0].1, good.trim().as_bytes(), "{good}");
            assert_ne!(tokens[0].0, Token::Error, "{good}");
        }
        for bad in ["00 ", "-a ", "1. ", "1e ", "1e+ ", "+1 ", ".5 "] {
            assert_eq!(kinds(bad.as_bytes()), [Token::Error], "{bad}");
        }
        // QEMU's table has no exponent straight after a lone zero.
        assert_eq!(kinds(b"0e1 "), [Token::Integer, Token::Keyword, Token::Integer]);
    }
}
