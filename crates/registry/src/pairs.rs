//! Pairs of texts in the order of their keys, for what there are a few of in each of many instances.
//!
//! A map's first node has room for eleven pairs; two pairs would take 600 bytes of every instance. This takes 32 bytes for
//! each pair beside its texts, and changing one copies the list.

use std::collections::BTreeMap;

/// Texts by key, each key once, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(Box<[(Box<str>, Box<str>)]>);

impl Pairs {
    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.place(key).ok().map(|index| &*self.0[index].1)
    }

    /// Whether there is a value of `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.place(key).is_ok()
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// `key` has this value from now on.
    pub fn insert(&mut self, key: &str, value: &str) {
        match self.place(key) {
            Ok(index) => self.0[index].1 = value.into(),
            Err(index) => self.change(|pairs| pairs.insert(index, (key.into(), value.into()))),
        }
    }

    /// `key` has no value any more.
    pub fn remove(&mut self, key: &str) {
        if let Ok(index) = self.place(key) {
            self.change(|pairs| drop(pairs.remove(index)));
        }
    }

    /// The same as a map.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<(Box<str>, Box<str>)>)) {
        let mut pairs = std::mem::take(&mut self.0).into_vec();
        change(&mut pairs);
        self.0 = pairs.into_boxed_slice();
    }
}

impl From<BTreeMap<String, String>> for Pairs {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str())).collect())
    }
}

impl FromIterator<(String, String)> for Pairs {
    /// Of several values of one key the last is kept.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        pairs.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_map(changes in prop::collection::vec(("[a-e]{0,2}", prop::option::of("[x-z]{0,2}")), 0..40)) {
            let (mut pairs, mut map) = (Pairs::default(), BTreeMap::new());
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        pairs.insert(&key, &value);
                        map.insert(key.clone(), value);
                    }
                    None => {
                        pairs.remove(&key);
                        map.remove(&key);
                    }
                }
                prop_assert_eq!(pairs.get(&key), map.get(&key).map(String::as_str));
                prop_assert_eq!(pairs.contains_key(&key), map.contains_key(&key));
                prop_assert_eq!((pairs.len(), pairs.is_empty()), (map.len(), map.is_empty()));
                prop_assert_eq!(pairs.to_map(), map.clone());
                prop_assert_eq!(&pairs, &Pairs::from(map.clone()));
            }
            prop_assert_eq!(&pairs, &map.into_iter().collect::<Pairs>());
        }
    }
}
