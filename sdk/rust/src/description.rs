//! What a plugin says about itself.

use serde_json::{Map, Value, json};

use crate::Parameter;

/// What a plugin is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Computes something from its inputs.
    #[default]
    Processing,
    /// Shows something.
    Visualization,
    /// Turns data of one format into another.
    Conversion,
    /// Brings data in.
    Dataloader,
    /// Is there to be interacted with.
    Interaction,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Visualization => "visualization",
            Self::Conversion => "conversion",
            Self::Dataloader => "dataloader",
            Self::Interaction => "interaction",
        }
    }
}

/// The description of a plugin: its identity, metadata and parameters.
///
/// ```
/// # use runner_sdk::{Choice, Data, DataOutput, Description, Integer, Kind};
/// let description = Description::new("sampler", "1.0.0")
///     .description("Takes a sample of entities.")
///     .kind(Kind::Processing)
///     .tags(["sampling"])
///     .parameter(Data::new("inputFileUrl", "entity/list", ["text/csv"]).label("Entities"))
///     .parameter(Integer::new("nRows").label("Rows").minimum(1).default(10))
///     .parameter(Choice::new("order", ["first", "random"]).default("first"))
///     .example("nRows", 20)
///     .output(DataOutput::new("entity/list", ["text/csv"]));
/// assert_eq!(description.to_json()["parameters"]["required"][0], "inputFileUrl");
/// ```
#[derive(Clone, Debug)]
pub struct Description {
    name: String,
    version: String,
    fields: Map<String, Value>,
    form: Form,
    outputs: Vec<Value>,
    links: Vec<Value>,
    steps: Vec<Value>,
    schedules: Vec<Value>,
}

impl Description {
    /// A plugin called `name`, of a version as in PEP 440: `1.0.0`, `v0.2.1`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            fields: Map::new(),
            form: Form::default(),
            outputs: Vec::new(),
            links: Vec::new(),
            steps: Vec::new(),
            schedules: Vec::new(),
        }
    }

    /// It is also a node of pipelines: [`Plugin::node`](crate::Plugin::node) opens it. `takes` and
    /// `gives` are JSON Schemas of its items, null for any.
    #[must_use]
    pub fn node(self, takes: Value, gives: Value) -> Self {
        self.field("node", json!({"takes": takes, "gives": gives}))
    }

    /// It is also a source of pipelines: [`Plugin::node`](crate::Plugin::node) opens it. `gives` is
    /// the JSON Schema of its items, null for any.
    #[must_use]
    pub fn source(self, gives: Value) -> Self {
        self.field("node", json!({"source": true, "gives": gives}))
    }

    /// What people see instead of the name.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        self.field("title", title.into())
    }

    /// One paragraph on what the plugin does.
    #[must_use]
    pub fn description(self, description: impl Into<String>) -> Self {
        self.field("description", description.into())
    }

    /// Markdown that is shown above the form.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        self.field("help", help.into())
    }

    /// What the plugin is for; processing if not said.
    #[must_use]
    pub fn kind(self, kind: Kind) -> Self {
        self.field("type", kind.name())
    }

    /// Words by which the plugin is found.
    #[must_use]
    pub fn tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        self.field("tags", tags)
    }

    /// Adds a parameter; the order is that of the form.
    #[must_use]
    pub fn parameter<K>(mut self, parameter: Parameter<K>) -> Self {
        self.form.add(parameter);
        self
    }

    /// A value for a parameter of the example that the form offers.
    #[must_use]
    pub fn example(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.form.example.insert(key.to_owned(), value.into());
        self
    }

    /// Adds an output that the plugin makes.
    #[must_use]
    pub fn output(mut self, output: DataOutput) -> Self {
        self.outputs.push(Value::Object(output.fields));
        self
    }

    /// Adds a link to show with the plugin.
    #[must_use]
    pub fn link(mut self, kind: &str, href: &str) -> Self {
        self.links.push(json!({"type": kind, "href": href}));
        self
    }

    /// Declares work that comes again, with the values of its parameters: `when` has `cron` or `every`, and may have
    /// `name`, `timeZone`, `jitter`, `overlap` and `missed`.
    ///
    /// ```
    /// # use runner_sdk::{Description, Integer};
    /// # use serde_json::json;
    /// let description = Description::new("clean-up", "1.0.0")
    ///     .parameter(Integer::new("days").default(30))
    ///     .schedule(json!({"cron": "0 3 * * *", "timeZone": "Europe/Berlin"}), json!({"days": 7}));
    /// assert_eq!(description.to_json()["schedules"][0]["parameters"]["days"], 7);
    /// ```
    #[must_use]
    pub fn schedule(mut self, when: Value, parameters: Value) -> Self {
        let mut schedule = match when {
            Value::Object(schedule) => schedule,
            // The runner says what it expected.
            other => Map::from_iter([("when".to_owned(), other)]),
        };
        schedule.insert("parameters".to_owned(), parameters);
        self.schedules.push(Value::Object(schedule));
        self
    }

    /// Declares a step that a run may ask for, see [`Task::step`](crate::Task::step).
    #[must_use]
    pub fn step(mut self, step: StepDescription) -> Self {
        self.steps.push(step.into_json());
        self
    }

    /// The plugin as the protocol's `describe` lists it.
    pub fn to_json(&self) -> Value {
        let mut plugin = Map::new();
        plugin.insert("name".to_owned(), json!(self.name));
        plugin.insert("version".to_owned(), json!(self.version));
        plugin.extend(self.fields.clone());
        self.form.write(&mut plugin);
        plugin.insert("dataOutput".to_owned(), json!(self.outputs));
        plugin.insert("links".to_owned(), json!(self.links));
        plugin.insert("steps".to_owned(), json!(self.steps));
        if !self.schedules.is_empty() {
            plugin.insert("schedules".to_owned(), json!(self.schedules));
        }
        Value::Object(plugin)
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identifier by which a run names the plugin: `hello-world@v0-2-1`.
    pub fn identifier(&self) -> String {
        format!("{}@{}", self.name, self.version).replace('.', "-")
    }

    fn field(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }
}

