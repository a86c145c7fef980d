//! The fields that operators refuse: they would move a request to another model, server or account than
//! the one that was checked. Which ones do depends on the upstream, and which upstream it will be is
//! known only when the whole body has been read; so a body is asked for the fields of all lists, and
//! what was found is compared afterwards with the list of its upstream.

use super::name::KEY_MAX;

/// All names in all lists, and which upstream refuses which.
#[derive(Clone, Debug)]
pub(crate) struct Refusable {
    /// By length, then by name.
    exact: Vec<(Box<str>, Seen)>,
    /// For each length where in `exact` its names begin.
    starts: [u8; KEY_MAX + 2],
    /// What a name may begin with; in the lists they end in `*`.
    beginnings: Vec<(Box<str>, Seen)>,
    /// The letters with which those begin, a bit for each: nearly all keys begin with another one.
    letters: u32,
    /// By the upstreams' order.
    lists: Vec<Seen>,
}

/// What the operator of an upstream does not let pass. The messages are public.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAllowed {
    /// A query that says what the body says; nobody can allow that.
    #[error("`{0}` decides about a request, and stands in its body, not in the query")]
    InQuery(&'static str),
    /// The name as it stands in the operator's list.
    #[error("The field `{0}` is not allowed by the operator of this gateway")]
    Field(String),
    #[error(
        "`background` is not allowed by the operator of this gateway: an answer that is made in the \
         background cannot be fetched through it"
    )]
    Background,
}

/// Names out of the lists, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(u128);

/// Nothing is refused.
#[cfg(test)]
pub(crate) static NOTHING: Refusable = Refusable {
    exact: Vec::new(),
    starts: [0; KEY_MAX + 2],
    beginnings: Vec::new(),
    letters: 0,
    lists: Vec::new(),
};

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Refusable {
    /// The configuration has seen to it that there are no more than 128 names, none longer than
    /// [`KEY_MAX`], all in lower case.
    pub(crate) fn new<'a>(lists: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut masks = Vec::new();
        for list in lists {
            let mut mask = Seen::default();
            for name in list {
                let known = names.iter().position(|known| known == name);
                let place = known.unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                mask.add(bit(place));
            }
            masks.push(mask);
        }
        let (mut exact, mut beginnings) =
            (Vec::<(Box<str>, Seen)>::new(), Vec::<(Box<str>, Seen)>::new());
        for (place, name) in names.into_iter().enumerate() {
            match name.strip_suffix('*') {
                Some(beginning) => beginnings.push((beginning.into(), bit(place))),
                None => exact.push((Box::from(name), bit(place))),
            }
        }
        exact.sort_by_key(|(name, _)| name.len());
        let starts = std::array::from_fn(|length| {
            exact.iter().filter(|(name, _)| name.len() < length).count() as u8
        });
        let letters = beginnings.iter().fold(0, |all, (name, _)| all | letter(name.as_bytes()));
        Self { exact, starts, beginnings, letters, lists: masks }
    }

    /// What a key is in the lists; it is in lower case.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Seen {
        let mut seen = Seen::default();
        if let Some([from, to]) = self.starts.get(key.len()..key.len() + 2) {
            for (name, bit) in &self.exact[usize::from(*from)..usize::from(*to)] {
                if name.as_bytes() == key {
                    seen.add(*bit);
                }
            }
        }
        if self.letters & letter(key) == 0 {
            return seen;
        }
        for (beginning, bit) in &self.beginnings {
            if key.starts_with(beginning.as_bytes()) {
                seen.add(*bit);
            }
        }
        seen
    }

    /// The same for a key of a form or a query, however it is written.
    pub(crate) fn find_spelt(&self, key: &str) -> Seen {
        let name = key.split('[').next().unwrap_or_default().trim();
        self.find(super::spelling::fold(name).as_bytes())
    }

    /// A name among those that were seen which the upstream of this index refuses, as it stands in its list.
    pub(crate) fn refused(&self, upstream: usize, seen: Seen) -> Option<String> {
        let refused = self.lists.get(upstream).map_or(0, |list| list.0 & seen.0);
        if refused == 0 {
            return None;
        }
        let has = |bit: &Seen| bit.0 & refused != 0;
        let exact = self.exact.iter().find(|(_, bit)| has(bit)).map(|(name, _)| name.to_string());
        let beginning = || self.beginnings.iter().find(|(_, bit)| has(bit));
        exact.or_else(|| beginning().map(|(name, _)| format!("{name}*")))
    }
}

/// A set with a key's first letter only; other first characters share bits with letters.
fn letter(key: &[u8]) -> u32 {
    key.first().map_or(0, |first| 1 << (first & 31))
}

/// Of the name at this place.
fn bit(place: usize) -> Seen {
    Seen(1_u128.checked_shl(place as u32).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_upstream_refuses_what_its_list_says() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let lists = [list(&["models", "mock_*", "route"]), list(&["route", "x"]), list(&[])];
        let refusable = Refusable::new(lists.iter().map(Vec::as_slice));
        for (key, refused) in [
            ("models", [Some("models"), None, None]),
            ("Model\u{17f}[]", [Some("models"), None, None]),
            ("mock_anything", [Some("mock_*"), None, None]),
            ("route", [Some("route"), Some("route"), None]),
            ("x", [None, Some("x"), None]),
            ("", [None; 3]),
            ("model", [None; 3]),
            ("a_name_that_is_longer_than_any_that_stands_in_a_list", [None; 3]),
        ] {
            let seen = refusable.find_spelt(key);
            for (upstream, refused) in refused.into_iter().enumerate() {
                assert_eq!(refusable.refused(upstream, seen).as_deref(), refused, "{key}");
            }
        }
    }
}
