//! The shape of field tables: what kinds are made of, as data.
//!
//! A table drives the walker (`field.rs`), the suggestions and the published list of supported fields (`reference.rs`).
//! The tables themselves stand beside their kinds. Nothing is decided here.

/// Type of a field.
#[derive(Debug)]
pub(crate) enum Type {
    /// A string.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number of at least the first and at most the second value; also as a string, as JSON of protobuf has it.
    Whole(i64, i64),
    /// Any number.
    Number,
    /// A duration of at least 1 ms.
    Duration,
    /// A duration of at least 1 ms, or zero with a meaning of its own.
    DurationOrZero,
    /// Base64.
    Bytes,
    /// A string that no finding repeats; what is no string is left out.
    Secret,
    /// One of these names; also by number.
    Word(&'static Words),
    /// A list.
    List(&'static Type),
    /// Keys of the user's choice.
    Map(&'static Type),
    /// A mapping with these fields.
    Message(&'static Message),
    /// A number or a string, such as a port by number or name.
    NumberOrText,
    /// Anything; it is not looked into.
    Anything,
}

/// A closed set of names.
#[derive(Debug)]
pub(crate) struct Words {
    /// What the set is called in messages.
    pub what: &'static str,
    /// Names with their protobuf numbers.
    pub values: &'static [(&'static str, i64)],
}

/// A mapping with known fields.
#[derive(Debug)]
pub(crate) struct Message {
    /// Name in Istio's or Kubernetes' API.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Groups of which at most one field may be given.
    pub one_of: &'static [&'static [&'static str]],
    /// Whether a field without value is an error, because leaving it out would widen what is matched.
    pub no_null: bool,
    /// Whether it may have other fields, which are somebody else's and are not looked at.
    pub open: bool,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Name in camelCase; snake_case is read too.
    pub name: &'static str,
    /// Type.
    pub ty: Type,
    /// What happens to it.
    pub support: Support,
    /// What it means, in one line.
    pub doc: &'static str,
}

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// It works.
    Full,
    /// Checked, then without effect; a warning says this.
    Warned(&'static str),
    /// An error, because leaving it out would do harm; the text says which.
    Refused(&'static str),
    /// Accepted without a word: it speaks of something that does not exist here.
    Ignored,
}

impl Message {
    /// The field of that camelCase or snake_case name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        if let Some(field) = self.fields.iter().find(|field| field.name == name) {
            return Some(field);
        }
        let camel = camel_case(name)?;
        self.fields.iter().find(|field| field.name == camel)
    }
}

/// A field that works.
pub(crate) const fn full(name: &'static str, ty: Type, doc: &'static str) -> Field {
    Field { name, ty, support: Support::Full, doc }
}

/// A field without effect here; `effect` completes "... has no effect here: ".
pub(crate) const fn warned(name: &'static str, ty: Type, doc: &'static str, effect: &'static str) -> Field {
    Field { name, ty, support: Support::Warned(effect), doc }
}

/// A field that is an error; `reason` says what leaving it out would do.
pub(crate) const fn refused(name: &'static str, ty: Type, doc: &'static str, reason: &'static str) -> Field {
    Field { name, ty, support: Support::Refused(reason), doc }
}

/// A field that speaks of something that does not exist here.
pub(crate) const fn ignored(name: &'static str, ty: Type, doc: &'static str) -> Field {
    Field { name, ty, support: Support::Ignored, doc }
}

/// A message without groups.
pub(crate) const fn message(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, one_of: &[], no_null: false, open: false }
}

/// A message of somebody else's of which only these fields are read.
pub(crate) const fn open(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, one_of: &[], no_null: false, open: true }
}

/// A message in which at most one field of each group may be given.
pub(crate) const fn choice(
    name: &'static str,
    fields: &'static [Field],
    one_of: &'static [&'static [&'static str]],
) -> Message {
    Message { name, fields, one_of, no_null: false, open: false }
}

/// A number of 32 bits without sign.
pub(crate) const UINT32: Type = Type::Whole(0, u32::MAX as i64);
/// A number of 32 bits; what it may be is judged where the field is read.
pub(crate) const INT32: Type = Type::Whole(i32::MIN as i64, i32::MAX as i64);
/// A port, judged where it is read so that the message can be Istio's.
pub(crate) const PORT: Type = Type::Whole(i32::MIN as i64, u32::MAX as i64);
/// A list of strings.
pub(crate) const TEXTS: Type = Type::List(&Type::Text);
/// Strings by name.
pub(crate) const TEXT_MAP: Type = Type::Map(&Type::Text);

/// `max_connections` as `maxConnections`; `None` when there is no underscore.
fn camel_case(name: &str) -> Option<String> {
    if !name.contains('_') || name.len() > 128 {
        return None;
    }
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            camel.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            camel.push(c);
        }
    }
    Some(camel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snake_case_becomes_the_json_name() {
        assert_eq!(camel_case("consecutive_5xx_errors").as_deref(), Some("consecutive5xxErrors"));
        assert_eq!(camel_case("http1_max_pending_requests").as_deref(), Some("http1MaxPendingRequests"));
        assert_eq!(camel_case("hosts"), None);
    }
}
