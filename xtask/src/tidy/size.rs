//! Sizes: a file of product code has at most 500 lines and a function at most 80, and every Rust file says at its top what
//! it is.
//!
//! Product code is what is under a `src` folder, without the test module at a file's end and without files of tests. It
//! finds its way through the text with `scan.rs`.

use super::scan;
use super::{Finding, SourceFile};

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 80;

/// Checks one Rust file.
pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let path = &file.path;
    let mut found = Vec::new();
    if !file.text.starts_with("//!") {
        found.push(Finding {
            key: format!("{path}::opening"),
            place: format!("{path}:1"),
            text: "the file does not open with `//!`: what it is, what it does not know, where to read next".to_owned(),
        });
    }
    if !is_product(path) {
        return found;
    }
    let blanked = scan::blank(&file.text);
    let product = scan::product(&blanked);
    let lines = product.iter().filter(|&&letter| letter == '\n').count();
    if lines > LONGEST_FILE {
        found.push(Finding {
            key: path.clone(),
            place: path.clone(),
            text: format!("{lines} lines of product code; at most {LONGEST_FILE}: split it by idea"),
        });
    }
    for function in scan::functions(product).iter().filter(|function| function.lines > LONGEST_FUNCTION) {
        let scan::Function { name, line, lines } = function;
        found.push(Finding {
            key: format!("{path}::{name}"),
            place: format!("{path}:{line}"),
            text: format!("function `{name}` has {lines} lines; at most {LONGEST_FUNCTION}"),
        });
    }
    found
}

fn is_product(path: &str) -> bool {
    path.contains("src/") && !path.contains("/tests/") && !path.ends_with("/tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(path: &str, text: String) -> Vec<String> {
        check(&SourceFile { path: path.to_owned(), text }).into_iter().map(|finding| finding.key).collect()
    }

    #[test]
    fn the_limits_hold_exactly() {
        let file = |lines: usize| format!("//! A file.\n{}", "const A: u8 = 1;\n".repeat(lines - 1));
        assert_eq!(keys("crates/a/src/b.rs", file(500)), [""; 0]);
        assert_eq!(keys("crates/a/src/b.rs", file(501)), ["crates/a/src/b.rs"]);
        let function = |lines: usize| format!("//! A file.\nfn long() {{\n{}}}\n", "    a();\n".repeat(lines - 2));
        assert_eq!(keys("crates/a/src/b.rs", function(80)), [""; 0]);
        assert_eq!(keys("crates/a/src/b.rs", function(81)), ["crates/a/src/b.rs::long"]);
    }

    #[test]
    fn tests_may_be_long_but_open_with_words() {
        let long = "fn a() {}\n".repeat(900);
        assert_eq!(keys("crates/a/tests/b.rs", long), ["crates/a/tests/b.rs::opening"]);
    }
}
