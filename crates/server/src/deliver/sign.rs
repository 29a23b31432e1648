//! A destination's signature under what goes to it.

use hookfast_engine::topology::Destination;

/// Signs what goes to one destination.
#[derive(Debug)]
pub struct Signer;

impl Signer {
    /// The signer of `destination` with its opened secrets, newest first.
    #[must_use]
    pub fn new(_destination: &Destination, _secrets: &[Vec<u8>]) -> Self {
        Self
    }
}
