//! `loadBalancer.consistentHash`: where the key comes from, and which table is used. Read next: `load_balancer.rs`.

use meshwright_model::{Algorithm, ConsistentHash, Diagnostic, HashCookie, HashKey, HashTable};

use crate::finding::Reporter;
use crate::name;
use crate::record::Record;

/// Entries of a ring where nothing is said.
const RING_SIZE: u32 = 1024;
/// Most entries of a ring, as in Envoy.
const MAX_RING_SIZE: u32 = 8_388_608;
/// Slots of a Maglev table where nothing is said.
const TABLE_SIZE: u32 = 65_537;
/// The first size that is too large, as in Envoy.
const MAX_TABLE_SIZE: u32 = 5_000_011;

/// Reads the block. Without a key there is nothing to hash: then it is as if it were not there, and that is an error.
pub(super) fn read(record: &Record, reporter: &mut Reporter<'_>) -> Algorithm {
    let table = read_table(record, reporter);
    match read_key(record, reporter) {
        Some(key) => Algorithm::ConsistentHash(ConsistentHash { key, table, balance_factor: None }),
        None => Algorithm::LeastRequest,
    }
}

fn read_key(record: &Record, reporter: &mut Reporter<'_>) -> Option<HashKey> {
    if let Some(header) = record.text("httpHeaderName") {
        return Some(HashKey::Header(header.to_ascii_lowercase()));
    }
    if let Some(cookie) = record.record("httpCookie") {
        return read_cookie(cookie, reporter).map(HashKey::Cookie);
    }
    if let Some(parameter) = record.text("httpQueryParameterName") {
        return Some(HashKey::Query(parameter.to_owned()));
    }
    if record.boolean("useSourceIp") == Some(true) {
        return Some(HashKey::SourceIp);
    }
    let given = ["httpHeaderName", "httpCookie", "httpQueryParameterName"].iter().any(|field| record.has(field));
    if !given {
        let finding = Diagnostic::error("missing-field", "consistentHash has no key")
            .with_allowed("one of httpHeaderName, httpCookie, useSourceIp: true, httpQueryParameterName")
            .with_effect("nobody would know what to hash")
            .with_suggestion("add for example `httpHeaderName: x-user`");
        reporter.add(&record.place, finding);
    }
    None
}

fn read_cookie(record: &Record, reporter: &mut Reporter<'_>) -> Option<HashCookie> {
    let name = record.text_or_empty("name");
    if !name::is_header_name(name) {
        if !record.has("name") || record.text("name").is_some() {
            let message = if name.is_empty() { "name required for HttpCookie" } else { "the cookie's name is invalid" };
            let finding = Diagnostic::error("cookie", message)
                .with_value(name)
                .with_allowed("letters, digits and !#$%&'*+-.^_`|~")
                .with_suggestion("add for example `name: session`");
            reporter.add(&record.place_of("name"), finding);
        }
        return None;
    }
    let attributes: Vec<(String, String)> = record
        .records("attributes")
        .map(|attribute| (attribute.text_or_empty("name").to_owned(), attribute.text_or_empty("value").to_owned()))
        .collect();
    let texts = attributes.iter().flat_map(|(name, value)| [name, value]).map(String::as_str);
    if let Some(bad) = texts.chain(record.text("path")).find(|text| !is_attribute(text)) {
        let finding =
            Diagnostic::error("cookie", "what is written into a cookie may not hold `;` or control characters")
                .with_value(bad)
                .with_allowed("visible characters and blanks without `;`")
                .with_suggestion("remove the character");
        reporter.add(&record.place, finding);
    }
    Some(HashCookie {
        name: name.to_owned(),
        path: record.text("path").filter(|path| !path.is_empty()).map(str::to_owned),
        ttl: record.duration("ttl"),
        attributes,
    })
}

/// Whether a text may stand in an attribute of a cookie (RFC 6265, section 4.1.1).
pub(super) fn is_attribute(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
}

fn read_table(record: &Record, reporter: &mut Reporter<'_>) -> HashTable {
    let size = |record: &Record, field: &str| record.whole(field).and_then(|size| u32::try_from(size).ok());
    if record.has("minimumRingSize") {
        report_old_ring_size(record, reporter);
    }
    if let Some(maglev) = record.record("maglev") {
        let size = size(maglev, "tableSize").filter(|size| *size > 0).unwrap_or(TABLE_SIZE);
        check_table_size(maglev, size, reporter);
        return HashTable::Maglev(size);
    }
    let ring = record.record("ringHash");
    let written = ring.and_then(|ring| size(ring, "minimumRingSize")).or_else(|| size(record, "minimumRingSize"));
    let size = written.filter(|size| *size > 0).unwrap_or(RING_SIZE);
    if size > MAX_RING_SIZE {
        let finding = Diagnostic::error("range", format!("minimumRingSize must not be more than {MAX_RING_SIZE}"))
            .with_value(size.to_string())
            .with_allowed(format!("1..{MAX_RING_SIZE}"))
            .with_suggestion("write for example 65536");
        reporter.add(&ring.unwrap_or(record).place_of("minimumRingSize"), finding);
    }
    HashTable::Ring(size)
}

fn report_old_ring_size(record: &Record, reporter: &mut Reporter<'_>) {
    let place = record.key_of("minimumRingSize");
    if record.has("ringHash") || record.has("maglev") {
        let finding = Diagnostic::error("choice", "only one of MinimumRingSize or Maglev/Ringhash can be specified")
            .with_allowed("ringHash or maglev")
            .with_suggestion("remove minimumRingSize");
        reporter.add(&place, finding);
        return;
    }
    let finding = Diagnostic::warning("deprecated", "minimumRingSize is deprecated here")
        .with_allowed("ringHash.minimumRingSize")
        .with_effect("it is read as `ringHash: {minimumRingSize: ...}`")
        .with_suggestion("move it into ringHash");
    reporter.add(&place, finding);
}

fn check_table_size(maglev: &Record, size: u32, reporter: &mut Reporter<'_>) {
    let (message, suggestion) = if size >= MAX_TABLE_SIZE {
        ("tableSize must be less than 5000011 for maglev", TABLE_SIZE)
    } else if !is_prime(size) {
        let near = (size..MAX_TABLE_SIZE).find(|size| is_prime(*size)).unwrap_or(TABLE_SIZE);
        ("tableSize must be a prime number for maglev", near)
    } else {
        return;
    };
    let finding = Diagnostic::error("range", message)
        .with_value(size.to_string())
        .with_allowed("a prime number below 5000011")
        .with_suggestion(format!("write for example {suggestion}"));
    reporter.add(&maglev.place_of("tableSize"), finding);
}

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
