//! Tokens to one value, without recursion, refusing in the words of QEMU's parser
//! (`qobject/json-parser.c`).

use serde_json::{Map, Number, Value};

use super::{
    code_point::{character, decode, to_text_lossy},
    lexer::Token,
};

/// A value under construction.
#[derive(Debug, Default)]
pub(super) struct Tree {
    open: Vec<Open>,
    done: Option<Value>,
    error: Option<String>,
}

impl Tree {
    /// Adds a token. After the first mistake all further tokens are ignored.
    pub(super) fn push(&mut self, token: Token, text: &[u8]) {
        if self.error.is_some() {
            return;
        }
        if let Err(error) = self.accept(token, text) {
            self.error = Some(clip(error));
            self.open = Vec::new();
        }
    }

    /// Ends the value: what was built, or the first mistake in it.
    ///
    /// The caller ends it only when as many brackets have been closed as opened, or one too many,
    /// so a value that is still open has had a mistake in it.
    pub(super) fn finish(&mut self) -> Result<Value, String> {
        let Self { done, error, .. } = std::mem::take(self);
        match (done, error) {
            (Some(value), None) => Ok(value),
            (_, Some(error)) => Err(error),
            (None, None) => Err("premature EOI".into()),
        }
    }

    fn accept(&mut self, token: Token, text: &[u8]) -> Result<(), String> {
        let closing = match token {
            Token::RightBrace => Some(Shape::Object),
            Token::RightBracket => Some(Shape::Array),
            _ => None,
        };
        let Some(open) = self.open.last_mut() else {
            return self.begin(token, text);
        };
        match open.want {
            Want::FirstOrEnd | Want::Separator if closing == Some(open.shape()) => {
                let value = self.open.pop().map(Open::into_value);
                value.map_or(Ok(()), |value| self.complete(value))
            }
            Want::FirstOrEnd | Want::Item | Want::Member => self.begin(token, text),
            Want::Colon if token == Token::Colon => {
                open.want = Want::Member;
                Ok(())
            }
            Want::Colon => Err("missing : in object pair".into()),
            Want::Separator if token == Token::Comma => {
                open.want = Want::Item;
                Ok(())
            }
            Want::Separator => Err(format!("expected separator in {}", open.shape().name())),
        }
    }

    /// A value starts here.
    fn begin(&mut self, token: Token, text: &[u8]) -> Result<(), String> {
        let value = match token {
            Token::LeftBrace => return self.descend(Container::Object(Map::new())),
            Token::LeftBracket => return self.descend(Container::Array(Vec::new())),
            Token::Integer => integer(text)?,
            Token::Float => float(text)?,
            Token::String => Value::String(string(text)?),
            Token::Keyword => match text {
                b"true" => Value::Bool(true),
                b"false" => Value::Bool(false),
                b"null" => Value::Null,
                _ => return Err(format!("invalid keyword '{}'", to_text_lossy(text))),
            },
            Token::RightBrace
            | Token::RightBracket
            | Token::Colon
            | Token::Comma
            | Token::Error => return Err("expecting value".into()),
        };
        self.complete(value)
    }

    fn descend(&mut self, container: Container) -> Result<(), String> {
        self.open.push(Open { container, key: None, want: Want::FirstOrEnd });
        Ok(())
    }

    /// A value has ended: it is a key, a member, an element, or all there is.
    fn complete(&mut self, value: Value) -> Result<(), String> {
        let Some(open) = self.open.last_mut() else {
            self.done = Some(value);
            return Ok(());
        };
        match &mut open.container {
            Container::Array(items) => {
                items.push(value);
                open.want = Want::Separator;
            }
            Container::Object(members) => match open.key.take() {
                Some(key) => {
                    if members.contains_key(&key) {
                        return Err("duplicate key".into());
                    }
                    members.insert(key, value);
                    open.want = Want::Separator;
                }
                None => {
                    let Value::String(key) = value else {
                        return Err("key is not a string in object".into());
                    };
                    open.key = Some(key);
                    open.want = Want::Colon;
                }
            },
        }
        Ok(())
    }
}

