//! Arguments, environment, clocks, randomness, waiting, and the end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::{Caller, Linker};

use super::errno::INVAL;
use super::memory::Memory;
use super::{Answer, MODULE, Refusal, Wasi, call};
use crate::guest::{Guest, Stop};

/// What is here.
pub(super) const NAMES: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "poll_oneoff",
    "proc_exit",
    "random_get",
    "sched_yield",
];
/// The name of the program, for itself.
const NAME: &str = "plugin";
/// The most subscriptions of one wait.
const MAX_SUBSCRIPTIONS: u32 = 1024;
/// Sizes in memory.
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;
/// The most random bytes at a time.
const MAX_RANDOM: u32 = 1 << 20;

pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type C<'a> = Caller<'a, Guest>;
    linker
        .func_wrap(
            MODULE,
            "args_sizes_get",
            |mut c: C<'_>, count: u32, size: u32| {
                call(&mut c, |m, _| sizes(m, &[NAME.to_owned()], count, size))
            },
        )?
        .func_wrap(MODULE, "args_get", |mut c: C<'_>, list: u32, at: u32| {
            call(&mut c, |m, _| texts(m, &[NAME.to_owned()], list, at))
        })?
        .func_wrap(
            MODULE,
            "environ_sizes_get",
            |mut c: C<'_>, count: u32, size: u32| {
                call(&mut c, |m, _| sizes(m, &environment(), count, size))
            },
        )?
        .func_wrap(MODULE, "environ_get", |mut c: C<'_>, list: u32, at: u32| {
            call(&mut c, |m, _| texts(m, &environment(), list, at))
        })?
        .func_wrap(MODULE, "clock_res_get", |mut c: C<'_>, _: u32, out: u32| {
            call(&mut c, |m, _| m.put_u64(out, 1))
        })?
        .func_wrap(
            MODULE,
            "clock_time_get",
            |mut c: C<'_>, clock: u32, _: u64, out: u32| {
                call(&mut c, |m, w| {
                    let now = now(w, clock)?;
                    m.put_u64(out, now)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "random_get",
            |mut c: C<'_>, at: u32, length: u32| {
                call(&mut c, |m, _| {
                    if length > MAX_RANDOM {
                        return Err(INVAL.into());
                    }
                    getrandom::fill(m.bytes(at, length)?).map_err(|_| INVAL.into())
                })
            },
        )?
        .func_wrap(MODULE, "sched_yield", |_: C<'_>| 0_i32)?
        .func_wrap(
            MODULE,
            "poll_oneoff",
            |mut c: C<'_>, subscriptions: u32, events: u32, count: u32, out: u32| {
                call(&mut c, |m, w| poll(m, w, subscriptions, events, count, out))
            },
        )?
        .func_wrap(
            MODULE,
            "proc_exit",
            |_: C<'_>, status: i32| -> wasmtime::Result<()> {
                Err(wasmtime::Error::new(Stop::Exit(status)))
            },
        )?;
    Ok(())
}

/// What the manifest sets, and the place for temporary files.
fn environment() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn sizes(m: &mut Memory<'_>, texts: &[String], count: u32, size: u32) -> Answer {
    let bytes: usize = texts.iter().map(|text| text.len() + 1).sum();
    m.put_u32(count, texts.len() as u32)?;
    m.put_u32(size, bytes as u32)
}

fn texts(m: &mut Memory<'_>, texts: &[String], list: u32, at: u32) -> Answer {
    let mut at = at;
    for (index, text) in texts.iter().enumerate() {
        m.put_u32(list.wrapping_add(index as u32 * 4), at)?;
        m.put(at, text.as_bytes())?;
        m.put(at.wrapping_add(text.len() as u32), &[0])?;
        at = at.wrapping_add(text.len() as u32 + 1);
    }
    Ok(())
}

/// Nanoseconds of a clock: 0 is that of the day, the others count from the start of the instance.
fn now(w: &Wasi, clock: u32) -> Result<u64, Refusal> {
    let time = match clock {
        0 => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
        1..=3 => w.began.elapsed(),
        _ => return Err(INVAL.into()),
    };
    Ok(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Waits for the first of some clocks. Descriptors are always ready.
fn poll(
    m: &mut Memory<'_>,
    w: &mut Wasi,
    subscriptions: u32,
    events: u32,
    count: u32,
    out: u32,
) -> Answer {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(INVAL.into());
    }
    // User data, kind, and how long to wait.
    let mut waits: Vec<(u64, u8, u64)> = Vec::new();
    for index in 0..count {
        let at = subscriptions.wrapping_add(index * SUBSCRIPTION);
        let (user, kind) = (m.u64(at)?, m.u8(at.wrapping_add(8))?);
        let wait = match kind {
            0 => {
                let clock = m.u32(at.wrapping_add(16))?;
                let timeout = m.u64(at.wrapping_add(24))?;
                let is_absolute = m.u16(at.wrapping_add(40))? & 1 != 0;
                match is_absolute {
                    true => timeout.saturating_sub(now(w, clock)?),
                    false => timeout,
                }
            }
            1 | 2 => 0,
            _ => return Err(INVAL.into()),
        };
        waits.push((user, kind, wait));
    }
    let least = waits.iter().map(|(_, _, wait)| *wait).min().unwrap_or(0);
    if least > 0 {
        w.talk.sleep(Duration::from_nanos(least))?;
    }
    let mut ready = 0;
    for (user, kind, _) in waits.iter().filter(|(_, _, wait)| *wait <= least) {
        let at = events.wrapping_add(ready * EVENT);
        let mut event = [0; EVENT as usize];
        event[..8].copy_from_slice(&user.to_le_bytes());
        event[10] = *kind;
        m.put(at, &event)?;
        ready += 1;
    }
    m.put_u32(out, ready)
}
