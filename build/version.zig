/// The one place of the version.
pub const text = "0.1.0";
