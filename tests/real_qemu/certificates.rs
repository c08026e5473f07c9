//! Certificates for tests, in directories as QEMU's `tls-creds-x509` has them.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Who a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// `server-cert.pem`, for localhost and 127.0.0.1.
    Server,
    /// `client-cert.pem`.
    Client,
    /// The same, and its time is over.
    ExpiredClient,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes `ca-cert.pem` into `dir`.
    pub(crate) fn write_ca(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("ca-cert.pem"), self.0.pem()).unwrap();
    }

    /// Writes a certificate of this authority and its key into `dir`. Its subject is
    /// [`CLIENT_NAME`] or that of a server.
    pub(crate) fn write(&self, dir: &Path, whose: Whose) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let is_server = whose == Whose::Server;
        let names = if is_server { names.to_vec() } else { Vec::new() };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        // The one form that X.520 has for a country; GnuTLS prints any other in hexadecimal.
        let country = DnValue::PrintableString("GB".try_into().unwrap());
        params.distinguished_name.push(DnType::CountryName, country);
        params.distinguished_name.push(DnType::OrganizationName, "Example, Org");
        let common = if is_server { "destination" } else { "source" };
        params.distinguished_name.push(DnType::CommonName, common);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match is_server {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.serial_number = Some(SerialNumber::from(SERIAL));
        if whose == Whose::ExpiredClient {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let file = if is_server { "server" } else { "client" };
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(format!("{file}-cert.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{file}-key.pem")), key.serialize_pem()).unwrap();
    }

    /// Writes everything that both sides need into `dir`.
    pub(crate) fn write_all(&self, dir: &Path) {
        self.write_ca(dir);
        self.write(dir, Whose::Server);
        self.write(dir, Whose::Client);
    }

    /// Writes `ca-crl.pem` into `dir`: every certificate made so far is revoked.
    #[allow(dead_code, reason = "not everybody who shares this file revokes")]
    pub(crate) fn write_revocations(&self, dir: &Path) {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(SERIAL),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2120, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(dir.join("ca-crl.pem"), list.signed_by(&self.0).unwrap().pem().unwrap()).unwrap();
    }
}

/// The client's name as QEMU writes it.
#[allow(dead_code, reason = "not everybody who shares this file asks for it")]
pub(crate) const CLIENT_NAME: &str = "C=GB,O=Example\\, Org,CN=source";
/// Of every certificate: a revocation hits all of an authority.
const SERIAL: u64 = 77;
