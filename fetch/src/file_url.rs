//! `file://` URLs, which reach only what lies below the allowed folders.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use url::Url;

use crate::error::Problem;
use crate::target::{Target, io};

/// Bytes read at once.
const CHUNK: usize = 128 * 1024;

/// Opens the file of a URL if it is a plain file that, with all links resolved, lies below one
/// of the roots. What lies outside is refused whether it exists or not.
fn open(url: &Url, roots: &[PathBuf]) -> Result<(PathBuf, File), Problem> {
    let outside = || Problem::OutsideRoots(roots.to_vec());
    let invalid = || Problem::InvalidUrl("file URLs have no host, or \"localhost\"".to_owned());
    let asked = url.to_file_path().map_err(|()| invalid())?;
    // A root that does not exist (yet) holds nothing.
    let real: Vec<PathBuf> = roots
        .iter()
        .filter_map(|root| fs::canonicalize(root).ok())
        .collect();
    let below = |path: &Path| real.iter().any(|root| path.starts_with(root));

    let path = match fs::canonicalize(&asked) {
        Ok(path) if below(&path) => path,
        Err(e) if below(&asked) || roots.iter().any(|root| asked.starts_with(root)) => {
            return Err(io("read", &asked, e));
        }
        _ => return Err(outside()),
    };
    let not_a_file = || {
        io(
            "read",
            &asked,
            std::io::Error::other("it is not a regular file"),
        )
    };
    // Before opening, since opening a pipe would wait for its writer.
    if !fs::metadata(&path)
        .map_err(|e| io("read", &asked, e))?
        .is_file()
    {
        return Err(not_a_file());
    }
    let file = File::open(&path).map_err(|e| io("read", &asked, e))?;
    if !file
        .metadata()
        .map_err(|e| io("read", &asked, e))?
        .is_file()
    {
        return Err(not_a_file());
    }
    if !opened(&file).is_none_or(|path| below(&path)) {
        return Err(outside());
    }
    Ok((path, file))
}

/// Where an open file really is: folders on its way may have been exchanged between the check
/// and the opening. Known on Linux only.
fn opened(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Copies the file of a URL into the target; gives its real path.
pub(crate) async fn copy(
    url: &Url,
    roots: &[PathBuf],
    target: &mut Target,
) -> Result<PathBuf, Problem> {
    let (url, roots) = (url.clone(), roots.to_vec());
    let opening = tokio::task::spawn_blocking(move || open(&url, &roots));
    let (path, file) = opening.await.map_err(|e| Problem::Setup(e.to_string()))??;
    let size = file.metadata().map_err(|e| io("read", &path, e))?.len();
    target.announce(size)?;
    let mut file = tokio::fs::File::from_std(file);
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = file
            .read(&mut chunk)
            .await
            .map_err(|e| io("read", &path, e))?;
        if n == 0 {
            return Ok(path);
        }
        target.write(&chunk[..n]).await?;
    }
}

/// The media type that the name of a file suggests.
pub(crate) fn content_type(path: &Path) -> &'static str {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if name.to_ascii_lowercase().ends_with(".lines") {
        return "application/X-lines+json";
    }
    runner_core::file::content_type_of(name)
}
