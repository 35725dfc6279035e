//! Options of `vggt export` for known cameras, scale, place and level.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Input;
use crate::{
    cameras::{self, KnownCameras},
    cli::UsageError,
    frames::PhotoNotes,
    pipeline::{
        Decoded, GPS_POSITIONS, MeasuredLength, PipelineError, Placing, PlacingError, Source,
        photo_notes,
    },
};

/// What is known of where the scene is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Known cameras, scale and place")]
pub(super) struct PlaceArgs {
    /// Use these cameras: a COLMAP model, transforms.json, a .csv table or a TUM trajectory. Poses move the scene, lenses replace the
    /// network's
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    pub(super) cameras: Option<PathBuf>,
    /// Take focal lengths from what the photos note (EXIF), where they are plausible
    #[arg(long, hide_short_help = true, conflicts_with = "from_predictions")]
    pub(super) exif_focal: bool,
    /// A length in photos, which puts the scene into meters: "3:120,80 3:640,92 = 1.20m", with the number or name of a photo and
    /// pixels in it; may be given several times
    #[arg(long, value_name = "LENGTH", hide_short_help = true, conflicts_with_all = ["meters_per_unit", "gps"],
        value_parser = |text: &str| text.parse::<MeasuredLength>())]
    pub(super) scale: Vec<MeasuredLength>,
    /// Place the scene on the Earth by the positions that the photos note (EXIF); they are in the files then
    #[arg(long, hide_short_help = true, conflicts_with_all = ["meters_per_unit", "from_predictions", "level"])]
    pub(super) gps: bool,
    /// Turn the scene so that up is up, as the cameras were held
    #[arg(long, hide_short_help = true)]
    pub(super) level: bool,
}

/// What was read for the options.
#[derive(Debug, Default)]
pub(super) struct Known {
    cameras: Option<KnownCameras>,
    notes: Option<PhotoNotes>,
}

impl Known {
    /// Checks that the cameras belong to the frames.
    pub(super) fn check_frames(&self, frames: &Decoded) -> Result<(), PipelineError> {
        if let Some(cameras) = &self.cameras {
            cameras.of_frames(&frames.names, &frames.seconds)?;
        }
        Ok(())
    }
}

impl PlaceArgs {
    /// Reads the cameras and the notes of the photos, before the long computation.
    ///
    /// # Errors
    /// When the file of cameras cannot be used.
    pub(super) fn read(&self, input: &Input) -> anyhow::Result<Known> {
        let cameras = self.cameras.as_deref().map(cameras::read).transpose()?;
        let notes = match (self.exif_focal || self.gps, input) {
            (false, _) => None,
            (true, Input::Frames(source @ (Source::Images(_) | Source::Folder(_)))) => {
                Some(photo_notes(source))
            }
            (true, _) => return Err(UsageError(PlacingError::NoPhotos.to_string()).into()),
        };
        let with_position =
            |notes: &PhotoNotes| notes.0.values().filter(|note| note.gps.is_some()).count();
        if let Some(notes) = notes.as_ref().filter(|_| self.gps)
            && with_position(notes) < GPS_POSITIONS
        {
            let e = PlacingError::TooFewPositions {
                found: with_position(notes),
                photos: notes.0.len(),
                needed: GPS_POSITIONS,
            };
            return Err(e.into());
        }
        Ok(Known { cameras, notes })
    }

    /// Returns what the pipeline takes.
    pub(super) fn placing<'a>(&'a self, known: &'a Known) -> Placing<'a> {
        Placing {
            cameras: known.cameras.as_ref(),
            exif_focal: self.exif_focal,
            lengths: &self.scale,
            gps: self.gps,
            level: self.level,
            notes: known.notes.as_ref(),
        }
    }

    /// Adds the options as a file records them, without names of files.
    pub(super) fn record(&self, options: &mut Value) {
        let given = [
            ("cameras", self.cameras.is_some()),
            ("exif_focal", self.exif_focal),
            ("scale", !self.scale.is_empty()),
            ("gps", self.gps),
            ("level", self.level),
        ];
        for (name, _) in given.into_iter().filter(|(_, given)| *given) {
            options[name] = json!(true);
        }
    }
}
