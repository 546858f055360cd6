//! `runner plugin sdk`: where the Python SDK is.

use anyhow::Context;
use clap::Args;

use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings};
use crate::{instance, screen};

/// Arguments of `runner plugin sdk`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  PYTHONPATH=$(runner plugin sdk) python3 -m unittest discover -s plugins/shout/tests")]
pub(crate) struct Sdk {}

impl Sdk {
    /// The SDK is part of the program; this unpacks it into the instance folder, as `runner up` does.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let settings = Settings::read(&Sources::read(Flags::new())?)?;
        let folder = instance::make(&settings.instance)?.join("sdk");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let python = runner_host::unpack_sdks(&folder)?.join("python");
        screen::print(&python.display().to_string())
    }
}
