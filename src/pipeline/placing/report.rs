//! How a reconstruction was placed, for summaries and files.

use serde_json::{Map, Value};

use super::{FocalReport, GpsReport, KnownReport, LengthReport, LevelReport};

/// How a reconstruction was placed; empty where it is as the network had it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placed {
    /// Focal lengths of the photos.
    pub focal: Option<FocalReport>,
    /// Known cameras.
    pub cameras: Option<KnownReport>,
    /// Measured lengths.
    pub lengths: Option<LengthReport>,
    /// Positions of the photos.
    pub gps: Option<GpsReport>,
    /// Level ground.
    pub level: Option<LevelReport>,
}

impl Placed {
    /// Returns it with names of frames, for the user who made it; `None` where it is empty.
    pub fn to_json(&self) -> Option<Value> {
        self.parts(KnownReport::to_json)
    }

    /// Returns what a file may say of it that others may see; `None` where it is empty.
    pub fn numbers(&self) -> Option<Value> {
        self.parts(KnownReport::numbers)
    }

    fn parts(&self, cameras: impl Fn(&KnownReport) -> Value) -> Option<Value> {
        let parts = [
            ("focal", self.focal.as_ref().map(FocalReport::to_json)),
            ("cameras", self.cameras.as_ref().map(cameras)),
            ("lengths", self.lengths.as_ref().map(LengthReport::to_json)),
            ("gps", self.gps.as_ref().map(GpsReport::to_json)),
            ("level", self.level.as_ref().map(LevelReport::to_json)),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(name, part)| Some((name.to_owned(), part?)));
        let parts: Map<String, Value> = parts.collect();
        (!parts.is_empty()).then_some(Value::Object(parts))
    }
}
