//! Kernels that are processes of this program: `runner lua-kernel`, `runner kernel-bridge`. The zygote of sessions
//! executes them.

use anyhow::Context;
use clap::Args;

/// Arguments of `runner lua-kernel`.
#[derive(Debug, Args)]
pub(crate) struct LuaKernel {
    /// Bytes of memory of the interpreter.
    #[arg(long)]
    memory: Option<u64>,
}

impl LuaKernel {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        Ok(runner_session::lua_kernel_main(self.memory)?)
    }
}

/// Arguments of `runner kernel-bridge`.
#[derive(Debug, Args)]
pub(crate) struct KernelBridge {
    /// The kernel, as JSON.
    config: String,
}

impl KernelBridge {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = serde_json::from_str(&self.config).context("the kernel is not understood")?;
        Ok(runner_session::kernel_bridge_main(&config)?)
    }
}
