//! The guest's PID 1 (`src/main.rs`) and the protocol it speaks with the host ([`proto`]).
//!
//! The host side links this library for [`proto`] alone; everything that only PID 1 needs belongs to the
//! binary.

pub mod proto;
