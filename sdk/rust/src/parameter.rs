//! Parameters of a plugin, as JSON Schema with the keywords of the plugin protocol.

use std::marker::PhantomData;

use serde_json::{Map, Value, json};

/// A parameter. Made by one of the kinds: [`Text`], [`Secret`], [`Integer`], [`Number`],
/// [`Boolean`], [`Choice`], [`List`], [`Data`], [`Upload`], [`PluginRef`], [`Url`], [`Json`].
///
/// The key is in camelCase. A parameter is required unless it is
/// [`optional`](Parameter::optional) or has a [`default`](Parameter::default).
///
/// ```
/// # use runner_sdk::{Description, Integer, List, Text};
/// Description::new("plot", "1.0.0")
///     .parameter(Text::new("plotTitle").label("Title").optional())
///     .parameter(Integer::new("width").minimum(1).message("minimum", "Width must be positive."))
///     .parameter(List::of(Text::new("columns")).label("Columns"));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Parameter<K> {
    key: String,
    schema: Map<String, Value>,
    required: bool,
    kind: PhantomData<K>,
}

/// Text, on one line unless [`multiline`](Parameter::multiline).
pub type Text = Parameter<kind::Text>;
/// Text that is never shown again, such as a password.
pub type Secret = Parameter<kind::Secret>;
/// A whole number.
pub type Integer = Parameter<kind::Integer>;
/// A number.
pub type Number = Parameter<kind::Number>;
/// Yes or no.
pub type Boolean = Parameter<kind::Boolean>;
/// One of several texts.
pub type Choice = Parameter<kind::Choice>;
/// Several values of one kind.
pub type List = Parameter<kind::List>;
/// The URL of data. The runner fetches it, [`Task::input`](crate::Task::input) is the file.
pub type Data = Parameter<kind::Data>;
/// A file that is sent with the form, read with [`Task::input`](crate::Task::input).
pub type Upload = Parameter<kind::Upload>;
/// The URL of another plugin.
pub type PluginRef = Parameter<kind::PluginRef>;
/// Any URL.
pub type Url = Parameter<kind::Url>;
/// Any JSON.
pub type Json = Parameter<kind::Json>;

/// Kinds of parameters, for the type system only.
pub mod kind {
    use super::{Map, Value};

    macro_rules! kinds {
        ($($name:ident),*) => {
            $(
                #[doc = concat!("See [`", stringify!($name), "`](crate::", stringify!($name), ").")]
                #[derive(Clone, Debug)]
                pub enum $name {}
            )*
        };
    }
    kinds!(
        Text, Secret, Integer, Number, Boolean, Choice, List, Data, Upload, PluginRef, Url, Json
    );

    /// A kind whose parameters need nothing but a key.
    pub trait Simple {
        /// The schema to begin with.
        fn schema() -> Map<String, Value>;
    }

    /// A kind with bounds.
    pub trait Numeric {}
    impl Numeric for Integer {}
    impl Numeric for Number {}
}

/// The members of a JSON object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// An array of texts.
fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Value {
    texts
        .into_iter()
        .map(|text| Value::String(text.into()))
        .collect()
}

impl kind::Simple for kind::Text {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "string"}))
    }
}

impl kind::Simple for kind::Secret {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "string", "writeOnly": true}))
    }
}

impl kind::Simple for kind::Integer {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "integer"}))
    }
}

impl kind::Simple for kind::Number {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "number"}))
    }
}

impl kind::Simple for kind::Boolean {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "boolean"}))
    }
}

impl kind::Simple for kind::Upload {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "string", "format": "binary"}))
    }
}

impl kind::Simple for kind::PluginRef {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "string", "format": "uri", "x-plugin": {"tags": []}}))
    }
}

impl kind::Simple for kind::Url {
    fn schema() -> Map<String, Value> {
        object(json!({"type": "string", "format": "uri"}))
    }
}

impl kind::Simple for kind::Json {
    fn schema() -> Map<String, Value> {
        Map::new()
    }
}

