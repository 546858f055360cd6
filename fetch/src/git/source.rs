//! `git+<url>[@ref][#subdirectory=dir]`, as pip writes requirements that lie in git.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use url::Url;

use crate::redact;

/// The protocols that may be used, of the source and of what `URL_MAP` makes of it.
pub(super) const PROTOCOLS: [&str; 5] = ["https", "ssh", "file", "http", "git"];
/// Those by which whoever is on the way may send something else.
const OPEN: [&str; 2] = ["http", "git"];
/// Bytes of a reference.
const MAX_REFERENCE: usize = 250;

/// A repository, what of it is wanted, and who asks for it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct GitSource {
    /// Without credentials.
    url: Url,
    credentials: Option<Credentials>,
    /// A branch, tag or commit; the repository's own branch if it is not said.
    reference: Option<String>,
    /// From the root of the repository.
    subdirectory: PathBuf,
    name: String,
}

/// What is shown to the server of a repository if it asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// A source that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    /// As it may be shown.
    pub(super) shown: String,
    /// What is wrong, and what was expected.
    pub(super) reason: String,
}

impl Malformed {
    pub(super) fn new(text: &str, reason: impl Into<String>) -> Self {
        let url = text.strip_prefix("git+").unwrap_or(text);
        let shown = match (Url::parse(url), text.rfind('@')) {
            // Nobody knows where a password ends in what is no URL.
            (Err(_), Some(at)) => format!("***{}", redact(&text[at..])),
            _ => redact(text),
        };
        Self {
            shown,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "git+{}", redact(self.url.as_str()))?;
        if let Some(reference) = &self.reference {
            write!(f, "@{reference}")?;
        }
        if !self.subdirectory.as_os_str().is_empty() {
            write!(f, "#subdirectory={}", self.subdirectory.display())?;
        }
        Ok(())
    }
}

impl fmt::Debug for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitSource({self})")
    }
}

impl GitSource {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: String| Malformed::new(text, reason);
        let Some(rest) = text.strip_prefix("git+") else {
            return Err(wrong(
                "expected git+https://host/path[@ref][#subdirectory=dir]".to_owned(),
            ));
        };
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let subdirectory = subdirectory(fragment).map_err(wrong)?;
        let (rest, reference) = split_reference(rest);
        if let Some(reference) = &reference {
            check_reference(reference).map_err(wrong)?;
        }
        let mut url = Url::parse(rest).map_err(|error| {
            wrong(format!(
                "{error}; expected a URL such as git+https://host/path or git+ssh://git@host/path"
            ))
        })?;
        check(&url).map_err(wrong)?;
        let credentials = take_credentials(&mut url).map_err(wrong)?;
        let name = name(&url);
        Ok(Self {
            url,
            credentials,
            reference,
            subdirectory,
            name,
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub(super) fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    pub(super) fn subdirectory(&self) -> &Path {
        &self.subdirectory
    }

    /// That of the repository, as it may stand in a path.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The commit, if it is pinned to one.
    pub(super) fn pinned(&self) -> Option<&str> {
        let reference = self.reference.as_deref()?;
        let is_whole = matches!(reference.len(), 40 | 64);
        (is_whole && is_hexadecimal(reference)).then_some(reference)
    }

    /// Whether its reference may be the beginning of a commit's name.
    pub(super) fn may_be_commit(&self) -> bool {
        self.reference
            .as_deref()
            .is_some_and(|reference| reference.len() >= 4 && is_hexadecimal(reference))
    }

    /// Whether somebody on the way could send something else.
    pub(super) fn is_open(&self) -> bool {
        self.pinned().is_none() && OPEN.contains(&self.url.scheme())
    }

    /// The name of its folder: another one for each repository, reference and subdirectory.
    pub(super) fn key(&self) -> String {
        let whole = format!(
            "{}\n{}\n{}",
            self.url,
            self.reference.as_deref().unwrap_or_default(),
            self.subdirectory.display()
        );
        let digest = Sha256::digest(whole.as_bytes());
        let digest: String = digest[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}-{digest}", self.name)
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The last `@` of the path begins the reference, which may have slashes.
fn split_reference(text: &str) -> (&str, Option<String>) {
    let authority = text.find("://").map_or(0, |at| at + 3);
    let Some(path) = text[authority..].find('/').map(|at| authority + at) else {
        return (text, None);
    };
    match text[path..].rfind('@') {
        Some(at) => {
            let reference = percent_decode_str(&text[path + at + 1..]).decode_utf8_lossy();
            (&text[..path + at], Some(reference.into_owned()))
        }
        None => (text, None),
    }
}

/// By the rules of `git check-ref-format`; what looks like an option or a pair of references is none.
fn check_reference(reference: &str) -> Result<(), String> {
    let is_odd = |c: char| c.is_control() || " ~^:?*[\\+".contains(c);
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with(".lock")
            && !part.ends_with('.')
    };
    let is_usable = !reference.starts_with('-')
        && reference.len() <= MAX_REFERENCE
        && !reference.contains(is_odd)
        && !reference.contains("..")
        && !reference.contains("@{")
        && reference.split('/').all(is_part);
    match is_usable {
        true => Ok(()),
        false => Err(format!(
            "{reference:?} is no branch, tag or commit: git takes no such name"
        )),
    }
}

/// `subdirectory=dir` and `egg=name`, in any order. A slash before the folder means the root of the repository.
fn subdirectory(fragment: &str) -> Result<PathBuf, String> {
    let mut subdirectory = PathBuf::new();
    for pair in fragment.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("subdirectory", folder)) => {
                let folder = percent_decode_str(folder)
                    .decode_utf8()
                    .map_err(|_| format!("the subdirectory {folder:?} is not UTF-8"))?;
                subdirectory = inside(folder.trim_start_matches('/'))?;
            }
            // A name for pip, which says nothing here.
            Some(("egg", _)) => {}
            _ => {
                return Err(format!(
                    "#{pair:?} is not known; expected #subdirectory=dir, also after #egg=name&"
                ));
            }
        }
    }
    Ok(subdirectory)
}

