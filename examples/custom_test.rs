//! A test of your own with the harness.
