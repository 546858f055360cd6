//! Expressions over items and parameters, in the language of Jinja, which the runner's forms
//! speak too.
//!
//! minijinja evaluates them: it is well kept, part of the program already, and counts *fuel*, so
//! that no expression works for ever or makes something too large. Expressions that only pick a
//! part of an item and change a text, which most are, are evaluated without it (`plain`).

mod plain;
mod values;

use std::sync::{Arc, LazyLock};

use minijinja::value::Object;
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value};

use plain::Plain;
use values::{Row, from_jinja, to_jinja};

/// Instructions, and elements and pieces of text in proportion, that an evaluation may cost.
const FUEL: u64 = 100_000;
/// Characters of an expression at most.
const MAX_LENGTH: usize = 10_000;
/// What expressions know.
const NAMES: [&str; 2] = ["item", "params"];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
});

/// The parameters of a pipeline, as expressions see them.
#[derive(Debug, Clone)]
pub struct Params(minijinja::Value);

impl Params {
    /// Parameters for many evaluations.
    pub fn new(values: &Map<String, Value>) -> Self {
        Self(to_jinja(&Value::Object(values.clone())))
    }
}

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Expression {
    text: String,
    plain: Option<Plain>,
    full: minijinja::Expression<'static, 'static>,
}

/// What an expression sees.
#[derive(Debug)]
struct Root {
    item: minijinja::Value,
    params: minijinja::Value,
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        match key.as_str()? {
            "item" => Some(self.item.clone()),
            "params" => Some(self.params.clone()),
            _ => None,
        }
    }
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// It is none, or names something that is neither `item` nor `params`.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("an expression has at most {MAX_LENGTH} bytes"));
        }
        let full = ENVIRONMENT
            .compile_expression_owned(text.to_owned())
            .map_err(|error| format!("not an expression: {}", said(&error)))?;
        let mut unknown: Vec<String> = full.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| !NAMES.contains(&name.as_str()) && !is_global(name));
        unknown.sort();
        if let Some(name) = unknown.first() {
            return Err(format!(
                "{name:?} is not known; an expression sees `item` and `params`"
            ));
        }
        let plain = Plain::read(text);
        let text = text.to_owned();
        Ok(Self { text, plain, full })
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is the same for every item.
    pub fn is_constant(&self) -> bool {
        !self.full.undeclared_variables(false).contains("item")
    }

    /// Its value for an item, which is left as it was.
    ///
    /// # Errors
    /// Why there is none.
    pub fn value(&self, item: &mut Value, params: &Params) -> Result<Value, String> {
        if let Some(value) = self.plain.as_ref().and_then(|plain| plain.value(item)) {
            return Ok(value);
        }
        self.evaluate(item, params, |value| from_jinja(&value))
    }

    /// Whether it is true for an item, which is left as it was.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub fn holds(&self, item: &mut Value, params: &Params) -> Result<bool, String> {
        if let Some(holds) = self.plain.as_ref().and_then(|plain| plain.holds(item)) {
            return Ok(holds);
        }
        self.evaluate(item, params, |value| match value.is_undefined() {
            true => Err("the value is undefined".to_owned()),
            false => Ok(value.is_true()),
        })
    }

    /// Evaluates without the short way. An object is lent to the expression, not copied.
    fn evaluate<T>(
        &self,
        item: &mut Value,
        params: &Params,
        take: impl FnOnce(minijinja::Value) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut lent = None;
        let seen = match *item {
            Value::Object(ref mut map) => {
                let row = Arc::new(Row(std::mem::take(map)));
                let seen = minijinja::Value::from_dyn_object(Arc::clone(&row));
                lent = Some(row);
                seen
            }
            ref other => to_jinja(other),
        };
        let root = minijinja::Value::from_object(Root {
            item: seen,
            params: params.0.clone(),
        });
        let taken = match self.full.eval(root) {
            Ok(value) => take(value),
            Err(error) => Err(said(&error)),
        };
        if let (Some(row), Value::Object(map)) = (lent, item) {
            *map = Arc::try_unwrap(row).map_or_else(|row| row.0.clone(), |row| row.0);
        }
        taken.map_err(|reason| format!("{:?}: {reason}", self.text))
    }
}

/// Functions that every expression has, such as `range`.
fn is_global(name: &str) -> bool {
    ENVIRONMENT.globals().any(|(global, _)| global == name)
}

/// What minijinja says, without the place in a template that there is none of.
fn said(error: &minijinja::Error) -> String {
    match (error.kind(), error.detail()) {
        (minijinja::ErrorKind::OutOfFuel, _) => {
            format!("it takes too long or makes too much; the limit is {FUEL} steps")
        }
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

/// A value in which `{"$expr": TEXT}` stands for what the expression says.
#[derive(Debug)]
pub enum Template {
    /// It stays as it is.
    Fixed(Value),
    /// It is evaluated.
    Expression(Expression),
    /// Some elements are evaluated.
    List(Vec<Template>),
    /// Some values are evaluated.
    Object(Vec<(String, Template)>),
}

impl Template {
    /// Finds the expressions in a value.
    ///
    /// # Errors
    /// Where one is that cannot be read, and why.
    pub fn new(value: &Value) -> Result<Self, String> {
        match value {
            Value::Object(map) if map.len() == 1 && map.contains_key("$expr") => {
                match &map["$expr"] {
                    Value::String(text) => Expression::new(text).map(Self::Expression),
                    _ => Err("`$expr` is the text of an expression".to_owned()),
                }
            }
            Value::Object(map) => {
                let entries = map.iter().map(|(key, value)| {
                    let template = Self::new(value).map_err(|e| format!("{key}: {e}"))?;
                    Ok((key.clone(), template))
                });
                let entries = entries.collect::<Result<Vec<_>, String>>()?;
                let is_fixed = |(_, one): &(String, Self)| matches!(one, Self::Fixed(_));
                match entries.iter().all(is_fixed) {
                    true => Ok(Self::Fixed(value.clone())),
                    false => Ok(Self::Object(entries)),
                }
            }
            Value::Array(list) => {
                let list = list.iter().map(Self::new).collect::<Result<Vec<_>, _>>()?;
                match list.iter().all(|one| matches!(one, Self::Fixed(_))) {
                    true => Ok(Self::Fixed(value.clone())),
                    false => Ok(Self::List(list)),
                }
            }
            _ => Ok(Self::Fixed(value.clone())),
        }
    }

    /// Whether it is the same for every item.
    pub fn is_constant(&self) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Expression(expression) => expression.is_constant(),
            Self::List(list) => list.iter().all(Self::is_constant),
            Self::Object(entries) => entries.iter().all(|(_, one)| one.is_constant()),
        }
    }

    /// The value for an item.
    ///
    /// # Errors
    /// Why an expression has none.
    pub fn value(&self, item: &mut Value, params: &Params) -> Result<Value, String> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Expression(expression) => expression.value(item, params),
            Self::List(list) => list.iter().map(|one| one.value(item, params)).collect(),
            Self::Object(entries) => entries
                .iter()
                .map(|(key, one)| Ok((key.clone(), one.value(item, params)?)))
                .collect::<Result<Map<_, _>, String>>()
                .map(Value::Object),
        }
    }
}

#[cfg(test)]
mod tests;
