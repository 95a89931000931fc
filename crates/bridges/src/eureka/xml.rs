//! Eureka's XML: the same tree as its JSON, the way XStream writes it. Attributes are `@name`, text beside them is `$`, a list
//! repeats its element; underscores in names of metadata are doubled.

use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

/// Deepest nesting that is read.
const DEEPEST: usize = 16;
/// Most elements that are read.
const MOST_ELEMENTS: usize = 4096;

/// Writes a tree with one root.
pub(super) fn write(tree: &Value) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    for (name, value) in tree.as_object().into_iter().flatten() {
        element(&mut text, name, value, false);
    }
    text
}

fn element(text: &mut String, name: &str, value: &Value, free: bool) {
    if let Value::Array(list) = value {
        for one in list {
            element(text, name, one, free);
        }
        return;
    }
    let encoded = if free { encode(name) } else { name.to_owned() };
    let _ = write!(text, "<{encoded}");
    if let Value::Object(map) = value {
        for (attribute, value) in map.iter().filter(|(key, _)| key.starts_with('@')) {
            let _ = write!(text, " {}=\"", &attribute[1..]);
            push(text, &plain(value));
            text.push('"');
        }
    }
    text.push('>');
    match value {
        Value::Object(map) => {
            let free = name == "metadata";
            for (child, value) in map.iter().filter(|(key, _)| !key.starts_with('@')) {
                match child.as_str() {
                    "$" => push(text, &plain(value)),
                    _ => element(text, child, value, free),
                }
            }
        }
        other => push(text, &plain(other)),
    }
    let _ = write!(text, "</{encoded}>");
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Text with what has a meaning replaced; characters that XML cannot have become U+FFFD.
fn push(text: &mut String, raw: &str) {
    for character in raw.chars() {
        match character {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(text, "&#{};", u32::from(character));
            }
            control if control < ' ' || matches!(control, '\u{fffe}' | '\u{ffff}') => text.push('\u{fffd}'),
            other => text.push(other),
        }
    }
}

/// A free name as an element's: `_` is doubled, `$` is `_-`, what a name cannot have is `_.` and four hexadecimal digits.
fn encode(name: &str) -> String {
    let mut encoded = String::new();
    for (index, character) in name.chars().enumerate() {
        let first = character.is_ascii_alphabetic();
        match character {
            '_' => encoded.push_str("__"),
            '$' => encoded.push_str("_-"),
            other if first || (index > 0 && (other.is_ascii_alphanumeric() || matches!(other, '-' | '.'))) => {
                encoded.push(other);
            }
            other => {
                let _ = write!(encoded, "_.{:04x}", u32::from(other));
            }
        }
    }
    encoded
}

fn decode(name: &str) -> String {
    let mut decoded = String::new();
    let mut rest = name;
    while let Some(at) = rest.find('_') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            decoded.push('_');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('-') {
            decoded.push('$');
            rest = after;
        } else {
            let hex = rest.strip_prefix('.').and_then(|hex| Some((hex.get(..4)?, hex.get(4..)?)));
            let hex = hex.filter(|(hex, _)| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let character =
                hex.and_then(|(hex, after)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, after)));
            match character {
                Some((character, after)) => {
                    decoded.push(character);
                    rest = after;
                }
                None => decoded.push('_'),
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

/// An element that is being read.
struct Open {
    name: String,
    children: Map<String, Value>,
    text: String,
}

/// Reads a document into the tree that JSON would have given.
///
/// # Errors
/// It is no XML, or has more than an instance can have: depth, elements, entities of its own.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut stack = vec![Open { name: String::new(), children: Map::new(), text: String::new() }];
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        match event {
            Event::Start(start) => {
                elements += 1;
                if stack.len() > DEEPEST || elements > MOST_ELEMENTS {
                    return Err("it is nested too deep or has too many elements".to_owned());
                }
                let free = stack.last().is_some_and(|parent| parent.name == "metadata");
                stack.push(open(&start, free)?);
            }
            Event::End(_) => {
                let Some(done) = stack.pop() else { break };
                let name = done.name.clone();
                let Some(parent) = stack.last_mut() else { return Err("an end without a beginning".to_owned()) };
                add(&mut parent.children, name, close(done));
            }
            Event::Text(text) => append(&mut stack, &text)?,
            Event::CData(data) => append(&mut stack, &data)?,
            Event::GeneralRef(reference) => {
                let text = match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(character) => character.to_string(),
                    None => unescape(&format!("&{};", &*reference)).map_err(|error| error.to_string())?.into_owned(),
                };
                append(&mut stack, &text)?;
            }
            Event::DocType(_) => return Err("a document type".to_owned()),
            Event::Eof => break,
            _ => {}
        }
    }
    match stack.pop() {
        Some(root) if stack.is_empty() && !root.children.is_empty() => Ok(Value::Object(root.children)),
        _ => Err("it ends before its time".to_owned()),
    }
}

