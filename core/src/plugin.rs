//! What a module offers: metadata, parameters, steps.
//!
//! [`Description`] is the answer of a host to `describe` as it arrives; [`Plugin`] is one that was
//! checked, with its schemas compiled.

mod description;

use serde_json::{Map, Value};

use crate::identity::{Identity, IdentityError};
use crate::parameters::{Checked, FieldKind, Parameters, SchemaError};
use crate::schedule::DeclaredSchedule;

pub use description::{
    DataInput, DataOutput, Description, Link, NodeDescription, PluginDependency, PluginDescription,
    PluginKind, ScheduleDescription, StepDescription,
};

/// The most schedules that one plugin may declare.
pub const MAX_SCHEDULES: usize = 20;
/// The most plugins that one module may offer.
pub const MAX_PLUGINS: usize = 1_000;

/// A plugin that was checked.
#[derive(Debug)]
pub struct Plugin {
    /// Name and version.
    pub identity: Identity,
    /// [`Identity::identifier`], kept.
    pub identifier: String,
    /// Shown to people.
    pub title: String,
    /// One paragraph.
    pub description: String,
    /// What it is for.
    pub kind: PluginKind,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Links shown in the metadata.
    pub links: Vec<Link>,
    /// What it makes.
    pub data_output: Vec<DataOutput>,
    /// Its own form.
    pub form: FormDescription,
    /// Steps that a run may ask for.
    pub steps: Vec<(String, FormDescription)>,
    /// Whether it answers requests to routes of its own.
    pub routes: bool,
    /// How it works as a node of a pipeline, if it does so in a host.
    pub node: Option<NodeDescription>,
    /// Work of its own that comes again.
    pub schedules: Vec<DeclaredSchedule>,
}

/// What is needed to show a form and to check what it sends.
#[derive(Debug)]
pub struct FormDescription {
    /// Shown to people.
    pub title: String,
    /// Markdown above the form.
    pub help: String,
    /// The fields and their rules.
    pub parameters: Parameters,
    /// Values offered as an example.
    pub example: Map<String, Value>,
}

/// Why a description cannot be used. Names the plugin.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Name or version is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A schema is not usable.
    #[error("the parameters of {place} are not usable: {source}")]
    Schema {
        /// Plugin, or plugin and step.
        place: String,
        /// What is wrong.
        source: SchemaError,
    },
    /// The name of a step cannot stand in a URL, or stands twice.
    #[error(
        "the step {step:?} of plugin {plugin} is not usable: names of steps are letters, digits, _ and -, each once"
    )]
    Step {
        /// The plugin.
        plugin: String,
        /// The step.
        step: String,
    },
    /// A schedule is not usable.
    #[error("the schedule {schedule:?} of plugin {plugin} is not usable: {reason}")]
    Schedule {
        /// The plugin.
        plugin: String,
        /// The schedule.
        schedule: String,
        /// What is wrong.
        reason: String,
    },
}

impl Plugin {
    /// The values of its parameters, with defaults filled in.
    ///
    /// # Errors
    /// What is wrong with which of them, in one line.
    pub fn check_parameters(
        &self,
        given: Map<String, Value>,
    ) -> Result<Map<String, Value>, String> {
        self.accepted(self.form.parameters.check_json(given))
    }

    /// Checked parameters, if all of them are right.
    ///
    /// # Errors
    /// What is wrong, by the names of the parameters.
    pub fn accepted(&self, checked: Checked) -> Result<Map<String, Value>, String> {
        checked.into_result().map_err(|errors| {
            let errors = errors
                .iter()
                .map(|(key, texts)| format!("{key}: {}", texts.join(" ")));
            let errors = errors.collect::<Vec<_>>().join("; ");
            format!("the parameters for {} are wrong: {errors}", self.identifier)
        })
    }

