//! The C ABI between the process that hosts native plugins and a shared object, version 1.
//!
//! This module is the definition; `sdk/c/runner_plugin.h` is the same as a C header, and a binding for
//! any language that can make a shared object can be written from it. A library exports two symbols:
//!
//! ```c
//! uint32_t runner_plugin_abi(void);                           // returns 1
//! const struct runner_plugin *runner_plugin_table(void);      // never NULL, valid for ever
//! ```
//!
//! The version is asked first; a library of another version is refused without calling anything
//! else. The table, and what it refers to:
//!
//! ```c
//! struct runner_bytes  { const uint8_t *data; size_t length; };   // data may be NULL if length is 0
//!
//! struct runner_plugin {                                          // given by the library
//!     size_t size;                                                // sizeof(struct runner_plugin)
//!     struct runner_bytes (*describe)(void);
//!     struct runner_bytes (*run)(const struct runner_host *host, struct runner_bytes params);
//!     void (*cancel)(struct runner_bytes params);
//!     void (*free)(struct runner_bytes answer);
//!     struct runner_bytes (*node)(const struct runner_host *host, struct runner_bytes request);
//! };                                                              // `node` if `size` says so
//!
//! struct runner_host {                                            // given to `run`
//!     size_t size;                                                // sizeof(struct runner_host)
//!     void *context;
//!     void (*notify)(void *context, struct runner_bytes message);
//!     struct runner_bytes (*request)(void *context, struct runner_bytes message);
//!     void (*free)(void *context, struct runner_bytes answer);
//!     struct runner_bytes welcome;                                // if `size` says so
//! };
//! ```
//!
//! # Messages
//!
//! Bytes are UTF-8 JSON, without a terminating zero. Their content is that of the plugin protocol
//! (`docs/protocol.md`), so that a host only has to carry it:
//!
//! - `run` takes the params of `run`, `cancel` those of `cancel` (`{"task", "run"}`).
//! - `describe`, `run` and `request` answer `{"result": …}` or
//!   `{"error": {"code", "message", "data"?: {"traceback"?}}}`, what a JSON-RPC response has
//!   beside its id. The result of `describe` is `{"plugins": […], "depends": […]}`, that of `run`
//!   is `{"log"?, "data"?}`. A cancelled run ends with error −32001.
//! - `node` takes the requests `open`, `items`, `pull` and `close` of pipelines whole, `{"id",
//!   "method", "params"}`, and answers as `run` does. Requests to one node come one after the other,
//!   those to several at the same time. Its `host` takes notifications, among them `made`.
//! - `notify` and `request` take `{"method", "params"}`.
//! - `welcome` are the params of `welcome`: name, uuid and arguments of the module.
//!
//! # Rules
//!
//! - **Ownership.** Bytes that are passed as an argument are lent for the call. Bytes that are
//!   returned belong to the side that returned them, and are given back to *its* `free` once and
//!   unchanged.
//! - **Threads.** All functions may be called from any thread, at the same time. `cancel` is called
//!   while `run` is at work in another thread; several `run`s at once only if the manifest says
//!   `concurrent`. `notify` and `request` may be called from any thread of the plugin.
//! - **Life.** The table and the library are used until the process ends; a library is never
//!   unloaded. A `runner_host` and its functions must not be used after the `run` that they were
//!   given to has returned.
//! - **Unwinding.** No exception or panic may cross: both sides catch theirs and make an error.
//! - **Growth.** A side may append members to its table and raises `size`; the other uses a member
//!   only if `size` says that it is there. All members above but `welcome` and `node` are required,
//!   and no function but `node` is NULL. Any other change raises the version.

use std::ffi::c_void;

/// The version of this ABI, what [`VERSION_SYMBOL`] returns.
pub const VERSION: u32 = 1;

/// Name of the symbol of type [`VersionFunction`].
pub const VERSION_SYMBOL: &str = "runner_plugin_abi";

/// Name of the symbol of type [`TableFunction`].
pub const TABLE_SYMBOL: &str = "runner_plugin_table";

/// `uint32_t runner_plugin_abi(void)`
pub type VersionFunction = unsafe extern "C" fn() -> u32;

/// `const struct runner_plugin *runner_plugin_table(void)`
pub type TableFunction = unsafe extern "C" fn() -> *const PluginTable;

/// `struct runner_bytes`: UTF-8 JSON, lent or given (see the module's rules).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The first byte. May be null if `length` is 0.
    pub data: *const u8,
    /// Number of bytes.
    pub length: usize,
}

/// `struct runner_plugin`: what a library offers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PluginTable {
    /// Size of the table in bytes, as the library knows it.
    pub size: usize,
    /// Answers the protocol's `describe`.
    pub describe: Option<unsafe extern "C" fn() -> Bytes>,
    /// Processes a run and answers when it is done.
    pub run: Option<unsafe extern "C" fn(host: *const HostTable, params: Bytes) -> Bytes>,
    /// Asks a run to end soon. Returns at once; a run that is not known is ignored.
    pub cancel: Option<unsafe extern "C" fn(params: Bytes)>,
    /// Takes back what `describe` or `run` returned.
    pub free: Option<unsafe extern "C" fn(answer: Bytes)>,
    /// Answers a request to a node of a pipeline. Older libraries do not have it, and others need
    /// not.
    pub node: Option<unsafe extern "C" fn(host: *const HostTable, request: Bytes) -> Bytes>,
}

/// `struct runner_host`: what a run may ask of its host.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HostTable {
    /// Size of the table in bytes, as the host knows it.
    pub size: usize,
    /// Handed to each of the functions below; means nothing to the plugin.
    pub context: *mut c_void,
    /// Sends a notification of the protocol, such as `log`.
    pub notify: Option<unsafe extern "C" fn(context: *mut c_void, message: Bytes)>,
    /// Sends a request of the protocol, such as `fetch`, and waits for its answer.
    pub request: Option<unsafe extern "C" fn(context: *mut c_void, message: Bytes) -> Bytes>,
    /// Takes back what `request` returned.
    pub free: Option<unsafe extern "C" fn(context: *mut c_void, answer: Bytes)>,
    /// The params of the protocol's `welcome`, lent for the run. Older hosts do not have it.
    pub welcome: Bytes,
}

impl Bytes {
    /// Lends `bytes` for a call.
    pub fn lend(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    /// Gives `bytes` away, until [`Bytes::take_back`].
    pub fn give(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        let data = Box::into_raw(bytes.into_boxed_slice()).cast::<u8>();
        Self { data, length }
    }

    /// The bytes that the other side lent, or gave.
    ///
    /// # Safety
    /// As the module's rules say: `data` points to `length` bytes that stay unchanged for `'a`.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.length == 0 {
            return &[];
        }
        // SAFETY: the caller vouches for pointer, length and lifetime; null was dealt with.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }

    /// Takes back what [`Bytes::give`] gave away, and drops it.
    ///
    /// # Safety
    /// `self` comes unchanged from [`Bytes::give`] in this library, and is taken back only once.
    pub unsafe fn take_back(self) {
        if self.data.is_null() {
            return;
        }
        let slice = std::ptr::slice_from_raw_parts_mut(self.data.cast_mut(), self.length);
        // SAFETY: the caller vouches that `give` made this pointer from a box of this length, and
        // that nobody else takes it back.
        drop(unsafe { Box::from_raw(slice) });
    }
}
