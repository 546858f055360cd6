//! What must hold after every disaster, read from the database, the file store and Redis themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use runner_tests::{Runner, Worker, proc};
use sha2::{Digest, Sha256};

use crate::load::{Load, Work};
use crate::site::{CONCURRENCY, Site};

/// How long what is left may take to go.
const GRACE: Duration = Duration::from_secs(10);

/// A row of `files`.
struct Row {
    task: u64,
    name: String,
    size: u64,
    digest: String,
    key: String,
    /// The content of a short text; that of others is in the file store.
    text: Option<String>,
}

/// Everything of a load, after it has ended: each task succeeded, and its outputs are there once with the
/// right content.
#[track_caller]
pub(crate) fn load(site: &Site, server: &Runner, load: &Load) {
    nothing_is_stuck(site);
    let accepted = load.accepted();
    let states = states(site);
    let bad: Vec<_> = accepted
        .keys()
        .filter(|task| states.get(task).map(String::as_str) != Some("succeeded"))
        .collect();
    if let Some(task) = bad.first() {
        let shown = server.get(&format!("/tasks/{task}/"));
        server.fail(&format!(
            "{} of {} accepted tasks did not succeed, such as {task}: {}",
            bad.len(),
            accepted.len(),
            shown.text()
        ));
    }
    let mut rows: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    for row in files(site) {
        rows.entry(row.task).or_default().push(row);
    }
    for (task, work) in &accepted {
        let found = rows.remove(task).unwrap_or_default();
        outputs_are_right(site, *task, work, &found);
    }
    for row in rows.into_values().flatten() {
        content(site, &row);
    }
    // The rest was read from the disk; these as clients read them.
    for (task, work) in accepted.iter().step_by(accepted.len() / 8 + 1) {
        let shown = server.task(*task);
        for (name, text) in work.outputs(*task) {
            let body = server.output(&shown, name);
            assert!(String::from_utf8_lossy(&body).starts_with(&text), "{name}");
        }
    }
    queue_is_empty(site);
}

fn outputs_are_right(site: &Site, task: u64, work: &Work, found: &[Row]) {
    let mut wanted = work.outputs(task);
    let names: Vec<_> = found.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        found.len(),
        wanted.len(),
        "task {task} ({work:?}) has the outputs {names:?}"
    );
    wanted.sort();
    let mut found: Vec<_> = found.iter().collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    for (row, (name, text)) in found.into_iter().zip(wanted) {
        assert_eq!(row.name, name, "task {task}");
        let content = content(site, row);
        assert!(
            content.starts_with(&text),
            "task {task} put out {content:?} instead of {text:?}"
        );
        let is_whole = match work {
            Work::Caller(_) => content[text.len()..].parse::<u64>().is_ok(),
            _ => content == text,
        };
        assert!(is_whole, "task {task} put out {content:?}");
    }
}

/// The content of a file, which must be as its row says.
fn content(site: &Site, row: &Row) -> String {
    let [.., a, b] = row.key.as_bytes() else {
        panic!("no key: {:?}", row.key)
    };
    let folder = site.files().join(char::from(*a).to_string());
    let path = folder.join(char::from(*b).to_string()).join(&row.key);
    let content = match &row.text {
        Some(text) => {
            assert!(!path.exists(), "a content in its row and beside it");
            text.clone().into_bytes()
        }
        None => std::fs::read(&path)
            .unwrap_or_else(|e| panic!("a row without content: {}: {e}", row.key)),
    };
    assert_eq!(content.len() as u64, row.size, "file of task {}", row.task);
    let digest: String = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(digest, row.digest, "file of task {}", row.task);
    String::from_utf8_lossy(&content).into_owned()
}

fn files(site: &Site) -> Vec<Row> {
    // A line is a row.
    let rows = site.database.rows(
        "SELECT task, name, size, digest, file_key, CASE WHEN content IS NULL THEN 'file' ELSE 'row' END, \
         coalesce(replace(content, '\n', '\u{1e}'), '') FROM files WHERE kind = 'output'",
    );
    rows.into_iter()
        .map(|row| Row {
            task: row[0].parse().expect("a number"),
            name: row[1].clone(),
            size: row[2].parse().expect("a number"),
            digest: row[3].clone(),
            key: row[4].clone(),
            text: (row[5] == "row").then(|| row[6].replace('\u{1e}', "\n")),
        })
        .collect()
}