impl<K> Parameter<K> {
    fn with_schema(key: impl Into<String>, schema: Map<String, Value>) -> Self {
        Self {
            key: key.into(),
            schema,
            required: true,
            kind: PhantomData,
        }
    }

    /// The label of the field.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.keyword("title", label.into())
    }

    /// Markdown under the field.
    pub fn description(self, description: impl Into<String>) -> Self {
        self.keyword("description", description.into())
    }

    /// The parameter may be left out.
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// The value if the parameter is left out, and of a fresh form.
    pub fn default(self, value: impl Into<Value>) -> Self {
        self.keyword("default", value).optional()
    }

    /// The identifier in forms, if it is not the key in snake_case.
    pub fn id(self, id: impl Into<String>) -> Self {
        self.keyword("x-id", id.into())
    }

    /// What is said if a rule of the schema, such as `minimum`, is broken.
    pub fn message(mut self, rule: &str, message: &str) -> Self {
        self.nested("x-messages")
            .insert(rule.to_owned(), json!(message));
        self
    }

    /// Any other keyword of JSON Schema.
    pub fn keyword(mut self, keyword: &str, value: impl Into<Value>) -> Self {
        self.schema.insert(keyword.to_owned(), value.into());
        self
    }

    pub(crate) fn into_parts(self) -> (String, Map<String, Value>, bool) {
        (self.key, self.schema, self.required)
    }

    /// The object at `keyword`, made if need be.
    fn nested(&mut self, keyword: &str) -> &mut Map<String, Value> {
        let value = self.schema.entry(keyword).or_insert_with(|| json!({}));
        if !value.is_object() {
            *value = json!({});
        }
        value.as_object_mut().expect("it was just made an object")
    }
}

impl<K: kind::Simple> Parameter<K> {
    /// A parameter with the key `key`.
    pub fn new(key: impl Into<String>) -> Self {
        Self::with_schema(key, K::schema())
    }
}

impl Text {
    /// In forms a text area.
    pub fn multiline(self) -> Self {
        self.keyword("x-multiline", true)
    }

    /// The fewest characters.
    pub fn min_length(self, characters: u64) -> Self {
        self.keyword("minLength", characters)
    }

    /// The most characters.
    pub fn max_length(self, characters: u64) -> Self {
        self.keyword("maxLength", characters)
    }

    /// A regular expression that the text matches.
    pub fn pattern(self, pattern: impl Into<String>) -> Self {
        self.keyword("pattern", pattern.into())
    }
}

impl<K: kind::Numeric> Parameter<K> {
    /// The smallest value.
    pub fn minimum(self, bound: impl Into<Value>) -> Self {
        self.keyword("minimum", bound)
    }

    /// The largest value.
    pub fn maximum(self, bound: impl Into<Value>) -> Self {
        self.keyword("maximum", bound)
    }

    /// All values are larger.
    pub fn more_than(self, bound: impl Into<Value>) -> Self {
        self.keyword("exclusiveMinimum", bound)
    }

    /// All values are smaller.
    pub fn less_than(self, bound: impl Into<Value>) -> Self {
        self.keyword("exclusiveMaximum", bound)
    }
}

impl Choice {
    /// One of `values`.
    pub fn new<T: Into<String>>(
        key: impl Into<String>,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        Self::with_schema(key, object(json!({"enum": texts(values)})))
    }

    /// What people see instead of a value.
    pub fn value_label(mut self, value: &str, label: &str) -> Self {
        self.nested("x-labels")
            .insert(value.to_owned(), json!(label));
        self
    }
}

impl List {
    /// Several of `item`, whose key becomes the list's.
    pub fn of<K>(item: Parameter<K>) -> Self {
        let (key, items, _) = item.into_parts();
        Self::with_schema(key, object(json!({"type": "array", "items": items})))
    }

    /// The fewest items.
    pub fn min_items(self, items: u64) -> Self {
        self.keyword("minItems", items)
    }

