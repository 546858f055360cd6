//! HTTP: routes, forms, errors.
