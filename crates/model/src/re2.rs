//! What an expression in Istio's YAML means: RE2 syntax, put into words for Rust's `regex` crate, so that whoever
//! checks an expression and whoever runs it agree. Compiles nothing itself. Read next: `meshwright-config`,
//! `meshwright-route`.

/// Most memory in bytes that one compiled expression may take; what needs more is refused.
pub const PROGRAM_LIMIT: usize = 4 << 20;

/// Writes an RE2 expression so that Rust's `regex` crate takes it as RE2 does:
/// - `\d`, `\s`, `\w`, `\b` and their opposites mean ASCII in RE2, but Unicode in `regex`;
/// - `[`, `&&`, `--` and `~~` inside a character class are plain characters in RE2, but set operations in `regex`.
///
/// What is no expression stays none: the result is meant to be compiled, and an error concerns the original as well.
pub fn translate(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '\\' => {
                let Some(escaped) = rest.chars().next() else {
                    translated.push('\\');
                    break;
                };
                rest = &rest[escaped.len_utf8()..];
                match ascii_class(escaped, in_class) {
                    Some(class) => translated.push_str(class),
                    None => translated.extend(['\\', escaped]),
                }
            }
            '[' if in_class => match rest.find(":]").filter(|_| rest.starts_with(':')) {
                Some(end) => {
                    translated.push('[');
                    translated.push_str(&rest[..end + 2]);
                    rest = &rest[end + 2..];
                }
                None => translated.push_str("\\["),
            },
            '[' => {
                in_class = true;
                translated.push('[');
                // A bracket right at the start of a class is a member of it.
                for opening in ["^", "]"] {
                    if let Some(after) = rest.strip_prefix(opening) {
                        translated.push_str(if opening == "]" { "\\]" } else { opening });
                        rest = after;
                    }
                }
            }
            ']' if in_class => {
                in_class = false;
                translated.push(']');
            }
            '&' | '~' if in_class => translated.extend(['\\', next]),
            '-' if in_class && rest.starts_with('-') => {
                rest = &rest[1..];
                translated.push_str("-\\-");
            }
            other => translated.push(other),
        }
    }
    translated
}

/// The ASCII form of a Perl class, usable inside and outside of brackets. Word boundaries exist outside only; `\B`
/// keeps its Unicode meaning, which is the same for paths and for every other ASCII text.
fn ascii_class(escaped: char, in_class: bool) -> Option<&'static str> {
    Some(match escaped {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0C\\r ]",
        'S' => "[^\\t\\n\\x0C\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'b' if !in_class => "(?-u:\\b)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_classes_become_ascii_inside_and_outside_of_brackets() {
        assert_eq!(translate(r"/\w/\D"), "/[0-9A-Za-z_]/[^0-9]");
        assert_eq!(translate(r"[\w-]+"), "[[0-9A-Za-z_]-]+");
        assert_eq!(translate(r"a\b\\b"), r"a(?-u:\b)\\b");
    }

    #[test]
    fn set_operations_become_plain_characters() {
        assert_eq!(translate("[[a&&b~~c]"), r"[\[a\&\&b\~\~c]");
        assert_eq!(translate("[+--]"), r"[+-\-]");
        assert_eq!(translate("[]a][^]b]"), r"[\]a][^\]b]");
        assert_eq!(translate("[[:alpha:]_]&&"), "[[:alpha:]_]&&");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for pattern in ["", "/users/.*", r"^/a\.b$", "(?i)x{1,3}|y", "\\", "[", "é\\é"] {
            assert_eq!(translate(pattern), pattern);
        }
    }
}
