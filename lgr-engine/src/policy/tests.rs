//! Tests of stop rules.