fn states(site: &Site) -> BTreeMap<u64, String> {
    let rows = site.database.rows("SELECT id, state FROM tasks");
    let state = |row: Vec<String>| (row[0].parse().expect("a number"), row[1].clone());
    rows.into_iter().map(state).collect()
}

/// No task is left that anybody would have to do something for.
#[track_caller]
pub(crate) fn nothing_is_stuck(site: &Site) {
    let open = site.database.rows(
        "SELECT id, state FROM tasks WHERE state NOT IN ('succeeded', 'failed', 'cancelled')",
    );
    assert!(open.is_empty(), "{open:?}");
}

/// Files in the store that no row names.
pub(crate) fn strays(site: &Site) -> Vec<String> {
    let rows = site.database.rows("SELECT file_key FROM files");
    let keys: BTreeSet<String> = rows.into_iter().flatten().collect();
    let mut found = Vec::new();
    walk(site.files(), &mut found);
    found.retain(|name| !keys.contains(name));
    found
}

/// So many workers were killed. What each was about to record may be left in the store: the outputs of its runs,
/// and of those that waited for their last write.
#[track_caller]
pub(crate) fn strays_of_killed(site: &Site, workers: u32) {
    let strays = strays(site);
    let most = workers * CONCURRENCY * 4;
    assert!(strays.len() <= most as usize, "{strays:?}");
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), found);
        } else if entry.file_name() != "store-id" {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
}

/// Nothing waits in Redis, and nobody holds anything.
#[track_caller]
pub(crate) fn queue_is_empty(site: &Site) {
    let mut left = Vec::new();
    let prefix = format!("runner:{{{}}}:", site.queue);
    let looked = runner_tests::wait::poll(GRACE, || {
        left = site
            .redis
            .keys(&format!("{}*", prefix.replace('{', "\\{")))
            .into_iter()
            .filter_map(|key| {
                let name = key.strip_prefix(&prefix)?;
                let kind = name.split(':').next().unwrap_or_default();
                let size = match kind {
                    "ring" | "jobs" | "front" => site.redis.command(&["LLEN", &key]).number(),
                    "parked" if name.contains(':') => site.redis.command(&["LLEN", &key]).number(),
                    "delayed" | "taken" => site.redis.command(&["ZCARD", &key]).number(),
                    "members" => site.redis.command(&["HLEN", &key]).number(),
                    "group" => site.redis.command(&["SCARD", &key]).number(),
                    "dead" => site.redis.command(&["XLEN", &key]).number(),
                    _ => 0,
                };
                (size > 0).then_some((key, size))
            })
            .collect();
        left.is_empty().then_some(())
    });
    assert!(looked.is_some(), "the queue is not empty: {left:?}");
}

/// The processes below these, to be looked for when they have ended.
pub(crate) fn below(pids: &[u32]) -> Vec<u32> {
    pids.iter()
        .flat_map(|pid| proc::descendants(*pid))
        .collect()
}

/// None of these processes is left.
#[track_caller]
pub(crate) fn gone(pids: &[u32]) {
    let left = proc::wait_until_gone(pids, GRACE);
    let left: Vec<_> = left.iter().map(|pid| proc::command(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Ends all processes in order, and looks whether anything is left of them.
#[track_caller]
pub(crate) fn end(mut server: Runner, workers: Vec<Worker>) {
    let mut pids = below(&[server.pid()]);
    for mut worker in workers {
        pids.extend(below(&[worker.pid()]));
        let status = worker.terminate();
        if !status.success() {
            worker.fail(&format!("it ended with {status}"));
        }
    }
    let status = server.terminate();
    if !status.success() {
        server.fail(&format!("it ended with {status}"));
    }
    gone(&pids);
}
