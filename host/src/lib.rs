//! Plugin protocol, loaders, life cycle of hosts, launcher and sandbox.
