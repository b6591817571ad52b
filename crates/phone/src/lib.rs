//! placeholder of the first build
