//! What is printed when a server or a worker is ready.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use runner_core::identity::url_segment;
use runner_host::Modules;
use runner_server::auth::Mode;

use crate::instance;
use crate::settings::{Only, Settings};

/// Says where the runner is, what it offers, and how to try it.
pub(crate) fn of_server(
    address: &SocketAddr,
    modules: &Modules,
    settings: &Settings,
    folder: &Path,
    token: &str,
) {
    let base = instance::base_url(address);
    let table = modules.table();
    let mut text = format!("runner is ready at {base}/\n");
    if let Some(url) = &settings.public_url {
        text.push_str(&format!("clients  {url}/\n"));
    }
    text.push_str(&format!("modules  {base}/modules/?token={token}\n"));
    if settings.sessions.is_some() {
        text.push_str(&format!("sessions {base}/?token={token}\n"));
    }
    if settings.sage_cell.is_some() {
        text.push_str(&format!("cells    {base}/cell/\n"));
    }
    text.push_str("plugins\n");
    for provided in table.plugins() {
        let plugin = &provided.plugin;
        let form = format!("{base}/plugins/{}/ui/", url_segment(&plugin.identifier));
        text.push_str(&format!("  {:<40} {form}\n", plugin.identity.to_string()));
    }
    if table.plugins().is_empty() {
        text.push_str("  none yet: put one into a plugin folder\n");
    }
    let hello = table.newest("hello-world").or(table.plugins().first());
    if let Some(provided) = hello {
        let plugin = &provided.plugin;
        let fields = plugin.form.parameters.texts(&plugin.form.example);
        let data: String = fields
            .iter()
            .map(|(key, text)| format!(" --data-urlencode '{key}={}'", text.replace('\'', "'\\''")))
            .collect();
        let data = if data.is_empty() {
            " --data ''".to_owned()
        } else {
            data
        };
        let process = format!(
            "{base}/plugins/{}/process/",
            url_segment(&plugin.identifier)
        );
        let shown = match settings.auth.mode {
            Mode::Required => {
                let file = folder.join("token");
                format!(" -H \"Authorization: Bearer $(cat '{}')\"", file.display())
            }
            Mode::Off | Mode::Optional => String::new(),
        };
        text.push_str(&format!("try it\n  curl -sL{shown}{data} '{process}'\n"));
    }
    say(&text);
}

/// Says what a worker is there for.
pub(crate) fn of_worker(settings: &Settings, modules: &Modules) {
    if settings.only == Some(Only::Sessions) {
        return say(&format!(
            "worker is ready: sessions of the queue {}\n",
            settings.queue
        ));
    }
    let mut text = format!(
        "worker is ready: {} runs at a time of the queue {}\nplugins\n",
        settings.concurrency, settings.queue
    );
    for provided in modules.table().plugins() {
        text.push_str(&format!("  {}\n", provided.plugin.identity));
    }
    say(&text);
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
