//! The arguments of object-add, and the objects made from them: in QEMU's order, so that of
//! several mistakes it is told the same one.

use std::path::{Path, PathBuf};

use landfall_qmp::Arguments;
use nix::errno::Errno;
use serde_json::Value;

use super::Object;
use crate::settings::QemuVersion;
use crate::settings::qapi::{
    boolean, choice, is_identifier, list, member, object as members, only, string,
};
use crate::tls::{
    Authz, AuthzRule, Format, Policy, X509Credentials, X509Options, accessible_credentials,
};

/// An object that was asked for in the right shape.
pub(super) struct Asked {
    pub(super) id: String,
    properties: Properties,
}

enum Properties {
    X509 { creds: Creds, sanity_check: bool, password: Option<String> },
    Psk { creds: Creds, username: Option<String> },
    Anon,
    Authz(Authz),
    AuthzListFile,
    Secret { data: Option<String>, file: Option<String>, is_base64: bool, key: Option<String> },
}

/// What all credentials have.
struct Creds {
    dir: Option<PathBuf>,
    is_server: bool,
    verify_peer: bool,
    priority: Option<String>,
}

impl Asked {
    /// Reads the arguments of object-add.
    ///
    /// # Errors
    /// QEMU's texts.
    pub(super) fn parse(arguments: &Arguments, version: QemuVersion) -> Result<Self, String> {
        let kind = string(member(arguments, "", "qom-type")?, "qom-type")?;
        let id = string(member(arguments, "", "id")?, "id")?;
        let mut given = Given { arguments, known: vec!["qom-type", "id"] };
        let had_loaded = version == QemuVersion::V7_2 && LOADED.contains(&kind);
        if had_loaded {
            given.flag("loaded", true)?;
        }
        let properties = match kind {
            "tls-creds-x509" => Properties::X509 {
                creds: given.creds()?,
                sanity_check: given.flag("sanity-check", true)?,
                password: given.text("passwordid")?,
            },
            "tls-creds-psk" => {
                Properties::Psk { creds: given.creds()?, username: given.text("username")? }
            }
            "tls-creds-anon" => {
                given.creds()?;
                Properties::Anon
            }
            "authz-simple" => {
                Properties::Authz(Authz::Simple { identity: given.required("identity")? })
            }
            "authz-list" => Properties::Authz(given.authz_list()?),
            "authz-listfile" => {
                given.required("filename")?;
                given.flag("refresh", true)?;
                Properties::AuthzListFile
            }
            "authz-pam" => {
                given.required("service")?;
                only(arguments, "", &given.known)?;
                check_id(id)?;
                // A class that not every build has, Debian's among them.
                return Err("invalid object type: authz-pam".into());
            }
            "secret" => Properties::Secret {
                data: given.text("data")?,
                file: given.text("file")?,
                is_base64: given.one_of("format", &["raw", "base64"])? == Some(1),
                key: given.text("keyid")?,
            },
            other => return Err(format!("Parameter 'qom-type' does not accept value '{other}'")),
        };
        if kind == "secret" {
            given.text("iv")?;
        }
        only(arguments, "", &given.known)?;
        check_id(id)?;
        if had_loaded && arguments.contains_key("loaded") {
            return Err(format!("Property '{kind}.loaded' is not writable"));
        }
        Ok(Self { id: id.to_owned(), properties })
    }

    /// Makes the object; `has_secret` tells whether a secret of some id is there.
    ///
    /// # Errors
    /// QEMU's texts; for what is not supported one that says so.
    pub(super) fn complete(self, has_secret: impl Fn(&str) -> bool) -> Result<Object, String> {
        let secret = |id: Option<String>| match id {
            Some(id) if !has_secret(&id) => Err(format!("No secret with id '{id}'")),
            _ => Ok(()),
        };
        match self.properties {
            Properties::Authz(authz) => Ok(Object::Authz(authz)),
            Properties::X509 { creds, sanity_check, password } => {
                let Creds { dir, is_server, verify_peer, priority } = creds;
                let dir = dir.ok_or(NO_DIR)?;
                if !is_server {
                    accessible_credentials(&dir.join("ca-cert.pem")).map_err(told)?;
                    secret(password)?;
                    return Ok(Object::ClientX509);
                }
                let options = X509Options { dir, verify_peer, sanity_check, priority };
                let credentials = X509Credentials::load(&options).map_err(told)?;
                secret(password)?;
                Ok(Object::X509(credentials))
            }
            Properties::Psk { creds, username } => {
                let dir = creds.dir.ok_or(NO_DIR)?;
                if creds.is_server && username.is_some() {
                    return Err("username should not be set when endpoint=server".into());
                }
                accessible_credentials(&dir.join("keys.psk")).map_err(told)?;
                Err(format!("tls-creds-psk is not supported: {NO_PSK}"))
            }
            Properties::Anon => Err(format!("tls-creds-anon is not supported: {NO_ANON}")),
            Properties::AuthzListFile => {
                Err("authz-listfile is not supported: use authz-list".into())
            }
            Properties::Secret { data, file, is_base64, key } => {
                let content = match (data, file) {
                    (Some(_), Some(_)) => {
                        return Err("'file' and 'data' are mutually exclusive".into());
                    }
                    (None, None) => return Err("Either 'file' or 'data' must be provided".into()),
                    (Some(data), None) => data.into_bytes(),
                    (None, Some(file)) => content_of(&file)?,
                };
                secret(key)?;
                if is_base64 && !content.iter().all(is_base64_byte) {
                    return Err("Base64 data contains invalid characters".into());
                }
                Ok(Object::Secret)
            }
        }
    }
}

