//! From references to certificates: looks up files and secrets, makes TLS configurations, says what is wrong with them.
//!
//! A configuration whose contents did not change is the one of the snapshot before, so that tickets stay good and pools
//! keep their connections. What a certificate must be like is known to `meshwright-identity`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use meshwright_identity::{
    CertificateFacts, ClientCheck, ClientSpec, ClientTls, KeyPair, Part, Problem, ServerSpec, ServerTls, SystemRoots,
    Trust,
};
use meshwright_model::{
    AuthoritiesRef, CertificateRef, ClientCertificate, ClientTlsSettings, Diagnostic, Mesh, Reference, Secret,
    ServerTlsSettings, Severity, UpstreamProtocol,
};

use crate::{Snapshot, TlsAction};

/// Certificates and keys that are not in the configuration itself, as somebody else has read them.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Contents by [`Reference::file`], or why there are none.
    pub files: BTreeMap<PathBuf, Result<Arc<[u8]>, String>>,
    /// Secrets of the credentials directory; their namespace is empty.
    pub secrets: Vec<Secret>,
    /// Authorities that the system trusts. Used where TLS to a service names none.
    pub system_roots: SystemRoots,
    /// When validity is judged; `None` does not.
    pub now: Option<SystemTime>,
}

impl fmt::Debug for Credentials {
    /// Names, no contents: there are keys among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("files", &self.files.keys())
            .field("secrets", &self.secrets)
            .field("system_roots", &self.system_roots.count())
            .finish_non_exhaustive()
    }
}

/// What the name of a credential may be, for findings.
const CREDENTIAL_FORMS: &str = "a Secret document of that name (tls.crt and tls.key), or --credentials DIR with \
                                DIR/NAME/tls.crt and DIR/NAME/tls.key, or DIR/NAME.crt and DIR/NAME.key";

