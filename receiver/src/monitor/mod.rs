//! The migration commands of QMP.
