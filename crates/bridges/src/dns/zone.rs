//! What a DNS query is answered: healthy instances of our zones, `mesh.` and `consul.`. It knows no socket.
//!
//! ```text
//!  NAME.service.mesh              instances of NAME in the namespace `default`
//!  NAME.NAMESPACE.service.mesh    of another namespace, when that has such a service
//!  TAG.NAME.service.mesh          those with a tag
//!  _NAME._tcp.service.mesh        the same for SRV, as RFC 2782 writes it; `_TAG` in the place of `_tcp` selects by tag
//!  0a000001.addr.mesh             the address that is written there, in hexadecimal; SRV records name it
//! ```
//!
//! A and AAAA are addresses, SRV weights, ports and addresses, TXT metadata, `key=value`. All answers are shuffled, with a
//! time to live of 0, because they change within milliseconds. What does not fit is left out with the truncation bit, and
//! the client asks again over TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use meshwright_catalog::Catalog;
use meshwright_registry::{Entry, InstanceKey, Pairs, ServiceKey};

/// Zones that we answer for.
const ZONES: [&str; 2] = ["mesh", "consul"];
/// Most instances of one answer.
const MOST_RECORDS: usize = 256;
/// Most bytes of an answer over TCP.
const LARGEST_MESSAGE: usize = u16::MAX as usize;

/// What follows from a query.
pub(super) enum Verdict {
    /// These bytes.
    Answer(Vec<u8>),
    /// It is none of ours.
    Forward,
    /// It is no query.
    Nothing,
}

/// Answers `bytes`; over UDP in no more than `datagram` bytes, and no more than the client says it takes.
pub(super) fn answer(catalog: &Catalog, bytes: &[u8], datagram: Option<u16>, forwards: bool) -> Verdict {
    let query = match Message::from_vec(bytes) {
        Ok(query) => query,
        Err(_) => return malformed(bytes),
    };
    if query.metadata.message_type != MessageType::Query {
        return Verdict::Nothing;
    }
    let most = datagram.map_or(LARGEST_MESSAGE, |most| usize::from(most.min(query.max_payload()).max(512)));
    if query.metadata.op_code != OpCode::Query {
        return finish(&query, failed(&query, ResponseCode::NotImp), most);
    }
    let [question] = query.queries.as_slice() else {
        return finish(&query, failed(&query, ResponseCode::FormErr), most);
    };
    let Some((zone, labels)) = ours(question.name()) else {
        return match forwards {
            true => Verdict::Forward,
            false => finish(&query, failed(&query, ResponseCode::Refused), most),
        };
    };
    if question.query_class() != DNSClass::IN {
        return finish(&query, failed(&query, ResponseCode::Refused), most);
    }
    let mut response = base(&query);
    response.metadata.authoritative = true;
    let known = fill(catalog, question, &zone, &labels, &mut response);
    if !known {
        response.metadata.response_code = ResponseCode::NXDomain;
    }
    if response.answers.is_empty() {
        response.add_authority(authority(&zone, catalog));
    }
    finish(&query, response, most)
}

/// SERVFAIL for a query that another server did not answer.
pub(super) fn failure(bytes: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).ok()?;
    failed(&query, ResponseCode::ServFail).to_vec().ok()
}

/// What cannot be read is answered FORMERR when it has a head, unless it says that it is an answer itself.
fn malformed(bytes: &[u8]) -> Verdict {
    match bytes {
        [first, second, flags, _, ..] if bytes.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*first, *second]);
            let response = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            response.to_vec().map_or(Verdict::Nothing, Verdict::Answer)
        }
        _ => Verdict::Nothing,
    }
}

fn base(query: &Message) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(super::LARGEST_DATAGRAM);
        response.set_edns(edns);
    }
    response
}

fn failed(query: &Message, code: ResponseCode) -> Message {
    let mut response = base(query);
    response.metadata.response_code = code;
    response
}

