//! The arguments of object-add.

use landfall_qmp::Arguments;

use super::Object;
use crate::settings::qapi::{boolean, choice, list, member, object as members, only, string};
use crate::tls::{Authz, AuthzRule, Format, Policy, X509Credentials, X509Options};

/// The id and the object that `arguments` ask for; `has_secret` tells whether a
/// secret of some id is there.
///
/// # Errors
/// QEMU's texts; for what is not supported one that says so.
pub(super) fn object(
    arguments: &Arguments,
    has_secret: impl Fn(&str) -> bool,
) -> Result<(String, Object), String> {
    let kind = string(member(arguments, "", "qom-type")?, "qom-type")?;
    let id = string(member(arguments, "", "id")?, "id")?;
    if UNSUPPORTED.iter().any(|(name, _)| *name == kind) {
        let why = UNSUPPORTED.iter().find(|(name, _)| *name == kind).map_or("", |(_, why)| why);
        return Err(format!("{kind} is not supported: {why}"));
    }
    let made = match kind {
        "tls-creds-x509" => x509(arguments, has_secret)?,
        "authz-simple" => {
            only(arguments, "", &["qom-type", "id", "identity"])?;
            let identity = string(member(arguments, "", "identity")?, "identity")?.to_owned();
            Object::Authz(Authz::Simple { identity })
        }
        "authz-list" => authz_list(arguments)?,
        "secret" => {
            only(
                arguments,
                "",
                &["qom-type", "id", "data", "file", "format", "keyid", "iv", "loaded"],
            )?;
            Object::Secret
        }
        other => return Err(format!("Parameter 'qom-type' does not accept value '{other}'")),
    };
    if !is_identifier(id) {
        return Err("Parameter 'id' expects an identifier".into());
    }
    Ok((id.to_owned(), made))
}

fn x509(arguments: &Arguments, has_secret: impl Fn(&str) -> bool) -> Result<Object, String> {
    const KNOWN: [&str; 9] = [
        "qom-type",
        "id",
        "dir",
        "endpoint",
        "verify-peer",
        "sanity-check",
        "priority",
        "passwordid",
        "loaded",
    ];
    let text = |name: &str| arguments.get(name).map(|value| string(value, name)).transpose();
    let flag = |name: &str| arguments.get(name).map_or(Ok(true), |value| boolean(value, name));
    let endpoint = arguments.get("endpoint");
    let endpoint = endpoint.map(|value| choice(value, "endpoint", &ENDPOINTS)).transpose()?;
    let dir = text("dir")?;
    let (verify_peer, sanity_check) = (flag("verify-peer")?, flag("sanity-check")?);
    let priority = text("priority")?.map(str::to_owned);
    let password = text("passwordid")?;
    only(arguments, "", &KNOWN)?;
    let dir = dir.ok_or("Missing 'dir' property value")?;
    if let Some(password) = password.filter(|id| !has_secret(id)) {
        return Err(format!("No secret with id '{password}'"));
    }
    if endpoint != Some(SERVER) {
        return Ok(Object::ClientX509);
    }
    let options = X509Options { dir: dir.into(), verify_peer, sanity_check, priority };
    X509Credentials::load(&options).map(Object::X509).map_err(|error| error.to_string())
}

fn authz_list(arguments: &Arguments) -> Result<Object, String> {
    let policy_of = |value, path: &str| {
        let at = choice(value, path, &["deny", "allow"])?;
        Ok::<_, String>([Policy::Deny, Policy::Allow][at])
    };
    let policy = arguments.get("policy");
    let policy = policy.map_or(Ok(Policy::Deny), |value| policy_of(value, "policy"))?;
    let mut rules = Vec::new();
    let given = arguments.get("rules").map(|value| list(value, "rules")).transpose()?;
    for (index, rule) in given.into_iter().flatten().enumerate() {
        let path = format!("rules[{index}]");
        let rule = members(rule, &path)?;
        let at = |name: &str| format!("{path}.{name}");
        let matched = string(member(rule, &path, "match")?, &at("match"))?.to_owned();
        let policy = policy_of(member(rule, &path, "policy")?, &at("policy"))?;
        let format = rule.get("format");
        let format = format.map(|value| choice(value, &at("format"), &["exact", "glob"]));
        let format = [Format::Exact, Format::Glob][format.transpose()?.unwrap_or(0)];
        only(rule, &path, &["match", "policy", "format"])?;
        rules.push(AuthzRule { matched, policy, format });
    }
    only(arguments, "", &["qom-type", "id", "policy", "rules"])?;
    Ok(Object::Authz(Authz::List { policy, rules }))
}

/// QEMU: `util/id.c`, `id_wellformed`.
fn is_identifier(id: &str) -> bool {
    id.starts_with(|first: char| first.is_ascii_alphabetic())
        && id.chars().all(|one| one.is_ascii_alphanumeric() || "-._".contains(one))
}

const ENDPOINTS: [&str; 2] = ["client", "server"];
const SERVER: usize = 1;

/// Objects that QEMU has for the same purpose.
const UNSUPPORTED: [(&str, &str); 4] = [
    (
        "tls-creds-psk",
        "the TLS library, rustls, has no pre-shared keys from outside; use tls-creds-x509 on both \
         sides",
    ),
    ("tls-creds-anon", "nobody would know who connects; use tls-creds-x509 on both sides"),
    ("authz-listfile", "use authz-list"),
    ("authz-pam", "use authz-list"),
];
