//! Just enough of Rust's lexical structure to measure it: comments, strings and characters blanked out, functions found,
//! the trailing test module cut off.
//!
//! It works on text that compiles; what it says of other text means nothing. It does not judge sizes: `size.rs` does.

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: String,
    /// The line of its `fn`, from 1.
    pub(super) line: usize,
    /// Lines from its `fn` to its closing brace, both included.
    pub(super) lines: usize,
}

/// The text with the insides of comments, strings and character literals replaced by blanks; lines stay where they are.
pub(super) fn blank(text: &str) -> Vec<char> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        if let Some(end) = end {
            for place in &mut out[at..end] {
                if *place != '\n' {
                    *place = ' ';
                }
            }
            at = end;
        } else {
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; none when no such thing begins there.
fn token_end(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => Some(find(chars, at, |rest| rest[0] == '\n')),
        '/' if next == Some('*') => Some(block_comment_end(chars, at)),
        '"' => Some(string_end(chars, at)),
        'r' if !follows_word(chars, at) => raw_string_end(chars, at),
        // A prefix (b, c) is left to the next round: what follows it is a string like any other.
        '\'' => character_end(chars, at),
        _ => None,
    }
}

fn find(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|&at| found(&chars[at..])).unwrap_or(chars.len())
}

fn follows_word(chars: &[char], at: usize) -> bool {
    // `br"` is a raw string, too; any other letter before the r makes it part of a word.
    let before = |distance: usize| at.checked_sub(distance).map(|index| chars[index]);
    let word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    if matches!(before(1), Some('b' | 'c')) { word(before(2)) } else { word(before(1)) }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut index) = (0_usize, at);
    while index + 1 < chars.len() {
        match (chars[index], chars[index + 1]) {
            ('/', '*') => {
                depth += 1;
                index += 2;
            }
            ('*', '/') => {
                depth -= 1;
                index += 2;
                if depth == 0 {
                    return index;
                }
            }
            _ => index += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut index = at + 1;
    while index < chars.len() {
        match chars[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|&&letter| letter == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |rest: &[char]| rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|&it| it == '#');
    Some((find(chars, open + 1, closes) + 1 + hashes).min(chars.len()))
}

/// A character literal, as opposed to a lifetime or label: an escape, or one character between two quotes.
fn character_end(chars: &[char], at: usize) -> Option<usize> {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => Some((find(chars, (at + 3).min(chars.len()), |rest| rest[0] == '\'') + 1).min(chars.len())),
        (Some(_), Some('\'')) => Some(at + 3),
        _ => None,
    }
}

/// All functions with a body, nested ones too, in a blanked text.
pub(super) fn functions(chars: &[char]) -> Vec<Function> {
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..chars.len() {
        if chars[at] == '\n' {
            line += 1;
        }
        if chars[at..].starts_with(&['f', 'n', ' ']) && !follows_letter(chars, at) {
            let name: String = chars[at + 3..].iter().take_while(|it| it.is_alphanumeric() || **it == '_').collect();
            if let Some(end) = body_end(chars, at).filter(|_| !name.is_empty()) {
                let lines = 1 + chars[at..end].iter().filter(|&&letter| letter == '\n').count();
                found.push(Function { name, line, lines });
            }
        }
    }
    found
}

fn follows_letter(chars: &[char], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| chars[before].is_alphanumeric() || matches!(chars[before], '_' | '#'))
}

/// The end of the body of the function at `at`; none when it has none.
fn body_end(chars: &[char], at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (index, letter) in chars.iter().enumerate().skip(at) {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(brace_end(chars, index)),
            _ => {}
        }
    }
    None
}

/// Behind the brace that closes the one at `open`.
fn brace_end(chars: &[char], open: usize) -> usize {
    let mut depth = 0_i32;
    for (index, letter) in chars.iter().enumerate().skip(open) {
        match letter {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    chars.len()
}

/// The blanked text without the test module that ends the file, if one does.
pub(super) fn product(chars: &[char]) -> &[char] {
    let marker: Vec<char> = "\n#[cfg(test)]\n".chars().collect();
    for at in 0..chars.len() {
        if !chars[at..].starts_with(&marker) {
            continue;
        }
        let behind: String = chars[at + marker.len()..].iter().take_while(|&&letter| letter != '\n').collect();
        let Some(open) = chars[at..].iter().position(|&letter| letter == '{').map(|offset| at + offset) else {
            continue;
        };
        if behind.starts_with("mod ") && behind.trim_end().ends_with('{') {
            let end = brace_end(chars, open);
            if chars[end..].iter().all(|letter| letter.is_whitespace()) {
                return &chars[..=at];
            }
        }
    }
    chars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(String, usize, usize)> {
        functions(&blank(text)).into_iter().map(|function| (function.name, function.line, function.lines)).collect()
    }

    #[test]
    fn braces_in_literals_and_comments_do_not_count() {
        let text = "fn a() {\n    let _ = (\"}\", '}', '\\'', b'{', r#\"\"}\"#, br\"}\"); // }\n    /* } /* } */ } */\n}\nfn b() {}\n";
        assert_eq!(names(text), [("a".to_owned(), 1, 4), ("b".to_owned(), 5, 1)]);
    }

    #[test]
    fn lifetimes_and_labels_are_not_characters() {
        let text = "fn a<'x>(it: &'x str) -> &'x str {\n    'outer: loop { break 'outer; }\n    it\n}\n";
        assert_eq!(names(text), [("a".to_owned(), 1, 4)]);
    }

    #[test]
    fn declarations_pointers_and_words_are_not_functions() {
        let text = "trait T { fn declared(&self, it: [u8; 4]);\n fn given(&self) {} }\ntype P = fn (u8) -> u8;\nstruct Fn { often: u8 }\n";
        assert_eq!(names(text), [("given".to_owned(), 2, 1)]);
    }

    #[test]
    fn a_multi_line_signature_counts_and_an_inner_function_is_found_too() {
        let text = "fn a(\n    b: u8,\n) -> [u8; 4]\nwhere\n    u8: Copy,\n{\n    fn inner() {\n    }\n    [b; 4]\n}\n";
        assert_eq!(names(text), [("a".to_owned(), 1, 10), ("inner".to_owned(), 7, 2)]);
    }

    #[test]
    fn the_trailing_test_module_is_cut_off_and_an_earlier_one_is_not() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn t() { \"}\"; }\n}\n";
        assert_eq!(product(&blank(text)).iter().filter(|&&it| it == '\n').count(), 2);
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\nfn b() {}\n";
        assert_eq!(product(&blank(text)).len(), text.len());
    }
}
