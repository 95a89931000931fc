//! The one walker over field tables: node to record.
//!
//! Strict names with suggestions at every depth, types, names of closed sets, choices, null. It knows no kind: what a
//! field means is decided by the code beside its table. Read next: `table.rs`, `record.rs`, `kind/mod.rs`.

use meshwright_model::Diagnostic;

use crate::finding::Reporter;
use crate::node::{Entry, Node, Path, Place, Scalar, Value, shorten};
use crate::record::{Data, Item, Record};
use crate::scalar;
use crate::table::{Field, Message, Support, Type};
use crate::text::{listed, nearest};

/// Reads `node` as `message`. What is wrong goes to `reporter`; what is right is in the record.
pub(crate) fn read(message: &'static Message, node: &Node, path: Path, reporter: &mut Reporter<'_>) -> Record {
    let mut walker = Walker { reporter, parents: Vec::new(), muted: false };
    let place = Place { span: node.span, path };
    match walker.record(message, node, place.clone()) {
        Data::Record(record) => record,
        _ => Record::empty(message, place),
    }
}

struct Walker<'a, 'r> {
    reporter: &'a mut Reporter<'r>,
    /// Messages around the current one, outermost first.
    parents: Vec<&'static Message>,
    /// Inside a field that has no effect: say so once, at its top.
    muted: bool,
}

impl Walker<'_, '_> {
    fn record(&mut self, message: &'static Message, node: &Node, place: Place) -> Data {
        let Value::Mapping(entries) = &node.value else {
            let short = message.fields.len() <= 3 && message.fields.iter().all(|field| is_scalar(&field.ty));
            let suggestion = match (&node.value, message.fields.first()) {
                (Value::Scalar(text), Some(field)) if short => {
                    format!("write {{{}: {}}}", field.name, shorten(&text.text))
                }
                _ => {
                    let names: Vec<&str> = message.fields.iter().take(6).map(|field| field.name).collect();
                    format!("write its fields below it, such as {}", listed(&names))
                }
            };
            self.wrong_type(&place, node, "a mapping", &suggestion);
            return Data::Invalid;
        };
        let mut record = Record { message, place, fields: Vec::with_capacity(entries.len()) };
        for entry in entries.iter() {
            match message.field(&entry.key) {
                Some(field) => self.field(&mut record, field, entry),
                None if message.open => {}
                None => self.unknown(&record, entry, entries),
            }
        }
        self.check_choices(&record);
        Data::Record(record)
    }

    fn field(&mut self, record: &mut Record, field: &'static Field, entry: &Entry) {
        let path = record.place.path.field(field.name);
        let key = Place { span: entry.key_span, path: path.clone() };
        if record.fields.iter().any(|(name, _)| *name == field.name) {
            let message = format!("the field `{}` is given twice, in two spellings", field.name);
            let finding = Diagnostic::error("duplicate-key", message)
                .with_value(shorten(&entry.key))
                .with_allowed("every field once")
                .with_suggestion(format!("keep `{}` and remove the other", field.name));
            self.reporter.add(&key, finding);
            return;
        }
        if matches!(entry.value.value, Value::Null) {
            if record.message.no_null {
                self.null_condition(&key, field);
                record.fields.push((field.name, invalid(key)));
            }
            return;
        }
        let outer = self.muted;
        match field.support {
            Support::Warned(effect) if !self.muted => {
                let message = format!("`{}` is not supported by this version", field.name);
                let finding = Diagnostic::warning("not-supported", message)
                    .with_effect(effect)
                    .with_suggestion("remove it if the effect is what you want");
                self.reporter.add(&key, with_written(finding, &entry.value));
                self.muted = true;
            }
            Support::Refused(reason) if !self.muted => {
                let message =
                    format!("`{}` is not supported by this version and cannot be left out safely", field.name);
                let finding = Diagnostic::error("not-supported", message)
                    .with_effect(reason)
                    .with_suggestion("remove it, or express it in another way");
                self.reporter.add(&key, with_written(finding, &entry.value));
                record.fields.push((field.name, invalid(key)));
                return;
            }
            Support::Ignored => self.muted = true,
            _ => {}
        }
        self.parents.push(record.message);
        let place = Place { span: entry.value.span, path };
        let data = self.value(&field.ty, &entry.value, &place, field.name);
        self.parents.pop();
        self.muted = outer;
        record.fields.push((field.name, Item { place, key_span: entry.key_span, data }));
    }

