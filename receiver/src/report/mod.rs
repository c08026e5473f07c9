//! What is told about a run.
