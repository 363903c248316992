//! Tests of the whole, and what tests of parts share.

mod damage;
mod recorded;
mod round_trip;
pub(crate) mod samples;
mod text;