/// Looks things up for one compilation.
pub(crate) struct Vault<'a> {
    mesh: &'a Mesh,
    outside: &'a Credentials,
    namespace: &'a str,
    servers: HashMap<[u8; 32], Arc<ServerTls>>,
    clients: HashMap<[u8; 32], Arc<ClientTls>>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Vault<'a> {
    pub(crate) fn new(
        mesh: &'a Mesh,
        outside: &'a Credentials,
        namespace: &'a str,
        previous: Option<&Snapshot>,
    ) -> Self {
        let mut vault = Self {
            mesh,
            outside,
            namespace,
            servers: HashMap::new(),
            clients: HashMap::new(),
            diagnostics: Vec::new(),
        };
        let listeners = previous.iter().flat_map(|snapshot| &snapshot.listeners);
        for chain in listeners.filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.chains) {
            if let TlsAction::Terminate { config, .. } = &chain.action {
                vault.servers.insert(config.fingerprint(), Arc::clone(config));
            }
        }
        for tls in previous.iter().flat_map(|snapshot| &snapshot.clusters).filter_map(|cluster| cluster.tls.as_ref()) {
            vault.clients.insert(tls.fingerprint(), Arc::clone(tls));
        }
        vault
    }

    /// Everything found so far.
    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    /// The TLS of a server entry of a gateway in `namespace` with these hosts; `None` is said in the diagnostics.
    pub(crate) fn server(
        &mut self,
        settings: &ServerTlsSettings,
        namespace: &str,
        hosts: &[String],
        http: bool,
    ) -> Option<Arc<ServerTls>> {
        let effect = "clients could not make a TLS connection to this port";
        let pairs = self.pairs(settings.certificates.iter(), namespace, effect);
        let authorities = match settings.client_certificate {
            ClientCertificate::None => Some(None),
            _ => self.authorities(settings.authorities.as_ref(), namespace, effect).map(Some),
        };
        let revoked = self.optional_file(settings.revoked.as_ref(), effect);
        let (pairs, authorities, revoked) = (pairs?, authorities?, revoked?);
        let clients = match &authorities {
            Some(Some(authorities)) => Some(ClientCheck {
                required: settings.client_certificate == ClientCertificate::Required,
                authorities,
                revoked: revoked.as_deref(),
                subject_alt_names: &settings.subject_alt_names,
                spki_hashes: &settings.spki_hashes,
                certificate_hashes: &settings.certificate_hashes,
            }),
            _ => None,
        };
        let spec = ServerSpec {
            pairs: pairs.iter().map(Pair::borrow).collect(),
            clients,
            min_version: settings.min_version,
            max_version: settings.max_version,
            cipher_suites: &settings.cipher_suites,
            http,
            now: self.outside.now,
        };
        let places = Places {
            pairs: &settings.certificates,
            authorities: settings.authorities.as_ref(),
            revoked: settings.revoked.as_ref(),
        };
        let tls = match self.servers.get(&spec.fingerprint()) {
            Some(known) => Arc::clone(known),
            None => match ServerTls::new(&spec) {
                Ok(tls) => Arc::new(tls),
                Err(problem) => {
                    self.refuse(places.of(problem.part), &problem, effect);
                    return None;
                }
            },
        };
        self.servers.insert(tls.fingerprint(), Arc::clone(&tls));
        for (facts, certificate) in tls.certificates.iter().zip(&settings.certificates) {
            self.judge(facts, certificate_place(certificate), hosts);
        }
        Some(tls)
    }

    /// The TLS to a service; `None` is said in the diagnostics.
    pub(crate) fn client(
        &mut self,
        settings: &ClientTlsSettings,
        namespace: &str,
        service: &str,
        protocol: UpstreamProtocol,
    ) -> Option<Arc<ClientTls>> {
        let effect = "no connection to the service could be made";
        let pairs = self.pairs(settings.certificate.iter(), namespace, effect);
        let authorities = match &settings.authorities {
            Some(_) if !settings.insecure_skip_verify => {
                self.authorities(settings.authorities.as_ref(), namespace, effect)
            }
            _ => Some(None),
        };
        let revoked = self.optional_file(settings.revoked.as_ref(), effect);
        let (pairs, authorities, revoked) = (pairs?, authorities?, revoked?);
        let of_system = authorities.is_none() && !settings.insecure_skip_verify;
        if of_system && self.outside.system_roots.count() == 0 {
            self.no_system_roots(settings, effect);
            return None;
        }
        let trust = match &authorities {
            _ if settings.insecure_skip_verify => Trust::Anybody,
            Some(authorities) => Trust::Authorities(authorities),
            None => Trust::System(&self.outside.system_roots),
        };
        let spec = ClientSpec {
            pair: pairs.first().map(Pair::borrow),
            trust,
            revoked: revoked.as_deref(),
            subject_alt_names: &settings.subject_alt_names,
            server_name: settings.sni.as_deref().unwrap_or(service),
            protocol,
            now: self.outside.now,
        };
        if let Some(known) = self.clients.get(&spec.fingerprint()) {
            return Some(Arc::clone(known));
        }
        let tls = match ClientTls::new(&spec) {
            Ok(tls) => Arc::new(tls),
            Err(problem) => {
                let own: Vec<CertificateRef> = settings.certificate.iter().cloned().collect();
                let places = Places {
                    pairs: &own,
                    authorities: settings.authorities.as_ref(),
                    revoked: settings.revoked.as_ref(),
                };
                self.refuse(places.of(problem.part).or(Some(&settings.block)), &problem, effect);
                return None;
            }
        };
        self.clients.insert(tls.fingerprint(), Arc::clone(&tls));
        Some(tls)
    }

    fn no_system_roots(&mut self, settings: &ClientTlsSettings, effect: &str) {
        let message = "no caCertificates are given, and the system has no trusted authorities";
        let finding = settings
            .block
            .finding(Severity::Error, "certificate", message)
            .with_allowed("caCertificates, credentialName, or the package ca-certificates of the system")
            .with_effect(effect)
            .with_suggestion("add `caCertificates: FILE`, or set SSL_CERT_FILE for this process");
        self.diagnostics.push(finding);
    }

    fn refuse(&mut self, place: Option<&Reference>, problem: &Problem, effect: &str) {
        let finding = match place {
            Some(place) => place.finding(Severity::Error, "certificate", format!("{}: {}", place.name, problem.flaw)),
            None => Diagnostic::error("certificate", problem.flaw.to_string()),
        };
        let finding = finding
            .with_allowed("certificates and keys in PEM form that belong together and are valid now")
            .with_effect(effect)
            .with_suggestion(problem.flaw.suggestion());
        self.diagnostics.push(finding);
    }

    /// What is worth knowing about a certificate that works.
    fn judge(&mut self, facts: &CertificateFacts, place: &Reference, hosts: &[String]) {
        if self.outside.now.is_some_and(|now| facts.not_after < now) {
            let message = format!("{}: the certificate of {} has expired", place.name, facts.subject);
            let finding = place
                .finding(Severity::Warning, "certificate-expired", message)
                .with_effect("clients refuse it; it is kept because it was running before")
                .with_suggestion("renew the certificate; a new file is taken over without a restart");
            self.diagnostics.push(finding);
        }
        let uncovered: Vec<&str> =
            hosts.iter().filter(|host| *host != "*" && !facts.covers(host)).map(String::as_str).collect();
        if uncovered.is_empty() {
            return;
        }
        let names = match facts.dns_names.as_slice() {
            [] => "none: the certificate has no subject alternative names".to_owned(),
            names => names.join(", "),
        };
        let message = format!("{}: the certificate is not for {}", place.name, uncovered.join(", "));
        let finding = place
            .finding(Severity::Warning, "certificate-name", message)
            .with_allowed(names)
            .with_effect("clients that ask for these hosts refuse the certificate")
            .with_suggestion("use a certificate with these names, or correct the hosts of the server");
        self.diagnostics.push(finding);
    }

    fn pairs<'r>(
        &mut self,
        references: impl Iterator<Item = &'r CertificateRef>,
        namespace: &str,
        effect: &str,
    ) -> Option<Vec<Pair>> {
        let pairs: Vec<Option<Pair>> = references
            .map(|reference| match reference {
                CertificateRef::Files { certificate, key } => {
                    let (certificate, key) = (self.file(certificate, effect), self.file(key, effect));
                    Some(Pair { certificate: certificate?, key: key? })
                }
                CertificateRef::Credential(name) => {
                    let secret = self.secret(&name.name, namespace).cloned();
                    let Some(secret) = secret else {
                        self.missing_credential(name, namespace, effect);
                        return None;
                    };
                    match (secret.certificate, secret.key) {
                        (Some(certificate), Some(key)) => {
                            Some(Pair { certificate: certificate.into(), key: key.into() })
                        }
                        (certificate, _) => {
                            let what = if certificate.is_none() { "tls.crt" } else { "tls.key" };
                            self.incomplete(name, what, effect);
                            None
                        }
                    }
                }
            })
            .collect();
        pairs.into_iter().collect()
    }

    /// `Some(None)` when there is no reference.
    fn authorities(
        &mut self,
        reference: Option<&AuthoritiesRef>,
        namespace: &str,
        effect: &str,
    ) -> Option<Option<Arc<[u8]>>> {
        match reference {
            None => Some(None),
            Some(AuthoritiesRef::File(file)) => self.file(file, effect).map(Some),
            Some(AuthoritiesRef::Credential(name)) => {
                let beside = format!("{}-cacert", name.name);
                let names = [name.name.as_str(), beside.as_str()];
                let found = names.into_iter().find_map(|name| self.secret(name, namespace)?.authorities.clone());
                match found {
                    Some(authorities) => Some(Some(authorities.into())),
                    None if self.secret(&name.name, namespace).is_some() => {
                        self.incomplete(name, "ca.crt", effect);
                        None
                    }
                    None => {
                        self.missing_credential(name, namespace, effect);
                        None
                    }
                }
            }
        }
    }

    fn optional_file(&mut self, reference: Option<&Reference>, effect: &str) -> Option<Option<Arc<[u8]>>> {
        match reference {
            Some(reference) => self.file(reference, effect).map(Some),
            None => Some(None),
        }
    }

    fn file(&mut self, reference: &Reference, effect: &str) -> Option<Arc<[u8]>> {
        let path = reference.file();
        let reason = match self.outside.files.get(&path) {
            Some(Ok(contents)) => return Some(Arc::clone(contents)),
            Some(Err(reason)) => reason.clone(),
            None => "it was not read".to_owned(),
        };
        let finding = reference
            .finding(Severity::Error, "certificate-file", format!("{} cannot be read: {reason}", path.display()))
            .with_allowed("a PEM file; a relative path starts in the directory of this configuration file")
            .with_effect(effect)
            .with_suggestion("correct the path, or let the user of this process read the file");
        self.diagnostics.push(finding);
        None
    }

    /// A secret as a user in `namespace` sees it: that of this process's namespace first, where a gateway's secrets are in
    /// Kubernetes, then that of the user's own, then the root namespace; the credentials directory last.
    fn secret(&self, name: &str, namespace: &str) -> Option<&'a Secret> {
        let (mesh, outside) = (self.mesh, self.outside);
        [self.namespace, namespace, crate::assign::ROOT_NAMESPACE]
            .into_iter()
            .find_map(|namespace| {
                mesh.secrets.iter().find(|secret| secret.name == name && secret.namespace == namespace)
            })
            .or_else(|| outside.secrets.iter().find(|secret| secret.name == name))
    }

    fn missing_credential(&mut self, name: &Reference, namespace: &str, effect: &str) {
        let elsewhere = self.mesh.secrets.iter().find(|secret| secret.name == name.name);
        let suggestion = match elsewhere {
            Some(secret) => format!(
                "the Secret in namespace {} is not seen from here: move it to {namespace} or {}",
                secret.namespace, self.namespace
            ),
            None => "add the Secret to the input, or start with --credentials DIR".to_owned(),
        };
        let finding = name
            .finding(Severity::Error, "IST0101", format!("Referenced credentialName not found: {:?}", name.name))
            .with_allowed(CREDENTIAL_FORMS)
            .with_effect(effect)
            .with_suggestion(suggestion);
        self.diagnostics.push(finding);
    }

    fn incomplete(&mut self, name: &Reference, what: &str, effect: &str) {
        let finding = name
            .finding(Severity::Error, "credential", format!("the credential {:?} has no {what}", name.name))
            .with_allowed(CREDENTIAL_FORMS)
            .with_effect(effect)
            .with_suggestion(match what {
                "ca.crt" => format!("add ca.crt to it, or a second credential {}-cacert with ca.crt", name.name),
                _ => format!("add {what} to it"),
            });
        self.diagnostics.push(finding);
    }
}

