//! object-add and object-del: the objects that migration under TLS names.

mod parse;

use std::collections::BTreeMap;

use landfall_qmp::{Arguments, QmpError};
use serde_json::Value;

use self::parse::Asked;
use super::Monitor;
use crate::settings::Settings;
use crate::tls::{Authz, TlsServer, X509Credentials};

/// What the command line said of TLS, before QMP says anything.
#[derive(Clone, Debug)]
pub struct TlsDefault {
    /// What clients are met with; the object's id is [`TlsDefault::CREDS_ID`].
    pub credentials: X509Credentials,
    /// Who may connect; the object's id is [`TlsDefault::AUTHZ_ID`].
    pub authz: Option<Authz>,
}

impl TlsDefault {
    /// The id under which `tls-creds` names the command line's credentials.
    pub const CREDS_ID: &str = "tls-creds0";
    /// The id under which `tls-authz` names who may connect.
    pub const AUTHZ_ID: &str = "tls-authz0";
}

/// One object.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// `tls-creds-x509` of a server.
    X509(X509Credentials),
    /// `tls-creds-x509` of a client: of no use here, as in QEMU.
    ClientX509,
    /// `authz-simple`, `authz-list`.
    Authz(Authz),
    /// `secret`: kept because harnesses make them; nothing here has a password.
    Secret,
}

/// The objects by id.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<String, Object>);

impl Objects {
    /// The objects of the command line; presets `settings` to name them.
    pub(super) fn new(tls: Option<TlsDefault>, settings: &mut Settings) -> Self {
        let mut objects = BTreeMap::new();
        if let Some(TlsDefault { credentials, authz }) = tls {
            objects.insert(TlsDefault::CREDS_ID.to_owned(), Object::X509(credentials));
            let mut members = Arguments::new();
            members.insert("tls-creds".into(), TlsDefault::CREDS_ID.into());
            if let Some(authz) = authz {
                objects.insert(TlsDefault::AUTHZ_ID.to_owned(), Object::Authz(authz));
                members.insert("tls-authz".into(), TlsDefault::AUTHZ_ID.into());
            }
            settings.set_parameters(&members).expect("nothing else is set");
        }
        Self(objects)
    }

    /// What connections of a run under `settings` are met with; `None` in the
    /// clear.
    ///
    /// # Errors
    /// QEMU's texts (`migration/tls.c`, `authz/base.c`), which it says when the
    /// first connection comes. Here nothing listens then.
    pub(super) fn server(&self, settings: &Settings) -> Result<Option<TlsServer>, String> {
        let Some(id) = settings.tls_creds() else { return Ok(None) };
        let credentials = match self.0.get(id) {
            Some(Object::X509(credentials)) => credentials,
            Some(Object::ClientX509) => {
                return Err("Expected TLS credentials for a server endpoint".into());
            }
            Some(_) => return Err(format!("Object with id '{id}' is not TLS credentials")),
            None => return Err(format!("No TLS credentials with id '{id}'")),
        };
        let authz = match settings.tls_authz().map(|id| (id, self.0.get(id))) {
            None => None,
            Some((_, Some(Object::Authz(authz)))) => Some(authz.clone()),
            Some((id, Some(_))) => {
                return Err(format!("Object '{id}' is not a QAuthZ subclass"));
            }
            Some((id, None)) => return Err(format!("Cannot find QAuthZ object ID {id}")),
        };
        if authz.is_some() && !credentials.verifies_peer() {
            // QEMU asks tls-authz of certificates only (crypto/tlssession.c), and lets everybody in.
            return Err(
                "tls-authz needs verify-peer: without a certificate nobody has a name".into()
            );
        }
        Ok(Some(TlsServer::new(credentials, authz)))
    }

    fn add(&mut self, id: &str, object: Object) -> Result<(), String> {
        self.has_room_for(id)?;
        self.0.insert(id.to_owned(), object);
        Ok(())
    }

    fn has_room_for(&self, id: &str) -> Result<(), String> {
        if self.0.len() >= OBJECTS_MAX {
            return Err(format!("{OBJECTS_MAX} objects are there already"));
        }
        if self.0.contains_key(id) {
            let text =
                format!("attempt to add duplicate property '{id}' to object (type 'container')");
            return Err(text);
        }
        Ok(())
    }
}

impl Monitor {
    pub(super) fn object_add(&self, arguments: &Arguments) -> Result<(), QmpError> {
        let add = || {
            let asked = Asked::parse(arguments, self.destination.version())?;
            let id = asked.id.clone();
            self.destination.state().objects.has_room_for(&id)?;
            // Files are read without the lock.
            let object = asked.complete(|id| {
                matches!(self.destination.state().objects.0.get(id), Some(Object::Secret))
            })?;
            self.destination.state().objects.add(&id, object)
        };
        add().map_err(QmpError::generic)
    }

    pub(super) fn object_del(&self, arguments: &Arguments) -> Result<(), QmpError> {
        let id = arguments.get("id").and_then(Value::as_str).unwrap_or_default();
        let mut state = self.destination.state();
        match state.objects.0.remove(id) {
            Some(_) => Ok(()),
            None => Err(QmpError::generic(format!("object '{id}' not found"))),
        }
    }
}

/// Objects that QMP may make.
const OBJECTS_MAX: usize = 1024;