fn append(stack: &mut [Open], text: &str) -> Result<(), String> {
    stack.last_mut().ok_or("text outside of any element")?.text.push_str(text);
    Ok(())
}

fn open(start: &BytesStart<'_>, free: bool) -> Result<Open, String> {
    let name = start.name();
    let name = if free { decode(name.into_inner()) } else { name.into_inner().to_owned() };
    let mut children = Map::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = unescape(&attribute.value).map_err(|error| error.to_string())?;
        children.insert(format!("@{}", attribute.key.into_inner()), Value::String(value.into_owned()));
    }
    Ok(Open { name, children, text: String::new() })
}

/// Only text is a text; text beside attributes is `$`.
fn close(open: Open) -> Value {
    let Open { mut children, text, .. } = open;
    let text = text.trim();
    if children.is_empty() {
        return Value::String(text.to_owned());
    }
    if children.keys().all(|key| key.starts_with('@')) && !text.is_empty() {
        children.insert("$".to_owned(), Value::String(text.to_owned()));
    }
    Value::Object(children)
}

fn add(children: &mut Map<String, Value>, name: String, value: Value) {
    match children.get_mut(&name) {
        Some(Value::Array(list)) => list.push(value),
        Some(first) => {
            let first = first.take();
            children.insert(name, Value::Array(vec![first, value]));
        }
        None => {
            children.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_is_written_and_read_again() {
        let tree = json!({ "instance": {
            "app": "A<&>\"", "port": { "@enabled": "true", "$": "8080" },
            "metadata": { "a_b": "1", "c d$": "x\ny", "9": "z" },
            "dataCenterInfo": { "@class": "C$D", "name": "MyOwn" },
        } });
        let text = write(&tree);
        assert!(text.contains("<port enabled=\"true\">8080</port>"), "{text}");
        assert!(
            text.contains("<a__b>1</a__b>") && text.contains("<c_.0020d_->") && text.contains("<_.0039>"),
            "{text}"
        );
        assert_eq!(read(text.as_bytes()).unwrap(), tree);
    }

    #[test]
    fn lists_repeat_their_element_and_names_of_the_protocol_stay_as_they_are() {
        let tree =
            json!({ "applications": { "versions__delta": "1", "application": [{ "name": "A" }, { "name": "B" }] } });
        let text = write(&tree);
        assert!(
            text.ends_with(
                "<applications><application><name>A</name></application><application><name>B</name></application>\
             <versions__delta>1</versions__delta></applications>"
            ) || text.contains("<versions__delta>1</versions__delta><application>"),
            "{text}"
        );
        assert_eq!(read(text.as_bytes()).unwrap(), tree);
    }

    #[test]
    fn documents_that_try_too_much_are_refused() {
        let deep = "<a>".repeat(40) + &"</a>".repeat(40);
        let many = format!("<a>{}</a>", "<b/>".repeat(5000));
        let entity = "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>";
        for bad in ["", "text", "<a>", "</a>", "<a></b>", "<a b=c/>", "<a>&x;</a>", entity, &deep, &many] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:.40}");
        }
    }
}
