//! How large the network of a config is, before anything of it is allocated.

use super::{Config, DinoConfig, TrackHeadConfig};
use crate::error::{Error, Result};

/// Largest parameter in numbers: 4 GiB in F32. VGGT-1B's has 4 million.
const PARAMETER_MAX: u128 = 1 << 30;

/// Parameters of this size cost nothing to speak of, whatever the weights are.
const SMALL: u128 = 1 << 24;

/// Blocks of a transformer. VGGT-1B has 24.
const DEPTH_MAX: usize = 1024;

/// Refinements of cameras or tracks. VGGT-1B has 4, and each takes its time in every pass.
const REFINEMENTS_MAX: usize = 64;

impl Config {
    /// Checks that no parameter and no loop is absurdly large: one wrong digit must not end in an allocation that the system
    /// refuses, which ends the program, or in minutes of building a network that no weights have.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub(super) fn check_size(&self) -> Result<()> {
        let track = self.track_head.as_ref();
        for (name, n, max) in [
            ("dino.depth", self.dino.depth, DEPTH_MAX),
            ("aggregator.depth", self.aggregator.depth, DEPTH_MAX),
            (
                "camera_head.trunk_depth",
                self.camera_head.trunk_depth,
                DEPTH_MAX,
            ),
            ("track_head.depth", track.map_or(0, |t| t.depth), DEPTH_MAX),
            (
                "camera_head.num_iterations",
                self.camera_head.num_iterations,
                REFINEMENTS_MAX,
            ),
            (
                "track_head.iters",
                track.map_or(0, |t| t.iters),
                REFINEMENTS_MAX,
            ),
            (
                "dino.num_register_tokens",
                self.dino.num_register_tokens,
                DEPTH_MAX,
            ),
            (
                "aggregator.num_register_tokens",
                self.aggregator.num_register_tokens,
                DEPTH_MAX,
            ),
        ] {
            if n > max {
                return Err(Error::Config(format!(
                    "{name} is {n}, expected at most {max}"
                )));
            }
        }
        let rope = self.aggregator.rope_freq;
        if !(rope.is_finite() && rope > 0.0) {
            return Err(Error::Config(format!(
                "aggregator.rope_freq is {rope}, expected a number above 0"
            )));
        }
        self.check_parameters(PARAMETER_MAX, "the largest that is taken")
    }

    /// Checks that no parameter is larger than all that the weights hold.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub(crate) fn check_fits(&self, weights_elements: u128) -> Result<()> {
        self.check_parameters(weights_elements.max(SMALL), "what the weights hold in all")
    }

    fn check_parameters(&self, max: u128, what: &str) -> Result<()> {
        match self.parameters().into_iter().find(|(_, n)| *n > max) {
            Some((fields, n)) => Err(Error::Config(format!(
                "{fields} make a parameter of {n} numbers, more than {max}, {what}; is this the config of these weights?"
            ))),
            None => Ok(()),
        }
    }

    /// The largest parameters of each part, in numbers, and the fields that they follow from.
    fn parameters(&self) -> Vec<(&'static str, u128)> {
        let [c, patch, features] =
            [self.embed_dim, self.patch_size, self.dpt_head.features].map(|n| n as u128);
        let side = self.img_size as u128 / patch.max(1);
        let mlp = |ratio: f64, c: u128| ((c as f64 * ratio) as u128).saturating_mul(c);
        let out = self.dpt_head.out_channels.map(|n| n as u128);
        let widest = out.into_iter().max().unwrap_or(0);
        let mut all = vec![
            ("embed_dim", 3 * c * c),
            ("embed_dim and dino.mlp_ratio", mlp(self.dino.mlp_ratio, c)),
            (
                "embed_dim and aggregator.mlp_ratio",
                mlp(self.aggregator.mlp_ratio, c),
            ),
            // Its tokens are twice as wide, and its hidden layer four times that.
            ("embed_dim", mlp(DinoConfig::default().mlp_ratio, 2 * c)),
            ("img_size, patch_size and embed_dim", (side * side + 1) * c),
            ("patch_size and embed_dim", 3 * patch * patch * c),
            (
                "aggregator.num_register_tokens and embed_dim",
                2 * self.aggregator.num_register_tokens as u128 * c,
            ),
        ];
        if self.depth_head.is_some() || self.point_head.is_some() || self.track_head.is_some() {
            all.extend([
                ("dpt_head.features", 9 * features * features),
                ("dpt_head.features and out_channels", 9 * features * widest),
                ("dpt_head.out_channels and embed_dim", 2 * c * widest),
                // The finest level is enlarged four times.
                ("dpt_head.out_channels", 16 * widest * widest),
            ]);
        }
        if let Some(track) = &self.track_head {
            all.extend(of_tracks(track, features));
        }
        all
    }
}

fn of_tracks(track: &TrackHeadConfig, pyramid: u128) -> Vec<(&'static str, u128)> {
    let [features, hidden, levels, radius] = [
        track.features,
        track.hidden_size,
        track.corr_levels,
        track.corr_radius,
    ]
    .map(|n| n as u128);
    let window = (2 * radius + 1).pow(2);
    vec![
        ("track_head.hidden_size", 4 * hidden * hidden),
        ("track_head.features and hidden_size", 4 * features * hidden),
        ("track_head.features", 9 * features * features.max(pyramid)),
        (
            "track_head.corr_levels, corr_radius and hidden_size",
            levels * window * hidden,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_network_has_is_refused_by_its_field() {
        for (text, field) in [
            (r#"{"dpt_head":{"features":65536}}"#, "features"),
            (
                r#"{"dpt_head":{"out_channels":[65536,65536,65536,65536]}}"#,
                "out_channels",
            ),
            (r#"{"embed_dim":65536}"#, "embed_dim"),
            (r#"{"img_size":65535,"patch_size":1}"#, "img_size"),
            (r#"{"img_size":65536,"patch_size":65536}"#, "patch_size"),
            (r#"{"dino":{"depth":65536}}"#, "dino.depth"),
            (
                r#"{"aggregator":{"num_register_tokens":18446744073709551615}}"#,
                "num_register_tokens",
            ),
            (
                r#"{"dino":{"num_register_tokens":1000000000000}}"#,
                "num_register_tokens",
            ),
            (r#"{"aggregator":{"rope_freq":-1.0}}"#, "rope_freq"),
            (r#"{"aggregator":{"mlp_ratio":1e300}}"#, "mlp_ratio"),
            (
                r#"{"camera_head":{"num_iterations":65536}}"#,
                "num_iterations",
            ),
            (r#"{"track_head":{"iters":65536}}"#, "iters"),
            (r#"{"track_head":{"hidden_size":65536}}"#, "hidden_size"),
            (r#"{"track_head":{"features":65536}}"#, "features"),
            (
                r#"{"track_head":{"corr_levels":16,"corr_radius":64,"hidden_size":16384}}"#,
                "corr_radius",
            ),
        ] {
            let e = Config::from_json(text).unwrap_err().to_string();
            assert!(e.contains(field), "{text}: {e}");
        }
    }

    #[test]
    fn what_the_weights_cannot_hold_is_refused_and_the_network_itself_is_not() {
        let config = Config::default();
        config.check_fits(0).unwrap();
        let large = Config {
            embed_dim: 4096,
            ..config
        };
        assert!(large.check().is_ok());
        let e = large.check_fits(5_000_000).unwrap_err().to_string();
        assert!(e.contains("embed_dim") && e.contains("16777216"), "{e}");
        large.check_fits(1 << 40).unwrap();
    }
}
