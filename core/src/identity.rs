//! Names, versions and identifiers of plugins.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use pep440_rs::Version;

/// The longest name or version that is accepted, in bytes.
pub const MAX_LENGTH: usize = 200;

/// The identity of a plugin: `name@version`. The version is [PEP 440](https://peps.python.org/pep-0440/),
/// so `1.0.0` and `v0.2.1` are versions; it is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    name: String,
    version: String,
}

/// Why a name and a version are no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The name is empty, too long, or has a character that cannot stand in a URL segment.
    #[error(
        "the plugin name {0:?} is not usable: expected 1 to {MAX_LENGTH} letters, digits, spaces or ._- characters"
    )]
    Name(String),
    /// The version is not PEP 440.
    #[error(
        "the version {version:?} of plugin {name:?} is not a PEP 440 version such as 1.0.0 or v0.2.1"
    )]
    Version {
        /// The plugin's name.
        name: String,
        /// What was given as its version.
        version: String,
    },
}

impl Identity {
    /// Checks both parts.
    ///
    /// # Errors
    /// Says which part is not usable and what was expected.
    pub fn new(name: &str, version: &str) -> Result<Self, IdentityError> {
        let usable = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-');
        if name.trim().is_empty() || name.len() > MAX_LENGTH || !name.chars().all(usable) {
            return Err(IdentityError::Name(name.to_owned()));
        }
        if version.len() > MAX_LENGTH || Version::from_str(version).is_err() {
            return Err(IdentityError::Version {
                name: name.to_owned(),
                version: version.to_owned(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// The name as the plugin gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version as the plugin gave it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The form that stands in URLs: `name@version`, each `.` turned into `-`.
    pub fn identifier(&self) -> String {
        format!(
            "{}@{}",
            self.name.replace('.', "-"),
            self.version.replace('.', "-")
        )
    }

    fn parsed_version(&self) -> Option<Version> {
        Version::from_str(&self.version).ok()
    }
}

/// An identifier as a segment of a URL's path: spaces and what is not ASCII are percent-encoded, `@` stays.
pub fn url_segment(identifier: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'@')
        .remove(b'-')
        .remove(b'_')
        .remove(b'.');
    percent_encoding::utf8_percent_encode(identifier, KEPT).to_string()
}

impl Ord for Identity {
    /// By name, then by PEP 440 version, then by the spelling of the version.
    fn cmp(&self, other: &Self) -> Ordering {
        self.name
            .cmp(&other.name)
            .then_with(|| self.parsed_version().cmp(&other.parsed_version()))
            .then_with(|| self.version.cmp(&other.version))
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, version: &str) -> Identity {
        Identity::new(name, version).unwrap()
    }

    #[test]
    fn dots_become_dashes_in_identifiers() {
        assert_eq!(
            identity("hello-world", "v0.2.1").identifier(),
            "hello-world@v0-2-1"
        );
        assert_eq!(identity("a.b c", "1.0").identifier(), "a-b c@1-0");
    }

    #[test]
    fn versions_are_ordered_by_pep_440() {
        let mut versions = ["1.10", "1.9", "1.10rc1", "v1.2"].map(|v| identity("p", v));
        versions.sort();
        assert_eq!(
            versions.map(|i| i.version),
            ["v1.2", "1.9", "1.10rc1", "1.10"]
        );
    }

    #[test]
    fn unusable_names_and_versions_are_named() {
        for name in ["", " ", "a/b", "a@b", "a\u{0}", "a?b"] {
            assert!(
                matches!(Identity::new(name, "1"), Err(IdentityError::Name(_))),
                "{name:?}"
            );
        }
        let error = Identity::new("p", "latest").unwrap_err();
        assert!(error.to_string().contains("\"latest\""), "{error}");
    }
}