    fn value(&mut self, ty: &'static Type, node: &Node, place: &Place, name: &str) -> Data {
        match ty {
            Type::Anything => Data::Anything,
            Type::Secret => match &node.value {
                Value::Scalar(scalar) => Data::Text(scalar.text.clone()),
                _ => Data::Invalid,
            },
            Type::Message(message) => self.record(message, node, place.clone()),
            Type::List(inner) => self.list(inner, node, place, name),
            Type::Map(inner) => self.map(inner, node, place),
            _ => match &node.value {
                Value::Scalar(scalar) => self.scalar(ty, scalar, place),
                _ => {
                    let (expected, example) = expectation(ty);
                    self.wrong_type(place, node, expected, example);
                    Data::Invalid
                }
            },
        }
    }

    fn scalar(&mut self, ty: &'static Type, text: &Scalar, place: &Place) -> Data {
        let data = match ty {
            Type::Boolean => scalar::boolean(text),
            Type::Whole(least, most) => scalar::whole(text, *least, *most).map(Data::Whole),
            Type::Number => scalar::number(text),
            Type::Duration => scalar::duration(text, false),
            Type::DurationOrZero => scalar::duration(text, true),
            Type::Bytes => scalar::base64(text),
            Type::Word(words) => scalar::word(text, words),
            Type::NumberOrText => match scalar::whole(text, 0, i64::from(u32::MAX)) {
                Ok(value) if !text.quoted => Ok(Data::Whole(value)),
                _ => scalar::text(text),
            },
            _ => scalar::text(text),
        };
        data.unwrap_or_else(|finding| {
            self.reporter.add(place, finding.with_value(shorten(&text.text)));
            Data::Invalid
        })
    }

    fn list(&mut self, inner: &'static Type, node: &Node, place: &Place, name: &str) -> Data {
        let Value::Sequence(nodes) = &node.value else {
            let suggestion = match &node.value {
                Value::Scalar(text) => format!("write `- {}` on a line of its own below it", shorten(&text.text)),
                _ => "put `- ` before each element".to_owned(),
            };
            self.wrong_type(place, node, "a list", &suggestion);
            return Data::Invalid;
        };
        let mut items = Vec::with_capacity(nodes.len());
        for (index, element) in nodes.iter().enumerate() {
            let place = Place { span: element.span, path: place.path.index(index) };
            let data = if matches!(element.value, Value::Null) {
                let finding = Diagnostic::error("null-element", format!("{} may not be null", singular(name)))
                    .with_value("null")
                    .with_allowed("an element with a value")
                    .with_suggestion("remove the lone `-`, or check the indentation of the lines below it");
                self.reporter.add(&place, finding);
                Data::Invalid
            } else {
                self.value(inner, element, &place, name)
            };
            items.push(Item { key_span: place.span, place, data });
        }
        Data::List(items)
    }

