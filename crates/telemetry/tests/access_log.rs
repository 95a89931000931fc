//! Lines of the access log, byte for byte.

use std::time::{Duration, SystemTime};

use meshwright_telemetry::{AccessLogEncoder, AccessLogFormat, RequestRecord, encode_access_log};
use proptest::prelude::*;

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// 2026-11-23T16:55:04.123Z
const MOMENT: u64 = 1_795_452_904_123;

fn served() -> RequestRecord<'static> {
    RequestRecord {
        method: Some("GET"),
        path: Some("/users/7?full=1"),
        protocol: Some("HTTP/1.1"),
        response_code: 200,
        response_code_details: Some("via_upstream"),
        bytes_received: 0,
        bytes_sent: 4294,
        duration: Duration::from_micros(30_900),
        upstream_service_time: Some(Duration::from_millis(29)),
        x_forwarded_for: Some(b"10.244.0.1"),
        user_agent: Some(b"curl/7.68.0"),
        request_id: Some(b"5a6ad6d8-5b4b-4ffd-9d8b-0e4b0c2a7c11"),
        authority: Some("api.example.com"),
        upstream_host: "10.0.0.13:9080".parse().ok(),
        upstream_cluster: Some("outbound|80||user-service.default.svc.cluster.local"),
        upstream_local_address: "10.0.0.8:38012".parse().ok(),
        downstream_local_address: "[::1]:8080".parse().ok(),
        downstream_remote_address: "[::1]:43206".parse().ok(),
        route_name: Some("users"),
        ..RequestRecord::new(at(MOMENT))
    }
}

fn line(format: AccessLogFormat, record: &RequestRecord<'_>) -> String {
    let mut out = Vec::new();
    encode_access_log(format, record, &mut out);
    String::from_utf8(out).expect("a line is ASCII")
}

#[test]
fn a_served_request_is_istios_default_line() {
    assert_eq!(
        line(AccessLogFormat::Text, &served()),
        "[2026-11-23T16:55:04.123Z] \"GET /users/7?full=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 4294 30 29 \
         \"10.244.0.1\" \"curl/7.68.0\" \"5a6ad6d8-5b4b-4ffd-9d8b-0e4b0c2a7c11\" \"api.example.com\" \
         \"10.0.0.13:9080\" outbound|80||user-service.default.svc.cluster.local 10.0.0.8:38012 [::1]:8080 \
         [::1]:43206 - users\n"
    );
}

#[test]
fn missing_values_are_dashes_and_a_failure_says_why() {
    let record = RequestRecord {
        response_code: 503,
        response_flags: "UF,URX",
        response_code_details: Some("upstream_reset_before_response_started{remote connection failure}"),
        upstream_transport_failure_reason: Some("delayed connect error: 111"),
        reason: Some("The connection to \"v1\" was refused."),
        ..RequestRecord::new(at(0))
    };
    assert_eq!(
        line(AccessLogFormat::Text, &record),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 503 UF,URX \
         upstream_reset_before_response_started{remote_connection_failure} - \"delayed connect error: 111\" 0 0 0 - \
         \"-\" \"-\" \"-\" \"-\" \"-\" - - - - - - reason=\"The connection to \\\"v1\\\" was refused.\"\n"
    );
}

#[test]
fn json_has_istios_keys_in_order_and_null_for_missing() {
    let text = line(AccessLogFormat::Json, &served());
    assert_eq!(
        text,
        "{\"start_time\":\"2026-11-23T16:55:04.123Z\",\"method\":\"GET\",\"path\":\"/users/7?full=1\",\
         \"protocol\":\"HTTP/1.1\",\"response_code\":200,\"response_flags\":\"-\",\
         \"response_code_details\":\"via_upstream\",\"connection_termination_details\":null,\
         \"upstream_transport_failure_reason\":null,\"bytes_received\":0,\"bytes_sent\":4294,\"duration\":30,\
         \"upstream_service_time\":\"29\",\"x_forwarded_for\":\"10.244.0.1\",\"user_agent\":\"curl/7.68.0\",\
         \"request_id\":\"5a6ad6d8-5b4b-4ffd-9d8b-0e4b0c2a7c11\",\"authority\":\"api.example.com\",\
         \"upstream_host\":\"10.0.0.13:9080\",\
         \"upstream_cluster\":\"outbound|80||user-service.default.svc.cluster.local\",\
         \"upstream_local_address\":\"10.0.0.8:38012\",\"downstream_local_address\":\"[::1]:8080\",\
         \"downstream_remote_address\":\"[::1]:43206\",\"requested_server_name\":null,\"route_name\":\"users\",\
         \"reason\":null}\n"
    );
    serde_json::from_str::<serde_json::Value>(&text).expect("the line is JSON");
}

