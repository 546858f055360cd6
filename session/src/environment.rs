//! Variables that a client gives to its kernels.

use std::collections::HashMap;

use crate::error::SessionError;

/// Bytes of the variables of a session.
const MAX_ENVIRONMENT: usize = 16 << 10;

/// Looks whether they can be variables.
pub(crate) fn check(environment: &HashMap<String, String>) -> Result<(), SessionError> {
    let size: usize = environment
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > MAX_ENVIRONMENT {
        return Err(SessionError::Invalid(format!(
            "the variables in `env` have {size} bytes; the limit is {MAX_ENVIRONMENT}"
        )));
    }
    let is_plain = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    match environment
        .iter()
        .find(|(name, value)| !is_plain(name) || value.contains('\0'))
    {
        Some((name, _)) => Err(SessionError::Invalid(format!(
            "{name:?} in `env` is no variable, or its value has a NUL"
        ))),
        None => Ok(()),
    }
}
