//! Mistakes in kernels that doctor has to find.

use std::fs;

use vggt_model::ops::cuda::Module;

use super::{super::emulator::Emulator, HOPPER, card::Card, cases, error_on};

/// A mistake in a kernel.
struct Fault {
    module: Module,
    /// What its source says.
    right: &'static str,
    /// What it says instead.
    wrong: &'static str,
}

impl Fault {
    /// A card whose kernel has it.
    fn card(&self) -> Card {
        let folder = crate::crate_dir().join("kernels");
        let file = folder.join(self.module.name()).with_extension("cu");
        let source = fs::read_to_string(file).unwrap();
        let (right, module) = (self.right, self.module);
        assert!(source.contains(right), "{module:?} has no {right:?}");
        let dir = tempfile::tempdir().unwrap();
        let changed = dir.path().join("changed.cu");
        fs::write(&changed, source.replace(right, self.wrong)).unwrap();
        // Never unloaded: the libraries share what cuda_cpu.h keeps for a thread, which points into the one that ran last.
        let emulator = Box::leak(Box::new(Emulator::compile(&changed)));
        Card {
            capability: HOPPER,
            changed: Some((module, emulator)),
        }
    }

    /// Doctor calls the result of each of these checks wrong. The kernel has to do nothing that the emulator refuses: on a card
    /// nothing would refuse it.
    fn is_found_by(&self, labels: &[&str]) {
        let card = self.card();
        let cases = cases();
        for label in labels {
            let case = cases.iter().find(|case| case.label() == *label);
            let case = case.unwrap_or_else(|| panic!("no check is called {label}"));
            let error = error_on(&card, case).unwrap().unwrap();
            let times = error / case.tolerance();
            println!("{label}: {times:.1} times the tolerance");
            assert!(
                !case.passed(error),
                "{label} does not find it: {times:.2} of the tolerance"
            );
        }
    }
}

#[test]
fn doctor_finds_rotations_that_are_wrong_from_the_second_frame_on() {
    let fault = Fault {
        module: Module::Heads,
        right: "const int64_t turn = position % positions * depth;",
        wrong: "const int64_t turn = (position < positions ? position : 0) * depth;",
    };
    fault.is_found_by(&[
        "self-attention across 3 frames [bf16]",
        "self-attention across 3 frames [f16]",
        "self-attention, heads of 12 [f32]",
    ]);
}

#[test]
fn doctor_finds_heads_that_are_read_from_the_first_batch_entry() {
    let fault = Fault {
        module: Module::Heads,
        right: "const T* from = qkv + (token * parts * heads + index) * depth;",
        wrong: "const T* from = qkv + (position * parts * heads + index) * depth;",
    };
    fault.is_found_by(&[
        "self-attention in each of 3 frames [bf16]",
        "self-attention, heads of 32 [f32]",
    ]);
}

#[test]
fn doctor_finds_keys_that_are_not_there() {
    let fault = Fault {
        module: Module::FlashAttention,
        right: "if ((tile + 1) * KEYS > n) {",
        wrong: "if (false) {",
    };
    fault.is_found_by(&[
        "self-attention, 2 frames of the trunk [bf16]",
        "self-attention in each of 3 frames [bf16]",
        "self-attention across 3 frames [f16]",
        "attention, fewer keys [f16]",
    ]);
}

#[test]
fn doctor_finds_a_scale_of_scores_that_is_off_by_a_hundredth() {
    let fault = Fault {
        module: Module::Attention,
        right: "exp2f((scores[i][j] - peak) * scale)",
        wrong: "exp2f((scores[i][j] - peak) * scale * 1.01f)",
    };
    fault.is_found_by(&[
        "self-attention, heads of 32 [f32]",
        "attention, heads of 48 [f32]",
    ]);
}

#[test]
fn doctor_finds_factors_of_another_column() {
    let fault = Fault {
        module: Module::Epilogue,
        right: "load<N>(others.gamma + column, gamma);",
        wrong: "load<N>(others.gamma + (column + N) % n, gamma);",
    };
    fault.is_found_by(&[
        "linear, LayerScale, residual [bf16]",
        "linear, LayerScale, residual, odd width [f16]",
        "MLP [f32]",
        "MLP, 8195 rows in two chunks [bf16]",
    ]);
}

#[test]
fn doctor_finds_rows_that_the_epilogue_leaves_out() {
    let fault = Fault {
        module: Module::Epilogue,
        right: "const int64_t end = first + ROWS < rows ? first + ROWS : rows;",
        wrong: "const int64_t end = first + ROWS < rows ? first + ROWS : rows - 1;",
    };
    fault.is_found_by(&[
        "linear [bf16]",
        "linear and GELU [f16]",
        "conv2d 3x3, 2 odd maps [f32]",
    ]);
}

#[test]
fn doctor_finds_an_epsilon_outside_the_root() {
    let fault = Fault {
        module: Module::LayerNorm,
        right: "rsqrtf(warp_sum(squares) / float(c) + eps)",
        wrong: "rsqrtf(warp_sum(squares) / float(c)) + eps",
    };
    fault.is_found_by(&[
        "layer norm, 1024 channels [bf16]",
        "layer norm, 1027 channels [f16]",
        "linear after norm [f32]",
    ]);
}

#[test]
fn doctor_finds_a_lane_that_is_missing_in_the_variance() {
    let fault = Fault {
        module: Module::LayerNorm,
        right: "squares += row[j][i] * row[j][i];",
        wrong: "squares += lane < 31 ? row[j][i] * row[j][i] : 0.0f;",
    };
    fault.is_found_by(&[
        "layer norm, 1024 channels [f16]",
        "layer norm, 1024 channels [f32]",
    ]);
}

#[test]
fn doctor_finds_the_last_row_and_column_cut_off() {
    let fault = Fault {
        module: Module::Bilinear,
        right: "const int high = low + 1 < from - 1 ? low + 1 : from - 1;",
        wrong: "const int high = low + 1 < from - 1 ? low + 1 : low;",
    };
    fault.is_found_by(&["bilinear, growing, positions [f32]"]);
}

#[test]
fn doctor_finds_embeddings_of_other_rows() {
    let fault = Fault {
        module: Module::Bilinear,
        right: "rows + int64_t(row) * half + k - half",
        wrong: "rows + int64_t(height - 1 - row) * half + k - half",
    };
    fault.is_found_by(&[
        "bilinear, growing, positions [f32]",
        "bilinear, to odd sizes, positions [f32]",
    ]);
}
