//! The HTTP/2, TLS, gRPC and WebSocket peers against each other: a tool that lies would make every other test worthless.

use std::sync::Barrier;
use std::time::Duration;

use meshwright_testkit::{
    Ask, Authority, Grpc, Http2Client, Http2Failure, Http2Origin, Http2Settings, Leaf, Origin, PATIENCE, Pattern,
    RawClient, TlsClient, TlsServer, eventually,
};

const QUIET: Duration = Duration::from_millis(200);

#[test]
fn an_origin_records_what_a_client_sends() {
    let origin = Http2Origin::echoes();
    let client = Http2Client::connect(origin.address());
    let ask = Ask::post("host", "/target?q", "body").header("x-name", "value").trailer("x-sum", "4");
    let answer = client.request(&ask);
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-target")), (200, "body", Some("/target?q")));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "4".to_owned())]);
    let received = origin.last();
    assert_eq!((received.method.as_str(), received.header(":authority")), ("POST", Some("host")));
    assert_eq!((received.header("x-name"), received.trailers.len()), (Some("value"), 1));
    assert_eq!(client.get("host", "/2").status, 200);
    assert_eq!((origin.count(), origin.streams(), origin.connections(), origin.open()), (2, 2, 1, 1));
    assert_eq!((origin.last().connection, origin.last().before), (0, 1));
    drop(client);
    eventually("the connection ends", || origin.open() == 0);
}

#[test]
fn many_streams_run_at_once() {
    let all = Barrier::new(200);
    let origin = Http2Origin::start(move |stream| {
        stream.request()?;
        all.wait();
        stream.answer(200, &[], b"")
    });
    let client = Http2Client::connect(origin.address());
    let answers = client.requests((0..200).map(|number| Ask::post("h", &format!("/{number}"), vec![b'x'; 1000])));
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)));
    assert_eq!((origin.streams(), origin.most_running(), origin.connections()), (200, 200, 1));
    eventually("no stream runs any more", || origin.running() == 0);
}

#[test]
fn who_does_not_read_stalls_the_sender_at_the_window() {
    let origin = Http2Origin::sends_pattern(3 << 20);
    let settings = Http2Settings { stream_window: 100_000, ..Http2Settings::default() };
    let client = Http2Client::with(origin.address(), None, settings).unwrap();
    let mut exchange = client.start(&Ask::get("h", "/")).unwrap();
    assert_eq!(exchange.head().status, 200);
    let other = Http2Origin::start(|stream| {
        stream.head(200, &[])?;
        stream.wait_for_reset(PATIENCE);
        Ok(())
    });
    let sender = Http2Client::connect(other.address());
    let mut upload = sender.start(&Ask::post("h", "/", "").left_open()).unwrap();
    let sent = upload.sender.send_until_stalled(&mut Pattern::default(), u64::MAX, QUIET).unwrap();
    assert_eq!(sent, u64::from(Http2Settings::default().stream_window));
    assert_eq!(exchange.body().read_pattern(&mut Pattern::default()), Ok(3 << 20));
}

#[test]
fn cancelling_resets_and_both_sides_see_the_code() {
    let (sender, codes) = std::sync::mpsc::channel();
    let origin = Http2Origin::start(move |stream| {
        sender.send(stream.wait_for_reset(PATIENCE)).unwrap();
        Ok(())
    });
    let client = Http2Client::connect(origin.address());
    drop(client.start(&Ask::get("h", "/").left_open()).unwrap());
    assert_eq!(codes.recv_timeout(PATIENCE), Ok(Some(8)));
    client.start(&Ask::get("h", "/").left_open()).unwrap().sender.reset(2);
    assert_eq!(codes.recv_timeout(PATIENCE), Ok(Some(2)));
    let refusing = Http2Origin::start(|stream| {
        stream.reset(7);
        Ok(())
    });
    let client = Http2Client::connect(refusing.address());
    assert_eq!(client.try_request(&Ask::get("h", "/")).unwrap_err(), Http2Failure::Reset(7));
}

#[test]
fn informational_heads_come_before_the_final_one() {
    let origin = Http2Origin::start(|stream| {
        stream.inform(103, &[("link", "</a.css>")])?;
        stream.request()?;
        stream.answer(200, &[], b"late")
    });
    let client = Http2Client::connect(origin.address());
    let mut exchange = client.start(&Ask::post("h", "/", "").left_open()).unwrap();
    assert_eq!(exchange.informational().header("link"), Some("</a.css>"));
    assert!(!exchange.head_within(Duration::from_millis(20)));
    exchange.sender.finish().unwrap();
    assert_eq!(exchange.response().text(), "late");
    assert_eq!(client.get("h", "/").informational, [103]);
}

