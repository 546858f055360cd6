//! What is found out once for each key, and remembered for the life of the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Each key has a lock of its own: only those who want the same value wait for each other.
#[derive(Debug)]
pub(crate) struct OnceEach<K, V>(Mutex<BTreeMap<K, Arc<Mutex<Option<V>>>>>);

impl<K: Ord + Clone, V: Clone> OnceEach<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// The value of the key; found out now if it is not known, or no longer `holds`. An error is not remembered.
    /// Blocks while another thread finds out the same.
    pub(crate) fn get<E>(
        &self,
        key: &K,
        holds: impl FnOnce(&V) -> bool,
        find_out: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key.clone()).or_default())
        };
        let mut known = cell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known.as_ref().filter(|value| holds(value)) {
            return Ok(value.clone());
        }
        let value = find_out()?;
        *known = Some(value.clone());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_value_is_found_out_once_and_an_error_again() {
        let once: OnceEach<u8, u8> = OnceEach::new();
        assert_eq!(once.get(&1, |_| true, || Err("no")), Err("no"));
        assert_eq!(once.get(&1, |_| true, || Ok::<_, ()>(7)), Ok(7));
        assert_eq!(once.get(&1, |_| true, || Err("not asked")), Ok(7));
        assert_eq!(once.get(&1, |_| false, || Ok::<_, ()>(8)), Ok(8));
    }

    #[test]
    fn who_wants_another_value_does_not_wait() {
        let once: Arc<OnceEach<u8, u8>> = Arc::new(OnceEach::new());
        let (begun, begins) = channel();
        let (end, ends) = channel::<()>();
        let slow = Arc::clone(&once);
        let slow = std::thread::spawn(move || {
            slow.get(
                &1,
                |_| true,
                || {
                    begun.send(()).unwrap();
                    ends.recv_timeout(Duration::from_secs(60))
                        .map(|()| 1)
                        .map_err(|error| error.to_string())
                },
            )
        });
        begins.recv().unwrap();
        assert_eq!(once.get(&2, |_| true, || Ok::<_, ()>(2)), Ok(2));
        end.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), Ok(1));
    }
}
