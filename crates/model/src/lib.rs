//! The words of the mesh.
//!
//! Everything here is plain data: validated resources ([`Mesh`]), what was found while reading them ([`Diagnostic`]),
//! where a thing was written ([`Origin`]) and why a request could not be served ([`FailureKind`]).
//! This crate knows no wire format, no clock and no socket. Its types are not serialisable: each boundary has its own shape.
//! Read next: `meshwright-config` (text to [`Mesh`]) and `meshwright-snapshot` ([`Mesh`] to what runs).

mod diagnostic;
mod directory;
mod failed;
mod failure;
mod health;
pub mod host;
mod load_balancer;
mod mesh;
mod policy;
pub mod re2;
mod resilience;
mod route;
mod service;
mod stream;
mod tls;

pub use diagnostic::{Diagnostic, ObjectRef, Origin, Severity};
pub use directory::{ServiceDirectory, ServiceId};
pub use failed::{Failure, Stage};
pub use failure::{Blame, FailureKind, Outcome, Verdict};
pub use health::{HealthCheck, HealthPort, HealthProbe, HealthTransport};
pub use load_balancer::{
    Algorithm, ConsistentHash, HashCookie, HashKey, HashTable, LoadBalancer, LocalityFailover, LocalitySetting, Warmup,
};
pub use mesh::{Gateway, GatewayRef, Mesh, Server, ServerHost, ServerProtocol};
pub use policy::{
    ConnectionPool, DestinationRule, Enforcing, FailurePercentageDetection, OutlierDetection, PortPolicy,
    ProxyProtocol, Subset, SuccessRateDetection, TrafficPolicy, UpstreamProtocol,
};
pub use resilience::{
    AdaptiveConcurrency, BreakerPreset, BreakerScope, BreakerWindow, Bulkhead, CircuitBreaker, Coalescing,
    ConcurrencyAlgorithm, Enforcement, Fallback, FallbackResponse, Hedging, IdentityCriticality, IdentityName,
    LastGood, RateLimit, RateLimitKey, ResiliencePolicy, ResilienceSettings, RetryBudget,
};
pub use route::{
    Destination, DirectResponse, HeaderMatch, HeaderOperations, HttpMatch, HttpRoute, Redirect, RedirectPort,
    RetryMethods, RetryOn, RetryPolicy, Rewrite, RouteAction, StringMatch, VirtualService, WeightedDestination,
};
pub use service::{
    Endpoint, EndpointAddress, EndpointPorts, EndpointSet, PortProtocol, Resolution, Service, ServicePort,
    ServiceSource,
};
pub use stream::{Subnet, TcpMatch, TcpRoute, TlsMatch, TlsRoute};
pub use tls::{
    AuthoritiesRef, CertificateRef, CipherSuite, ClientCertificate, ClientTlsPolicy, ClientTlsSettings, Reference,
    Secret, ServerTlsSettings, TlsVersion,
};
