//! The plugin side of the ABI: behind [`export!`](crate::export!).

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::abi::{Bytes, HostTable, PluginTable};
use crate::failure::{RunFailure, code, decode, encode};
use crate::nodes::{NodeRequest, Nodes};
use crate::task::RunParams;
use crate::{Failure, HostCalls, Plugin, Task, panics};

/// Makes one or several [`Plugin`]s those of this library: `export!(HelloWorld);`
///
/// Once in a crate whose `crate-type` contains `cdylib`. It defines the two symbols of
/// [`abi`](crate::abi); a macro, because a function cannot. Two crates that use it cannot be linked
/// into one binary.
#[macro_export]
macro_rules! export {
    ($($plugin:expr),+ $(,)?) => {
        const _: () = {
            struct Library;

            impl $crate::exports::Library for Library {
                fn exports() -> &'static $crate::exports::Exports {
                    static EXPORTS: ::std::sync::LazyLock<$crate::exports::Exports> =
                        ::std::sync::LazyLock::new(|| {
                            $crate::exports::Exports::new(
                                ::std::vec![$(::std::boxed::Box::new($plugin)),+]
                            )
                        });
                    &EXPORTS
                }
            }

            static TABLE: $crate::abi::PluginTable = $crate::exports::table::<Library>();

            #[unsafe(no_mangle)]
            extern "C" fn runner_plugin_abi() -> u32 {
                $crate::abi::VERSION
            }

            #[unsafe(no_mangle)]
            extern "C" fn runner_plugin_table() -> *const $crate::abi::PluginTable {
                &TABLE
            }
        };
    };
}

/// A library of plugins, as [`export!`](crate::export!) makes one.
pub trait Library {
    /// Its plugins, made when they are first needed.
    fn exports() -> &'static Exports;
}

/// The plugins of a library, and their runs in progress.
pub struct Exports {
    plugins: Vec<Box<dyn Plugin>>,
    /// Identifiers of the plugins, in their order; asked for once.
    identifiers: OnceLock<Vec<String>>,
    /// The mark of cancellation of each run in progress, by task and run.
    runs: Mutex<HashMap<(u64, u64), Arc<AtomicBool>>>,
    nodes: Nodes,
}

/// The params of the protocol's `cancel`.
#[derive(Deserialize)]
struct CancelParams {
    task: u64,
    run: u64,
}