/// The arguments, and the names that were asked for.
struct Given<'a> {
    arguments: &'a Arguments,
    known: Vec<&'static str>,
}

impl<'a> Given<'a> {
    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.arguments.get(name)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, String> {
        self.get(name).map(|value| string(value, name).map(str::to_owned)).transpose()
    }

    fn required(&mut self, name: &'static str) -> Result<String, String> {
        self.known.push(name);
        string(member(self.arguments, "", name)?, name).map(str::to_owned)
    }

    fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, String> {
        self.get(name).map_or(Ok(default), |value| boolean(value, name))
    }

    fn one_of(&mut self, name: &'static str, names: &[&str]) -> Result<Option<usize>, String> {
        self.get(name).map(|value| choice(value, name, names)).transpose()
    }

    fn creds(&mut self) -> Result<Creds, String> {
        Ok(Creds {
            verify_peer: self.flag("verify-peer", true)?,
            dir: self.text("dir")?.map(PathBuf::from),
            is_server: self.one_of("endpoint", &["client", "server"])? == Some(1),
            priority: self.text("priority")?,
        })
    }

    fn authz_list(&mut self) -> Result<Authz, String> {
        let policy_of = |at: usize| [Policy::Deny, Policy::Allow][at];
        let policy = self.one_of("policy", &POLICIES)?.map_or(Policy::Deny, policy_of);
        let mut rules = Vec::new();
        let given = self.get("rules").map(|value| list(value, "rules")).transpose()?;
        for (index, rule) in given.into_iter().flatten().enumerate() {
            let path = format!("rules[{index}]");
            let rule = members(rule, &path)?;
            let at = |name: &str| format!("{path}.{name}");
            let matched = string(member(rule, &path, "match")?, &at("match"))?.to_owned();
            let policy = choice(member(rule, &path, "policy")?, &at("policy"), &POLICIES)?;
            let format = rule.get("format");
            let format = format.map(|value| choice(value, &at("format"), &["exact", "glob"]));
            let format = [Format::Exact, Format::Glob][format.transpose()?.unwrap_or(0)];
            only(rule, &path, &["match", "policy", "format"])?;
            rules.push(AuthzRule { matched, policy: policy_of(policy), format });
        }
        Ok(Authz::List { policy, rules })
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn check_id(id: &str) -> Result<(), String> {
    is_identifier(id).then_some(()).ok_or_else(|| "Parameter 'id' expects an identifier".into())
}

fn content_of(file: &str) -> Result<Vec<u8>, String> {
    std::fs::read(Path::new(file)).map_err(|why| {
        let why = Errno::from_raw(why.raw_os_error().unwrap_or(libc::EIO)).desc();
        // The words of GLib, which reads it there.
        format!("Unable to read {file}: Failed to open file “{file}”: {why}")
    })
}

/// QEMU: `util/base64.c`.
fn is_base64_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=\n".contains(byte)
}

const POLICIES: [&str; 2] = ["deny", "allow"];
const NO_DIR: &str = "Missing 'dir' property value";
/// Objects that had a property `loaded` once, which could no longer be set.
const LOADED: [&str; 4] = ["tls-creds-x509", "tls-creds-psk", "tls-creds-anon", "secret"];
const NO_PSK: &str = "the TLS library, rustls, has no pre-shared keys from outside; use \
                      tls-creds-x509 on both sides";
const NO_ANON: &str = "nobody would know who connects; use tls-creds-x509 on both sides";