    fn map(&mut self, inner: &'static Type, node: &Node, place: &Place) -> Data {
        let Value::Mapping(entries) = &node.value else {
            self.wrong_type(place, node, "a mapping", "write `key: value` lines below it");
            return Data::Invalid;
        };
        let mut map = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let path = place.path.field(&entry.key);
            let item = if matches!(entry.value.value, Value::Null) && matches!(inner, Type::Message(_)) {
                None
            } else {
                let place = Place { span: entry.value.span, path };
                let data = self.value(inner, &entry.value, &place, &entry.key);
                Some(Item { place, key_span: entry.key_span, data })
            };
            map.push((entry.key.clone(), entry.key_span, item));
        }
        Data::Map(map)
    }

    fn wrong_type(&mut self, place: &Place, node: &Node, expected: &str, suggestion: &str) {
        let finding = Diagnostic::error("wrong-type", format!("expected {expected}, found {}", node.describe()))
            .with_allowed(expected)
            .with_suggestion(suggestion);
        self.reporter.add(place, with_written(finding, node));
    }

    fn null_condition(&mut self, key: &Place, field: &Field) {
        let finding = Diagnostic::error("null-condition", format!("the condition `{}` has no value", field.name))
            .with_value("null")
            .with_allowed("a value")
            .with_effect("without the condition the rule would match more requests than meant")
            .with_suggestion("indent its value below it, or remove it");
        self.reporter.add(key, finding);
    }

    fn check_choices(&mut self, record: &Record) {
        for group in record.message.one_of {
            let mut given = record.fields.iter().filter(|(name, _)| group.contains(name));
            let (Some((first, _)), Some((second, item))) = (given.next(), given.next()) else { continue };
            let finding = Diagnostic::error("choice", format!("`{first}` and `{second}` cannot both be given"))
                .with_allowed(format!("one of {}", listed(group)))
                .with_suggestion("remove one of them");
            let place = Place { span: item.key_span, path: item.place.path.clone() };
            self.reporter.add(&place, finding);
        }
    }

    fn unknown(&mut self, record: &Record, entry: &Entry, siblings: &[Entry]) {
        let message = record.message;
        let key = shorten(&entry.key);
        let names: Vec<&str> = message.fields.iter().map(|field| field.name).collect();
        let mut finding = Diagnostic::error("unknown-field", format!("unknown field {key:?} in {}", message.name))
            .with_value(key.clone())
            .with_allowed(listed(&names))
            .with_effect("it would be left out, as if it were not written");
        let suggestion = self.misplaced(message, &entry.key, siblings);
        let suggestion = suggestion.or_else(|| {
            let near = nearest(&entry.key, names.iter().copied())?;
            Some(format!("did you mean `{near}`?"))
        });
        finding.suggestion = suggestion.or_else(|| Some(format!("remove it; {} has no such field", message.name)));
        let place = Place { span: entry.key_span, path: record.place.path.field(&entry.key) };
        self.reporter.add(&place, finding);
    }

    /// Whether the key is a field of a message nearby: one level deeper or further out.
    fn misplaced(&self, message: &'static Message, key: &str, siblings: &[Entry]) -> Option<String> {
        let inside = |field: &Field| nested(&field.ty).is_some_and(|nested| nested.field(key).is_some());
        let empty = |field: &Field| {
            siblings.iter().any(|entry| *entry.key == *field.name && matches!(entry.value.value, Value::Null))
        };
        if let Some(field) = message.fields.iter().find(|field| inside(field) && empty(field)) {
            return Some(format!("`{key}` belongs inside `{}`: indent it by two more spaces", field.name));
        }
        let homes: Vec<&str> =
            message.fields.iter().filter(|field| inside(field)).map(|field| field.name).take(4).collect();
        if !homes.is_empty() {
            return Some(format!("`{key}` is a field of {}: write it inside, indented further", listed(&homes)));
        }
        let outer = self.parents.iter().rev().find(|parent| parent.field(key).is_some())?;
        Some(format!("`{key}` is a field of {}: indent it less", outer.name))
    }
}

/// The message that values of this type, elements of its lists included, are made of.
fn nested(ty: &Type) -> Option<&'static Message> {
    match ty {
        Type::Message(message) => Some(message),
        Type::List(inner) => nested(inner),
        _ => None,
    }
}

fn invalid(place: Place) -> Item {
    Item { key_span: place.span, place, data: Data::Invalid }
}

fn with_written(mut finding: Diagnostic, node: &Node) -> Diagnostic {
    finding.value = node.written();
    finding
}

/// `subsets` as `subset`, for "subset may not be null".
fn singular(name: &str) -> &str {
    name.strip_suffix("es").filter(|stem| stem.ends_with("ss")).or_else(|| name.strip_suffix('s')).unwrap_or(name)
}

fn is_scalar(ty: &Type) -> bool {
    !matches!(ty, Type::List(_) | Type::Map(_) | Type::Message(_) | Type::Anything)
}

fn expectation(ty: &Type) -> (&'static str, &'static str) {
    match ty {
        Type::Boolean => ("true or false", "write true or false"),
        Type::Whole(..) => ("a whole number", "write a whole number such as 8080"),
        Type::Number => ("a number", "write a number such as 12.5"),
        Type::Duration | Type::DurationOrZero => ("a duration", "write for example 5s"),
        Type::Bytes => ("base64", "write base64 on one line"),
        Type::Word(_) => ("a name", "write one of the allowed names"),
        Type::NumberOrText => ("a number or a string", "write a number or a name"),
        _ => ("a string", "write the text on the same line, in quotes if it has special characters"),
    }
}
