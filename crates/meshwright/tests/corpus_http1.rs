//! The corpus of hostile HTTP/1 messages, rows A and B: judged whole, split at every offset and byte by byte, one test a row.
//!
//! In every test nothing may reach the origin that has two readings, no request that nobody sent, and no byte of what is
//! refused by its head. The inputs are data in `meshwright-testkit`; what needs time or many connections is in
//! `corpus_bounds.rs`.

mod corpus;

use meshwright_testkit::corpus::{answers, requests};
use meshwright_testkit::{Launch, Recorder, binary, eventually};

use corpus::{judge_answers, judge_row};

#[test]
fn there_are_four_hundred_payloads_and_three_thousand_inputs_and_every_row_is_tested() {
    let (requests, answers) = (requests(), answers());
    let payloads = requests.len() + answers.len();
    let splits: usize = requests.iter().map(|case| case.splits().len()).sum();
    let splits = splits + answers.iter().map(|case| case.splits().len()).sum::<usize>();
    println!("{payloads} payloads, {splits} inputs");
    assert!(payloads >= 400, "{payloads}");
    assert!(splits >= 3000, "{splits}");
    let of_this_file = include_str!("corpus_http1.rs");
    for row in requests.iter().map(|case| case.row).chain(answers.iter().map(|case| case.row)) {
        assert!(of_this_file.contains(&format!("(\"{row}\")")), "row {row} has its test");
    }
}

#[test]
fn row_a1_both_framings_in_one_request() {
    judge_row("A1");
}

#[test]
fn row_a2_lengths_that_differ() {
    judge_row("A2");
}

#[test]
fn row_a3_lengths_that_are_equal() {
    judge_row("A3");
}

#[test]
fn row_a4_an_empty_length() {
    judge_row("A4");
}

#[test]
fn row_a5_lengths_that_are_no_plain_number() {
    judge_row("A5");
}

#[test]
fn row_a6_lengths_in_another_spelling_are_written_anew() {
    judge_row("A6");
}

#[test]
fn row_a7_names_that_are_almost_content_length() {
    judge_row("A7");
}

#[test]
fn row_a8_lists_of_codings() {
    judge_row("A8");
}

#[test]
fn row_a9_codings_other_than_chunked() {
    judge_row("A9");
}

#[test]
fn row_a10_codings_that_only_some_servers_recognise() {
    judge_row("A10");
}

#[test]
fn row_a11_framing_in_http_10() {
    judge_row("A11");
}

#[test]
fn row_a12_chunk_sizes_that_are_no_number() {
    judge_row("A12");
}

#[test]
fn row_a13_ends_of_a_chunk_size_line() {
    judge_row("A13");
}

#[test]
fn row_a14_chunk_extensions() {
    judge_row("A14");
}

#[test]
fn row_a15_ends_of_chunks_and_of_the_body() {
    judge_row("A15");
}

#[test]
fn row_a16_well_framed_chunks_are_written_anew() {
    judge_row("A16");
}

#[test]
fn row_a17_trailers() {
    judge_row("A17");
}

#[test]
fn row_a18_line_ends_and_empty_lines() {
    judge_row("A18");
}

#[test]
fn row_a19_line_ends_inside_fields() {
    judge_row("A19");
}

#[test]
fn row_a20_folded_lines() {
    judge_row("A20");
}

#[test]
fn row_a21_bodies_of_methods_that_have_none_as_a_rule() {
    judge_row("A21");
}

#[test]
fn row_a22_answers_before_the_body_was_read() {
    judge_row("A22");
}

#[test]
fn row_a23_expectations() {
    judge_row("A23");
}

#[test]
fn row_a24_pipelines() {
    judge_row("A24");
}

#[test]
fn row_a25_upgrades_that_are_not_granted() {
    judge_row("A25");
}

#[test]
fn row_a26_fields_that_connection_names() {
    judge_row("A26");
}

#[test]
fn row_b1_hosts() {
    judge_row("B1");
}

#[test]
fn row_b2_targets_with_an_authority() {
    judge_row("B2");
}

#[test]
fn row_b3_request_lines() {
    judge_row("B3");
}

#[test]
fn row_b4_methods() {
    judge_row("B4");
}

#[test]
fn row_b5_sizes() {
    judge_row("B5");
}

#[test]
fn row_b6_field_names() {
    judge_row("B6");
}

#[test]
fn row_b7_control_bytes_in_values() {
    judge_row("B7");
}

#[test]
fn row_b8_bytes_beyond_ascii_in_values() {
    judge_row("B8");
}

#[test]
fn row_b9_paths_take_one_form() {
    judge_row("B9");
}

#[test]
fn row_b11_long_lists() {
    judge_row("B11");
}

#[test]
fn row_b12_what_would_spoil_a_log() {
    judge_row("B12");
}

#[test]
fn row_a27_answers_that_are_no_answers() {
    judge_answers("A27");
}

#[test]
fn row_a28_answers_that_end_at_the_wrong_place() {
    judge_answers("A28");
}

#[test]
fn row_a29_answers_that_come_before_the_end_of_the_request() {
    judge_answers("A29");
}

#[test]
fn row_b12_a_log_has_no_control_character_and_nothing_that_turns_text_around() {
    let recorder = Recorder::start();
    for format in ["text", "json"] {
        let process = Launch::proxy(binary!(), &[recorder.address()]).args(&["--access-log", format]).start();
        let cases: Vec<_> = requests().into_iter().filter(|case| case.row == "B12").collect();
        for case in &cases {
            let mut client = process.connect();
            client.send(&case.bytes);
            client.response();
        }
        eventually("every request is logged", || process.stdout().len() == cases.len());
        for line in process.stdout() {
            let bad = line.chars().find(|one| one.is_control() || matches!(one, '\u{2028}'..='\u{202e}' | '\u{fffd}'));
            assert_eq!(bad, None, "{line:?}");
        }
    }
}