/// Contents of a chain and its key.
struct Pair {
    certificate: Arc<[u8]>,
    key: Arc<[u8]>,
}

impl Pair {
    fn borrow(&self) -> KeyPair<'_> {
        KeyPair { certificate: &self.certificate, key: &self.key }
    }
}

/// Where the parts of a specification were written.
struct Places<'a> {
    pairs: &'a [CertificateRef],
    authorities: Option<&'a AuthoritiesRef>,
    revoked: Option<&'a Reference>,
}

impl<'a> Places<'a> {
    fn of(&self, part: Part) -> Option<&'a Reference> {
        match part {
            Part::Certificate(index) => self.pairs.get(index).map(certificate_place),
            Part::Key(index) => self.pairs.get(index).map(|pair| match pair {
                CertificateRef::Files { key, .. } => key,
                CertificateRef::Credential(name) => name,
            }),
            Part::Authorities => self.authorities.map(|authorities| match authorities {
                AuthoritiesRef::File(name) | AuthoritiesRef::Credential(name) => name,
            }),
            Part::Revoked => self.revoked,
            Part::ServerName => None,
        }
    }
}

fn certificate_place(reference: &CertificateRef) -> &Reference {
    match reference {
        CertificateRef::Files { certificate, .. } => certificate,
        CertificateRef::Credential(name) => name,
    }
}
