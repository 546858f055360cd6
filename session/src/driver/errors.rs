//! What kernels write to their standard error.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::kernel::Errors;

/// Bytes of it that are kept.
const MAX_ERRORS: u64 = 1 << 20;

/// Writes down what a kernel writes to its standard error, up to a limit.
pub(super) async fn write_errors(mut errors: Errors, path: PathBuf) {
    let mut file = None;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        if !errors.next(&mut buffer).await {
            return;
        }
        let size = file
            .as_ref()
            .and_then(|file: &File| file.metadata().ok())
            .map_or(0, |metadata| metadata.len());
        if size >= MAX_ERRORS {
            continue;
        }
        if file.is_none() {
            file = open(&path).ok();
        }
        if let Some(file) = &mut file {
            let _ = file.write_all(&buffer);
            if size + buffer.len() as u64 >= MAX_ERRORS {
                let _ = writeln!(file, "\n[no more than {MAX_ERRORS} bytes are kept]");
            }
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}
