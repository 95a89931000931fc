//! A document after its fields were checked: typed values, each with its place.
//!
//! Made by `field.rs`, read by the kinds and by `check.rs`. A field whose value was refused is still there as
//! [`Data::Invalid`], so that one mistake is not reported a second time as something missing.

use std::rc::Rc;
use std::time::Duration;

use crate::node::{Path, Place, Span};
use crate::table::Message;

/// A typed value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Where the value stands.
    pub place: Place,
    /// Where the key stands, for findings about the field as such; the value's place in a list.
    pub key_span: Span,
    /// The value.
    pub data: Data,
}

/// A typed value.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// Refused already.
    Invalid,
    /// A string.
    Text(Rc<str>),
    /// A boolean.
    Boolean(bool),
    /// A whole number.
    Whole(i64),
    /// Any number.
    Number(f64),
    /// A duration.
    Duration(Duration),
    /// Decoded base64.
    Bytes(Vec<u8>),
    /// A name of a closed set.
    Word(&'static str),
    /// A list.
    List(Vec<Item>),
    /// A map with keys of the user's choice; a null value is `None`.
    Map(Vec<(Rc<str>, Span, Option<Item>)>),
    /// A mapping with known fields.
    Record(Record),
    /// Not looked into.
    Anything,
}

/// A mapping with known fields.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its table.
    pub message: &'static Message,
    /// The first key, or the braces.
    pub place: Place,
    /// Fields that were given, by their camelCase name.
    pub fields: Vec<(&'static str, Item)>,
}

impl Record {
    /// A record without fields, for a document that has none.
    pub fn empty(message: &'static Message, place: Place) -> Self {
        Self { message, place, fields: Vec::new() }
    }

    /// The field's item, also when it was refused.
    pub fn item(&self, name: &str) -> Option<&Item> {
        debug_assert!(self.message.field(name).is_some(), "{} has no field {name}", self.message.name);
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, item)| item)
    }

    /// Whether the field was given (rightly or not).
    pub fn has(&self, name: &str) -> bool {
        self.item(name).is_some()
    }

    /// The place of the field's value, or of this record with the field's path when it is missing.
    pub fn place_of(&self, name: &str) -> Place {
        match self.item(name) {
            Some(item) => item.place.clone(),
            None => self.place.field(name),
        }
    }

    /// The place of the field's key.
    pub fn key_of(&self, name: &str) -> Place {
        match self.item(name) {
            Some(item) => Place { span: item.key_span, path: item.place.path.clone() },
            None => self.place.field(name),
        }
    }

    /// A string field.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.item(name).and_then(Item::text)
    }

    /// A string field, empty when it is missing.
    pub fn text_or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// A boolean field.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.item(name)?.data {
            Data::Boolean(value) => Some(value),
            _ => None,
        }
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Option<i64> {
        match self.item(name)?.data {
            Data::Whole(value) => Some(value),
            _ => None,
        }
    }

    /// Any number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.item(name)?.data {
            Data::Number(value) => Some(value),
            _ => None,
        }
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.item(name)?.data {
            Data::Duration(value) => Some(value),
            _ => None,
        }
    }

    /// A name of a closed set.
    pub fn word(&self, name: &str) -> Option<&'static str> {
        match self.item(name)?.data {
            Data::Word(value) => Some(value),
            _ => None,
        }
    }

    /// Decoded base64.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        match &self.item(name)?.data {
            Data::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// A mapping with known fields.
    pub fn record(&self, name: &str) -> Option<&Record> {
        self.item(name).and_then(Item::record)
    }

    /// The elements of a list; empty when it is missing.
    pub fn list(&self, name: &str) -> &[Item] {
        match self.item(name).map(|item| &item.data) {
            Some(Data::List(items)) => items,
            _ => &[],
        }
    }

    /// The records of a list, refused elements left out.
    pub fn records(&self, name: &str) -> impl Iterator<Item = &Record> {
        self.list(name).iter().filter_map(Item::record)
    }

    /// The strings of a list with their places, refused elements left out.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = (&Item, &str)> {
        self.list(name).iter().filter_map(|item| item.text().map(|text| (item, text)))
    }

    /// The entries of a map; empty when it is missing.
    pub fn map(&self, name: &str) -> &[(Rc<str>, Span, Option<Item>)] {
        match self.item(name).map(|item| &item.data) {
            Some(Data::Map(entries)) => entries,
            _ => &[],
        }
    }

    /// A map of strings.
    pub fn text_map(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        self.map(name).iter().filter_map(|(key, _, item)| Some((&**key, item.as_ref()?.text()?)))
    }

    /// The place of a key of a map field.
    pub fn map_key(&self, name: &str, key: &str, span: Span) -> Place {
        let path: Path = self.place_of(name).path;
        Place { span, path: path.field(key) }
    }
}

impl Item {
    /// The string, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn whole(&self) -> Option<i64> {
        match self.data {
            Data::Whole(value) => Some(value),
            _ => None,
        }
    }

    /// The record, if it is one.
    pub fn record(&self) -> Option<&Record> {
        match &self.data {
            Data::Record(record) => Some(record),
            _ => None,
        }
    }
}
