//! Credentials for both sides of a migration under TLS.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::json;
use tempfile::TempDir;

use crate::certificates::{Authority, CLIENT_NAME};
use crate::qmp::Qmp;

/// The directory with all files, made once.
pub(crate) fn directory() -> &'static Path {
    static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Authority::new("real_qemu").write_all(directory.path());
        directory
    });
    DIRECTORY.path()
}

/// Gives the QEMU, or landfall, behind `qmp` its credentials, and has it use them
/// for migrations.
pub(crate) fn add(qmp: &mut Qmp, endpoint: &str, priority: Option<&str>) -> Result<(), String> {
    let mut object = json!({
        "qom-type": "tls-creds-x509", "id": "tls0", "endpoint": endpoint, "dir": directory(),
    });
    if let Some(priority) = priority {
        object["priority"] = priority.into();
    }
    qmp.command("object-add", object)?;
    qmp.command("migrate-set-parameters", json!({ "tls-creds": "tls0" }))?;
    if endpoint == "client" {
        // Over unix: there is no host to be named by the URI.
        qmp.command("migrate-set-parameters", json!({ "tls-hostname": "localhost" }))?;
    } else {
        let authz = json!({ "qom-type": "authz-simple", "id": "authz0", "identity": CLIENT_NAME });
        qmp.command("object-add", authz)?;
        qmp.command("migrate-set-parameters", json!({ "tls-authz": "authz0" }))?;
    }
    Ok(())
}
