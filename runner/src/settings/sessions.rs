//! What is set of sessions.

use std::path::PathBuf;
use std::time::Duration;

use runner_session::{KernelLimits, SessionsConfig};

use super::sources::Sources;
use super::{parsed, seconds, switch};

/// The longest span: clocks can be added to it.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86400);

/// Sessions with their folder, or that there are none.
pub(super) fn sessions(
    sources: &Sources,
    folder: PathBuf,
) -> anyhow::Result<Option<SessionsConfig>> {
    if !switch(sources, "SESSIONS")? {
        return Ok(None);
    }
    let span = |name: &str| span(sources, name);
    let limit = |name: &str| limit(sources, name);
    Ok(Some(SessionsConfig {
        folder,
        python: python(sources),
        preload: preload(sources),
        kernelspecs: kernelspecs(sources),
        kernel_start: span("SESSION_KERNEL_START")?,
        warm: parsed(sources, "SESSION_WARM")?,
        most: parsed(sources, "SESSION_MAX")?,
        most_of_client: parsed(sources, "SESSION_MAX_PER_CLIENT")?,
        connect: span("SESSION_CONNECT")?,
        idle: span("SESSION_IDLE")?,
        left: span("SESSION_LEFT")?,
        unattended: span("SESSION_UNATTENDED")?,
        lifetime: span("SESSION_LIFETIME")?,
        limits: KernelLimits {
            memory: limit("SESSION_MEMORY")?,
            cpu_seconds: limit("SESSION_CPU_TIME")?,
            file_size: limit("SESSION_FILE_SIZE")?,
        },
        processes: parsed(sources, "SESSION_PROCESSES")?,
        files: parsed(sources, "SESSION_FILES")?,
        files_of_session: limit("SESSION_FILES_PER_SESSION")?,
        cell_time: Some(span("SESSION_CELL_TIME")?).filter(|span| !span.is_zero()),
        network: switch(sources, "SESSION_NETWORK")?,
        cell_output: parsed(sources, "SESSION_CELL_OUTPUT")?,
        spill: parsed(sources, "SESSION_OUTPUT_FILES")?,
        log: parsed(sources, "SESSION_LOG")?,
        ..SessionsConfig::default()
    }))
}

/// A span of time that clocks can be added to.
pub(super) fn span(sources: &Sources, name: &str) -> anyhow::Result<Duration> {
    seconds(sources, name).map(|span| span.min(LONGEST))
}

/// A limit; 0 is none.
pub(super) fn limit(sources: &Sources, name: &str) -> anyhow::Result<Option<u64>> {
    Ok(Some(parsed::<u64>(sources, name)?).filter(|limit| *limit > 0))
}

/// The interpreter of kernels.
pub(super) fn python(sources: &Sources) -> String {
    match sources.text("SESSION_PYTHON").as_str() {
        "" => sources.text("PYTHON"),
        python => python.to_owned(),
    }
}

/// Modules that kernels have at once.
pub(super) fn preload(sources: &Sources) -> Vec<String> {
    words(&sources.text("SESSION_PRELOAD"))
}

/// Kernelspecs of Jupyter that there are.
pub(super) fn kernelspecs(sources: &Sources) -> Vec<String> {
    words(&sources.text("SESSION_KERNELSPECS"))
}

/// What stands between commas or blanks.
fn words(text: &str) -> Vec<String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}
