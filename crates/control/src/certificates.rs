//! The files with certificates and keys that a configuration refers to: which there are, what is in them, where to watch.
//!
//! It does not know what a certificate must be like: contents go to `meshwright-snapshot` as they are.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use meshwright_identity::SystemRoots;
use meshwright_model::{
    AuthoritiesRef, CertificateRef, ClientTlsPolicy, ClientTlsSettings, Diagnostic, Mesh, Origin, Reference, Secret,
    ServerTlsSettings, TrafficPolicy,
};
use meshwright_snapshot::Credentials;
use tracing::warn;

use crate::source::{Interest, interests_of, parent};

/// Largest file that is read, in bytes; the authorities of a whole operating system take a quarter of it.
const MAX_BYTES: u64 = 1024 * 1024;

/// What a configuration needs from outside of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    files: BTreeSet<PathBuf>,
    credentials: BTreeSet<String>,
    system_roots: bool,
}

/// Reads what configurations need, and notices when it changes.
#[derive(Default)]
pub(crate) struct Certificates {
    directory: Option<PathBuf>,
    wanted: Wanted,
    digest: u64,
    system_roots: Option<SystemRoots>,
}

/// Everything outside of `mesh` that it refers to, with findings about the credentials directory. A file that cannot be
/// read is part of the answer: the compiler says where it is named.
pub fn certificates_of(mesh: &Mesh, directory: Option<&Path>) -> (Credentials, Vec<Diagnostic>) {
    Certificates::new(directory.map(Path::to_owned)).gather(mesh)
}

impl Certificates {
    /// Looks for credentials in `directory`.
    pub(crate) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, ..Self::default() }
    }

    /// Reads what `mesh` needs, and remembers it for [`Certificates::changed`].
    pub(crate) fn gather(&mut self, mesh: &Mesh) -> (Credentials, Vec<Diagnostic>) {
        self.wanted = Wanted::of(mesh);
        let mut findings = Vec::new();
        let mut credentials = self.read(&mut findings);
        self.digest = digest(&credentials, findings.len());
        if self.wanted.system_roots {
            credentials.system_roots = self.system_roots.get_or_insert_with(system_roots).clone();
        }
        credentials.now = Some(SystemTime::now());
        (credentials, findings)
    }

    /// Whether something that the last configuration needs has other contents now.
    pub(crate) fn changed(&self) -> bool {
        let mut findings = Vec::new();
        let credentials = self.read(&mut findings);
        digest(&credentials, findings.len()) != self.digest
    }

    /// The authorities of the system are read again at the next occasion.
    pub(crate) fn forget_system_roots(&mut self) {
        self.system_roots = None;
    }

    fn read(&self, findings: &mut Vec<Diagnostic>) -> Credentials {
        let mut credentials = Credentials::default();
        for path in &self.wanted.files {
            let contents = read_file(path).map(Arc::from).map_err(|error| reason(&error));
            credentials.files.insert(path.clone(), contents);
        }
        if let Some(directory) = &self.directory {
            credentials.secrets =
                self.wanted.credentials.iter().filter_map(|name| secret(directory, name, findings)).collect();
        }
        credentials
    }

    /// The directories in which a change may change what is read.
    pub(crate) fn watched_directories(&self) -> BTreeMap<PathBuf, Interest> {
        let mut directories: BTreeSet<PathBuf> = BTreeSet::new();
        let mut files: Vec<PathBuf> = self.wanted.files.iter().cloned().collect();
        if let Some(directory) = self.directory.as_ref().filter(|_| !self.wanted.credentials.is_empty()) {
            directories.insert(directory.clone());
            for name in &self.wanted.credentials {
                let own = directory.join(name);
                if own.is_dir() {
                    directories.insert(own);
                }
                files.extend(places(directory, name).into_iter().flatten().filter(|path| path.exists()));
            }
        }
        for file in &files {
            directories.insert(parent(file));
            if let Ok(real) = fs::canonicalize(file) {
                directories.insert(parent(&real));
            }
        }
        interests_of(directories)
    }
}

impl Wanted {
    fn of(mesh: &Mesh) -> Self {
        let mut wanted = Self::default();
        for server in mesh.gateways.iter().flat_map(|gateway| &gateway.servers) {
            if let Some(tls) = &server.tls {
                wanted.server(tls);
            }
        }
        for rule in &mesh.destination_rules {
            wanted.policy(&rule.traffic_policy);
            for subset in &rule.subsets {
                wanted.policy(&subset.traffic_policy);
            }
        }
        wanted
    }

