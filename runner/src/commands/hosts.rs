//! Hosts of modules that are interpreted: `runner lua-host`, `runner wasm-host`, `runner wasm-compile`. The
//! runner starts them itself.

use std::path::PathBuf;

use clap::Args;
use runner_host::manifest::GuestLimits;

/// What a run may use.
#[derive(Debug, Args)]
struct Limits {
    /// Bytes of memory.
    #[arg(long)]
    memory: Option<u64>,
    /// Instructions; of Lua only.
    #[arg(long)]
    instructions: Option<u64>,
}

impl Limits {
    fn guest(&self) -> GuestLimits {
        GuestLimits {
            memory: self.memory,
            instructions: self.instructions,
        }
    }
}

/// Arguments of `runner lua-host`.
#[derive(Debug, Args)]
pub(crate) struct LuaHost {
    #[command(flatten)]
    limits: Limits,
    /// Where `require` looks.
    #[arg(long)]
    folder: PathBuf,
    /// The Lua file.
    module: PathBuf,
}

impl LuaHost {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let limits = self.limits.guest();
        Ok(runner_host::lua::lua_host_main(
            self.module,
            self.folder,
            limits,
        )?)
    }
}

/// Arguments of `runner wasm-host`.
#[derive(Debug, Args)]
pub(crate) struct WasmHost {
    #[command(flatten)]
    limits: Limits,
    /// The machine code.
    module: PathBuf,
}

impl WasmHost {
    #[cfg(feature = "wasm")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        Ok(runner_wasm::wasm_host_main(
            self.module,
            self.limits.guest(),
        )?)
    }

    #[cfg(not(feature = "wasm"))]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let _ = (self.limits.guest(), self.module);
        without_wasm()
    }
}

/// Arguments of `runner wasm-compile`.
#[derive(Debug, Args)]
pub(crate) struct WasmCompile {
    /// The module.
    module: PathBuf,
    /// Where its machine code is kept.
    folder: PathBuf,
}

impl WasmCompile {
    /// Prints where the machine code is.
    #[cfg(feature = "wasm")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = runner_wasm::wasm_compile_main(&self.module, &self.folder)?;
        crate::screen::print(&path.display().to_string())
    }

    #[cfg(not(feature = "wasm"))]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let _ = (self.module, self.folder);
        without_wasm()
    }
}

#[cfg(not(feature = "wasm"))]
fn without_wasm() -> anyhow::Result<()> {
    anyhow::bail!("this runner was built without WebAssembly (the feature `wasm`)")
}