    /// Checks a description.
    ///
    /// # Errors
    /// The first thing that is wrong, with the place.
    pub fn new(description: PluginDescription) -> Result<Self, PluginError> {
        let identity = Identity::new(&description.name, &description.version)?;
        let title = description
            .title
            .unwrap_or_else(|| identity.name().to_owned());
        let form = FormDescription::new(
            identity.to_string(),
            title.clone(),
            description.help,
            description.parameters,
            description.example,
        )?;
        let mut steps: Vec<(String, FormDescription)> = Vec::new();
        for step in description.steps {
            if !is_step_id(&step.step) || steps.iter().any(|(name, _)| *name == step.step) {
                return Err(PluginError::Step {
                    plugin: identity.to_string(),
                    step: step.step,
                });
            }
            let form = FormDescription::new(
                format!("step {:?} of {identity}", step.step),
                step.title.unwrap_or_else(|| title.clone()),
                step.help,
                step.parameters,
                step.example,
            )?;
            steps.push((step.step, form));
        }
        let schedules = schedules(&identity, &form.parameters, description.schedules)?;
        Ok(Self {
            identifier: identity.identifier(),
            identity,
            title,
            description: description.description,
            kind: description.kind.unwrap_or_default(),
            tags: description.tags,
            links: description.links,
            data_output: description
                .data_output
                .into_iter()
                .map(|output| DataOutput {
                    content_type: any_if_empty(&output.content_type),
                    ..output
                })
                .collect(),
            form,
            steps,
            routes: description.routes,
            node: description.node,
            schedules,
        })
    }

    /// The form of a step.
    pub fn step(&self, name: &str) -> Option<&FormDescription> {
        self.steps
            .iter()
            .find(|(step, _)| step == name)
            .map(|(_, form)| form)
    }

    /// The data inputs, from the parameters; a list of them is one.
    pub fn data_inputs(&self) -> Vec<DataInput> {
        let fields = self.form.parameters.fields().iter();
        fields
            .filter_map(|field| match field.kind.item() {
                FieldKind::Data(data) => Some(DataInput {
                    data_type: data.data_type.clone(),
                    content_type: any_if_empty(&data.content_types),
                    parameter: field.key.clone(),
                    required: field.required,
                }),
                _ => None,
            })
            .collect()
    }

    /// The plugins it calls, from the parameters; a list of them is one.
    pub fn plugin_dependencies(&self) -> Vec<PluginDependency> {
        let fields = self.form.parameters.fields().iter();
        fields
            .filter_map(|field| match field.kind.item() {
                FieldKind::Plugin {
                    tags,
                    name,
                    version,
                } => Some(PluginDependency {
                    parameter: field.key.clone(),
                    required: field.required,
                    tags: tags.clone(),
                    name: name.clone(),
                    version: version.clone(),
                }),
                _ => None,
            })
            .collect()
    }
}

