//! Queries and path segments, percent-decoded. What is not valid stays as it is.

/// Pairs of a query, in order; a name without `=` has an empty value.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    split.map(|(key, value)| (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))).collect()
}

/// Whether `text` is UTF-8 once it is decoded.
pub(crate) fn is_text(text: &str) -> bool {
    String::from_utf8(bytes(text)).is_ok()
}

/// `text` with `%XX` decoded.
pub(crate) fn decode(text: &str) -> String {
    String::from_utf8_lossy(&bytes(text)).into_owned()
}

fn bytes(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        // What reads numbers would take a sign, too.
        let hex = hex.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_what_is_wrong_stays() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            pairs("a=1&b&c=x%2Fy+z&d=%zz%+1%4&e=%c3%a4&&=%+"),
            [pair("a", "1"), pair("b", ""), pair("c", "x/y z"), pair("d", "%zz% 1%4"), pair("e", "ä"), pair("", "% ")]
        );
    }
}
