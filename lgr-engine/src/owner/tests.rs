//! Tests of owner records.
