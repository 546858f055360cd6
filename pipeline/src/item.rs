//! Items and where they come from.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Where an item comes from: its number at the source, then its number among what each node on
/// its way has made of one item. A node that makes one of one passes the lineage on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage {
    first: u64,
    rest: Option<Arc<[u64]>>,
}

impl Lineage {
    /// The item with this number at a source.
    pub fn new(number: u64) -> Self {
        Self {
            first: number,
            rest: None,
        }
    }

    /// The part with this number of what a node makes of this item.
    pub fn child(&self, number: u64) -> Self {
        let rest = self.path().skip(1).chain([number]).collect();
        Self {
            first: self.first,
            rest: Some(rest),
        }
    }

    /// All numbers, that of the source first.
    pub fn path(&self) -> impl Iterator<Item = u64> {
        [self.first]
            .into_iter()
            .chain(self.rest.iter().flat_map(|rest| rest.iter().copied()))
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.path()
            .skip(1)
            .try_for_each(|number| write!(f, ".{number}"))
    }
}

impl Serialize for Lineage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What flows on an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Where it comes from.
    pub lineage: Lineage,
    /// What it is. `None` is a tombstone: nothing came of this origin here, and who waits for it
    /// to complete a tuple need not wait longer.
    pub value: Option<Value>,
}

impl Item {
    /// An item with a value.
    pub fn new(lineage: Lineage, value: Value) -> Self {
        Self {
            lineage,
            value: Some(value),
        }
    }

    /// Says that nothing came of this origin.
    pub fn tombstone(lineage: Lineage) -> Self {
        Self {
            lineage,
            value: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineage_is_a_path_in_order() {
        let item = Lineage::new(7);
        assert_eq!(item.child(0).child(3).to_string(), "7.0.3");
        assert!(item < item.child(0) && item.child(0) < item.child(1));
        assert!(item.child(9).child(9) < Lineage::new(8));
    }
}
