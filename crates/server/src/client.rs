//! A client of the admin API.
