//! Stages: what is done with one item after the other, without waiting for anything.

use std::sync::Arc;

use serde_json::Value;

use crate::expression::{Expression, Params};
use crate::item::{Item, Lineage};

/// Where a stage puts what it makes.
pub(crate) type Emit = Vec<Item>;

/// Works on one item at a time.
pub(crate) trait Stage: Send {
    /// Makes items of one. The lineage of each is that of the item, or a child of it; an item of
    /// which nothing comes leaves a tombstone.
    fn apply(&mut self, lineage: Lineage, value: Value, out: &mut Emit) -> Result<(), String>;

    /// Whether tombstones go through it. One that makes one item of several has no place for them.
    fn keeps_tombstones(&self) -> bool {
        true
    }

    /// There will be no more items.
    fn finish(&mut self, _: &mut Emit) -> Result<(), String> {
        Ok(())
    }
}

/// Items as they are.
pub(crate) struct Pass;

impl Stage for Pass {
    fn apply(&mut self, lineage: Lineage, value: Value, out: &mut Emit) -> Result<(), String> {
        out.push(Item::new(lineage, value));
        Ok(())
    }
}

/// What an expression makes of each.
pub(crate) struct MapStage(pub(crate) Arc<Expression>, pub(crate) Params);

impl Stage for MapStage {
    fn apply(&mut self, lineage: Lineage, mut value: Value, out: &mut Emit) -> Result<(), String> {
        let made = self.0.value(&mut value, &self.1)?;
        out.push(Item::new(lineage, made));
        Ok(())
    }
}

/// Those for which an expression is true.
pub(crate) struct Filter(pub(crate) Arc<Expression>, pub(crate) Params);

impl Stage for Filter {
    fn apply(&mut self, lineage: Lineage, mut value: Value, out: &mut Emit) -> Result<(), String> {
        let holds = self.0.holds(&mut value, &self.1)?;
        out.push(Item {
            lineage,
            value: holds.then_some(value),
        });
        Ok(())
    }
}

/// The elements of lists, each an item.
pub(crate) struct Flatten(pub(crate) Option<Arc<Expression>>, pub(crate) Params);

impl Stage for Flatten {
    fn apply(&mut self, lineage: Lineage, mut value: Value, out: &mut Emit) -> Result<(), String> {
        let list = match &self.0 {
            Some(expression) => expression.value(&mut value, &self.1)?,
            None => value,
        };
        let Value::Array(list) = list else {
            return Err("it is no list".to_owned());
        };
        if list.is_empty() {
            out.push(Item::tombstone(lineage));
            return Ok(());
        }
        let parts = (0..).zip(list);
        out.extend(parts.map(|(number, part)| Item::new(lineage.child(number), part)));
        Ok(())
    }
}

/// Lists of so many items each; the last may have fewer. A list has the lineage of its first.
pub(crate) struct Batch {
    pub(crate) size: usize,
    pub(crate) held: Vec<Value>,
    pub(crate) first: Option<Lineage>,
}

impl Batch {
    fn emit(&mut self, out: &mut Emit) {
        if let Some(lineage) = self.first.take() {
            let list = std::mem::take(&mut self.held);
            out.push(Item::new(lineage, Value::Array(list)));
        }
    }
}

impl Stage for Batch {
    fn apply(&mut self, lineage: Lineage, value: Value, out: &mut Emit) -> Result<(), String> {
        self.first.get_or_insert(lineage);
        self.held.push(value);
        if self.held.len() >= self.size {
            self.emit(out);
        }
        Ok(())
    }

    fn keeps_tombstones(&self) -> bool {
        false
    }

    fn finish(&mut self, out: &mut Emit) -> Result<(), String> {
        self.emit(out);
        Ok(())
    }
}
