//! Finding the word that was probably meant.
//!
//! Pure text; knows no fields. The distance is Damerau's (optimal string alignment): insert, delete, replace, swap.

/// The candidate nearest to `word`, compared without regard to case, when it is near enough to be meant:
/// at most a third of the longer word differs, and never more than 3 characters.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let distance = distance(&word, &candidate.to_lowercase());
        let longer = word.chars().count().max(candidate.chars().count());
        let near = distance <= (longer / 3).clamp(1, 3) && distance < longer;
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    if left.len().abs_diff(right.len()) > 3 {
        return usize::MAX;
    }
    let width = right.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for row in 1..=left.len() {
        let mut current = vec![row; width];
        for column in 1..width {
            let same = usize::from(left[row - 1] != right[column - 1]);
            let mut cost = (last[column] + 1).min(current[column - 1] + 1).min(last[column - 1] + same);
            let swapped =
                row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1];
            if swapped {
                cost = cost.min(before[column - 2] + 1);
            }
            current[column] = cost;
        }
        before = last;
        last = current;
    }
    last[width - 1]
}

/// `a, b or c`, for lists of what is allowed.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [front @ .., last] => format!("{} or {last}", front.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let words = ["hosts", "gateways", "http", "exportTo"];
        assert_eq!(nearest("host", words), Some("hosts"));
        assert_eq!(nearest("gatewyas", words), Some("gateways"));
        assert_eq!(nearest("HTTP", words), Some("http"));
        assert_eq!(nearest("exportto", words), Some("exportTo"));
        assert_eq!(nearest("selector", words), None);
    }

    #[test]
    fn a_swap_of_neighbours_counts_once() {
        assert_eq!(distance("abcd", "abdc"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn short_words_do_not_match_everything() {
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest("ab", ["xy"]), None);
    }

    #[test]
    fn lists_read_as_english() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b or c");
    }
}