/// The bytes of `response`; records that do not fit are left out, additional ones first, and then the client is told.
fn finish(query: &Message, mut response: Message, most: usize) -> Verdict {
    loop {
        let Ok(bytes) = response.to_vec() else { return malformed_reply(query) };
        if bytes.len() <= most {
            return Verdict::Answer(bytes);
        }
        if !response.additionals.is_empty() {
            response.additionals.clear();
        } else if response.answers.len() > 1 {
            response.metadata.truncation = true;
            let half = response.answers.len() / 2;
            response.answers.truncate(half);
        } else {
            let truncated = response.truncate();
            return truncated.to_vec().map_or_else(|_| malformed_reply(query), Verdict::Answer);
        }
    }
}

fn malformed_reply(query: &Message) -> Verdict {
    failed(query, ResponseCode::ServFail).to_vec().map_or(Verdict::Nothing, Verdict::Answer)
}

/// Zone and labels before it, in lower case; `None` for names of others.
fn ours(name: &Name) -> Option<(Name, Vec<String>)> {
    let mut labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let zone = labels.pop().filter(|zone| ZONES.contains(&zone.as_str()))?;
    Some((Name::from_ascii(format!("{zone}.")).ok()?, labels))
}

/// Fills the answer in; false when there is no such name.
fn fill(catalog: &Catalog, question: &Query, zone: &Name, labels: &[String], response: &mut Message) -> bool {
    let words: Vec<&str> = labels.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            match question.query_type() {
                RecordType::SOA | RecordType::ANY => drop(response.add_answer(authority(zone, catalog))),
                RecordType::NS => drop(response.add_answer(record(zone, RData::NS(NS(name_server(zone)))))),
                _ => {}
            }
            true
        }
        ["ns"] => true,
        // Consul's names may say the datacenter, of which there is one.
        [rest @ .., _, "service", "dc1"] | [rest @ .., _, "service"] => {
            let rest = &words[..=rest.len()];
            let found = find(catalog, rest);
            // Nobody healthy is the same as nobody: resolvers try other servers and names then.
            if found.is_empty() {
                return false;
            }
            instances(question, zone, found, response);
            true
        }
        [hex, "addr", "dc1"] | [hex, "addr"] => match address_of(hex) {
            Some(address) => {
                add_address(question.name(), question.query_type(), address, &mut response.answers);
                true
            }
            None => false,
        },
        // An empty name on the way to others exists.
        ["service" | "addr"] | ["dc1"] => true,
        _ => false,
    }
}

/// Healthy instances that the labels before `service` mean, shuffled.
fn find(catalog: &Catalog, labels: &[&str]) -> Vec<Arc<Entry>> {
    let (service, tag) = match labels {
        [name, tag] if name.starts_with('_') && tag.starts_with('_') => {
            let tag = Some(&tag[1..]).filter(|tag| !matches!(*tag, "tcp" | "udp"));
            (ServiceKey::new("", &name[1..]).ok(), tag.map(str::to_owned))
        }
        _ => candidates(catalog, labels),
    };
    let Some(service) = service else { return Vec::new() };
    let mut found: Vec<Arc<Entry>> = catalog.read(|registry| {
        let instances = registry.service(&service).into_iter().flat_map(|service| service.instances());
        let wanted = |entry: &&Arc<Entry>| {
            let tags = &entry.instance.tags;
            let tagged = tag.as_ref().is_none_or(|tag| tags.iter().any(|own| own.eq_ignore_ascii_case(tag)));
            tagged && entry.instance.status().is_healthy()
        };
        instances.filter(wanted).cloned().collect()
    });
    fastrand::shuffle(&mut found);
    found.truncate(MOST_RECORDS);
    found
}

/// All labels as one name, then the last as a namespace, then the first as a tag.
fn candidates(catalog: &Catalog, labels: &[&str]) -> (Option<ServiceKey>, Option<String>) {
    let whole = ServiceKey::new("", &labels.join(".")).ok();
    let exists = |key: &ServiceKey| catalog.read(|registry| registry.service(key).is_some());
    if let ([_, .., namespace], false) = (labels, whole.as_ref().is_some_and(exists)) {
        let named = ServiceKey::new(namespace, &labels[..labels.len() - 1].join(".")).ok().filter(exists);
        if named.is_some() {
            return (named, None);
        }
        let tagged = ServiceKey::new("", &labels[1..].join(".")).ok();
        return (tagged, Some(labels[0].to_owned()));
    }
    (whole, None)
}

