//! The admin and API listeners.
