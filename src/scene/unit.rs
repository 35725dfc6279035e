//! What a length of 1 stands for.

use serde::{Serialize, Serializer};

/// Unit of the lengths of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// The network's, which does not predict a metric scale.
    #[default]
    Arbitrary,
    /// Meters, since somebody knew how long something in the scene is.
    Meters,
}

impl Unit {
    /// Returns its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arbitrary => "arbitrary",
            Self::Meters => "meters",
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
