//! Sizes on the command line, as QEMU writes them: `512M`, `4G`, `2T`.

/// Bytes of a size with a binary suffix; without one, bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; a size is a number with K, M, G or T, as 512M"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn suffixes_are_binary() {
        assert_eq!(parse("4G"), Ok(4 << 30));
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("4T"), Ok(4 << 40));
        assert_eq!(parse("123"), Ok(123));
        assert!(parse("4X").is_err());
        assert!(parse("").is_err());
    }
}
