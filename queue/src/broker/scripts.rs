use std::time::Duration;

use redis::{Script, ScriptInvocation};

/// What is done in Redis in one step each. All of them are bounded by their arguments.
pub(super) struct Scripts {
    prefix: String,
    push: Script,
    take: Script,
    settle: Script,
    renew: Script,
    tend: Script,
    enter: Script,
    depth: Script,
}

/// So many due jobs of a kind are handled in one call.
const TEND_LIMIT: u32 = 200;

/// A key of a queue.
pub(super) fn key(queue: &str, name: &str) -> String {
    format!("runner:{{{queue}}}:{name}")
}

fn script(text: &str) -> Script {
    Script::new(&format!("{}\n{text}", include_str!("lua/common.lua")))
}

impl Scripts {
    pub(super) fn new(queue: &str) -> Self {
        Self {
            prefix: key(queue, ""),
            push: script(include_str!("lua/push.lua")),
            take: script(include_str!("lua/take.lua")),
            settle: script(include_str!("lua/settle.lua")),
            renew: script(include_str!("lua/renew.lua")),
            tend: script(include_str!("lua/tend.lua")),
            enter: script(include_str!("lua/enter.lua")),
            depth: script(include_str!("lua/depth.lua")),
        }
    }

    /// Arguments as the script says.
    pub(super) fn push(&self) -> ScriptInvocation<'_> {
        self.push.key(&self.prefix)
    }

    pub(super) fn take(&self, count: usize, lease: Duration) -> ScriptInvocation<'_> {
        let mut call = self.take.key(&self.prefix);
        call.arg(count).arg(millis(lease));
        call
    }

    /// Arguments as the script says.
    pub(super) fn settle(&self) -> ScriptInvocation<'_> {
        self.settle.key(&self.prefix)
    }

    /// Entries are to be added.
    pub(super) fn renew(&self, lease: Duration) -> ScriptInvocation<'_> {
        let mut call = self.renew.key(&self.prefix);
        call.arg(millis(lease));
        call
    }

    pub(super) fn tend(&self) -> ScriptInvocation<'_> {
        let mut call = self.tend.key(&self.prefix);
        call.arg(TEND_LIMIT);
        call
    }

    pub(super) fn enter(
        &self,
        entry: &str,
        group: &str,
        max: u32,
        parked: &str,
    ) -> ScriptInvocation<'_> {
        let mut call = self.enter.key(&self.prefix);
        call.arg(entry).arg(group).arg(max).arg(parked);
        call
    }

    pub(super) fn depth(&self) -> ScriptInvocation<'_> {
        self.depth.key(&self.prefix)
    }
}

/// Whole milliseconds, rounded up; bounded by what a double can count.
pub(crate) fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX).min(1 << 52)
}
