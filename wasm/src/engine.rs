//! How modules are compiled, kept and loaded.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, setrlimit};
use sha2::{Digest, Sha256};
use wasmtime::{Config, Engine, Module};

use crate::Error;

/// Seconds of processor time that making machine code may take.
const COMPILE_SECONDS: u64 = 120;
/// Bytes of address space that it may take.
const COMPILE_MEMORY: u64 = 8 << 30;

/// The same for making machine code and for running it: a difference would make it unusable.
pub(crate) fn engine() -> Result<Engine, Error> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    Engine::new(&config).map_err(|error| Error::Module(error.to_string()))
}

/// Makes the machine code of a module and keeps it in `folder`, unless it is there. Prints where it is.
///
/// Its name is made of the digest of the module and of all that the code depends on: version, settings and
/// processor. The file is whole or absent, and only to be read.
///
/// # Errors
/// The module is not valid, or takes too long.
pub fn wasm_compile_main(module: &Path, folder: &Path) -> Result<PathBuf, Error> {
    // What a module needs to be compiled is not bounded by its size.
    for (resource, limit) in [
        (Resource::RLIMIT_CPU, COMPILE_SECONDS),
        (Resource::RLIMIT_AS, COMPILE_MEMORY),
    ] {
        let _ = setrlimit(resource, limit, limit);
    }
    let engine = engine()?;
    let bytes = fs::read(module).map_err(Error::file("read", module))?;
    let path = folder.join(name(&engine, &bytes));
    if path.exists() {
        let metadata = fs::symlink_metadata(&path).map_err(Error::file("look at", &path))?;
        // Here accounts have their own numbers, which a host in name spaces of its own does not see.
        return match metadata.uid() == nix::unistd::geteuid().as_raw() {
            true => Ok(path),
            false => Err(untrusted(&path)),
        };
    }
    let code = engine.precompile_module(&bytes).map_err(|error| {
        // The outermost says that it did not work, the innermost why.
        Error::Module(error.root_cause().to_string())
    })?;
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("protect", folder))?;
    // Others may make the same at the same time, also on other machines.
    let mut number = [0; 8];
    getrandom::fill(&mut number)
        .map_err(|error| Error::Module(format!("there are no random numbers: {error}")))?;
    let draft = folder.join(format!("draft-{:016x}", u64::from_ne_bytes(number)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&draft)
        .and_then(|mut file| {
            file.set_permissions(fs::Permissions::from_mode(0o444))?;
            file.write_all(&code)
        })
        .and_then(|()| fs::rename(&draft, &path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.map_err(Error::file("write", &path))?;
    Ok(path)
}

fn name(engine: &Engine, module: &[u8]) -> String {
    let mut compatibility = std::hash::DefaultHasher::new();
    engine
        .precompile_compatibility_hash()
        .hash(&mut compatibility);
    let digest = Sha256::digest(module);
    let digest = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!(
        "{}-{:016x}.cwasm",
        digest.collect::<String>(),
        compatibility.finish()
    )
}

/// Loads machine code that [`wasm_compile_main`] made.
pub(crate) fn load(engine: &Engine, path: &Path) -> Result<Module, Error> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .map_err(Error::file("open", path))?;
    check_owner(&file, path)?;
    // SAFETY: machine code is trusted. This file is a regular one of the runner's account, which nobody else may
    // write to; it lies in a folder that only the runner's own processes write to (hosts have another account there,
    // or are kept from it by Landlock), and is never changed after it got its name. Wasmtime itself refuses what it did not make for this version,
    // these settings and this processor.
    unsafe { Module::deserialize_open_file(engine, file) }
        .map_err(|error| Error::Module(error.to_string()))
}

fn check_owner(file: &File, path: &Path) -> Result<(), Error> {
    let metadata = file.metadata().map_err(Error::file("look at", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let folder = fs::metadata(folder).map_err(Error::file("look at", folder))?;
    // In name spaces of its own a host sees the runner's account under another number, but for both the same.
    let is_ours = metadata.uid() == folder.uid();
    let is_kept = (metadata.mode() | folder.mode()) & 0o022 == 0;
    match metadata.is_file() && is_ours && is_kept {
        true => Ok(()),
        false => Err(untrusted(path)),
    }
}

fn untrusted(path: &Path) -> Error {
    Error::Module(format!(
        "{} is not trusted: it belongs to another account, or others may write to it",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `_start` that does nothing, and a memory of one page.
    const SMALL: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\
        \x07\x13\x02\x06_start\0\0\x06memory\x02\0\x0a\x04\x01\x02\0\x0b";

    #[test]
    fn machine_code_is_made_once_and_loaded_only_from_files_of_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, cache) = (engine().unwrap(), folder.path().join("cache"));
        let module = folder.path().join("m.wasm");
        fs::write(&module, SMALL).unwrap();
        let code = wasm_compile_main(&module, &cache).unwrap();
        let made = fs::metadata(&code).unwrap().modified().unwrap();
        assert_eq!(wasm_compile_main(&module, &cache).unwrap(), code);
        assert_eq!(fs::metadata(&code).unwrap().modified().unwrap(), made);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1, "no draft is left");
        load(&engine, &code).unwrap();

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&code, &link).unwrap();
        assert!(load(&engine, &link).is_err());
        fs::set_permissions(&code, fs::Permissions::from_mode(0o666)).unwrap();
        let error = load(&engine, &code).unwrap_err().to_string();
        assert!(error.contains("others may write"), "{error}");

        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&code, Some(1), None).unwrap();
            let error = wasm_compile_main(&module, &cache).unwrap_err().to_string();
            assert!(error.contains("another account"), "{error}");
        }

        let other = folder.path().join("other");
        fs::write(&other, SMALL).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(load(&engine, &other).is_err(), "no machine code");

        fs::write(&module, &SMALL[..SMALL.len() - 1]).unwrap();
        let error = wasm_compile_main(&module, &cache).unwrap_err().to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}
