//! SQL (tasks, files, modules) and the file store.
