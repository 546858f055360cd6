//! The short way for expressions such as `item.name | upper`: about a tenth of the time, and the
//! same values. Where that is not certain (a part is missing, or is no text) there is no value,
//! and the full way decides.

use std::cmp::Ordering;

use serde_json::Value;

/// A part of the item, with filters; or a list of such; or a comparison with a number or text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain {
    Part(Vec<Step>, Vec<Filter>),
    List(Vec<Plain>),
    Compare(Vec<Step>, Sign, Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sign {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Sign {
    /// Longer ones first, of which others are the beginning.
    const ALL: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Filter {
    Upper,
    Lower,
    Reverse,
    Length,
}

impl Plain {
    /// The expression, if it is a plain one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut rest = text;
        let plain = read(&mut rest, 0)?;
        let rest = rest.trim();
        if rest.is_empty() {
            return Some(plain);
        }
        let Self::Part(steps, filters) = plain else {
            return None;
        };
        let (sign, literal) = Sign::ALL
            .iter()
            .find_map(|(text, sign)| Some((*sign, rest.strip_prefix(text)?.trim())))?;
        let is_number = literal.bytes().all(|b| b.is_ascii_digit());
        let literal = match is_number {
            true => Value::from(literal.parse::<i64>().ok()?),
            false => Value::from(quoted(literal)?),
        };
        filters
            .is_empty()
            .then_some(Self::Compare(steps, sign, literal))
    }

    /// The value, if it is certain.
    pub(super) fn value(&self, item: &Value) -> Option<Value> {
        match self {
            Self::List(list) => list.iter().map(|one| one.value(item)).collect(),
            Self::Compare(..) => self.holds(item).map(Value::Bool),
            Self::Part(steps, filters) => {
                let part = part(item, steps)?;
                let Some((first, others)) = filters.split_first() else {
                    return Some(part.clone());
                };
                let mut value = first.apply(part)?;
                for filter in others {
                    value = filter.apply(&value)?;
                }
                Some(value)
            }
        }
    }
}

impl Plain {
    /// Whether a comparison holds, if that is certain: both are whole numbers, or text.
    pub(super) fn holds(&self, item: &Value) -> Option<bool> {
        let Self::Compare(steps, sign, literal) = self else {
            return None;
        };
        let order = match (part(item, steps)?, literal) {
            (Value::String(text), Value::String(literal)) => text.cmp(literal),
            (part, literal) => part.as_i64()?.cmp(&literal.as_i64()?),
        };
        Some(sign.holds(order))
    }
}

/// The part of an item to which these steps lead.
fn part<'a>(item: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps
        .iter()
        .try_fold(item, |part, step| match (step, part) {
            (Step::Key(key), Value::Object(map)) => map.get(key),
            (Step::Index(index), Value::Array(list)) => list.get(*index),
            _ => None,
        })
}

impl Filter {
    fn apply(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Upper, Value::String(text)) => Some(Value::String(match text.is_ascii() {
                true => text.to_ascii_uppercase(),
                false => text.to_uppercase(),
            })),
            (Self::Lower, Value::String(text)) => Some(Value::String(match text.is_ascii() {
                true => text.to_ascii_lowercase(),
                false => text.to_lowercase(),
            })),
            (Self::Reverse, Value::String(text)) => {
                let mut reversed = String::with_capacity(text.len());
                match text.is_ascii() {
                    true => reversed.extend(text.bytes().rev().map(char::from)),
                    false => reversed.extend(text.chars().rev()),
                }
                Some(Value::String(reversed))
            }
            (Self::Length, Value::String(text)) => Some(Value::from(text.chars().count())),
            (Self::Length, Value::Array(list)) => Some(Value::from(list.len())),
            _ => None,
        }
    }
}

/// Lists within lists at most.
const MAX_DEPTH: usize = 8;

fn read(rest: &mut &str, depth: usize) -> Option<Plain> {
    skip(rest);
    if take(rest, "[") {
        let mut list = Vec::new();
        loop {
            list.push(read(
                rest,
                depth.checked_add(1).filter(|d| *d < MAX_DEPTH)?,
            )?);
            skip(rest);
            if take(rest, "]") {
                return Some(Plain::List(list));
            }
            if !take(rest, ",") {
                return None;
            }
        }
    }
    if word(rest)? != "item" {
        return None;
    }
    let (mut steps, mut filters) = (Vec::new(), Vec::new());
    loop {
        if take(rest, ".") {
            steps.push(Step::Key(word(rest)?.to_owned()));
        } else if take(rest, "[") {
            let end = rest.find(']')?;
            let inside = &rest[..end];
            steps.push(match inside.bytes().all(|b| b.is_ascii_digit()) {
                true => Step::Index(inside.parse().ok()?),
                false => Step::Key(quoted(inside)?.to_owned()),
            });
            *rest = &rest[end + 1..];
        } else {
            break;
        }
    }
    loop {
        skip(rest);
        if !take(rest, "|") {
            return Some(Plain::Part(steps, filters));
        }
        skip(rest);
        filters.push(match word(rest)? {
            "upper" => Filter::Upper,
            "lower" => Filter::Lower,
            "reverse" => Filter::Reverse,
            "length" | "count" => Filter::Length,
            _ => return None,
        });
    }
}

/// What stands between quotes, if it is plain.
fn quoted(text: &str) -> Option<&str> {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let inner = inner.or_else(|| text.strip_prefix('\'')?.strip_suffix('\''))?;
    (!inner.contains(['"', '\'', '\\'])).then_some(inner)
}

fn skip(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
}

fn take(rest: &mut &str, sign: &str) -> bool {
    let found = rest.strip_prefix(sign);
    *rest = found.unwrap_or(rest);
    found.is_some()
}

fn word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let starts_well = word.starts_with(|c: char| !c.is_ascii_digit());
    *rest = after;
    starts_well.then_some(word)
}
