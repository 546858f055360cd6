//! The host side of the ABI: a library of plugins, loaded.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::HostCalls;
use crate::abi::{
    Bytes, HostTable, PluginTable, TABLE_SYMBOL, TableFunction, VERSION, VERSION_SYMBOL,
    VersionFunction,
};
use crate::failure::{RunFailure, code, decode, encode};

/// Why a library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be loaded at all.
    #[error("cannot load the plugin library {}: {reason}", path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is no plugin library.
    #[error("{} is no plugin library: it has no symbol `{symbol}`", path.display())]
    Symbol {
        /// The library.
        path: PathBuf,
        /// What it lacks.
        symbol: &'static str,
    },
    /// It was made for another version of the ABI.
    #[error("{} has version {found} of the plugin ABI, this runner has version {VERSION}; \
        build it again with a matching SDK", path.display())]
    Version {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its table is not as the ABI says.
    #[error("{} breaks the plugin ABI: {reason}", path.display())]
    Table {
        /// The library.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It did not describe its plugins.
    #[error("{} cannot describe its plugins: {failure}", path.display())]
    Describe {
        /// The library.
        path: PathBuf,
        /// What it answered.
        failure: RunFailure,
    },
}

/// A shared object with plugins. It stays loaded until the process ends.
///
/// Loading a library runs its code, with all that this process may do: the host process is where
/// it is contained.
#[derive(Debug)]
pub struct NativeLibrary {
    path: PathBuf,
    describe: unsafe extern "C" fn() -> Bytes,
    run: unsafe extern "C" fn(*const HostTable, Bytes) -> Bytes,
    cancel: unsafe extern "C" fn(Bytes),
    free: unsafe extern "C" fn(Bytes),
    node: Option<unsafe extern "C" fn(*const HostTable, Bytes) -> Bytes>,
}

impl NativeLibrary {
    /// Loads the library at `path`, and checks that it is one for this version of the ABI.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        // A path without a slash would be looked for in the system's folders.
        let path = std::path::absolute(path.as_ref()).map_err(|error| Error::Load {
            path: path.as_ref().to_owned(),
            reason: error.to_string(),
        })?;
        let table = load(&path)?;
        match table {
            PluginTable {
                describe: Some(describe),
                run: Some(run),
                cancel: Some(cancel),
                free: Some(free),
                node,
                ..
            } => Ok(Self {
                path,
                describe,
                run,
                cancel,
                free,
                node,
            }),
            _ => Err(Error::Table {
                path,
                reason: "one of its functions is null".to_owned(),
            }),
        }
    }

    /// The result of the protocol's `describe`: `{"plugins": […], "depends": […]}`.
    pub fn describe(&self) -> Result<Value, Error> {
        // SAFETY: `open` checked what the ABI lets us check; the rest is the library's promise.
        let bytes = unsafe { (self.describe)() };
        self.answer(bytes, "describe")
            .map_err(|failure| Error::Describe {
                path: self.path.clone(),
                failure,
            })
    }

    /// Does a run: `params` are those of the protocol's `run`, what it returns is its result. What
    /// the plugin says meanwhile goes to `host`. Blocks until the run is over.
    ///
    /// A cancelled run fails with [`code::CANCELLED`]. If `host` panics, the panic goes on here
    /// when the run is over.
    pub fn run(&self, params: &Value, host: &dyn HostCalls) -> Result<Value, RunFailure> {
        let params = params.to_string();
        self.with_host(host, |table| {
            // SAFETY: as in `describe`; table, context and params outlive the call, and by the rules
            // of the ABI the library uses none of them after it.
            let bytes = unsafe { (self.run)(table, Bytes::lend(params.as_bytes())) };
            self.answer(bytes, "run")
        })
    }

    /// Opens a plugin as a node of a pipeline, by the request `open` of the protocol.
    pub fn open_node(&self, request: &[u8], host: &dyn HostCalls) -> Result<(), RunFailure> {
        let node = self.node_function()?;
        self.with_host(host, |table| {
            // SAFETY: as in `run`.
            let bytes = unsafe { node(table, Bytes::lend(request)) };
            self.answer(bytes, "node").map(drop)
        })
    }

    /// Answers a request to a node that is open. `take` gets what follows in a response after the
    /// id: `"result":…}` or `"error":…}`.
    pub fn node(
        &self,
        request: &[u8],
        host: &dyn HostCalls,
        take: impl FnOnce(&[u8]),
    ) -> Result<(), RunFailure> {
        let node = self.node_function()?;
        self.with_host(host, |table| {
            // SAFETY: as in `run`.
            let bytes = unsafe { node(table, Bytes::lend(request)) };
            // SAFETY: by the rules of the ABI these are bytes that are ours until they are given back.
            let answer = unsafe { bytes.as_slice() };
            let is_answer =
                answer.starts_with(br#"{"result":"#) || answer.starts_with(br#"{"error":"#);
            if is_answer {
                take(&answer[1..]);
            }
            // SAFETY: they go back to the library that gave them, unchanged and once.
            unsafe { (self.free)(bytes) };
            match is_answer {
                true => Ok(()),
                false => {
                    let text =
                        "the plugin library answered `node` with neither a result nor an error";
                    Err(RunFailure::new(code::INTERNAL, text))
                }
            }
        })
    }

    fn node_function(
        &self,
    ) -> Result<unsafe extern "C" fn(*const HostTable, Bytes) -> Bytes, RunFailure> {
        self.node.ok_or_else(|| {
            let text = "the plugin library has no nodes: it was built with an older SDK";
            RunFailure::new(code::INVALID_PARAMS, text)
        })
    }

    /// Calls the library with a table of this host.
    fn with_host<T>(
        &self,
        host: &dyn HostCalls,
        call: impl FnOnce(*const HostTable) -> Result<T, RunFailure>,
    ) -> Result<T, RunFailure> {
        let context = Context {
            host,
            broken: Mutex::default(),
            panic: Mutex::default(),
        };
        let table = HostTable {
            size: size_of::<HostTable>(),
            context: (&raw const context).cast_mut().cast(),
            notify: Some(notify),
            request: Some(request),
            free: Some(free),
            welcome: Bytes::lend(host.welcome().as_bytes()),
        };
        let answer = call(&raw const table);
        if let Some(payload) = lock(&context.panic).take() {
            panic::resume_unwind(payload);
        }
        match lock(&context.broken).take() {
            Some(reason) => Err(RunFailure::new(code::INTERNAL, reason)),
            None => answer,
        }
    }

    /// Asks a run to end soon, from another thread than that of [`run`](Self::run). A run that is
    /// not known (not yet begun, or over) is ignored.
    pub fn cancel(&self, task: u64, run: u64) {
        let params = json!({"task": task, "run": run}).to_string();
        // SAFETY: as in `describe`; the params are lent for the call.
        unsafe { (self.cancel)(Bytes::lend(params.as_bytes())) };
    }

    /// Where the library was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what the library gave, and gives it back.
    fn answer(&self, bytes: Bytes, function: &str) -> Result<Value, RunFailure> {
        // SAFETY: by the rules of the ABI these are bytes that are ours until they are given back.
        let answer = decode(unsafe { bytes.as_slice() });
        // SAFETY: they go back to the library that gave them, unchanged and once.
        unsafe { (self.free)(bytes) };
        answer.unwrap_or_else(|reason| {
            let message = format!("the plugin library answered `{function}` wrongly: {reason}");
            Err(RunFailure::new(code::INTERNAL, message))
        })
    }
}

/// Loads a library for ever and reads its table.
fn load(path: &Path) -> Result<PluginTable, Error> {
    let broken = |reason: String| Error::Table {
        path: path.to_owned(),
        reason,
    };
    // SAFETY: this runs the initializers of code that nothing is known about. That is what loading
    // a plugin means: the user chose it, and the host process contains it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        Error::Load {
            path: path.to_owned(),
            reason: reason(&error),
        }
    })?;
    // SAFETY: a symbol of this name is that of the ABI, with its type.
    let version = unsafe { symbol::<VersionFunction>(&library, path, VERSION_SYMBOL) }?;
    // SAFETY: as above.
    let table = unsafe { symbol::<TableFunction>(&library, path, TABLE_SYMBOL) }?;
    // Threads, exit handlers and thread-local values of a plugin would outlive its code.
    std::mem::forget(library);

    // SAFETY: the type of this function is the same in every version of the ABI.
    let found = unsafe { version() };
    if found != VERSION {
        return Err(Error::Version {
            path: path.to_owned(),
            found,
        });
    }
    // SAFETY: the version is ours, and so is the type of this function.
    let table = unsafe { table() };
    if table.is_null() || !table.is_aligned() {
        return Err(broken("its table is null or not aligned".to_owned()));
    }
    // SAFETY: the table is there, and its size is its first member in every version.
    let size = unsafe { (*table).size };
    // What every library has.
    let required = std::mem::offset_of!(PluginTable, node);
    if size < required {
        return Err(broken(format!(
            "its table has {size} bytes instead of {required}"
        )));
    }
    if size >= size_of::<PluginTable>() {
        // SAFETY: the table is at least as large as what we copy.
        return Ok(unsafe { *table });
    }
    // SAFETY: these members lie within the required size.
    let (describe, run, cancel, free) = unsafe {
        (
            (*table).describe,
            (*table).run,
            (*table).cancel,
            (*table).free,
        )
    };
    Ok(PluginTable {
        size,
        describe,
        run,
        cancel,
        free,
        node: None,
    })
}

