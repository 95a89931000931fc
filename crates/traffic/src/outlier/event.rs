//! What outlier detection decided and why, for logs and counters. Read next: `mod.rs`.

use std::fmt;
use std::time::Duration;

use super::Unreachable;

/// What made a host one that is (or should have been) ejected, with the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// `consecutive5xxErrors`: errors in a row.
    Consecutive5xx(u32),
    /// `consecutiveGatewayErrors`: errors in a row.
    ConsecutiveGatewayErrors(u32),
    /// `consecutiveLocalOriginFailures`: failures in a row.
    ConsecutiveLocalOriginFailures(u32),
    /// The success rate is below that of the others.
    SuccessRate {
        /// Local failures are meant, which are counted apart.
        local_origin: bool,
        /// The host's rate, in hundredths of a percent.
        rate: u32,
        /// What it should have been at least, in hundredths of a percent.
        threshold: u32,
    },
    /// Too large a share failed.
    FailurePercentage {
        /// Local failures are meant, which are counted apart.
        local_origin: bool,
        /// The share, in hundredths of a percent.
        percentage: u32,
        /// The limit, in percent.
        threshold: u32,
    },
    /// It could not be connected to.
    Unreachable(Unreachable),
}

/// Causes without their numbers, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the cause of that name")]
pub enum EjectionKind {
    Consecutive5xx,
    ConsecutiveGatewayErrors,
    ConsecutiveLocalOriginFailures,
    SuccessRate,
    LocalOriginSuccessRate,
    FailurePercentage,
    LocalOriginFailurePercentage,
    Unreachable,
}

impl EjectionKind {
    /// Its name in Envoy's settings and counters; the last is ours.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayErrors => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOriginFailures => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::LocalOriginSuccessRate => "local_origin_success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::LocalOriginFailurePercentage => "failure_percentage_local_origin",
            Self::Unreachable => "unreachable",
        }
    }

    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGatewayErrors,
        Self::ConsecutiveLocalOriginFailures,
        Self::SuccessRate,
        Self::LocalOriginSuccessRate,
        Self::FailurePercentage,
        Self::LocalOriginFailurePercentage,
        Self::Unreachable,
    ];
}

impl EjectionCause {
    /// The cause without its numbers.
    pub const fn kind(self) -> EjectionKind {
        match self {
            Self::Consecutive5xx(_) => EjectionKind::Consecutive5xx,
            Self::ConsecutiveGatewayErrors(_) => EjectionKind::ConsecutiveGatewayErrors,
            Self::ConsecutiveLocalOriginFailures(_) => EjectionKind::ConsecutiveLocalOriginFailures,
            Self::SuccessRate { local_origin: false, .. } => EjectionKind::SuccessRate,
            Self::SuccessRate { local_origin: true, .. } => EjectionKind::LocalOriginSuccessRate,
            Self::FailurePercentage { local_origin: false, .. } => EjectionKind::FailurePercentage,
            Self::FailurePercentage { local_origin: true, .. } => EjectionKind::LocalOriginFailurePercentage,
            Self::Unreachable(_) => EjectionKind::Unreachable,
        }
    }
}

/// Hundredths, written as a number with two places.
struct Hundredths(u32);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |local_origin: bool| if local_origin { " of reaching it" } else { "" };
        match *self {
            Self::Consecutive5xx(count) => write!(f, "{count} server errors in a row"),
            Self::ConsecutiveGatewayErrors(count) => write!(f, "{count} gateway errors in a row"),
            Self::ConsecutiveLocalOriginFailures(count) => write!(f, "{count} local-origin failures in a row"),
            Self::SuccessRate { local_origin, rate, threshold } => {
                let (of, rate, threshold) = (of(local_origin), Hundredths(rate), Hundredths(threshold));
                write!(f, "success rate{of} {rate} % is below {threshold} %, which the other hosts allow")
            }
            Self::FailurePercentage { local_origin, percentage, threshold } => {
                let (of, percentage) = (of(local_origin), Hundredths(percentage));
                write!(f, "failure percentage{of} {percentage} reaches {threshold}")
            }
            Self::Unreachable(why) => why.fmt(f),
        }
    }
}

/// Why a host that failed often enough stays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionRefusal {
    /// One more would exceed `maxEjectionPercent`.
    MaxEjectionPercent {
        /// Hosts that are out.
        ejected: usize,
        /// Hosts there are.
        hosts: usize,
        /// The limit in percent.
        percent: u32,
    },
    /// No other host could be picked then.
    LastHost,
    /// Only so many ejections of this kind are carried out (`enforcing-*`), and this was none of them.
    NotEnforced {
        /// The share in percent.
        percent: u8,
    },
}

impl EjectionRefusal {
    /// Whether one more of so many hosts may be out beside those that are; one always may.
    pub(super) fn by_share(ejected: usize, hosts: usize, percent: u32) -> Option<Self> {
        let exceeds = ejected > 0 && (ejected as u64 + 1) * 100 > u64::from(percent) * hosts as u64;
        exceeds.then_some(Self::MaxEjectionPercent { ejected, hosts, percent })
    }
}

impl fmt::Display for EjectionRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxEjectionPercent { ejected, hosts, percent } => {
                write!(f, "{ejected} of {hosts} hosts are ejected, one more would exceed maxEjectionPercent {percent}")
            }
            Self::LastHost => f.write_str("no other host could take its requests"),
            Self::NotEnforced { percent } => write!(f, "{percent} % of such ejections are enforced"),
        }
    }
}

/// Something to log. `index` is the host's place in the set that was passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlierEvent {
    /// The host is out now.
    Ejected {
        /// Which host.
        index: usize,
        /// For how long; it ends with the first sweep after that, or with the first probe then that can connect.
        duration: Duration,
        /// Why.
        cause: EjectionCause,
    },
    /// The host should be out but stays in. Its counts start again, so this is said once per threshold of errors.
    Refused {
        /// Which host.
        index: usize,
        /// Why it should be out.
        cause: EjectionCause,
        /// Why it is not.
        reason: EjectionRefusal,
    },
    /// The host is in again.
    Returned {
        /// Which host.
        index: usize,
    },
}
