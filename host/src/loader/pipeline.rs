use std::path::Path;

use super::{Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, look_at_text};
use crate::HostError;

/// Pipelines, run by `runner pipeline-host`.
#[derive(Debug)]
pub(super) struct Pipeline;

/// What stands before the extension of a pipeline in a plugin folder: other YAML, JSON and TOML there
/// is data.
const MARK: &str = ".pipeline";
const EXTENSIONS: [&str; 4] = ["yaml", "yml", "json", "toml"];

impl Loader for Pipeline {
    fn name(&self) -> &str {
        "pipeline"
    }

    fn knows_magic(&self, _: &Probe) -> bool {
        false
    }

    fn knows_extension(&self, probe: &Probe) -> bool {
        EXTENSIONS.contains(&probe.extension.as_str()) && probe.stem.ends_with(MARK)
    }

    fn runs_pipelines(&self) -> bool {
        true
    }

    fn look(&self, entry: &Path) -> Look {
        look_at_text("pipeline", entry)
    }

    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError> {
        let runner = argument(&environment.runner)?;
        Ok(Program {
            argv: vec![runner, "pipeline-host".to_owned(), argument(place.entry)?],
            environment: Vec::new(),
            readable: vec![environment.runner.clone()],
        })
    }
}
