//! A scrape of the metrics page, taken apart.

use std::collections::BTreeMap;

/// One line of the page.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All samples of one scrape.
#[derive(Clone, Debug)]
pub struct Scrape {
    samples: Vec<Sample>,
}

impl Scrape {
    /// Parses the Prometheus text format.
    ///
    /// # Panics
    /// A line is not in that format.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { samples: lines.map(sample).collect() }
    }

    /// The sum of the samples of that name that have all these labels; 0 when there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // An empty float sum is -0.
        self.matching(name, labels).map(|sample| sample.value).sum::<f64>() + 0.0
    }

    /// The value of the one sample of that name without labels.
    ///
    /// # Panics
    /// There is none.
    pub fn value(&self, name: &str) -> f64 {
        let found = self.samples.iter().find(|sample| sample.name == name);
        found.unwrap_or_else(|| panic!("there is no metric {name}")).value
    }

    /// How many samples of that name have all these labels.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.matching(name, labels).count()
    }

    /// The values that one label has among the samples of that name.
    pub fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let mut values: Vec<String> =
            self.matching(name, &[]).filter_map(|sample| sample.labels.get(label).cloned()).collect();
        values.sort();
        values.dedup();
        values
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|label| label == value);
            sample.name == name && labels.iter().all(has)
        })
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').unwrap_or_else(|| panic!("no end: {line}")))),
        None => (series, BTreeMap::new()),
    };
    Sample { name: name.to_owned(), labels, value }
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while let Some((name, tail)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = tail.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, other)) => value.push(other),
                    None => panic!("a label has no end: {text}"),
                },
                Some((at, '"')) => break at + 1,
                Some((_, other)) => value.push(other),
                None => panic!("a label has no end: {text}"),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} twice: {text}");
        rest = tail[end..].strip_prefix(',').unwrap_or(&tail[end..]);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_labels() {
        let scrape = Scrape::parse("# HELP a b\na{x=\"1\",y=\"q\\\"\"} 2\na{x=\"1\",y=\"z\"} 3\na{x=\"2\"} 4\nb 1.5\n");
        assert_eq!(scrape.sum("a", &[("x", "1")]), 5.0);
        assert_eq!(scrape.sum("a", &[("y", "q\"")]), 2.0);
        assert_eq!(scrape.sum("nothing", &[]), 0.0);
        assert_eq!(scrape.value("b"), 1.5);
        assert_eq!(scrape.values_of("a", "x"), ["1", "2"]);
    }
}
