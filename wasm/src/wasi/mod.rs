//! What an instance may ask of the system: WASI preview 1, without sockets and links.
//!
//! Names of files are looked up component by component, without following links, from the folders that the
//! instance was given; so no name leads out of them, whatever others do to the folders meanwhile.

mod errno;
mod files;
mod memory;
mod paths;
mod system;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Caller, Engine, Linker, Module, Val};

use crate::Error;
use crate::guest::{Guest, Request, Talk};
use errno::{BADF, MFILE, NOSYS};
use memory::Memory;

/// The only module that can be imported from.
const MODULE: &str = "wasi_snapshot_preview1";
/// The most descriptors that an instance may have open.
const MAX_FDS: usize = 256;

/// The descriptors of an instance, and what it was started with.
pub(crate) struct Wasi {
    talk: Arc<Talk>,
    descriptors: Vec<Option<Descriptor>>,
    began: Instant,
}

/// What a descriptor of an instance is.
enum Descriptor {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Log,
    /// A folder; `given` is its name if it was there from the start.
    Folder {
        folder: OwnedFd,
        given: Option<String>,
        is_writable: bool,
    },
    /// A regular file.
    File { file: File, is_append: bool },
}

/// What a function of WASI answers: a number of an error, or the end of the instance.
enum Refusal {
    Errno(u16),
    Stop(wasmtime::Error),
}

impl From<u16> for Refusal {
    fn from(errno: u16) -> Self {
        Self::Errno(errno)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Errno(errno::of(&error))
    }
}

impl From<nix::errno::Errno> for Refusal {
    fn from(error: nix::errno::Errno) -> Self {
        Self::from(std::io::Error::from(error))
    }
}

impl From<crate::guest::Stop> for Refusal {
    fn from(stop: crate::guest::Stop) -> Self {
        Self::Stop(wasmtime::Error::new(stop))
    }
}

type Answer = Result<(), Refusal>;

impl Wasi {
    /// Gives an instance its streams and the folders of its run.
    pub(crate) fn new(talk: Arc<Talk>, request: &Request<'_>) -> Self {
        let mut wasi = Self {
            talk,
            descriptors: vec![
                Some(Descriptor::Input),
                Some(Descriptor::Output),
                Some(Descriptor::Log),
            ],
            began: Instant::now(),
        };
        if let Some(directory) = request.params["directory"].as_str() {
            wasi.give(Path::new(directory), ".", true);
            wasi.give(Path::new(directory), directory, true);
            // `in/` stands beside `work/`, in which the run's directory lies.
            let inputs = Path::new(directory).ancestors().nth(2);
            if let Some(inputs) = inputs.map(|host| host.join("in")) {
                wasi.give(&inputs, &inputs.to_string_lossy(), false);
            }
        }
        wasi
    }

    fn give(&mut self, folder: &Path, name: &str, is_writable: bool) {
        if let Ok(folder) = File::open(folder) {
            self.descriptors.push(Some(Descriptor::Folder {
                folder: folder.into(),
                given: Some(name.to_owned()),
                is_writable,
            }));
        }
    }

    fn get(&mut self, fd: u32) -> Result<&mut Descriptor, Refusal> {
        let found = self.descriptors.get_mut(fd as usize);
        found.and_then(Option::as_mut).ok_or(BADF.into())
    }

    fn file(&mut self, fd: u32) -> Result<&mut File, Refusal> {
        match self.get(fd)? {
            Descriptor::File { file, .. } => Ok(file),
            _ => Err(BADF.into()),
        }
    }

    fn folder(&mut self, fd: u32) -> Result<(&OwnedFd, bool), Refusal> {
        match self.get(fd)? {
            Descriptor::Folder {
                folder,
                is_writable,
                ..
            } => Ok((folder, *is_writable)),
            _ => Err(BADF.into()),
        }
    }

    fn add(&mut self, descriptor: Descriptor) -> Result<u32, Refusal> {
        let free = self.descriptors.iter().position(Option::is_none);
        let fd = free.unwrap_or(self.descriptors.len());
        if fd >= MAX_FDS {
            return Err(MFILE.into());
        }
        if fd == self.descriptors.len() {
            self.descriptors.push(None);
        }
        self.descriptors[fd] = Some(descriptor);
        Ok(fd as u32)
    }

    fn close(&mut self, fd: u32) -> Answer {
        self.get(fd)?;
        self.descriptors[fd as usize] = None;
        Ok(())
    }
}

/// Does a function's work on the memory of the instance.
fn call(
    caller: &mut Caller<'_, Guest>,
    work: impl FnOnce(&mut Memory<'_>, &mut Wasi) -> Answer,
) -> wasmtime::Result<i32> {
    let exported = caller.get_export("memory").and_then(|it| it.into_memory());
    let memory = exported.ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))?;
    let (bytes, guest) = memory.data_and_store_mut(&mut *caller);
    match work(&mut Memory(bytes), &mut guest.wasi) {
        Ok(()) => Ok(0),
        Err(Refusal::Errno(errno)) => Ok(i32::from(errno)),
        Err(Refusal::Stop(error)) => Err(error),
    }
}

/// All that a module can import.
pub(crate) fn linker(engine: &Engine, module: &Module) -> Result<Linker<Guest>, Error> {
    let mut linker = Linker::new(engine);
    let failed = |error: wasmtime::Error| Error::Module(error.to_string());
    files::add(&mut linker).map_err(failed)?;
    paths::add(&mut linker).map_err(failed)?;
    system::add(&mut linker).map_err(failed)?;
    let is_known = |name: &str| {
        [files::NAMES, paths::NAMES, system::NAMES]
            .iter()
            .any(|names| names.contains(&name))
    };
    for import in module.imports() {
        if import.module() != MODULE {
            return Err(Error::Module(format!(
                "it imports {}.{}; only {MODULE} is there",
                import.module(),
                import.name()
            )));
        }
        // The rest of WASI is refused when it is called: libraries name more than they use.
        if let (false, Some(kind)) = (is_known(import.name()), import.ty().func()) {
            let refused = move |_: Caller<'_, Guest>, _: &[Val], results: &mut [Val]| {
                if let Some(result) = results.first_mut() {
                    *result = Val::I32(i32::from(NOSYS));
                }
                Ok(())
            };
            linker
                .func_new(MODULE, import.name(), kind.clone(), refused)
                .map_err(failed)?;
        }
    }
    Ok(linker)
}
