//! Plugins with rules of their own, written where a test wants them.

use runner_tests::scratch::Scratch;

/// A plugin that waits at a gate, and may be run only once.
pub(crate) fn once() -> Scratch {
    module("once", "repeatable = false", &gate("once"))
}

/// A folder with one plugin: its name, its manifest, its code.
pub(crate) fn module(name: &str, manifest: &str, code: &str) -> Scratch {
    let folder = Scratch::new();
    let module = folder.path().join(name);
    std::fs::create_dir_all(&module).expect("it can be made");
    let write = |file: &str, text: &str| std::fs::write(module.join(file), text);
    write("plugin.toml", manifest).expect("it can be written");
    write("__init__.py", code).expect("it can be written");
    folder
}

/// The code of a plugin that waits in a download.
pub(crate) fn gate(name: &str) -> String {
    format!(
        "from runner import Url, plugin\n\n\n\
         @plugin(version=\"1.0.0\")\n\
         def {name}(task, url: Url(\"Gate\")):\n    \
             task.fetch(url)\n    \
             task.output(\"{name}.txt\", \"{name}\", data_type=\"custom/{name}\", content_type=\"text/plain\")\n"
    )
}

/// The code of a plugin that fails.
pub(crate) fn failing(name: &str) -> String {
    format!(
        "from runner import plugin\n\n\n\
         @plugin(version=\"1.0.0\")\n\
         def {name}(task):\n    \
             raise ValueError(\"it fails on purpose\")\n"
    )
}