fn inside(folder: &str) -> Result<PathBuf, String> {
    let mut path = PathBuf::new();
    for part in Path::new(folder).components() {
        match part {
            Component::Normal(name) if name != ".git" => path.push(name),
            Component::CurDir => {}
            _ => {
                return Err(format!(
                    "the subdirectory {folder:?} leads out of the repository"
                ));
            }
        }
    }
    match folder.contains('\0') {
        true => Err("the subdirectory has a NUL byte".to_owned()),
        false => Ok(path),
    }
}

/// What is said of a URL before it is opened, and again after `URL_MAP`.
pub(super) fn check(url: &Url) -> Result<(), String> {
    if !PROTOCOLS.contains(&url.scheme()) {
        return Err(format!(
            "the protocol {:?} is not allowed; expected one of {}",
            url.scheme(),
            PROTOCOLS.join(", ")
        ));
    }
    let host = url.host_str().unwrap_or_default();
    if url.scheme() == "file" {
        return match host.is_empty() || host == "localhost" {
            true => Ok(()),
            false => Err(format!(
                "file:// names the host {host:?}; expected a path on this machine, file:///path"
            )),
        };
    }
    let is_option = |text: &str| percent_decode_str(text).next() == Some(b'-');
    if host.is_empty() || is_option(host) || is_option(url.username()) {
        return Err("its host or user is none".to_owned());
    }
    Ok(())
}

/// Takes user and password out of a URL; the user of SSH is no secret and stays.
fn take_credentials(url: &mut Url) -> Result<Option<Credentials>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let is_asked_for = matches!(url.scheme(), "http" | "https");
    if !is_asked_for {
        return match url.password() {
            None if url.scheme() == "ssh" => Ok(None),
            _ => Err(format!(
                "{} takes no password from a URL; expected a key of SSH, or https",
                url.scheme()
            )),
        };
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credentials = Credentials {
        user: decoded(url.username()),
        password: decoded(url.password().unwrap_or_default()),
    };
    // Lines of the answer to git.
    if [&credentials.user, &credentials.password]
        .iter()
        .any(|text| text.contains(['\n', '\r', '\0']))
    {
        return Err("its user or password has a line end".to_owned());
    }
    // A URL with a host takes both.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(Some(credentials))
}

