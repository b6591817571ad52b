//! The user agent: one call is a dialog, an ICE agent and a stream.
#![forbid(unsafe_code)]
