//! The module that runs pipelines which come with their tasks. It lies in no plugin folder, offers nothing, and is
//! loaded when it is needed first.

use std::sync::Arc;

use runner_core::module::Origin;
use runner_core::pipeline::{GIVEN, GIVEN_MARK};
use runner_core::plugin::Description;
use serde_json::json;

use super::Modules;
use super::loading::run;
use super::module::{Provided, Source};
use crate::HostError;
use crate::discovery::Discovery;
use crate::reading::{Described, Reading};
use crate::trust::Trust;

/// Its folder in the instance folder, which its hosts see, and its file: a document without a pipeline of its own.
const FOLDER: &str = "given";
const FILE: &str = "given.pipeline.json";
/// The loader of pipelines.
const LOADER: &str = "pipeline";

impl Modules {
    /// What runs a pipeline that came with its task.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub async fn given(self: &Arc<Self>) -> Result<Provided, HostError> {
        let loaded = self.given.get_or_try_init(|| self.load_given()).await;
        loaded.cloned()
    }

    async fn load_given(self: &Arc<Self>) -> Result<Provided, HostError> {
        let folder = self.config.instance.join(FOLDER);
        let made = tokio::fs::create_dir_all(&folder).await;
        made.map_err(HostError::file("make", &folder))?;
        let path = folder.join(FILE);
        let text = json!({GIVEN_MARK: true}).to_string();
        let written = tokio::fs::write(&path, text).await;
        written.map_err(HostError::file("write", &path))?;
        let mut hosting = self.hosting.subscribe();
        let hosting = match hosting.wait_for(Option::is_some).await {
            Ok(hosting) => hosting.clone(),
            Err(_) => None,
        };
        let hosting = hosting.ok_or_else(|| HostError::Module("the runner ends".to_owned()))?;
        let find = move |discovery: &Discovery<'_>| discovery.look_at_one(&path);
        let candidate = self.find(find, Some(LOADER.to_owned())).await?;
        let source = Source {
            path: candidate.path.clone(),
            name: Some(GIVEN.to_owned()),
            args: None,
            loader: Some(LOADER.to_owned()),
            origin: Origin::Folder,
        };
        let module = self.module(&candidate, source, Arc::default());
        let reading = Reading {
            cache: &*self.cache,
            snapshots: &self.config.instance.join("modules"),
            environment: &hosting.environment,
            // It is the runner's own.
            trust: &Trust::default(),
            environments: &self.environments,
        };
        let outcome = reading.read(vec![candidate]).await?.pop();
        let outcome = outcome.ok_or_else(|| HostError::Module("it was not read".to_owned()))?;
        module.change(|status| {
            status.sha256 = outcome.digest;
            status.size = outcome.size;
        });
        let mut read = outcome.read?;
        read.remembered = Some(Described {
            description: description()?,
            name: None,
        });
        let provided = self.prepare(&module, read, hosting).await?;
        run(&module, &provided);
        let first = provided.into_iter().next();
        first.ok_or_else(|| HostError::Module("it offers nothing".to_owned()))
    }
}

/// What stands for all of these pipelines. Their own parameters are checked by who takes them.
fn description() -> Result<Description, HostError> {
    let description = json!({"plugins": [{
        "name": GIVEN, "version": "1", "parameters": {"type": "object", "properties": {}},
    }]});
    serde_json::from_value(description).map_err(|error| HostError::Module(error.to_string()))
}
