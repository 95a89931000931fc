//! Request ids.
//!
//! It makes ids and does not know where they go (`x-request-id`).

/// Writes a version 4 UUID (RFC 9562, section 5.4) in its 36-character lower-case form.
/// The id serves to find a request in logs; it is not a secret.
pub fn request_id(rng: &mut fastrand::Rng, out: &mut [u8; 36]) {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0x3 << 62;
    let bits = (rng.u128(..) & !VERSION & !VARIANT) | (0x4 << 76) | (0x2 << 62);
    *out = [b'-'; 36];
    for (byte, at) in bits.to_be_bytes().into_iter().zip(PLACES) {
        [out[at], out[at + 1]] = HEX[usize::from(byte)];
    }
}

/// Where each byte stands in the text.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// Each byte as two lower-case digits.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xf]];
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::request_id;

    #[test]
    fn ids_are_version_4_uuids_and_differ() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut id = [0u8; 36];
            request_id(&mut rng, &mut id);
            let text = std::str::from_utf8(&id).expect("an id is ASCII").to_owned();
            let groups: Vec<&str> = text.split('-').collect();
            assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{text}");
            assert!(
                text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)),
                "{text}"
            );
            assert!(groups[2].starts_with('4'), "{text}");
            assert!(matches!(groups[3].as_bytes()[0], b'8' | b'9' | b'a' | b'b'), "{text}");
            assert!(seen.insert(text), "ids repeat");
        }
    }
}
