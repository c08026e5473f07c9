//! Sizes on the command line, as QEMU writes them: `512M`, `4G`, `2T`; and rates of networks.

/// Bytes of a size with a binary suffix; without one, bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; a size is a number with K, M, G or T, as 512M"))
}

/// Bits per second of a network, whose suffixes are decimal: 10G is ten thousand million.
pub(crate) fn parse_bits(text: &str) -> Result<u64, String> {
    parse_size::Config::new().with_decimal().parse_size(text).map_err(|error| {
        format!("{error}; bits per second are a number with K, M, G or T, as 200G")
    })
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_bits};

    #[test]
    fn suffixes_of_networks_are_decimal() {
        assert_eq!(parse_bits("200G"), Ok(200_000_000_000));
        assert_eq!(parse_bits("2.5G"), Ok(2_500_000_000));
        assert_eq!(parse_bits("100M"), Ok(100_000_000));
        assert!(parse_bits("fast").is_err());
    }

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
