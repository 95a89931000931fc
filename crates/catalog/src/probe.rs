//! A check of the registry as the prober carries it out: what is asked of an instance, and what its answer means. It knows no
//! schedule; how anything is asked is in `meshwright-probe`.

use meshwright_probe::{Answer, ProbeError, Prober, Question, Serving, Target};
use meshwright_registry::{Check, Probe, Status};

/// Carries `check` out on the instance at `address`:`port`; what it says and why.
pub(crate) async fn carry_out(prober: &Prober, check: &Check, address: &str, port: u16) -> (Status, String) {
    let here = match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    let of = |authority: &Option<String>| authority.clone().unwrap_or_else(|| here.clone());
    let (authority, question) = match &check.probe {
        Probe::Ttl(_) | Probe::Word => return (Status::Critical, String::new()),
        Probe::Http { authority, path } => {
            let host = of(authority);
            (host.clone(), Question::Http { host, path: path.clone(), headers: Vec::new() })
        }
        Probe::Tcp { authority } => (of(authority), Question::Tcp),
        Probe::Grpc { authority, service } => {
            let authority = of(authority);
            (authority.clone(), Question::Grpc { authority, service: service.clone() })
        }
    };
    let target = Target::Authority(authority.clone());
    let probe = meshwright_probe::Probe { target, question, timeout: check.timeout, tls: None, preface: &[] };
    judge(check, &authority, prober.carry_out(&probe).await)
}

fn judge(check: &Check, authority: &str, answer: Result<Answer, ProbeError>) -> (Status, String) {
    match (answer, &check.probe) {
        (Ok(Answer::Connected), _) => (Status::Passing, format!("{authority} accepts connections")),
        (Ok(Answer::Status(code)), Probe::Http { path, .. }) => {
            let status = match code {
                200..=299 => Status::Passing,
                429 => Status::Warning,
                _ => Status::Critical,
            };
            (status, format!("GET {path} answered {code}"))
        }
        (Ok(Answer::Status(code)), _) => (Status::Critical, format!("HTTP status {code}")),
        (Ok(Answer::Serving(Serving::Serving)), _) => (Status::Passing, Serving::Serving.to_string()),
        (Ok(Answer::Serving(other)), _) => (Status::Critical, other.to_string()),
        (Ok(Answer::Grpc(status)), _) => (Status::Critical, format!("gRPC status {status}")),
        (Err(error), _) => (Status::Critical, error.to_string()),
    }
}
