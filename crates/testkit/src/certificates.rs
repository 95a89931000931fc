//! Certificates for tests: an authority of our own, and leaves with the names, the validity and the purpose a test wants.
//!
//! They are made in memory and can be written as PEM files. Keys are P-256.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Certificates between its leaves and the root, nearest first, and the same as PEM.
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
}

impl Authority {
    /// A root that certifies itself.
    ///
    /// # Panics
    /// There is no randomness to be had.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(authority_parameters(name), key).expect("a root certificate");
        Self { issuer, chain: Vec::new(), chain_pem: String::new() }
    }

    /// An authority between this one and its leaves; leaves carry it in their chain.
    ///
    /// # Panics
    /// There is no randomness to be had.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::signed_by(authority_parameters(name), key, &self.issuer);
        let issuer = issuer.expect("an intermediate certificate");
        let chain = [vec![issuer.der().clone()], self.chain.clone()].concat();
        let chain_pem = issuer.pem() + &self.chain_pem;
        Self { issuer, chain, chain_pem }
    }

    /// Signs a leaf with a new key.
    ///
    /// # Panics
    /// A name is none.
    pub fn issue(&self, leaf: &Leaf) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf.parameters().signed_by(&key, &self.issuer).expect("a signed certificate");
        let chain_pem = certificate.pem() + &self.chain_pem;
        Issued { chain: [vec![certificate.into()], self.chain.clone()].concat(), chain_pem, key }
    }

    /// A server's certificate for these names.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(&Leaf::server(names))
    }

    /// A client's certificate for these names.
    pub fn client(&self, names: &[&str]) -> Issued {
        self.issue(&Leaf::client(names))
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes its certificate; the path of the file.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, directory: &Path, file: &str) -> PathBuf {
        write(directory, file, &self.pem())
    }

    /// What a peer needs that trusts this authority and no other.
    ///
    /// # Panics
    /// Never: the certificate is well formed.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root certificate");
        roots
    }
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

/// What a leaf says. Valid from 2020 to 3000, unless something else is asked for.
#[derive(Clone, Debug)]
pub struct Leaf {
    names: Vec<String>,
    common_name: String,
    purposes: Vec<ExtendedKeyUsagePurpose>,
    /// First and last moment, in seconds since 1970.
    valid: (u64, u64),
}

/// 1 January of 2000, 2001, 2020 and 3000, in seconds since 1970.
const Y2000: u64 = 946_684_800;
const Y2001: u64 = 978_307_200;
const Y2020: u64 = 1_577_836_800;
const Y3000: u64 = 32_503_680_000;

impl Leaf {
    /// For a server with these names: DNS names (also `*.example.com`), IP addresses, URIs (`spiffe://...`).
    pub fn server(names: &[&str]) -> Self {
        Self::of(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client with these names.
    pub fn client(names: &[&str]) -> Self {
        Self::of(names, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn of(names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_else(|| "test".to_owned());
        Self { names, common_name, purposes: vec![purpose], valid: (Y2020, Y3000) }
    }

    /// For servers and clients alike, as the certificates of a mesh are.
    pub fn for_both(mut self) -> Self {
        self.purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// With this common name in its subject; without this it is the first name.
    pub fn common_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.common_name);
        self
    }

    /// Not valid any more for a long time.
    pub fn expired(mut self) -> Self {
        self.valid = (Y2000, Y2001);
        self
    }

    /// Not valid for a long time to come.
    pub fn not_yet_valid(mut self) -> Self {
        self.valid = (Y3000, Y3000 + 1);
        self
    }

    /// Valid until this time from now.
    ///
    /// # Panics
    /// The clock stands before 1970.
    pub fn valid_for(mut self, time: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
        self.valid = (Y2020, (now + time).as_secs());
        self
    }

    /// Valid since an hour ago, for this long in all, as certificates of public authorities are.
    ///
    /// # Panics
    /// The clock stands before 1970.
    pub fn lifetime(mut self, time: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
        let begin = now.as_secs() - 3600;
        self.valid = (begin, begin + time.as_secs());
        self
    }

    fn parameters(&self) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        parameters.subject_alt_names = self.names.iter().map(|name| alternative_name(name)).collect();
        parameters.extended_key_usages.clone_from(&self.purposes);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        let moment = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        (parameters.not_before, parameters.not_after) = (moment(self.valid.0), moment(self.valid.1));
        parameters
    }
}

fn alternative_name(name: &str) -> SanType {
    let text = || name.try_into().expect("a name of ASCII letters");
    match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) if name.contains("://") => SanType::URI(text()),
        Err(_) => SanType::DnsName(text()),
    }
}

/// A leaf with its key.
pub struct Issued {
    /// The leaf, then what is between it and the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    pub chain_pem: String,
    key: KeyPair,
}

impl Issued {
    /// The key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    /// The key as PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes `NAME.pem` with the chain and `NAME.key`; each by a rename, so that a reader never sees half of one.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = write(directory, &format!("{name}.key"), &self.key_pem());
        (write(directory, &format!("{name}.pem"), &self.chain_pem), key)
    }
}

fn write(directory: &Path, file: &str, text: &str) -> PathBuf {
    let (path, next) = (directory.join(file), directory.join(format!(".{file}.next")));
    std::fs::write(&next, text).expect("the file is written");
    std::fs::rename(&next, &path).expect("the file is renamed");
    path
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn written_files_are_what_was_issued() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("root").intermediate("middle");
        let issued = authority.server(&["a.example.com", "127.0.0.1", "spiffe://td/ns/x/sa/y"]);
        let (chain, key) = issued.write(directory.path(), "server");
        let read: Vec<_> = CertificateDer::pem_file_iter(chain).unwrap().map(Result::unwrap).collect();
        assert_eq!((read.len(), &read), (2, &issued.chain));
        assert_eq!(PrivateKeyDer::from_pem_file(key).unwrap(), issued.key());
    }
}