impl Exports {
    /// Holds `plugins`.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self {
            plugins,
            identifiers: OnceLock::new(),
            runs: Mutex::default(),
            nodes: Nodes::default(),
        }
    }

    /// The result of the protocol's `describe`.
    fn describe(&self) -> Result<Value, RunFailure> {
        panics::catch(|| {
            let plugins: Vec<Value> = self
                .plugins
                .iter()
                .map(|plugin| plugin.describe().to_json())
                .collect();
            Ok(json!({"plugins": plugins, "depends": []}))
        })
    }

    /// Answers the protocol's `run`.
    fn run(&self, params: &[u8], host: Box<dyn HostCalls>) -> Result<Value, RunFailure> {
        let params: RunParams = serde_json::from_slice(params).map_err(|error| {
            RunFailure::new(
                code::INVALID_PARAMS,
                format!("the params of `run` are wrong: {error}"),
            )
        })?;
        let plugin = self.plugin(&params.plugin)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let key = (params.task, params.run);
        self.runs().insert(key, Arc::clone(&cancelled));
        let result = run(plugin, params, host, cancelled);
        self.runs().remove(&key);
        result
    }

    /// Marks a run as cancelled. There is no answer: a run that is over needs none.
    fn cancel(&self, params: &[u8]) {
        if let Ok(CancelParams { task, run }) = serde_json::from_slice(params)
            && let Some(cancelled) = self.runs().get(&(task, run))
        {
            cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Answers a request to a node: `{"result":…}` or `{"error":…}`.
    fn node(&self, request: &[u8], host: &dyn HostCalls) -> Vec<u8> {
        let answer = serde_json::from_slice::<NodeRequest<'_>>(request)
            .map_err(|error| {
                let text = format!("the request to a node is wrong: {error}");
                RunFailure::new(code::INVALID_PARAMS, text)
            })
            .and_then(|request| match request.method.as_ref() {
                "open" => {
                    let plugin = self.plugin(&request.params.plugin)?;
                    self.nodes
                        .open(request.params, |opening| plugin.node(opening))
                }
                _ => self.nodes.answer(request, host),
            });
        match answer {
            Ok(result) => [br#"{"result":"#, result.as_slice(), b"}"].concat(),
            Err(failure) => encode(Err(failure)),
        }
    }

    fn plugin(&self, identifier: &str) -> Result<&dyn Plugin, RunFailure> {
        let identifiers = panics::catch(|| {
            Ok(self.identifiers.get_or_init(|| {
                self.plugins
                    .iter()
                    .map(|plugin| plugin.describe().identifier())
                    .collect()
            }))
        })?;
        match identifiers.iter().position(|known| known == identifier) {
            Some(index) => Ok(self.plugins[index].as_ref()),
            None => Err(RunFailure::new(
                code::INVALID_PARAMS,
                format!(
                    "the library has no plugin `{identifier}`, only {}",
                    identifiers.join(", ")
                ),
            )),
        }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<(u64, u64), Arc<AtomicBool>>> {
        // Nothing panics while it is locked, so a poisoned map would be whole too.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a plugin, or one of its steps, to the result of the protocol's `run`.
pub(crate) fn run(
    plugin: &dyn Plugin,
    params: RunParams,
    host: Box<dyn HostCalls>,
    cancelled: Arc<AtomicBool>,
) -> Result<Value, RunFailure> {
    let step = params.step.clone();
    let task = Task::new(params, host, cancelled);
    let result = panics::catch(|| {
        let outcome = match &step {
            None => plugin.run(&task)?,
            Some(step) => plugin.step(&task, step)?,
        };
        task.check_finished()?;
        outcome.into_json()
    });
    task.close();
    // A cancelled run often fails of something that is only a consequence.
    if task.is_cancelled() {
        Err(Failure::cancelled().into())
    } else {
        result
    }
}

/// The table of a library.
pub const fn table<L: Library>() -> PluginTable {
    PluginTable {
        size: size_of::<PluginTable>(),
        describe: Some(describe_function::<L>),
        run: Some(run_function::<L>),
        cancel: Some(cancel_function::<L>),
        free: Some(free_function),
        node: Some(node_function::<L>),
    }
}

unsafe extern "C" fn describe_function<L: Library>() -> Bytes {
    answer(|| L::exports().describe())
}

unsafe extern "C" fn run_function<L: Library>(host: *const HostTable, params: Bytes) -> Bytes {
    answer(|| {
        // SAFETY: by the rules of the ABI the host lends its table and the params for this call.
        let (host, params) = unsafe { (Host::new(host)?, params.as_slice()) };
        L::exports().run(params, Box::new(host))
    })
}

unsafe extern "C" fn node_function<L: Library>(host: *const HostTable, request: Bytes) -> Bytes {
    let answer = panics::catch(|| {
        // SAFETY: by the rules of the ABI the host lends its table and the request for this call.
        let (host, request) = unsafe { (Host::new(host)?, request.as_slice()) };
        Ok(L::exports().node(request, &host))
    });
    Bytes::give(answer.unwrap_or_else(|failure| encode(Err(failure))))
}

unsafe extern "C" fn cancel_function<L: Library>(params: Bytes) {
    let _ = panics::catch(|| {
        // SAFETY: by the rules of the ABI the host lends the params for this call.
        L::exports().cancel(unsafe { params.as_slice() });
        Ok(())
    });
}

unsafe extern "C" fn free_function(answer: Bytes) {
    // SAFETY: by the rules of the ABI the host gives back, once, what `answer` below gave it.
    unsafe { answer.take_back() };
}

/// Bytes for the host. No panic leaves it.
fn answer(work: impl FnOnce() -> Result<Value, RunFailure>) -> Bytes {
    let result = panics::catch(|| Ok(work()));
    Bytes::give(encode(result.flatten()))
}

/// The host as a run sees it through the ABI.
struct Host {
    context: *mut c_void,
    notify: unsafe extern "C" fn(*mut c_void, Bytes),
    request: unsafe extern "C" fn(*mut c_void, Bytes) -> Bytes,
    free: unsafe extern "C" fn(*mut c_void, Bytes),
    /// Lent for the run. An older host does not say it.
    welcome: Option<Bytes>,
}

// SAFETY: by the rules of the ABI, `notify` and `request` may be called from any thread, at the
// same time; nothing else is done with the context. What `welcome` points to is only read.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    /// Takes the host's table apart.
    ///
    /// # Safety
    /// `table` is null, or points to a [`HostTable`] of the size that it says.
    unsafe fn new(table: *const HostTable) -> Result<Self, RunFailure> {
        /// What every host has.
        const REQUIRED: usize = std::mem::offset_of!(HostTable, welcome);
        let broken = |what: &str| {
            Err(RunFailure::new(
                code::INTERNAL,
                format!("the host broke the plugin ABI: {what}"),
            ))
        };
        if table.is_null() || !table.is_aligned() {
            return broken("its table is null or not aligned");
        }
        // SAFETY: the table is there, and its size is its first member in every version.
        let size = unsafe { (*table).size };
        if size < REQUIRED {
            return broken("its table is too small");
        }
        // SAFETY: these members lie within the required size.
        let functions = unsafe { ((*table).notify, (*table).request, (*table).free) };
        let (Some(notify), Some(request), Some(free)) = functions else {
            return broken("one of its functions is null");
        };
        Ok(Self {
            // SAFETY: as above.
            context: unsafe { (*table).context },
            notify,
            request,
            free,
            // SAFETY: read only where the table has it.
            welcome: (size >= size_of::<HostTable>()).then(|| unsafe { (*table).welcome }),
        })
    }
}

impl HostCalls for Host {
    fn notify(&self, method: &str, params: Value) {
        let message = json!({"method": method, "params": params}).to_string();
        // SAFETY: the run is not over (its `Connection` is closed before it returns), so context
        // and function are valid; the message is lent for the call.
        unsafe { (self.notify)(self.context, Bytes::lend(message.as_bytes())) };
    }

    fn request(&self, method: &str, params: Value) -> Result<Value, RunFailure> {
        let message = json!({"method": method, "params": params}).to_string();
        // SAFETY: as in `notify`.
        let bytes = unsafe { (self.request)(self.context, Bytes::lend(message.as_bytes())) };
        // SAFETY: the answer is ours to read until it is given back below.
        let answer = decode(unsafe { bytes.as_slice() });
        // SAFETY: the answer goes back to the side that made it, unchanged and once.
        unsafe { (self.free)(self.context, bytes) };
        answer.unwrap_or_else(|reason| {
            let message = format!("the host's answer to `{method}` is wrong: {reason}");
            Err(RunFailure::new(code::INTERNAL, message))
        })
    }

    fn welcome(&self) -> &str {
        let Some(welcome) = self.welcome else {
            return "null";
        };
        // SAFETY: by the rules of the ABI it is lent for the run, which this does not outlive.
        std::str::from_utf8(unsafe { welcome.as_slice() }).unwrap_or("null")
    }
}
