//! JSON out, byte for byte as QEMU spells it (`qobject/json-writer.c`): a blank after each colon and
//! comma, nothing but printable ASCII, doubles with 17 significant digits.

use serde_json::Value;

/// Appends `value`. Recursion is as deep as the value.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let text = match number.as_f64() {
                Some(double) if number.is_f64() => double_text(double),
                _ => number.to_string(),
            };
            out.extend_from_slice(text.as_bytes());
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (index, (key, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write_string(key, out);
                out.extend_from_slice(b": ");
                write(member, out);
            }
            out.push(b'}');
        }
    }
}

/// Appends `text` in quotes, escaped.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        let short = match c {
            '"' => Some(b'"'),
            '\\' => Some(b'\\'),
            '\u{8}' => Some(b'b'),
            '\u{c}' => Some(b'f'),
            '\n' => Some(b'n'),
            '\r' => Some(b'r'),
            '\t' => Some(b't'),
            _ => None,
        };
        match (short, c) {
            (Some(letter), _) => out.extend_from_slice(&[b'\\', letter]),
            (None, ' '..='~') => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            (None, _) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04X}").as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}

/// What C's `%.17g` makes of a finite number.
fn double_text(number: f64) -> String {
    let scientific = format!("{:.*e}", PRECISION - 1, number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let (whole, fraction, suffix) = if exponent < -4 || exponent >= PRECISION as i32 {
        let direction = if exponent < 0 { '-' } else { '+' };
        let (first, rest) = digits.split_at(digits.len().min(1));
        let suffix = format!("e{direction}{:02}", exponent.unsigned_abs());
        (first.to_owned(), rest.to_owned(), suffix)
    } else if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        ("0".to_owned(), zeros + digits, String::new())
    } else {
        let padded = format!("{digits:0<width$}", width = exponent as usize + 1);
        let (whole, fraction) = padded.split_at(exponent as usize + 1);
        (whole.to_owned(), fraction.to_owned(), String::new())
    };
    let point = if fraction.is_empty() { "" } else { "." };
    [sign, &whole, point, &fraction, &suffix].concat()
}

/// Significant digits: enough to read back the same double.
const PRECISION: usize = 17;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn blanks_follow_colons_and_commas_only() {
        let value = json!({"a": [1, true, null], "b": {}, "c": [[], {"d": false}]});
        assert_eq!(text(&value), r#"{"a": [1, true, null], "b": {}, "c": [[], {"d": false}]}"#);
    }

    #[test]
    fn strings_are_ascii_with_capital_hex_digits() {
        assert_eq!(
            text(&json!("\"\\/\u{8}\u{c}\n\r\t\u{1}\u{7f}\u{e9}\u{1f600}\0")),
            r#""\"\\/\b\f\n\r\t\u0001\u007F\u00E9\uD83D\uDE00\u0000""#
        );
    }

    /// Spellings as QEMU 7.2.22 or C's printf gave them.
    #[test]
    fn doubles_are_spelled_as_printf_does() {
        for (number, expected) in [
            (1.5, "1.5"),
            (0.1, "0.10000000000000001"),
            (1e300, "1.0000000000000001e+300"),
            (-0.0, "-0"),
            (0.0, "0"),
            (3.0, "3"),
            (123_456_789_012_345_678_901_234_567_890.0, "1.2345678901234568e+29"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (-1234.5, "-1234.5"),
            (100.0, "100"),
            (5e-324, "4.9406564584124654e-324"),
        ] {
            assert_eq!(text(&json!(number)), expected);
        }
    }

    #[test]
    fn integers_keep_all_their_digits() {
        assert_eq!(text(&json!(u64::MAX)), "18446744073709551615");
        assert_eq!(text(&json!(i64::MIN)), "-9223372036854775808");
    }
}
