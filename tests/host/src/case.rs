//! What the tier can run.

use crate::Guest;

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The function's path, which is the test's name.
    pub name: &'static str,
    /// Runs inside a guest; panics when something is wrong.
    pub run: fn(&Guest),
}

/// Makes a list of [`Case`]s from paths of functions that take a [`Guest`].
#[macro_export]
macro_rules! cases {
    ($($path:path),* $(,)?) => {
        vec![$($crate::Case { name: stringify!($path), run: $path }),*]
    };
}