/// The function `name` of a library.
///
/// # Safety
/// `F` is the type of that function.
unsafe fn symbol<F: Copy>(library: &Library, path: &Path, name: &'static str) -> Result<F, Error> {
    // SAFETY: the caller vouches for the type.
    let symbol = unsafe { library.get::<F>(name) };
    symbol.map(|symbol| *symbol).map_err(|_| Error::Symbol {
        path: path.to_owned(),
        symbol: name,
    })
}

/// What the system says of a library that it cannot load.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// What the host functions need during a run.
struct Context<'a> {
    host: &'a dyn HostCalls,
    /// The first message of the plugin that was none.
    broken: Mutex<Option<String>>,
    /// A panic of the host, kept from crossing the border.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What `notify` and `request` take.
#[derive(Deserialize)]
struct Message {
    method: String,
    #[serde(default)]
    params: Value,
}

impl Context<'_> {
    /// Reads a message and has the host deal with it. `Err` if there is nothing to answer.
    fn receive<T>(&self, message: &[u8], deal: impl FnOnce(Message) -> T) -> Result<T, String> {
        let message: Message = serde_json::from_slice(message).map_err(|error| {
            let reason = format!("the plugin library sent a message that is none: {error}");
            lock(&self.broken).get_or_insert(reason).clone()
        })?;
        panic::catch_unwind(AssertUnwindSafe(|| deal(message))).map_err(|payload| {
            lock(&self.panic).get_or_insert(payload);
            "the host panicked".to_owned()
        })
    }
}

unsafe extern "C" fn notify(context: *mut c_void, message: Bytes) {
    // SAFETY: `run` made the context, which is only read, and lives while the plugin may call; the
    // message is lent to us.
    let (context, message) = unsafe { (&*context.cast::<Context<'_>>(), message.as_slice()) };
    let _ = context.receive(message, |message| {
        context.host.notify(&message.method, message.params);
    });
}

unsafe extern "C" fn request(context: *mut c_void, message: Bytes) -> Bytes {
    // SAFETY: as in `notify`.
    let (context, message) = unsafe { (&*context.cast::<Context<'_>>(), message.as_slice()) };
    let answer = context
        .receive(message, |message| {
            context.host.request(&message.method, message.params)
        })
        .unwrap_or_else(|reason| Err(RunFailure::new(code::INTERNAL, reason)));
    Bytes::give(encode(answer))
}

unsafe extern "C" fn free(_context: *mut c_void, answer: Bytes) {
    // SAFETY: the plugin gives back, once, what `request` gave it.
    unsafe { answer.take_back() };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holds one value that is set at once.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