#[test]
fn the_remembered_second_never_shows_in_another() {
    let mut encoder = AccessLogEncoder::new(AccessLogFormat::Text);
    for (millis, expected) in [
        (MOMENT, "[2026-11-23T16:55:04.123Z]"),
        (MOMENT + 1, "[2026-11-23T16:55:04.124Z]"),
        (MOMENT + 877, "[2026-11-23T16:55:05.000Z]"),
        (MOMENT, "[2026-11-23T16:55:04.123Z]"),
        (951_782_399_999, "[2000-02-28T23:59:59.999Z]"),
        (951_782_400_000, "[2000-02-29T00:00:00.000Z]"),
        (0, "[1970-01-01T00:00:00.000Z]"),
    ] {
        let mut out = Vec::new();
        encoder.encode(&RequestRecord::new(at(millis)), &mut out);
        assert!(out.starts_with(expected.as_bytes()), "{expected}: {}", String::from_utf8_lossy(&out));
    }
    let mut out = Vec::new();
    encoder.encode(&RequestRecord::new(SystemTime::UNIX_EPOCH - Duration::from_secs(5)), &mut out);
    assert!(out.starts_with(b"[1970-01-01T00:00:00.000Z]"), "a clock before 1970 is its start");
}

#[test]
fn a_hostile_path_and_agent_stay_one_line_between_their_quotes() {
    let record = RequestRecord {
        path: Some("/a b\"\r\n[2026] \"GET /forged\u{202e}"),
        user_agent: Some(b"x\" 200 \x1b]0;title\x07\xff"),
        ..served()
    };
    let text = line(AccessLogFormat::Text, &record);
    assert!(
        text.contains(r#""GET /a\x20b\"\x0d\x0a[2026]\x20\"GET\x20/forged\xe2\x80\xae HTTP/1.1" 200 - via_upstream"#),
        "{text}"
    );
    assert!(text.contains(r#" "x\" 200 \x1b]0;title\x07\xff" "#), "{text}");
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..40), any::<String>().prop_map(String::into_bytes)]
}

/// The values of a text line: split at spaces outside quotes, escapes kept.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut inside, mut escaped) = (Vec::new(), String::new(), false, false);
    for character in line.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => inside = !inside,
            ' ' if !inside => {
                fields.push(std::mem::take(&mut field));
                continue;
            }
            _ => {}
        }
        field.push(character);
    }
    fields.push(field);
    fields
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_network_sends_a_record_is_one_line_of_its_format(
        (path, host, name, reason) in (any::<String>(), any::<String>(), any::<String>(), any::<Option<String>>()),
        (agent, forwarded, id) in (bytes(), bytes(), bytes()),
        (millis, code) in (0u64..4_000_000_000_000, any::<u16>()),
    ) {
        let record = RequestRecord {
            path: Some(&path),
            authority: Some(&host),
            requested_server_name: Some(&name),
            response_code_details: Some(&name),
            reason: reason.as_deref(),
            user_agent: Some(&agent),
            x_forwarded_for: Some(&forwarded),
            request_id: Some(&id),
            response_code: code,
            start_time: at(millis),
            ..served()
        };
        let text = line(AccessLogFormat::Text, &record);
        let body = text.strip_suffix('\n').expect("a line ends");
        prop_assert!(body.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{:?}", body);
        prop_assert_eq!(fields(body).len(), 22 + usize::from(reason.as_deref().is_some_and(|reason| !reason.is_empty())), "{}", body);

        let json = line(AccessLogFormat::Json, &record);
        let body = json.strip_suffix('\n').expect("a line ends");
        prop_assert!(body.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{:?}", body);
        let value: serde_json::Value = serde_json::from_str(body).expect("a record is valid JSON");
        for (key, given) in [("path", path.as_bytes()), ("user_agent", &agent), ("x_forwarded_for", &forwarded),
            ("request_id", &id), ("authority", host.as_bytes()), ("requested_server_name", name.as_bytes())] {
            let expected = String::from_utf8_lossy(given);
            let found = value[key].as_str().unwrap_or_default();
            prop_assert_eq!(found, expected.as_ref(), "{}", key);
        }
    }
}