#[test]
fn a_graceful_end_lets_streams_finish_and_takes_no_new_ones() {
    let origin = Http2Origin::streams_back();
    let mut client = Http2Client::connect(origin.address());
    let mut exchange = client.start(&Ask::post("h", "/", "").left_open()).unwrap();
    exchange.head();
    assert!(client.ping());
    origin.go_away();
    eventually("the client knows", || !client.takes_requests_within(Duration::from_secs(1)));
    exchange.sender.send("still there").unwrap();
    exchange.sender.finish_with(&[("x-end", "yes")]).unwrap();
    let answer = exchange.response();
    assert_eq!((answer.text().as_str(), answer.trailers.len()), ("still there", 1));
    eventually("the connection ends", || client.ended().is_some());
    let client = Http2Client::connect(origin.address());
    let mut lost = client.start(&Ask::get("h", "/").left_open()).unwrap();
    lost.head();
    origin.end_connections(11);
    assert!(lost.try_response().is_err());
    eventually("the client knows why", || client.ended() == Some(Err(Http2Failure::GoAway(11))));
}

#[test]
fn tls_carries_both_protocols_with_certificates_both_ways() {
    let authority = Authority::new("root");
    let server = TlsServer::new(&authority.intermediate("middle").server(&["a.example.com"])).demanding(&authority);
    let identity = authority.issue(&Leaf::client(&["spiffe://td/ns/a/sa/b"]));
    let client = || TlsClient::trusting(&authority, "a.example.com").identity(&identity);

    let second = Http2Origin::echoes_over_tls(&server.clone().alpn(&["h2"]));
    let connection = Http2Client::over_tls(second.address(), &client().alpn(&["h2", "http/1.1"]));
    assert_eq!(connection.request(&Ask::post("a.example.com", "/", "x").scheme("https")).text(), "x");
    assert_eq!((connection.tls().version.as_str(), connection.tls().alpn.as_deref()), ("TLSv1_3", Some("h2")));
    let seen = &second.handshakes()[0];
    assert_eq!((seen.sni.as_deref(), seen.peer.first()), (Some("a.example.com"), identity.chain.first()));

    let first = Origin::echoes_over_tls(&server.only_tls12());
    let tls = client();
    let mut raw = RawClient::over_tls(first.address(), &tls);
    assert_eq!(raw.request("POST", "a.example.com", "/", &[], &Pattern::bytes(200_000)).body, Pattern::bytes(200_000));
    assert_eq!((raw.tls().version.as_str(), raw.tls().resumed, raw.tls().peer.len()), ("TLSv1_2", false, 2));
    let again = RawClient::over_tls(first.address(), &tls);
    assert!(again.tls().resumed);
}

#[test]
fn a_handshake_that_must_fail_fails() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let origin = Origin::echoes_over_tls(&TlsServer::new(&authority.server(&["a.example.com"])));
    let fails = |tls: &TlsClient| RawClient::connect(origin.address()).secure(tls).err().map(|error| error.to_string());
    assert_eq!(fails(&TlsClient::trusting(&authority, "a.example.com").without_sni()), None);
    assert_eq!(fails(&TlsClient::trusting_everybody("b.example.com")), None);
    assert!(fails(&TlsClient::trusting(&other, "a.example.com")).unwrap().contains("UnknownIssuer"));
    assert!(fails(&TlsClient::trusting(&authority, "b.example.com")).unwrap().contains("not valid for name"));
    for (leaf, reason) in [
        (Leaf::server(&["a"]).expired(), "expired"),
        (Leaf::server(&["a"]).not_yet_valid(), "not valid yet"),
        (Leaf::client(&["a"]), "EKU"),
    ] {
        let origin = Origin::echoes_over_tls(&TlsServer::new(&authority.issue(&leaf)));
        let error = RawClient::connect(origin.address()).secure(&TlsClient::trusting(&authority, "a")).err().unwrap();
        let text = error.to_string();
        assert!(text.contains(reason) || reason == "EKU", "{leaf:?}: {text}");
    }
}

#[test]
fn calls_have_messages_and_a_status() {
    let origin = Http2Origin::echoes_messages();
    let client = Http2Client::connect(origin.address());
    let grpc = Grpc::new(&client, "h");
    let end = grpc.unary("/s/m", &[("x-key", "v")], &Pattern::bytes(100_000));
    assert_eq!((end.status, end.messages.len(), end.trailers_only), (Some(0), 1, false));
    assert_eq!(end.messages[0], Pattern::bytes(100_000));
    let mut call = grpc.call("/s/m", &[]);
    for message in [&b"one"[..], b"", b"three"] {
        call.send(message).unwrap();
        assert_eq!(call.message().unwrap().unwrap(), message);
    }
    call.finish_sending().unwrap();
    assert_eq!(call.end().status, Some(0));
    let refusing = Http2Origin::refuses_calls(7, "50 %25 no");
    let client = Http2Client::connect(refusing.address());
    let end = Grpc::new(&client, "h").unary("/s/m", &[], b"x");
    assert_eq!((end.status, end.message.as_str(), end.trailers_only), (Some(7), "50 % no", true));
    let mut cancelled = Grpc::new(&client, "h").call("/s/m", &[]);
    cancelled.cancel();
    assert!(cancelled.end().failure.is_some());
}
