//! Event ids, and short lists of them. An id is abstract: the n-th one that any actor still holds.

use std::fmt;

/// An event id, 1 to 14: each state assigns the numbers to events again (`State::tidy`).
pub type Id = u8;

/// No event: what the first event names as the one before it.
pub const NONE: Id = 0;

/// An event that is in no file and no stream any more; only the event after it still names it.
pub const FORGOTTEN: Id = 15;

/// Longer lists are not modelled; no bound comes near.
pub const MOST: u8 = 14;

/// A list of ids, four bits each: small enough to copy, compare and hash by the million.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ids(u64);

/// A set of ids, one bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct IdSet(u16);

impl Ids {
    pub fn len(self) -> u8 {
        (67 - self.0.leading_zeros() as u8) / 4
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The id at a place; places are counted from 1.
    pub fn at(self, place: u8) -> Option<Id> {
        let id = match place {
            0 | 17.. => NONE,
            _ => (self.0 >> (4 * (place - 1))) as u8 & 15,
        };
        (id != NONE).then_some(id)
    }

    pub fn last(self) -> Option<Id> {
        self.at(self.len())
    }

    pub fn push(&mut self, id: Id) {
        let place = self.len();
        assert!(place < MOST && id != NONE, "a list of the model is full");
        self.0 |= u64::from(id) << (4 * place);
    }

    /// Keeps the first `count`.
    pub fn truncate(&mut self, count: u8) {
        if count < 16 {
            self.0 &= (1 << (4 * count)) - 1;
        }
    }

    /// Drops the first `count`.
    pub fn skip(&mut self, count: u8) {
        self.0 = self.0.checked_shr(4 * u32::from(count)).unwrap_or(0);
    }

    pub fn iter(self) -> impl Iterator<Item = Id> {
        (1..=self.len()).filter_map(move |place| self.at(place))
    }

    pub fn set(self) -> IdSet {
        self.iter().collect()
    }

    /// The same list under other names.
    pub fn renamed(self, mut name: impl FnMut(Id) -> Id) -> Self {
        let mut renamed = Self::default();
        self.iter().for_each(|id| renamed.push(name(id)));
        renamed
    }
}

impl IdSet {
    pub fn insert(&mut self, id: Id) {
        self.0 |= 1 << id;
    }

    pub fn contains(self, id: Id) -> bool {
        self.0 & (1 << id) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = Id> {
        (1..=FORGOTTEN).filter(move |id| self.contains(*id))
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Id> for IdSet {
    fn from_iter<T: IntoIterator<Item = Id>>(ids: T) -> Self {
        let mut set = Self::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_order_and_length() {
        let mut ids = Ids::default();
        assert_eq!((ids.len(), ids.last()), (0, None));
        for id in [3, 1, 14] {
            ids.push(id);
        }
        assert_eq!((ids.len(), ids.at(1), ids.last()), (3, Some(3), Some(14)));
        ids.skip(1);
        assert_eq!(ids.iter().collect::<Vec<_>>(), [1, 14]);
        ids.truncate(1);
        assert_eq!(ids.iter().collect::<Vec<_>>(), [1]);
        ids.truncate(0);
        assert!(ids.is_empty());
    }
}
