//! The admin API: readiness, metrics, the live configuration, endpoints and what an operator may do to them.
//!
//! It shows [`Views`] that the binary hands in and changes nothing but through them: it knows no snapshot, no worker and
//! no configuration file. Pages are small and plain; everything that changes state is a POST.
//! Read next: `views.rs` (what is shown), `pages.rs` (every path). Who may ask, and the
//! server itself, are in `meshwright-site`.

mod pages;
mod text;
mod views;

pub use pages::router;
pub use views::{
    ActionError, AdaptiveConcurrencyView, AdminState, AuditEntry, BreakerAction, BulkheadView, CircuitBreakerView,
    ClusterView, CoalescingView, EndpointAction, EndpointView, HealthCheckView, LastGoodView, LimitsView, ListenerView,
    RateLimitView, Readiness, UsageView, Views,
};
