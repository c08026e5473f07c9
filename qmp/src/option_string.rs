//! Option strings, as QEMU's command line has them (`util/qemu-option.c`): `name=value,flag`.

/// The options of an option string, in order: names, and values where there is a `=`.
///
/// A comma inside a value is written twice. One comma at the end is legal.
#[derive(Clone, Debug)]
pub struct OptionString<'text> {
    rest: &'text str,
}

impl<'text> OptionString<'text> {
    /// The options of `text`.
    pub fn new(text: &'text str) -> Self {
        Self { rest: text }
    }

    /// The value that `text` begins with, without a name, and the options behind it.
    pub fn behind_value(text: &'text str) -> (String, Self) {
        let mut options = Self::new(text);
        (options.value(), options)
    }

    /// Takes a value, and the comma behind it (`get_opt_value`).
    fn value(&mut self) -> String {
        let mut value = String::new();
        while let Some((piece, behind)) = self.rest.split_once(',') {
            value.push_str(piece);
            self.rest = behind;
            let Some(behind) = behind.strip_prefix(',') else { return value };
            value.push(',');
            self.rest = behind;
        }
        value.push_str(std::mem::take(&mut self.rest));
        value
    }
}

impl<'text> Iterator for OptionString<'text> {
    type Item = (&'text str, Option<String>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find(['=', ',']).unwrap_or(self.rest.len());
        let (name, behind) = self.rest.split_at(end);
        if let Some(behind) = behind.strip_prefix('=') {
            self.rest = behind;
            return Some((name, Some(self.value())));
        }
        self.rest = behind.strip_prefix(',').unwrap_or_default();
        Some((name, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_end_a_value_unless_there_are_two() {
        for (text, expected) in [
            ("", &[][..]),
            ("a=1", &[("a", Some("1"))]),
            ("a=1,b,c=", &[("a", Some("1")), ("b", None), ("c", Some(""))]),
            ("a=1,", &[("a", Some("1"))]),
            ("a=1,,2,b", &[("a", Some("1,2")), ("b", None)]),
            ("a=1,,,b=2", &[("a", Some("1,")), ("b", Some("2"))]),
            ("a=1,,", &[("a", Some("1,"))]),
            ("a=b=c", &[("a", Some("b=c"))]),
            // Only values have commas.
            ("a,,b=1", &[("a", None), ("", None), ("b", Some("1"))]),
            (",a", &[("", None), ("a", None)]),
        ] {
            let found: Vec<_> = OptionString::new(text).collect();
            let found: Vec<_> =
                found.iter().map(|(name, value)| (*name, value.as_deref())).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_value_may_stand_before_the_options() {
        for (text, value, options) in
            [("", "", 0), ("a=b", "a=b", 0), ("a,,b,c=1,d", "a,b", 2), (",c", "", 1)]
        {
            let (found, rest) = OptionString::behind_value(text);
            assert_eq!((found.as_str(), rest.count()), (value, options), "{text}");
        }
    }
}
