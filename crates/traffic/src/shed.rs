//! Which requests are shed first when there is not enough for all: by criticality, as the Google SRE book has it
//! ("Handling Overload": CRITICAL_PLUS, CRITICAL, SHEDDABLE_PLUS, SHEDDABLE). Knows no request. Read next: `adaptive.rs`.

/// How much it matters that a request is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// Users see it badly when it fails, and it is few.
    CriticalPlus,
    /// Users see it when it fails; what is said by nobody is this.
    #[default]
    Critical,
    /// Partial unavailability is expected: batch jobs that are retried.
    SheddablePlus,
    /// Frequent or full unavailability is fine.
    Sheddable,
}

impl Criticality {
    /// All, the most critical first.
    pub const ALL: [Self; 4] = [Self::CriticalPlus, Self::Critical, Self::SheddablePlus, Self::Sheddable];

    /// Lower-case name, as headers and metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CriticalPlus => "critical-plus",
            Self::Critical => "critical",
            Self::SheddablePlus => "sheddable-plus",
            Self::Sheddable => "sheddable",
        }
    }

    /// The criticality of that name, whatever its case; `_` is as good as `-`.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let same = |own: &str| {
            own.len() == name.len()
                && own.bytes().zip(name).all(|(own, given)| {
                    let given = if *given == b'_' { b'-' } else { given.to_ascii_lowercase() };
                    own == given
                })
        };
        Self::ALL.into_iter().find(|criticality| same(criticality.as_str()))
    }
}

/// The share of a limit that requests of each criticality may fill, in percent: one is admitted while less than its share
/// of the limit is in flight, whatever those are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedPolicy {
    /// Default 100.
    pub critical_plus: u32,
    /// Default 100.
    pub critical: u32,
    /// Default 80.
    pub sheddable_plus: u32,
    /// Default 50.
    pub sheddable: u32,
}

impl Default for ShedPolicy {
    fn default() -> Self {
        Self { critical_plus: 100, critical: 100, sheddable_plus: 80, sheddable: 50 }
    }
}

impl ShedPolicy {
    /// The requests in flight below which one of that criticality is admitted; at least one place, unless the limit is 0.
    pub fn places(&self, criticality: Criticality, limit: u32) -> u32 {
        let percent = match criticality {
            Criticality::CriticalPlus => self.critical_plus,
            Criticality::Critical => self.critical,
            Criticality::SheddablePlus => self.sheddable_plus,
            Criticality::Sheddable => self.sheddable,
        };
        if percent >= 100 {
            return limit;
        }
        let places = (u64::from(limit) * u64::from(percent)).div_ceil(100) as u32;
        places.max(1).min(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_the_spellings_of_headers_and_of_the_book() {
        for criticality in Criticality::ALL {
            assert_eq!(Criticality::of_name(criticality.as_str().as_bytes()), Some(criticality));
        }
        assert_eq!(Criticality::of_name(b"SHEDDABLE_PLUS"), Some(Criticality::SheddablePlus));
        for nonsense in [&b"sheddabl"[..], b"", b"critical ", b"sheddable\xff"] {
            assert_eq!(Criticality::of_name(nonsense), None);
        }
    }

    #[test]
    fn the_less_critical_finds_the_limit_full_earlier() {
        let policy = ShedPolicy::default();
        let places = Criticality::ALL.map(|criticality| policy.places(criticality, 10));
        assert_eq!(places, [10, 10, 8, 5]);
        assert_eq!(policy.places(Criticality::Sheddable, 1), 1, "somebody must show that there is room");
        assert_eq!(policy.places(Criticality::Sheddable, 0), 0);
        assert_eq!(policy.places(Criticality::Sheddable, u32::MAX), u32::MAX / 2 + 1);
    }
}
