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
    /// True if the client of this name may connect.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Simple { identity } => identity == name,
            Self::List { policy, rules } => {
                let rule = rules.iter().find(|rule| rule.matches(name));
                rule.map_or(*policy, |rule| rule.policy) == Policy::Allow
            }
        }
    }
}

impl AuthzRule {
    fn matches(&self, name: &str) -> bool {
        match self.format {
            Format::Exact => self.matched == name,
            Format::Glob => glob(&self.matched, name),
        }
    }
}

/// Whether `pattern` covers all of `text`. Of a failed attempt only the last `*`
/// has to be tried again, so that the time is that of pattern times text.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&one) if one == '?' || one == text[from] => {
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
        assert!(authz.allows("CN=a,O=b"));
        for other in ["", "CN=a", "CN=a,O=b ", "cn=a,o=b"] {
            assert!(!authz.allows(other), "{other}");
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
        assert!(!authz.allows("CN=bad"));
        assert!(authz.allows("CN=bad,O=x"));
        assert!(!authz.allows("O=x"));
        assert!(authz.allows("O=*"));
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
            assert_eq!(glob(pattern, text), covers, "{pattern} {text}");
        }
    }
}
