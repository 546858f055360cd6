//! The SDKs that hosts need, embedded, so that the binary works when copied alone.

use std::fs;
use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

use crate::HostError;
use crate::digest::text_digest;

#[derive(RustEmbed)]
#[folder = "../sdk/python"]
#[include = "runner/*.py"]
#[include = "runner/kernel/*.py"]
#[include = "runner/py.typed"]
struct PythonSdk;

/// Unpacks the SDKs below `folder`, in a folder named by their digest, unless they are there. Answers that
/// folder; the one for Python is `python` in it.
///
/// # Errors
/// They cannot be written.
pub fn unpack(folder: &Path) -> Result<PathBuf, HostError> {
    let mut names: Vec<_> = PythonSdk::iter().collect();
    names.sort();
    let mut list = String::new();
    for name in &names {
        if let Some(file) = PythonSdk::get(name) {
            list.push_str(&format!("{name} {:?}\n", file.metadata.sha256_hash()));
        }
    }
    let target = folder.join(&text_digest(&list)[..16]);
    if target.exists() {
        return Ok(target);
    }
    let draft = folder.join(format!(".{}", uuid::Uuid::new_v4()));
    for name in &names {
        let Some(file) = PythonSdk::get(name) else {
            continue;
        };
        let path = draft.join("python").join(name.as_ref());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(HostError::file("make", parent))?;
        }
        fs::write(&path, &file.data).map_err(HostError::file("write", &path))?;
    }
    match fs::rename(&draft, &target) {
        Ok(()) => Ok(target),
        Err(_) if target.exists() => {
            let _ = fs::remove_dir_all(&draft);
            Ok(target)
        }
        Err(error) => Err(HostError::file("make", target)(error)),
    }
}
