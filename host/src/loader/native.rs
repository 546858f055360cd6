use std::path::Path;

use runner_sdk::abi::{TABLE_SYMBOL, VERSION_SYMBOL};

use super::{Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, elf};
use crate::HostError;

/// Shared objects with the C interface of `sdk/c` and `sdk/rust`, loaded by `runner native-host`.
#[derive(Debug)]
pub(super) struct Native;

impl Loader for Native {
    fn name(&self) -> &str {
        "native"
    }

    fn knows_magic(&self, probe: &Probe) -> bool {
        probe.magic.starts_with(b"\x7fELF") && probe.extension == "so"
    }

    fn knows_extension(&self, probe: &Probe) -> bool {
        matches!(probe.extension.as_str(), "so" | "dylib")
    }

    fn look(&self, entry: &Path) -> Look {
        if cfg!(not(target_os = "linux")) {
            return Look::new("shared object");
        }
        let mut look = elf::look(entry, &[VERSION_SYMBOL, TABLE_SYMBOL]);
        let is_missing = |symbol: &&&str| !look.symbols.iter().any(|found| found == **symbol);
        let missing = [VERSION_SYMBOL, TABLE_SYMBOL];
        let missing = missing.iter().find(is_missing);
        if let (None, Some(symbol)) = (&look.problem, missing) {
            look.problem = Some(format!(
                "it is no plugin library: it has no symbol `{symbol}` (sdk/c/runner_plugin.h and sdk/rust \
                 define it)"
            ));
        }
        look
    }

    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError> {
        Ok(Program {
            argv: vec![
                argument(&environment.runner)?,
                "native-host".to_owned(),
                argument(place.entry)?,
            ],
            environment: Vec::new(),
            readable: vec![environment.runner.clone()],
        })
    }
}
