//! Words that have no place in the tree: markers of unfinished work, and paths and papers that only their writer had.
//!
//! The words are put together from halves here, so that this file does not find itself.

use super::{Finding, SourceFile};

struct Word {
    text: &'static str,
    /// Whether letters may stand directly before or behind it.
    whole: bool,
    why: &'static str,
}

const UNFINISHED: &str = "unfinished work does not go in: finish it, or leave it out and say so in the documents";
const ELSEWHERE: &str = "the repository speaks of itself alone; this names something outside of it";

const WORDS: [Word; 6] = [
    Word { text: concat!("TO", "DO"), whole: true, why: UNFINISHED },
    Word { text: concat!("FIX", "ME"), whole: true, why: UNFINISHED },
    Word { text: concat!("todo", "!("), whole: false, why: UNFINISHED },
    Word { text: concat!("unimplemented", "!("), whole: false, why: UNFINISHED },
    Word { text: concat!("/wo", "rk/"), whole: false, why: ELSEWHERE },
    Word { text: concat!("founding ", "document"), whole: false, why: ELSEWHERE },
];

/// Checks one file.
pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in WORDS.iter().filter(|word| contains(line, word)) {
            found.push(Finding {
                key: format!("{}::{}", file.path, word.text),
                place: format!("{}:{}", file.path, index + 1),
                text: format!("`{}`: {}", word.text, word.why),
            });
        }
    }
    found
}

fn contains(line: &str, word: &Word) -> bool {
    line.match_indices(word.text).any(|(at, _)| {
        let letter = |letter: Option<char>| letter.is_some_and(|it| it.is_alphanumeric() || it == '_');
        let inside = letter(line[..at].chars().next_back()) || letter(line[at + word.text.len()..].chars().next());
        !(word.whole && inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let file = SourceFile { path: "a.rs".to_owned(), text: text.to_owned() };
        check(&file).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn markers_are_found_as_whole_words_only() {
        let text = format!("// {0}: later\n// MAS{0}N\n// {0}\n", concat!("TO", "DO"));
        assert_eq!(lines(&text), ["a.rs:1", "a.rs:3"]);
    }

    #[test]
    fn paths_of_the_writers_machine_are_found_anywhere() {
        let text = format!("let a = \"{}main\";\n", concat!("/wo", "rk/"));
        assert_eq!(lines(&text), ["a.rs:1"]);
        assert_eq!(lines("framework/src is fine\n"), [""; 0]);
    }
}
