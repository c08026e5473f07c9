//! Which clients may connect, by the name in their certificate (`tls-authz`).

/// A list of rules, or one name (QEMU's objects `authz-list`, `authz-simple`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authz {
    /// This identity and no other.
    Simple {
        /// The distinguished name, as QEMU writes it.
        identity: String,
    },
    /// The first rule that matches decides, else the policy.
    List {
        /// What happens to everybody else.
        policy: Policy,
        /// In order.
        rules: Vec<AuthzRule>,
    },
}

/// What a rule says of those it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They may.
    Allow,
    /// They may not.
    Deny,
}

/// How a rule's text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As it stands.
    Exact,
    /// `*` is any text, `?` one character.
    Glob,
}

/// One rule of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthzRule {
    /// Whom it is about.
    pub matched: String,
    /// What it says.
    pub policy: Policy,
    /// How its text is meant.
    pub format: Format,
}

impl Authz {
    /// True if the client of this name may connect. A name need not be UTF-8.
    pub fn allows(&self, name: &[u8]) -> bool {
        match self {
            Self::Simple { identity } => identity.as_bytes() == name,
            Self::List { policy, rules } => {
                let rule = rules.iter().find(|rule| rule.matches(name));
                rule.map_or(*policy, |rule| rule.policy) == Policy::Allow
            }
        }
    }
}

impl AuthzRule {
    fn matches(&self, name: &[u8]) -> bool {
        match self.format {
            Format::Exact => self.matched.as_bytes() == name,
            Format::Glob => glob(&self.matched, name),
        }
    }
}

/// Whether `pattern` covers all of `text`. Of a failed attempt only the last `*`
/// has to be tried again, so that the time is that of pattern times text.
fn glob(pattern: &str, text: &[u8]) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // A byte that is no UTF-8 counts as a character that no pattern has.
    let text: Vec<Option<char>> = text
        .utf8_chunks()
        .flat_map(|chunk| {
            let wrong = chunk.invalid().iter().map(|_| None);
            chunk.valid().chars().map(Some).chain(wrong)
        })
        .collect();
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&one) if one == '?' || Some(one) == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                from = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_is_matched_whole() {
        let authz = Authz::Simple { identity: "CN=a,O=b".into() };
        assert!(authz.allows(b"CN=a,O=b"));
        for other in ["", "CN=a", "CN=a,O=b ", "cn=a,o=b"] {
            assert!(!authz.allows(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule =
            |matched: &str, policy, format| AuthzRule { matched: matched.into(), policy, format };
        let authz = Authz::List {
            policy: Policy::Deny,
            rules: vec![
                rule("CN=bad", Policy::Deny, Format::Exact),
                rule("CN=*", Policy::Allow, Format::Glob),
                rule("O=*", Policy::Allow, Format::Exact),
            ],
        };
        assert!(!authz.allows(b"CN=bad"));
        assert!(authz.allows(b"CN=bad,O=x"));
        assert!(!authz.allows(b"O=x"));
        assert!(authz.allows(b"O=*"));
    }

    /// As GLib's `g_pattern_match_simple`, which QEMU asks, does.
    #[test]
    fn globs_cover_names_that_are_no_utf8() {
        for (pattern, text, covers) in [
            ("CN=*", &b"CN=\xff"[..], true),
            ("CN=*b", b"CN=a\xffb", true),
            ("CN=a?b", b"CN=a\xffb", true),
            ("CN=\u{ff}", b"CN=\xff", false),
            ("CN=\u{fffd}", b"CN=\xff", false),
        ] {
            assert_eq!(glob(pattern, text), covers, "{pattern} {text:?}");
        }
    }

    #[test]
    fn globs_cover_the_whole_text() {
        for (pattern, text, covers) in [
            ("*", "", true),
            ("a*", "b", false),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*a*b*", "xxaxxbxx", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "a", false),
            ("*ab", "aab", true),
        ] {
            assert_eq!(glob(pattern, text.as_bytes()), covers, "{pattern} {text}");
        }
    }
}
