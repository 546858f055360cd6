//! Which room may use which, as ARCHITECTURE.md says and the manifests do.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::blocks;

/// Folders of packages that are no rooms: they may use the SDK, and no room at all.
const PLUGINS: &str = "stable_plugins/";
const TESTS: &str = "tests";

#[test]
fn a_room_uses_only_rooms_below_it() {
    let floors = floors();
    let packages = packages();
    assert!(packages.len() > floors.len(), "{packages:#?}");
    for (room, uses) in &packages {
        for used in uses {
            let is_right = if room.starts_with(PLUGINS) {
                used == "sdk/rust"
            } else {
                room != TESTS && floors[room] > floors[used]
            };
            assert!(is_right, "{room} uses {used}");
        }
    }
    for room in floors.keys() {
        assert!(packages.contains_key(room), "{room} is no package");
    }
}

/// The floor of each room, from below.
fn floors() -> BTreeMap<String, usize> {
    let blocks = blocks::of("ARCHITECTURE.md");
    let block = blocks.first().expect("ARCHITECTURE.md lists the floors");
    let lines = block.text.lines().rev().enumerate();
    let rooms = lines.flat_map(|(floor, line)| {
        let rooms = line.split_whitespace();
        rooms.map(move |room| (room.to_owned(), floor))
    });
    rooms.collect()
}

/// The packages of the workspace by their folder, and those they are built with.
fn packages() -> BTreeMap<String, Vec<String>> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(runner_tests::repository(""))
        .output()
        .expect("cannot start cargo");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo answers JSON");
    let root = text(&metadata["workspace_root"]);
    let folder = |path: &str| {
        let path = path.strip_prefix(root).unwrap_or(path);
        let path = path.trim_start_matches('/');
        path.strip_suffix("/Cargo.toml").unwrap_or(path).to_owned()
    };
    let packages = list(&metadata["packages"]);
    let named = packages.map(|package| {
        let dependencies = list(&package["dependencies"]);
        // Neither tests nor build scripts; those have a kind.
        let built_with = dependencies.filter(|dependency| dependency["kind"].is_null());
        let uses = built_with.filter_map(|dependency| Some(folder(dependency["path"].as_str()?)));
        (folder(text(&package["manifest_path"])), uses.collect())
    });
    named.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text of cargo's")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
