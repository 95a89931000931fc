//! The field tables as documentation: which fields exist, what they mean, what becomes of them.

use crate::kind;
use crate::table::{Message, Support, Type};

/// One kind of document.
#[derive(Clone, Debug)]
pub struct KindReference {
    /// Kind as written.
    pub kind: &'static str,
    /// `apiVersion`s that are read.
    pub api_versions: &'static [&'static str],
    /// What it is for.
    pub doc: &'static str,
    /// Its fields in the order of the tables, parents before children.
    pub fields: Vec<FieldReference>,
}

/// One field of a kind.
#[derive(Clone, Debug)]
pub struct FieldReference {
    /// Path such as `spec.http[].route[].weight`; map keys are written `{}`.
    pub path: String,
    /// Type in words.
    pub type_name: String,
    /// What happens to it.
    pub support: FieldSupport,
    /// What it means.
    pub doc: &'static str,
    /// With [`FieldSupport::Warned`] and [`FieldSupport::Refused`]: what follows, or why.
    pub effect: Option<&'static str>,
}

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldSupport {
    /// It works.
    Full,
    /// Checked, then without effect; a warning says this.
    Warned,
    /// An error, because leaving it out would do harm.
    Refused,
    /// Accepted without a word: it speaks of something that does not exist here.
    Ignored,
}

/// Every kind that is read, with all fields. A message that occurs twice in a kind is listed where it occurs first.
pub fn reference() -> Vec<KindReference> {
    kind::KINDS
        .iter()
        .map(|kind| {
            let mut fields = Vec::new();
            let mut seen = Vec::new();
            list(kind.message, "", &mut seen, &mut fields);
            KindReference { kind: kind.name, api_versions: kind.api_versions, doc: kind.doc, fields }
        })
        .collect()
}

fn list(
    message: &'static Message,
    prefix: &str,
    seen: &mut Vec<(&'static str, String)>,
    fields: &mut Vec<FieldReference>,
) {
    for field in message.fields {
        let (suffix, inner) = unfold(&field.ty);
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{}{suffix}", field.name);
        let (support, effect) = match field.support {
            Support::Full => (FieldSupport::Full, None),
            Support::Warned(effect) => (FieldSupport::Warned, Some(effect)),
            Support::Refused(reason) => (FieldSupport::Refused, Some(reason)),
            Support::Ignored => (FieldSupport::Ignored, None),
        };
        let nested = match inner {
            Type::Message(nested) => Some(*nested),
            _ => None,
        };
        let known = nested.and_then(|nested| seen.iter().find(|(name, _)| *name == nested.name));
        let type_name = match known {
            Some((name, first)) => format!("{name}, as in `{first}`"),
            None => type_name(inner),
        };
        let enter = nested.filter(|_| known.is_none());
        fields.push(FieldReference { path: path.clone(), type_name, support, doc: field.doc, effect });
        if let Some(nested) = enter {
            seen.push((nested.name, path.clone()));
            list(nested, &path, seen, fields);
        }
    }
}

/// The suffix that a path gets for lists and maps, and what is inside.
fn unfold(ty: &'static Type) -> (String, &'static Type) {
    match ty {
        Type::List(inner) => {
            let (suffix, inner) = unfold(inner);
            (format!("[]{suffix}"), inner)
        }
        Type::Map(inner) => {
            let (suffix, inner) = unfold(inner);
            (format!("{{}}{suffix}"), inner)
        }
        other => (String::new(), other),
    }
}

/// A type in words.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::Text => "string".to_owned(),
        Type::Boolean => "boolean".to_owned(),
        Type::Whole(..) => "whole number".to_owned(),
        Type::Number => "number".to_owned(),
        Type::Duration => "duration".to_owned(),
        Type::DurationOrZero => "duration, 0s allowed".to_owned(),
        Type::Bytes => "base64".to_owned(),
        Type::Secret => "secret string".to_owned(),
        Type::Word(words) => words.values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "),
        Type::List(inner) => format!("list of {}", type_name(inner)),
        Type::Map(inner) => format!("map of {}", type_name(inner)),
        Type::Message(message) => message.name.to_owned(),
        Type::NumberOrText => "number or string".to_owned(),
        Type::Anything => "any".to_owned(),
    }
}
