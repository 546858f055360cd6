//! Plugins from git, as modules are loaded.

use runner_fetch::{GitPlugin, GitPlugins};
use runner_host::Fetched;

/// Those that are there already; nobody is asked.
pub(crate) fn there(plugins: &GitPlugins) -> Vec<Fetched> {
    plugins.known().into_iter().map(fetched).collect()
}

/// The same, for who waits for what is fetched.
pub(crate) async fn known(plugins: &GitPlugins) -> Vec<Fetched> {
    there(plugins)
}

/// The newest. What cannot be fetched is logged, and is what it was before.
pub(crate) async fn newest(plugins: &GitPlugins) -> Vec<Fetched> {
    let all = plugins.fetch().await;
    for plugin in &all {
        if let (Some(clone), None) = (&plugin.clone, &plugin.problem) {
            tracing::info!("{} is at {}", plugin.source, clone.commit);
        }
        if let (Some(clone), Some(_)) = (&plugin.clone, &plugin.problem) {
            tracing::warn!(
                "{}: what was fetched before is used, commit {}",
                plugin.source,
                clone.commit
            );
        }
    }
    all.into_iter().map(fetched).collect()
}

fn fetched(plugin: GitPlugin) -> Fetched {
    let problem = plugin.problem.map(|problem| problem.to_string());
    Fetched {
        source: plugin.source,
        name: plugin.name,
        path: plugin
            .clone
            .map(|clone| clone.path)
            .ok_or(problem.unwrap_or_default()),
    }
}
