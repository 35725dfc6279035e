//! The code that `build.rs` made of the kernels.

use super::call::Module;

/// A module as the driver loads it: machine code for some cards, and PTX from which the driver makes code for later ones.
pub fn code(module: Module) -> &'static [u8] {
    macro_rules! fatbin {
        ($name:literal) => {
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin"))
        };
    }
    match module {
        Module::LayerNorm => fatbin!("layer_norm"),
        Module::Epilogue => fatbin!("epilogue"),
        Module::Heads => fatbin!("heads"),
        Module::FlashAttention => fatbin!("flash_attention"),
        Module::Attention => fatbin!("attention"),
        Module::Bilinear => fatbin!("bilinear"),
    }
}