/// An object or array that has not been closed yet.
#[derive(Debug)]
struct Open {
    container: Container,
    /// The key whose value is awaited.
    key: Option<String>,
    want: Want,
}

impl Open {
    fn shape(&self) -> Shape {
        match self.container {
            Container::Object(_) => Shape::Object,
            Container::Array(_) => Shape::Array,
        }
    }

    fn into_value(self) -> Value {
        match self.container {
            Container::Object(members) => Value::Object(members),
            Container::Array(items) => Value::Array(items),
        }
    }
}

#[derive(Debug)]
enum Container {
    Object(Map<String, Value>),
    Array(Vec<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Object,
    Array,
}

impl Shape {
    /// QEMU's names, which are Python's.
    fn name(self) -> &'static str {
        match self {
            Self::Object => "dict",
            Self::Array => "list",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// The first key or element, or the end of an empty container.
    FirstOrEnd,
    /// A key or an element, after a comma.
    Item,
    Colon,
    /// The value of a member.
    Member,
    Separator,
}

fn integer(text: &[u8]) -> Result<Value, String> {
    let digits = str::from_utf8(text).unwrap_or_default();
    if let Ok(number) = digits.parse::<i64>() {
        return Ok(number.into());
    }
    if let Ok(number) = digits.parse::<u64>() {
        return Ok(number.into());
    }
    float(text)
}

/// QEMU lets a number too large for a double be infinite and prints it as `inf`, which is no JSON;
/// here it is refused.
fn float(text: &[u8]) -> Result<Value, String> {
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.and_then(Number::from_f64).map(Value::Number).ok_or_else(|| "number out of range".into())
}

/// The string inside a token, its quotes removed and its escapes resolved.
fn string(token: &[u8]) -> Result<String, String> {
    let [_, inner @ .., _] = token else {
        return Err("premature EOI".into());
    };
    let mut text = String::with_capacity(inner.len());
    let mut at = 0;
    while let Some(&byte) = inner.get(at) {
        if byte != b'\\' {
            let (found, used) = decode(inner.split_at(at).1);
            text.push(found.ok_or("invalid UTF-8 sequence in string")?);
            at += used;
            continue;
        }
        let (found, used) = match inner.get(at + 1) {
            // The token with its closing quote, which may be what an escape breaks off at.
            Some(b'u') => hex_escape(token.split_at(at + 1).1)?,
            Some(&letter) => (simple_escape(letter)?, 2),
            None => return Err("invalid escape sequence in string".into()),
        };
        text.push(found);
        at += used;
    }
    Ok(text)
}

fn simple_escape(letter: u8) -> Result<char, String> {
    Ok(match letter {
        b'"' | b'\'' | b'\\' | b'/' => char::from(letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return Err("invalid escape sequence in string".into()),
    })
}

/// Reads `\uXXXX`, or two of them that are a surrogate pair: the character and the bytes it took.
fn hex_escape(rest: &[u8]) -> Result<(char, usize), String> {
    let high = hex(rest, 2);
    let pair =
        high.is_some_and(|code| (0xd800..0xdc00).contains(&code)) && rest.get(6..8) == Some(b"\\u");
    let (code, used) = match (high, pair) {
        (Some(high), true) => match hex(rest, 8) {
            Some(low) if (0xdc00..0xe000).contains(&low) => {
                (Some(0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff)), 12)
            }
            _ => (None, 6),
        },
        (high, _) => (high, 6),
    };
    code.and_then(character).map(|found| (found, used)).ok_or_else(|| {
        let written = rest.get(..used).unwrap_or(rest);
        let written = to_text_lossy(written);
        format!("{written} is not a valid Unicode character")
    })
}

/// Four hexadecimal digits at `at`.
fn hex(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))
}

/// QEMU formats these texts into a buffer of 1024 bytes.
pub(super) fn clip(mut error: String) -> String {
    let mut end = ERROR_BYTES_MAX.min(error.len());
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.truncate(end);
    error
}

/// `json-parser.c`, `parse_error`: the buffer less its NUL.
const ERROR_BYTES_MAX: usize = 1023;
