//! The name of the private network that an app's machines join.

/// Names the network: an app on `default` has one of its own, apps that asked for the same custom network share it.
///
/// App names hold no dot, so the two kinds never meet.
pub fn name(app: &str, network: &str) -> String {
    if network == DEFAULT {
        app.to_owned()
    } else {
        format!("{network}.shared")
    }
}

/// What an app has when it asked for nothing.
pub const DEFAULT: &str = "default";

#[cfg(test)]
mod tests;
