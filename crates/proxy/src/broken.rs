//! What the early end of an exchange means: from what the relay saw to the failure that decides everything else.

use meshwright_codec::{BodyError, HeadErrorClass};
use meshwright_model::{Failure, FailureKind, Stage};
use meshwright_telemetry::RefusalReason;
use meshwright_wire::RelayError;

use crate::record::Record;

/// What the end of an exchange means, and the exact limit where one was broken.
pub(crate) fn failure_of(record: &mut Record, stage: Stage, error: RelayError) -> Failure {
    match error {
        RelayError::Downstream(cause) => Failure::new(stage, FailureKind::DownstreamClosed).because(cause),
        RelayError::DownstreamInvalid(error) => {
            if matches!(error, BodyError::ChunkExtensionTooLong | BodyError::TrailersTooLarge) {
                record.refusal = Some(RefusalReason::ChunkedBodyLimit);
            }
            Failure::new(Stage::Read, FailureKind::BadRequest).because(error.as_str())
        }
        RelayError::Upstream { cause, .. } => Failure::new(stage, FailureKind::UpstreamClosed).because(cause),
        RelayError::UpstreamInvalid(error) => {
            if matches!(error.class(), HeadErrorClass::HeadersTooLarge | HeadErrorClass::UriTooLong) {
                record.refusal = Some(RefusalReason::UpstreamHeadLimit);
            }
            Failure::new(stage, FailureKind::UpstreamProtocol).because(error.as_str())
        }
        RelayError::UpstreamBodyInvalid(error) => {
            Failure::new(stage, FailureKind::UpstreamProtocol).because(error.as_str())
        }
        RelayError::UpstreamStalled => Failure::new(stage, FailureKind::Timeout)
            .because("the endpoint took nothing of the request for the stall timeout"),
        RelayError::RouteDeadline => Failure::new(stage, FailureKind::Timeout),
        RelayError::TryDeadline => Failure::new(stage, FailureKind::PerTryTimeout),
        RelayError::Stalled => Failure::new(Stage::Read, FailureKind::StreamIdle),
    }
}
