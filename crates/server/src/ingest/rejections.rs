//! Requests that were refused (SPEC I19).

/// Refused requests on their way to the store.
#[derive(Debug, Default)]
pub struct Rejections;
