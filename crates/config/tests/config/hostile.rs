//! Texts that are no configuration at all, or want to do harm: each ends with an error at a place, soon.

use std::fmt::Write;

use meshwright_config::{MAX_SOURCE_BYTES, Options, Outcome, Source, load};
use meshwright_model::Diagnostic;

use crate::case::{document, errors, mesh, read, read_with};

fn bytes(text: impl Into<Vec<u8>>) -> Outcome {
    load(&[Source::new("hostile", text)], &Options::default())
}

fn first(outcome: &Outcome) -> &Diagnostic {
    errors(outcome).next().expect("an error")
}

fn assert_refused(outcome: &Outcome, code: &str, line: u32, column: u32) {
    assert!(outcome.mesh.is_none());
    let finding = errors(outcome).find(|finding| finding.code == code);
    let finding = finding.unwrap_or_else(|| panic!("no {code}, but {:?}", outcome.diagnostics));
    let origin = finding.origin.as_ref().expect("a place");
    assert_eq!((origin.line, origin.column), (line, column), "{finding}");
    assert!(finding.suggestion.is_some());
}

#[test]
fn an_alias_bomb_ends_at_the_alias_that_is_too_much() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let aliases = vec![format!("*a{before}"); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").expect("a string takes everything");
    }
    let outcome = bytes(text);
    assert_eq!(first(&outcome).code, "yaml-too-many-nodes");
    assert_eq!(first(&outcome).origin.as_ref().map(|origin| origin.line), Some(6));
}

#[test]
fn a_bomb_of_one_long_text_ends_too() {
    let long = "x".repeat(1024 * 1024);
    let aliases = vec!["*a"; 200].join(", ");
    let outcome = bytes(format!("a: &a {long}\nb: [{aliases}]\n"));
    assert_eq!(first(&outcome).code, "yaml-too-many-nodes");
}

#[test]
fn ten_thousand_levels_end_with_an_error_in_every_notation() {
    let deep = 10_000;
    let mut indented = String::new();
    for level in 0..1_000 {
        writeln!(indented, "{}a:", " ".repeat(level)).expect("a string takes everything");
    }
    for text in ["[".repeat(deep), "{a: ".repeat(deep), "- ".repeat(deep), "? ".repeat(deep), indented] {
        let outcome = bytes(text);
        assert!(outcome.mesh.is_none());
        assert!(matches!(first(&outcome).code, "yaml-too-deep" | "yaml-key"), "{}", first(&outcome));
    }
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..1_000 {
        writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1).expect("a string takes everything");
    }
    assert_eq!(first(&bytes(chain)).code, "yaml-too-deep");
}

#[test]
fn aliases_cannot_contain_themselves_or_cross_documents() {
    assert_refused(&bytes("a: &a [*a]"), "yaml-alias", 1, 8);
    assert_refused(&bytes("a: &a x\n---\nb: *a\n"), "yaml-alias", 3, 4);
    assert_refused(&bytes("a: *nothing"), "yaml-syntax", 1, 4);
}

#[test]
fn binary_and_broken_encodings_are_named_with_their_place() {
    assert_refused(&bytes(b"\x7fELF\x02\x01\x01\x00".to_vec()), "not-text", 1, 1);
    assert_refused(&bytes(b"a: b\nc: \0".to_vec()), "not-text", 2, 4);
    assert_refused(&bytes(b"a: \xc3\xa4\xff".to_vec()), "not-utf8", 1, 5);
    assert_refused(&bytes(b"\xff\xfea\0:\0".to_vec()), "not-utf8", 1, 1);
    assert_refused(&bytes(b"\x1f\x8b\x08\x00".to_vec()), "not-utf8", 1, 2);
}

#[test]
fn tabs_for_indentation_are_recognised() {
    assert_refused(&bytes("spec:\n\thosts:\n\t- a\n"), "yaml-tab", 2, 1);
    assert_refused(&bytes("spec:\n  a: b\n\tc: d\n"), "yaml-tab", 3, 1);
}

#[test]
fn duplicate_keys_name_both_places() {
    let outcome = bytes("a: 1\nb: 2\na: 3\n");
    assert_refused(&outcome, "duplicate-key", 3, 1);
    let found = errors(&outcome).find(|finding| finding.code == "duplicate-key").expect("the finding");
    assert!(found.message.contains("first at line 1, column 1"));
}

#[test]
fn keys_that_are_no_text_and_unknown_tags_are_refused() {
    assert_refused(&bytes("{[a]: b}"), "yaml-key", 1, 2);
    assert_refused(&bytes("a: !secret b"), "yaml-tag", 1, 4);
    assert_refused(&bytes("a: {<<: 5}"), "yaml-merge", 1, 9);
}

#[test]
fn a_text_that_is_too_large_is_not_read() {
    let outcome = bytes(vec![b'a'; MAX_SOURCE_BYTES + 1]);
    assert_refused(&outcome, "text-too-large", 1, 1);
}

#[test]
fn one_line_of_sixteen_mebibytes_is_read_to_its_end() {
    let mut text = vec![b'x'; MAX_SOURCE_BYTES];
    text[..3].copy_from_slice(b"a: ");
    assert_refused(&bytes(text), "not-an-object", 1, 1);
}

#[test]
fn a_flood_of_mistakes_is_cut_off_with_a_note() {
    let mut spec = String::from("host: a\n");
    for number in 0..5_000 {
        writeln!(spec, "unknown{number}: 1").expect("a string takes everything");
    }
    let outcome = read_with(&document("DestinationRule", &spec), &["a=:1"]);
    assert!(outcome.mesh.is_none());
    assert_eq!(outcome.diagnostics.len(), 2_001);
    let last = outcome.diagnostics.last().expect("a note");
    assert_eq!(
        (last.code, last.message.as_str()),
        ("too-many-findings", "3000 more findings in this source are not shown")
    );
}

#[test]
fn line_ends_and_the_mark_of_windows_change_nothing() {
    let text =
        format!("\u{feff}{}", document("DestinationRule", "host: a\nsubsets:\n- name: v1").replace('\n', "\r\n"));
    assert_eq!(mesh(&text).destination_rules[0].subsets[0].name, "v1");
    let wrong = format!("\u{feff}{}", document("DestinationRule", "hots: a").replace('\n', "\r\n"));
    let outcome = read(&wrong);
    let places: Vec<u32> =
        errors(&outcome).filter_map(|finding| finding.origin.as_ref()).map(|origin| origin.line).collect();
    assert_eq!(places, [6, 6]);
}

#[test]
fn columns_count_characters_not_bytes() {
    let outcome = read(&document("VirtualService", "hosts: ['ä', 'b_c']\nhttp: [{route: [{destination: {host: a}}]}]"));
    let columns: Vec<u32> =
        errors(&outcome).filter_map(|finding| finding.origin.as_ref()).map(|origin| origin.column).collect();
    assert_eq!(columns, [11, 16]);
}