fn instances(question: &Query, zone: &Name, found: Vec<Arc<Entry>>, response: &mut Message) {
    let (name, kind) = (question.name(), question.query_type());
    for entry in found {
        let instance = &entry.instance;
        match (instance.address.parse::<IpAddr>(), kind) {
            (_, RecordType::SRV) => service_record(name, zone, &entry, response),
            (_, RecordType::TXT) => response.answers.extend(text_record(name, &entry.key, &instance.metadata)),
            (Ok(address), _) => add_address(name, kind, address, &mut response.answers),
            // A name has one other name at most: the first instance whose address is one is all of the answer.
            (Err(_), RecordType::A | RecordType::AAAA | RecordType::CNAME | RecordType::ANY) => {
                if response.answers.is_empty()
                    && let Ok(target) = Name::from_ascii(format!("{}.", instance.address.trim_end_matches('.')))
                {
                    response.add_answer(record(name, RData::CNAME(CNAME(target))));
                    return;
                }
            }
            (Err(_), _) => {}
        }
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), 0, data)
}

fn add_address(name: &Name, kind: RecordType, address: IpAddr, answers: &mut Vec<Record>) {
    match (address, kind) {
        (IpAddr::V4(address), RecordType::A | RecordType::ANY) => answers.push(record(name, RData::A(A(address)))),
        (IpAddr::V6(address), RecordType::AAAA | RecordType::ANY) => {
            answers.push(record(name, RData::AAAA(AAAA(address))));
        }
        _ => {}
    }
}

fn service_record(name: &Name, zone: &Name, entry: &Entry, response: &mut Message) {
    let instance = &entry.instance;
    let address = instance.address.parse::<IpAddr>();
    let target = match address {
        Ok(IpAddr::V4(address)) => format!("{:08x}.addr.{zone}", u32::from(address)),
        Ok(IpAddr::V6(address)) => format!("{:032x}.addr.{zone}", u128::from(address)),
        Err(_) => format!("{}.", instance.address.trim_end_matches('.')),
    };
    let Ok(target) = Name::from_ascii(target) else { return };
    let weight = u16::try_from(instance.weight).unwrap_or(u16::MAX);
    if let Ok(address) = address {
        let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        add_address(&target, kind, address, &mut response.additionals);
    }
    response.add_answer(record(name, RData::SRV(SRV::new(1, weight, instance.port, target))));
}

/// Metadata that fits into strings of 255 bytes; the id comes first.
fn text_record(name: &Name, key: &InstanceKey, metadata: &Pairs) -> Option<Record> {
    let mut texts = vec![format!("id={}", key.id())];
    texts.extend(metadata.iter().map(|(key, value)| format!("{key}={value}")));
    texts.retain(|text| text.len() <= 255);
    (!texts.is_empty()).then(|| record(name, RData::TXT(TXT::new(texts))))
}

/// 8 hexadecimal digits are an IPv4 address, 32 an IPv6 one.
fn address_of(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(hex, 16).ok()?))),
        32 => Some(IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(hex, 16).ok()?))),
        _ => None,
    }
}

fn name_server(zone: &Name) -> Name {
    Name::from_ascii(format!("ns.{zone}")).unwrap_or_else(|_| zone.clone())
}

/// The zone's SOA; its minimum of 0 keeps resolvers from remembering that a name was not there.
fn authority(zone: &Name, catalog: &Catalog) -> Record {
    let master = name_server(zone);
    let contact = Name::from_ascii(format!("hostmaster.{zone}")).unwrap_or_else(|_| zone.clone());
    let revision = catalog.read(meshwright_registry::Registry::revision);
    let serial = u32::try_from(revision & u64::from(u32::MAX)).unwrap_or_default();
    record(zone, RData::SOA(SOA::new(master, contact, serial, 3600, 600, 86_400, 0)))
}