/// A step of a plugin: a form of its own, submitted after the run that asked for it.
#[derive(Clone, Debug)]
pub struct StepDescription {
    fields: Map<String, Value>,
    form: Form,
}

impl StepDescription {
    /// A step that [`Task::step`](crate::Task::step) names as `step`.
    pub fn new(step: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("step".to_owned(), Value::String(step.into()));
        Self {
            fields,
            form: Form::default(),
        }
    }

    /// What people see instead of the step's name.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        self.field("title", title.into())
    }

    /// One paragraph on what the step does.
    #[must_use]
    pub fn description(self, description: impl Into<String>) -> Self {
        self.field("description", description.into())
    }

    /// Markdown that is shown above the form.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        self.field("help", help.into())
    }

    /// Adds a parameter; the order is that of the form.
    #[must_use]
    pub fn parameter<K>(mut self, parameter: Parameter<K>) -> Self {
        self.form.add(parameter);
        self
    }

    /// A value for a parameter of the example that the form offers.
    #[must_use]
    pub fn example(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.form.example.insert(key.to_owned(), value.into());
        self
    }

    fn field(mut self, key: &str, value: String) -> Self {
        self.fields.insert(key.to_owned(), Value::String(value));
        self
    }

    fn into_json(self) -> Value {
        let mut step = self.fields;
        self.form.write(&mut step);
        Value::Object(step)
    }
}

/// An output that a plugin announces in its description.
#[derive(Clone, Debug)]
pub struct DataOutput {
    fields: Map<String, Value>,
}

impl DataOutput {
    /// An output of a data type such as `entity/list`, in one of these media types.
    pub fn new<T: Into<String>>(
        data_type: impl Into<String>,
        content_types: impl IntoIterator<Item = T>,
    ) -> Self {
        let content_types: Vec<String> = content_types.into_iter().map(Into::into).collect();
        let mut fields = Map::new();
        fields.insert("dataType".to_owned(), json!(data_type.into()));
        fields.insert("contentType".to_owned(), json!(content_types));
        fields.insert("required".to_owned(), json!(true));
        Self { fields }
    }

    /// The name of the file.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.fields.insert("name".to_owned(), json!(name.into()));
        self
    }

    /// A run may end well without it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.fields.insert("required".to_owned(), json!(false));
        self
    }
}

/// The parameters of a plugin or a step.
#[derive(Clone, Debug, Default)]
struct Form {
    properties: Map<String, Value>,
    required: Vec<String>,
    example: Map<String, Value>,
}

impl Form {
    fn add<K>(&mut self, parameter: Parameter<K>) {
        let (key, schema, required) = parameter.into_parts();
        if required {
            self.required.push(key.clone());
        }
        self.properties.insert(key, Value::Object(schema));
    }

    fn write(&self, fields: &mut Map<String, Value>) {
        let schema = json!({
            "type": "object",
            "properties": self.properties,
            "required": self.required,
        });
        fields.insert("parameters".to_owned(), schema);
        if !self.example.is_empty() {
            fields.insert("example".to_owned(), Value::Object(self.example.clone()));
        }
    }
}
