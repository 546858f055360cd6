//! What the runner is made of, with licences: every crate of `Cargo.lock` (also those that only other
//! platforms or tests need), and the bundles that the pages load.
//!
//! `licenses.json` is committed, so that a build needs neither a network nor cargo; a test compares it
//! with `Cargo.lock`, and writes it anew where `UPDATE=1` is set.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// Something that the runner contains.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Component {
    /// Its name where it comes from.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it comes from.
    pub kind: Kind,
    /// An SPDX expression, as its authors state it.
    pub license: String,
    /// Where its source is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// Where a [`Component`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// crates.io.
    Rust,
    /// The npm registry; what browsers load.
    Web,
}

impl Kind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Web => "web",
        }
    }
}

/// The bundles in `static/vendor`: name, version, licence, repository.
const WEB: [[&str; 4]; 3] = [
    [
        "rapidoc",
        "9.3.8",
        "MIT",
        "https://github.com/rapi-doc/RapiDoc",
    ],
    ["redoc", "2.5.4", "MIT", "https://github.com/Redocly/redoc"],
    [
        "swagger-ui",
        "5.35.0",
        "Apache-2.0",
        "https://github.com/swagger-api/swagger-ui",
    ],
];

/// All components, sorted by name and version.
pub fn licenses() -> &'static [Component] {
    static COMPONENTS: LazyLock<Vec<Component>> = LazyLock::new(|| {
        let crates: Result<Vec<Component>, _> =
            serde_json::from_str(include_str!("../licenses.json"));
        // A test reads the file.
        let mut components = crates.unwrap_or_default();
        components.extend(WEB.map(|[name, version, license, repository]| Component {
            name: name.to_owned(),
            version: version.to_owned(),
            kind: Kind::Web,
            license: license.to_owned(),
            repository: Some(repository.to_owned()),
        }));
        components.sort();
        components
    });
    &COMPONENTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::process::Command;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/licenses.json");

    #[test]
    fn every_crate_of_the_lock_file_is_listed() {
        if std::env::var_os("UPDATE").is_some() {
            write_anew();
        }
        let text = std::fs::read_to_string(FILE).unwrap();
        let listed: Vec<Component> = serde_json::from_str(&text).unwrap();
        let listed: BTreeSet<_> = listed.into_iter().map(|c| (c.name, c.version)).collect();
        let locked = locked();
        let missing: Vec<_> = locked.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&locked).collect();
        assert!(
            missing.is_empty() && gone.is_empty(),
            "server/licenses.json is not that of Cargo.lock: missing {missing:?}, gone {gone:?}. \
             Write it anew with UPDATE=1 cargo test -p runner-server licenses"
        );
    }

    #[test]
    fn every_component_says_its_licence() {
        for component in licenses() {
            assert!(!component.license.is_empty(), "{component:?}");
        }
        let bundles = concat!(env!("CARGO_MANIFEST_DIR"), "/static/vendor");
        for [name, version, ..] in WEB {
            let bundle = Path::new(bundles).join(format!("{name}-{version}.js.gz"));
            assert!(bundle.is_file(), "{}", bundle.display());
        }
        assert!(
            licenses()
                .iter()
                .any(|c| c.kind == Kind::Rust && c.name == "axum")
        );
    }

    /// Name and version of the crates from registries in Cargo.lock.
    fn locked() -> BTreeSet<(String, String)> {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        let value = |package: &str, key: &str| {
            let line = package
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let packages = lock.split("[[package]]").skip(1);
        packages
            .filter(|package| value(package, "source").is_some())
            .filter_map(|package| Some((value(package, "name")?, value(package, "version")?)))
            .collect()
    }

    fn write_anew() {
        let metadata = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(
            metadata.status.success(),
            "{}",
            String::from_utf8_lossy(&metadata.stderr)
        );
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
        let text =
            |package: &serde_json::Value, key: &str| package[key].as_str().map(str::to_owned);
        let packages = metadata["packages"].as_array().unwrap().iter();
        let mut components: Vec<Component> = packages
            .filter(|package| !package["source"].is_null())
            .map(|package| Component {
                name: text(package, "name").unwrap(),
                version: text(package, "version").unwrap(),
                kind: Kind::Rust,
                license: text(package, "license")
                    .or_else(|| text(package, "license_file").map(|file| format!("see {file}")))
                    .unwrap_or_default(),
                repository: text(package, "repository").or_else(|| text(package, "homepage")),
            })
            .collect();
        components.sort();
        // One a line, so that a change of one is a change of one line.
        let lines: Vec<_> = components
            .iter()
            .map(|c| serde_json::to_string(c).unwrap())
            .collect();
        std::fs::write(FILE, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
}
