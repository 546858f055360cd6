//! What is set of Sage Cell: kernels of its own, stricter than those of sessions, and what its routes need.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use runner_server::SageCellConfig;
use runner_session::{Face, KernelLimits, SessionsConfig};

use super::sessions::{kernelspecs, limit, preload, python, span};
use super::sources::Sources;
use super::{parsed, switch};

/// Bytes of what is kept of what a kernel said, for clients that come back.
const LOG: u64 = 16 << 20;
/// Bytes of the terms.
const MAX_TERMS: u64 = 1 << 20;

/// The face of Sage Cell, and its kernels.
#[derive(Debug, Clone)]
pub(crate) struct SageCellSettings {
    pub(crate) face: SageCellConfig,
    pub(crate) sessions: SessionsConfig,
}

/// Sage Cell with the folder of its kernels' logs, or that it is off.
pub(super) fn sage_cell(
    sources: &Sources,
    folder: PathBuf,
) -> anyhow::Result<Option<SageCellSettings>> {
    let is_public = match sources.text("SAGE_CELL").as_str() {
        "off" => return Ok(None),
        "on" => false,
        "public" => true,
        other => bail!(
            "SAGE_CELL is {other:?}; expected off, on or public ({})",
            sources.origin("SAGE_CELL")
        ),
    };
    let left = span(sources, "SAGE_CELL_LEFT")?;
    let once = parsed(sources, "SAGE_CELL_SERVICE_MAX")?;
    let time = span(sources, "SAGE_CELL_TIME")?;
    let file_size = limit(sources, "SAGE_CELL_FILE_SIZE")?;
    let face = SageCellConfig {
        terms: terms(sources)?,
        is_public,
        once,
        once_limit: span(sources, "SAGE_CELL_SERVICE_TIME")?,
        max_file: file_size.unwrap_or(u64::MAX),
    };
    let sessions = SessionsConfig {
        folder,
        python: python(sources),
        preload: preload(sources),
        kernelspecs: kernelspecs(sources),
        kernel_start: span(sources, "SESSION_KERNEL_START")?,
        warm: parsed(sources, "SAGE_CELL_WARM")?,
        most: parsed(sources, "SAGE_CELL_MAX")?,
        most_of_client: parsed(sources, "SAGE_CELL_MAX_PER_CLIENT")?,
        most_of_group: parsed(sources, "SAGE_CELL_MAX_PER_PAGE")?,
        connect: left,
        left,
        unattended: left,
        idle: span(sources, "SAGE_CELL_IDLE")?,
        lifetime: span(sources, "SAGE_CELL_LIFETIME")?,
        cell_time: Some(time).filter(|time| *time > Duration::ZERO),
        limits: KernelLimits {
            memory: limit(sources, "SAGE_CELL_MEMORY")?,
            cpu_seconds: limit(sources, "SAGE_CELL_CPU_TIME")?,
            file_size,
        },
        processes: parsed(sources, "SAGE_CELL_PROCESSES")?,
        files: parsed(sources, "SAGE_CELL_FILES")?,
        files_of_session: None,
        network: switch(sources, "SAGE_CELL_NETWORK")?,
        cell_output: parsed(sources, "SAGE_CELL_CELL_OUTPUT")?,
        spill: parsed(sources, "SAGE_CELL_OUTPUT_FILES")?,
        log: LOG,
        face: Face::SageCell,
        once,
    };
    Ok(Some(SageCellSettings { face, sessions }))
}

/// What users accept first, from its file.
fn terms(sources: &Sources) -> anyhow::Result<Option<String>> {
    const NAME: &str = "SAGE_CELL_TERMS";
    let path = sources.text(NAME);
    if path.is_empty() {
        return Ok(None);
    }
    let attempt = || format!("{NAME} ({}): cannot read {path}", sources.origin(NAME));
    let size = std::fs::metadata(&path).with_context(attempt)?.len();
    ensure!(
        size <= MAX_TERMS,
        "{NAME} ({}): {path} has {size} bytes; the limit is {MAX_TERMS}",
        sources.origin(NAME)
    );
    let text = std::fs::read_to_string(&path).with_context(attempt)?;
    Ok(Some(text))
}
