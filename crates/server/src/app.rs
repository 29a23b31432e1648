//! The composition root: puts the running server together.
