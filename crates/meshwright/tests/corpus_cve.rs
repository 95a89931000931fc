//! What broke other proxies and servers, one test per published defect: the inputs of the corpus that carry its number, in
//! every split. What their classes have in common is tested by row in `corpus_http1.rs`.

mod corpus;

use corpus::judge;

#[track_caller]
fn judge_inputs_of(defect: &str) {
    judge(|case| case.name.contains(&format!("{defect}:")));
}

#[test]
fn cve_2021_21299_the_coding_in_two_lines() {
    judge_inputs_of("CVE-2021-21299");
}

#[test]
fn cve_2021_32714_a_chunk_size_that_overflows() {
    judge_inputs_of("CVE-2021-32714");
}

#[test]
fn cve_2021_32715_a_length_with_a_plus_sign() {
    judge_inputs_of("CVE-2021-32715");
}

#[test]
fn cve_2021_40346_a_long_name_that_begins_like_content_length() {
    judge_inputs_of("CVE-2021-40346");
}

#[test]
fn cve_2023_25725_an_empty_field_name() {
    judge_inputs_of("CVE-2023-25725");
}

#[test]
fn cve_2023_39326_chunk_extensions_that_cost_more_than_their_data() {
    judge_inputs_of("CVE-2023-39326");
}

#[test]
fn cve_2023_40225_an_empty_length_before_another() {
    judge_inputs_of("CVE-2023-40225");
}

#[test]
fn cve_2024_23326_an_upgrade_that_is_answered_with_200() {
    judge_inputs_of("CVE-2024-23326");
}

#[test]
fn cve_2024_24791_an_expectation_that_is_answered_at_once() {
    judge_inputs_of("CVE-2024-24791");
}

#[test]
fn cve_2025_4366_an_answer_before_the_body_was_read() {
    judge_inputs_of("CVE-2025-4366");
}

#[test]
fn cve_2025_43859_two_carriage_returns_behind_a_chunk_size() {
    judge_inputs_of("CVE-2025-43859");
}

#[test]
fn cve_2025_58056_a_line_feed_inside_a_chunk_extension() {
    judge_inputs_of("CVE-2025-58056");
}

#[test]
fn cve_2025_58160_escape_sequences_for_the_log() {
    judge_inputs_of("CVE-2025-58160");
}

#[test]
fn cve_2025_64763_data_behind_a_refused_connect() {
    judge_inputs_of("CVE-2025-64763");
}

#[test]
fn cve_2026_2833_an_upgrade_with_a_body_that_is_not_granted() {
    judge_inputs_of("CVE-2026-2833");
}

#[test]
fn cve_2026_2835_codings_of_which_chunked_is_not_the_last_and_codings_in_http_10() {
    judge_inputs_of("CVE-2026-2835");
}

#[test]
fn cve_2022_22720_a_body_that_is_not_read_before_the_next_request() {
    judge(|case| case.row == "A22");
}

#[test]
fn cve_2023_25690_line_ends_inside_fields() {
    judge(|case| case.row == "A19");
}

#[test]
fn cve_2023_27493_control_bytes_in_values() {
    judge(|case| case.row == "B7");
}

#[test]
fn cve_2023_45539_a_fragment_in_the_target() {
    judge(|case| case.row == "B3");
}

#[test]
fn cve_2024_45410_and_cve_2026_39858_fields_of_trust_that_connection_names() {
    judge(|case| case.row == "A26");
}