/// The last part of the path, as it may be the name of a folder and of a Python package.
fn name(url: &Url) -> String {
    let path = percent_decode_str(url.path())
        .decode_utf8_lossy()
        .into_owned();
    let last = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    let kept = |c: char| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = last.chars().take(60).map(kept).collect();
    match name.trim_start_matches(['-', '_']) {
        "" => "plugins".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (String, String, String) {
        let source = GitSource::parse(text).unwrap();
        (
            source.url.to_string(),
            source.reference.clone().unwrap_or_default(),
            source.subdirectory.display().to_string(),
        )
    }

    #[test]
    fn sources_are_read_as_pip_writes_them() {
        for (text, url, reference, subdirectory) in [
            ("git+https://h/a/b.git", "https://h/a/b.git", "", ""),
            ("git+https://h/a/b@v1.0", "https://h/a/b", "v1.0", ""),
            (
                "git+https://h/b@feature/x/y",
                "https://h/b",
                "feature/x/y",
                "",
            ),
            (
                "git+https://h/b@refs/pull/7/head",
                "https://h/b",
                "refs/pull/7/head",
                "",
            ),
            ("git+ssh://git@h/b@main", "ssh://git@h/b", "main", ""),
            (
                "git+ssh://git@h:2222/~me/b",
                "ssh://git@h:2222/~me/b",
                "",
                "",
            ),
            (
                "git+file:///a/b@1#subdirectory=c/d",
                "file:///a/b",
                "1",
                "c/d",
            ),
            (
                "git+https://h/b#subdirectory=/plugins",
                "https://h/b",
                "",
                "plugins",
            ),
            (
                "git+https://h/b#egg=x&subdirectory=c",
                "https://h/b",
                "",
                "c",
            ),
            (
                "git+https://h/b#subdirectory=c%20d/./e&egg=x",
                "https://h/b",
                "",
                "c d/e",
            ),
            (
                "git+https://h/b#subdirectory=a.py",
                "https://h/b",
                "",
                "a.py",
            ),
            ("git+https://h/b#egg=x", "https://h/b", "", ""),
            ("git+https://me:p%40w@h/b@main", "https://h/b", "main", ""),
            ("git+https://token@h/b", "https://h/b", "", ""),
            ("git+http://h:3000/b", "http://h:3000/b", "", ""),
            ("git+git://h/b", "git://h/b", "", ""),
        ] {
            let expected = (
                url.to_owned(),
                reference.to_owned(),
                subdirectory.to_owned(),
            );
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_source_is_refused_with_the_reason() {
        for (text, reason) in [
            ("https://h/b", "expected git+https"),
            ("git+git@h:a/b", "expected a URL such as"),
            ("git+ext::sh -c x", "not allowed"),
            ("git+ext::sh", "not allowed"),
            (
                "git+ftp://h/b",
                "expected one of https, ssh, file, http, git",
            ),
            (
                "git+https://h/b@--upload-pack=x",
                "no branch, tag or commit",
            ),
            ("git+https://h/b@a:b", "no branch, tag or commit"),
            ("git+https://h/b@+a", "no branch, tag or commit"),
            ("git+https://h/b@a..b", "no branch, tag or commit"),
            ("git+https://h/b@", "no branch, tag or commit"),
            ("git+https://h/b@a/", "no branch, tag or commit"),
            ("git+https://h/b@%2d-x", "no branch, tag or commit"),
            (
                "git+https://h/b#subdirectory=../x",
                "leads out of the repository",
            ),
            (
                "git+https://h/b#subdirectory=a/../../x",
                "leads out of the repository",
            ),
            (
                "git+https://h/b#subdirectory=%2e%2e/x",
                "leads out of the repository",
            ),
            (
                "git+https://h/b#subdirectory=.git",
                "leads out of the repository",
            ),
            ("git+https://h/b#sha256=1", "expected #subdirectory=dir"),
            ("git+file://h/b", "expected a path on this machine"),
            ("git+ssh://-oProxyCommand=x/b", "host or user"),
            ("git+ssh://-x@h/b", "host or user"),
            ("git+ssh://%2dx/b", "host or user"),
            ("git+ssh://git:pw@h/b", "takes no password"),
            ("git+https://me:p%0aw@h/b", "line end"),
        ] {
            let refused = GitSource::parse(text).expect_err(text).reason;
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn credentials_are_kept_apart_and_never_shown() {
        let source = GitSource::parse("git+https://me:p%40w@h/b@main").unwrap();
        let credentials = source.credentials().unwrap();
        assert_eq!(
            (credentials.user.as_str(), credentials.password.as_str()),
            ("me", "p@w")
        );
        assert_eq!(source.to_string(), "git+https://h/b@main");
        assert_eq!(format!("{source:?}"), "GitSource(git+https://h/b@main)");
        let open = GitSource::parse("git+https://h/b@main").unwrap();
        assert_eq!(source.key(), open.key());
        for text in [
            "https://me:secret@h/b",
            "git+https://me:secret@h/b@--x",
            "git+https://me:sec/secret@h/b",
            "me:secret@h/b",
            "git+x://me:secret@h/b",
        ] {
            let malformed = GitSource::parse(text).unwrap_err();
            assert!(
                !format!("{malformed:?}").contains("secret"),
                "{malformed:?}"
            );
        }
    }

    #[test]
    fn a_whole_commit_pins_and_a_short_one_does_not() {
        let pinned = |reference: &str| {
            let source = GitSource::parse(&format!("git+http://h/b@{reference}")).unwrap();
            (
                source.pinned().is_some(),
                source.may_be_commit(),
                source.is_open(),
            )
        };
        assert_eq!(pinned(&"a1".repeat(20)), (true, true, false));
        assert_eq!(pinned("deadbee"), (false, true, true));
        assert_eq!(pinned("main"), (false, false, true));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(git\\+)?(https|ssh|file|ext)?(://|::)?[ -~]{0,40}") {
            if let Ok(source) = GitSource::parse(&text) {
                prop_assert!(PROTOCOLS.contains(&source.url.scheme()));
                prop_assert!(source.subdirectory.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(!source.reference().unwrap_or_default().starts_with('-'));
                prop_assert!(!source.key().contains('/') && !source.key().starts_with(['.', '-']));
            }
        }
    }
}
