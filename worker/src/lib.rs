//! Takes jobs, runs tasks, delivers webhooks, cleans up.