/// Checks what a plugin declares of schedules, with the values for its parameters.
fn schedules(
    identity: &Identity,
    parameters: &Parameters,
    descriptions: Vec<ScheduleDescription>,
) -> Result<Vec<DeclaredSchedule>, PluginError> {
    let wrong = |schedule: &str, reason: String| PluginError::Schedule {
        plugin: identity.to_string(),
        schedule: schedule.to_owned(),
        reason,
    };
    if descriptions.len() > MAX_SCHEDULES {
        let reason = format!(
            "there are {} of them; the limit is {MAX_SCHEDULES}",
            descriptions.len()
        );
        return Err(wrong("", reason));
    }
    let mut checked: Vec<DeclaredSchedule> = Vec::new();
    for description in descriptions {
        let name = match description.name.as_str() {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        if !is_step_id(&name) || checked.iter().any(|other| other.name == name) {
            let reason = "its name is letters, digits, _ and -, each once".to_owned();
            return Err(wrong(&name, reason));
        }
        let values = parameters.check_json(description.parameters.clone());
        if let Err(errors) = values.into_result() {
            let errors = errors
                .iter()
                .map(|(key, texts)| format!("{key}: {}", texts.join(" ")));
            return Err(wrong(&name, errors.collect::<Vec<_>>().join("; ")));
        }
        let declared = DeclaredSchedule::new(name.clone(), description);
        checked.push(declared.map_err(|reason| wrong(&name, reason))?);
    }
    Ok(checked)
}

/// Media types as registries read them: to them, data of no type is data that never fits.
fn any_if_empty(content_types: &[String]) -> Vec<String> {
    match content_types {
        [] => vec!["*".to_owned()],
        some => some.to_vec(),
    }
}

impl FormDescription {
    fn new(
        place: String,
        title: String,
        help: String,
        schema: Value,
        example: Map<String, Value>,
    ) -> Result<Self, PluginError> {
        let parameters =
            Parameters::new(schema).map_err(|source| PluginError::Schema { place, source })?;
        Ok(Self {
            title,
            help,
            parameters,
            example,
        })
    }
}

/// Whether a step may have this name or id: it stands in URLs as `<id>-process` and `<id>-ui`.
pub fn is_step_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 100
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plugin(description: Value) -> Result<Plugin, PluginError> {
        Plugin::new(serde_json::from_value(description).unwrap())
    }

    #[test]
    fn inputs_and_dependencies_come_from_the_parameters() {
        let plugin = plugin(json!({
            "name": "p", "version": "1.0",
            "parameters": {"type": "object", "required": ["dataUrl"], "properties": {
                "dataUrl": {"type": "string", "format": "uri", "x-data": {"dataType": "entity/list", "contentType": ["text/csv"]}},
                "executor": {"type": "string", "format": "uri", "x-plugin": {"tags": ["qasm-2"]}},
                "n": {"type": "integer"},
            }},
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(plugin.data_inputs()).unwrap(),
            json!([{"dataType": "entity/list", "contentType": ["text/csv"], "parameter": "dataUrl", "required": true}])
        );
        assert_eq!(
            serde_json::to_value(plugin.plugin_dependencies()).unwrap(),
            json!([{"parameter": "executor", "required": false, "tags": ["qasm-2"]}])
        );
        assert_eq!(plugin.title, "p");
    }

    #[test]
    fn what_takes_a_list_or_any_media_type_is_offered_too() {
        let list = |item: Value| json!({"type": "array", "items": item});
        let plugin = plugin(json!({
            "name": "p", "version": "1.0",
            "parameters": {"type": "object", "properties": {
                "many": list(json!({"type": "string", "format": "uri", "x-data": {"dataType": "entity/*"}})),
                "helpers": list(json!({"type": "string", "format": "uri", "x-plugin": {"tags": ["!slow"]}})),
            }},
            "dataOutput": [{"dataType": "*"}],
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(plugin.data_inputs()).unwrap(),
            json!([{"dataType": "entity/*", "contentType": ["*"], "parameter": "many", "required": false}])
        );
        assert_eq!(
            serde_json::to_value(plugin.plugin_dependencies()).unwrap(),
            json!([{"parameter": "helpers", "required": false, "tags": ["!slow"]}])
        );
        assert_eq!(
            serde_json::to_value(&plugin.data_output).unwrap(),
            json!([{"dataType": "*", "contentType": ["*"], "required": true}])
        );
    }

    #[test]
    fn schedules_are_checked_with_the_plugin() {
        let described = |schedules: Value| {
            plugin(
                json!({"name": "p", "version": "1", "schedules": schedules, "parameters":
                {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}),
            )
        };
        let good = described(json!([
            {"cron": "0 3 * * *", "timeZone": "Europe/Berlin", "parameters": {"n": 1}},
            {"name": "often", "every": "15m", "jitter": "30s", "overlap": "queue", "missed": "all", "parameters": {"n": 2}},
        ]))
        .unwrap();
        let names: Vec<_> = good.schedules.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["default", "often"]);
        assert_eq!(good.schedules[1].rule.jitter_ms, 30_000);
        for (schedule, reason) in [
            (json!({"parameters": {"n": 1}}), "cron or every"),
            (
                json!({"cron": "0 3 * * *", "every": "1h", "parameters": {"n": 1}}),
                "cron or every",
            ),
            (
                json!({"cron": "0 0 30 2 *", "parameters": {"n": 1}}),
                "never due",
            ),
            (json!({"cron": "0 3 * * *"}), "n: Missing data"),
            (
                json!({"cron": "0 3 * * *", "timeZone": "Moon", "parameters": {"n": 1}}),
                "time zone",
            ),
            (
                json!({"name": "a b", "every": "1h", "parameters": {"n": 1}}),
                "name",
            ),
            (
                json!({"every": "1h", "missed": "all", "parameters": {"n": 1}}),
                "overlap",
            ),
        ] {
            let error = described(json!([schedule])).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let error = plugin(json!({"name": "p", "version": "1", "steps": [{"step": "a/b"}]}));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("\"a/b\" of plugin p@1")
        );
        let error = plugin(json!({"name": "p", "version": "1", "steps": [
            {"step": "a", "parameters": {"type": "array"}}]}));
        assert!(error.unwrap_err().to_string().contains("step \"a\" of p@1"));
    }
}