    fn server(&mut self, tls: &ServerTlsSettings) {
        tls.certificates.iter().for_each(|certificate| self.certificate(certificate));
        tls.authorities.iter().for_each(|authorities| self.authorities(authorities));
        tls.revoked.iter().for_each(|file| self.file(file));
    }

    fn policy(&mut self, policy: &TrafficPolicy) {
        let of_ports = policy.port_level.iter().filter_map(|own| own.tls.as_ref());
        for tls in policy.tls.iter().chain(of_ports) {
            if let ClientTlsPolicy::Originate(settings) = tls {
                self.client(settings);
            }
        }
    }

    fn client(&mut self, tls: &ClientTlsSettings) {
        tls.certificate.iter().for_each(|certificate| self.certificate(certificate));
        tls.authorities.iter().for_each(|authorities| self.authorities(authorities));
        tls.revoked.iter().for_each(|file| self.file(file));
        self.system_roots |= tls.authorities.is_none() && !tls.insecure_skip_verify;
    }

    fn certificate(&mut self, certificate: &CertificateRef) {
        match certificate {
            CertificateRef::Files { certificate, key } => {
                self.file(certificate);
                self.file(key);
            }
            CertificateRef::Credential(name) => {
                self.credentials.insert(name.name.clone());
            }
        }
    }

    fn authorities(&mut self, authorities: &AuthoritiesRef) {
        match authorities {
            AuthoritiesRef::File(file) => self.file(file),
            AuthoritiesRef::Credential(name) => {
                self.credentials.insert(name.name.clone());
                self.credentials.insert(format!("{}-cacert", name.name));
            }
        }
    }

    fn file(&mut self, reference: &Reference) {
        self.files.insert(reference.file());
    }
}

/// Where the parts of the credential `name` may be: certificate, key, authorities, revoked.
fn places(directory: &Path, name: &str) -> [Vec<PathBuf>; 4] {
    // A name is one step down, whatever a document says.
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    if !plain {
        return [const { Vec::new() }; 4];
    }
    let inside = |files: [&str; 2]| files.map(|file| directory.join(name).join(file)).to_vec();
    let beside = |ending: &str| directory.join(format!("{name}.{ending}"));
    let mut places = [
        inside(["tls.crt", "cert"]),
        inside(["tls.key", "key"]),
        inside(["ca.crt", "cacert"]),
        inside(["ca.crl", "crl"]),
    ];
    if name.ends_with("-cacert") {
        places[2].push(beside("crt"));
    } else {
        places[0].push(beside("crt"));
        places[1].push(beside("key"));
    }
    places
}

/// The credential as far as there are files of it; `None` when there is none.
fn secret(directory: &Path, name: &str, findings: &mut Vec<Diagnostic>) -> Option<Secret> {
    let mut part = |places: Vec<PathBuf>| {
        places.into_iter().find_map(|path| match read_file(&path) {
            Ok(contents) => Some(contents),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) => {
                findings.push(unreadable(&path, &error));
                None
            }
        })
    };
    let [certificate, key, authorities, revoked] = places(directory, name).map(&mut part);
    let secret = Secret { name: name.to_owned(), namespace: String::new(), certificate, key, authorities, revoked };
    let empty = secret.certificate.is_none() && secret.key.is_none() && secret.authorities.is_none();
    (!empty).then_some(secret)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut contents = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(contents)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ => error.to_string(),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::error("certificate-file", format!("{} cannot be read: {}", path.display(), reason(error)))
        .at(Origin::flag("--credentials"), 1)
        .with_value(path.display().to_string())
        .with_effect("nothing of the input is applied")
        .with_suggestion("let the user of this process read the file")
}

/// As rustls-native-certs finds them; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured.
fn system_roots() -> SystemRoots {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!(%error, "authorities of the system");
    }
    SystemRoots::new(&found.certs)
}

/// A number that is the same for the same contents under the same names.
fn digest(credentials: &Credentials, failures: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    credentials.files.hash(&mut hasher);
    failures.hash(&mut hasher);
    for secret in &credentials.secrets {
        let Secret { name, namespace: _, certificate, key, authorities, revoked } = secret;
        (name, certificate, key, authorities, revoked).hash(&mut hasher);
    }
    hasher.finish()
}