    /// The most items.
    pub fn max_items(self, items: u64) -> Self {
        self.keyword("maxItems", items)
    }
}

impl Data {
    /// Data of a type such as `entity/list`, in one of these media types.
    pub fn new<T: Into<String>>(
        key: impl Into<String>,
        data_type: impl Into<String>,
        content_types: impl IntoIterator<Item = T>,
    ) -> Self {
        let data = json!({"dataType": data_type.into(), "contentType": texts(content_types)});
        let schema = json!({"type": "string", "format": "uri", "x-data": data});
        Self::with_schema(key, object(schema))
    }

    /// The runner does not fetch it; the parameter is the URL, for [`Task::fetch`](crate::Task::fetch).
    pub fn url_only(mut self) -> Self {
        self.nested("x-data")
            .insert("fetch".to_owned(), json!(false));
        self
    }
}

impl Upload {
    /// What kind of file is asked for.
    pub fn accept<T: Into<String>>(
        self,
        data_type: impl Into<String>,
        content_types: impl IntoIterator<Item = T>,
    ) -> Self {
        let data = json!({"dataType": data_type.into(), "contentType": texts(content_types)});
        self.keyword("x-data", data)
    }
}

impl PluginRef {
    /// The plugin has all of these tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.nested("x-plugin")
            .insert("tags".to_owned(), texts(tags));
        self
    }

    /// The plugin has this name.
    pub fn name(mut self, name: &str) -> Self {
        self.nested("x-plugin")
            .insert("name".to_owned(), json!(name));
        self
    }

    /// The plugin's version fulfils this specifier.
    pub fn version(mut self, version: &str) -> Self {
        self.nested("x-plugin")
            .insert("version".to_owned(), json!(version));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema<K>(parameter: Parameter<K>) -> Value {
        Value::Object(parameter.into_parts().1)
    }

    /// The table of the protocol's document.
    #[test]
    fn every_kind_has_its_schema() {
        assert_eq!(
            schema(Text::new("a").multiline()),
            json!({"type": "string", "x-multiline": true})
        );
        assert_eq!(
            schema(Secret::new("a")),
            json!({"type": "string", "writeOnly": true})
        );
        assert_eq!(
            schema(Integer::new("a").minimum(0).message("minimum", "No.")),
            json!({"type": "integer", "minimum": 0, "x-messages": {"minimum": "No."}})
        );
        assert_eq!(
            schema(Number::new("a").less_than(1.5)),
            json!({"type": "number", "exclusiveMaximum": 1.5})
        );
        assert_eq!(schema(Boolean::new("a")), json!({"type": "boolean"}));
        assert_eq!(
            schema(Choice::new("a", ["x", "y"]).value_label("x", "The first")),
            json!({"enum": ["x", "y"], "x-labels": {"x": "The first"}})
        );
        assert_eq!(
            schema(List::of(Choice::new("a", ["x"])).min_items(1)),
            json!({"type": "array", "items": {"enum": ["x"]}, "minItems": 1})
        );
        assert_eq!(
            schema(Data::new("a", "entity/list", ["text/csv"]).url_only()),
            json!({"type": "string", "format": "uri", "x-data":
                {"dataType": "entity/list", "contentType": ["text/csv"], "fetch": false}})
        );
        assert_eq!(
            schema(Upload::new("a")),
            json!({"type": "string", "format": "binary"})
        );
        assert_eq!(
            schema(PluginRef::new("a").tags(["t"]).name("n")),
            json!({"type": "string", "format": "uri", "x-plugin": {"tags": ["t"], "name": "n"}})
        );
        assert_eq!(
            schema(Url::new("a")),
            json!({"type": "string", "format": "uri"})
        );
        assert_eq!(schema(Json::new("a")), json!({}));
    }

    #[test]
    fn a_default_makes_a_parameter_optional() {
        assert!(Text::new("a").into_parts().2);
        assert!(!Text::new("a").optional().into_parts().2);
        assert!(!Integer::new("a").default(1).into_parts().2);
    }
}
