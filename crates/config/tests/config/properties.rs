//! Whatever the bytes: no panic, an outcome that fits its findings, places that exist in the text.

use meshwright_config::{Options, Outcome, Source, load};
use meshwright_model::Severity;
use proptest::prelude::*;

const SAMPLES: [&str; 3] = [include_str!("../data/gateway.yaml"), include_str!("../data/canary.yaml"), SERVICES];

const SERVICES: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a, b.example.com]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: a}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w, labels: &labels {app: a}}
spec: {address: 10.0.0.1, ports: {http: 8081}, weight: 2, labels: *labels}
---
{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"c\"}, \"spec\": {\"ports\": [{\"port\": 80, \"targetPort\": \"web\"}], \"selector\": {\"app\": \"a\"}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: c-1, labels: {kubernetes.io/service-name: c}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2], conditions: {ready: true}}]
ports: [{name: '', port: 8080}]
";

fn check(text: &[u8]) -> Result<Outcome, TestCaseError> {
    let options = Options::default();
    let sources = [Source::new("text", text)];
    let outcome = load(&sources, &options);
    let failed = outcome.diagnostics.iter().any(|finding| finding.severity == Severity::Error);
    prop_assert_eq!(outcome.mesh.is_none(), failed);
    let lossy = String::from_utf8_lossy(text);
    let lines = lossy.split(['\n', '\r']).count();
    for finding in &outcome.diagnostics {
        let origin = finding.origin.as_ref().expect("every finding in a text has a place");
        prop_assert!(origin.line as usize <= lines + 1, "{}", finding);
        prop_assert!(finding.length >= 1);
        prop_assert!(!finding.message.is_empty());
    }
    let places: Vec<(u32, u32)> =
        outcome.diagnostics.iter().filter_map(|finding| finding.origin.as_ref()).map(|o| (o.line, o.column)).collect();
    prop_assert!(places.is_sorted(), "findings come in the order of the text: {:?}", places);
    let again = load(&sources, &options);
    prop_assert_eq!(&outcome.diagnostics, &again.diagnostics, "the same input gives the same findings");
    Ok(outcome)
}

/// One change to a text: a stretch is cut out, doubled, or replaced.
#[derive(Clone, Debug)]
struct Change {
    at: prop::sample::Index,
    length: usize,
    replacement: String,
    doubled: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = prop::sample::select(vec![
        "",
        " ",
        "  ",
        "\n",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "null",
        "*",
        "&a ",
        "*labels",
        "<<: ",
        "\"",
        "'",
        "#",
        "-1",
        "0",
        "99999999999",
        "1.5",
        "true",
        "~",
        "|\n",
        ">-\n",
        "\t",
        "---\n",
        "...\n",
        "!!str ",
        "ä",
        "%",
        "\\",
        "?",
        "http:",
        "spec:",
        "kind: List\nitems:\n",
        "@",
        "`",
        ",",
    ]);
    (any::<prop::sample::Index>(), 0_usize..12, pieces, any::<bool>()).prop_map(|(at, length, replacement, doubled)| {
        Change { at, length, replacement: replacement.to_owned(), doubled }
    })
}

fn apply(text: &str, changes: &[Change]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for change in changes {
        let start = change.at.index(characters.len().max(1)).min(characters.len());
        let end = (start + change.length).min(characters.len());
        let mut replacement: Vec<char> = change.replacement.chars().collect();
        if change.doubled {
            replacement.extend_from_slice(&characters[start..end]);
            replacement.extend_from_slice(&characters[start..end]);
        }
        characters.splice(start..end, replacement);
    }
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes)?;
    }

    #[test]
    fn arbitrary_yaml_like_text_never_panics(text in "([a-z*&!%@`|>?:,\\[\\]{}'\"#~<-]|: |- |\n| |---\n){0,120}") {
        check(text.as_bytes())?;
    }

    #[test]
    fn mutated_valid_texts_never_panic(sample in 0_usize..3, changes in prop::collection::vec(change(), 0..6)) {
        check(apply(SAMPLES[sample], &changes).as_bytes())?;
    }

    #[test]
    fn flags_never_panic_and_good_ones_print_as_themselves(text in "[a-z.=:;,0-9\\[\\]]{0,40}") {
        if let Ok(flag) = text.parse::<meshwright_config::ServiceFlag>() {
            prop_assert_eq!(flag.to_string().parse::<meshwright_config::ServiceFlag>(), Ok(flag));
        }
    }
}

#[test]
fn the_unchanged_samples_have_no_errors() {
    for sample in SAMPLES {
        let outcome = check(sample.as_bytes()).expect("the properties hold");
        assert!(outcome.mesh.is_some(), "{:?}", outcome.diagnostics);
    }
}
