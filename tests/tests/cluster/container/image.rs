//! What the Dockerfile says, and the example of an image that begins with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

/// What the last stage of the Dockerfile says.
#[derive(Debug, Default)]
pub(super) struct Image {
    pub(super) variables: BTreeMap<String, String>,
    pub(super) user: String,
    pub(super) command: Vec<String>,
    pub(super) health: Vec<String>,
    pub(super) volumes: Vec<String>,
    /// Folders that it makes for the user.
    pub(super) folders: Vec<String>,
}

impl Image {
    pub(super) fn read() -> Self {
        let text = fs::read_to_string(runner_tests::repository("Dockerfile")).expect("Dockerfile");
        let last = text.rsplit("\nFROM ").next().unwrap_or_default();
        let lines: Vec<&str> = last
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with('#'))
            .collect();
        let joined = lines.join("\n").replace("\\\n", " ");
        let mut image = Self::default();
        let list = |text: &str| -> Vec<String> {
            let from = text
                .find('[')
                .unwrap_or_else(|| panic!("no list in {text}"));
            serde_json::from_str(&text[from..]).unwrap_or_else(|e| panic!("{text}: {e}"))
        };
        let (mut entry, mut command) = (Vec::new(), Vec::new());
        for line in joined.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "ENV" => image.variables.extend(rest.split_whitespace().map(|pair| {
                    let (name, value) = pair.split_once('=').expect("a value");
                    (name.to_owned(), value.to_owned())
                })),
                "USER" => image.user = rest.to_owned(),
                "ENTRYPOINT" => entry = list(rest),
                "CMD" => command = list(rest),
                "HEALTHCHECK" => image.health = list(rest),
                "VOLUME" => image.volumes = list(rest),
                "RUN" if rest.contains("install --directory") => {
                    let folders = rest
                        .split_whitespace()
                        .filter(|word| word.starts_with("/app"));
                    image.folders = folders.map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        image.command = [entry, command].concat();
        image
    }

    /// Makes the user the owner of a file or folder.
    pub(super) fn give(&self, path: &Path) {
        let (user, group) = self.user.split_once(':').expect("user:group");
        let number = |text: &str| Some(text.parse().expect("a number"));
        chown(path, number(user), number(group)).expect("it can be given to the user");
    }
}

/// The example of an image of one's own, as docs/containers.md has it: instructions and their arguments.
pub(super) fn child_image() -> Vec<(String, String)> {
    let page =
        fs::read_to_string(runner_tests::repository("docs/containers.md")).expect("the page");
    let (_, rest) = page.split_once("```dockerfile\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let lines = example
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines
        .map(|line| line.split_once(' ').expect("an instruction"))
        .map(|(word, rest)| (word.to_owned(), rest.to_owned()))
        .collect()
}
