//! Stands in for candle's kernels for quantized weights, which this program never calls.
//!
//! candle-kernels compiles them into an archive, `libmoe.a`. Linked, they are 40 % of a program, and they need CUDA's runtime
//! to register themselves when the program starts. A linker takes a member of an archive for a symbol that is not defined yet.
//! rustc names the `#[no_mangle]` functions of all crates in the first object that it passes to the linker, and crates come
//! before archives; so the functions defined here are there before that archive is searched, and no member of it is taken.
//! That is how archives work for GNU ld and lld alike. It does not depend on the order of folders, as an archive of stubs
//! under the same name would: cargo does not say which of two crates' folders comes first.
//!
//! Should candle call a function that is not in the list, the program does not link, since the member that has it needs the
//! runtime: see `keep_libraries_out` in `build.rs`.

use std::{io::Write, process};

/// Where every function ends.
fn called(name: &str) -> ! {
    // Not a panic: it must not unwind into its caller, which expects C.
    let told = writeln!(
        std::io::stderr(),
        "vggt: {name}, a kernel for quantized weights, is not in this program"
    );
    drop(told);
    process::abort()
}

/// Defines functions of these names, for the linker. What they are called with does not matter.
macro_rules! functions {
    ($($name:ident)+) => {
        $(
            const _: () = {
                #[allow(
                    unsafe_code,
                    non_snake_case,
                    reason = "defines symbols that candle links against"
                )]
                #[unsafe(no_mangle)]
                extern "C" fn $name() -> ! {
                    called(stringify!($name))
                }
            };
        )+
    };
}

// What candle-kernels 0.11.1 declares in src/ffi.rs, without its feature `cutile`:
//   grep -oE "pub fn \w+" src/ffi.rs
functions! {
    moe_gemm_wmma moe_gemm_gguf moe_gemm_gguf_prefill
    launch_mmvq_gguf_q4_0_bf16_plain launch_mmvq_gguf_q4_1_bf16_plain launch_mmvq_gguf_q5_0_bf16_plain
    launch_mmvq_gguf_q5_1_bf16_plain launch_mmvq_gguf_q8_0_bf16_plain launch_mmvq_gguf_q2_k_bf16_plain
    launch_mmvq_gguf_q3_k_bf16_plain launch_mmvq_gguf_q4_k_bf16_plain launch_mmvq_gguf_q5_k_bf16_plain
    launch_mmvq_gguf_q6_k_bf16_plain
    launch_mmvq_gguf_q4_0_f32_plain launch_mmvq_gguf_q4_1_f32_plain launch_mmvq_gguf_q5_0_f32_plain
    launch_mmvq_gguf_q5_1_f32_plain launch_mmvq_gguf_q8_0_f32_plain launch_mmvq_gguf_q2_k_f32_plain
    launch_mmvq_gguf_q3_k_f32_plain launch_mmvq_gguf_q4_k_f32_plain launch_mmvq_gguf_q5_k_f32_plain
    launch_mmvq_gguf_q6_k_f32_plain
    launch_mmvq_gguf_q4_0_f16_plain launch_mmvq_gguf_q4_1_f16_plain launch_mmvq_gguf_q5_0_f16_plain
    launch_mmvq_gguf_q5_1_f16_plain launch_mmvq_gguf_q8_0_f16_plain launch_mmvq_gguf_q2_k_f16_plain
    launch_mmvq_gguf_q3_k_f16_plain launch_mmvq_gguf_q4_k_f16_plain launch_mmvq_gguf_q5_k_f16_plain
    launch_mmvq_gguf_q6_k_f16_plain
    launch_mmvq_gguf_quantize_q8_1_bf16 launch_mmvq_gguf_quantize_q8_1_f16 launch_mmvq_gguf_quantize_q8_1_f32
    launch_mmq_quantize_q8_1_D4 launch_mmq_quantize_q8_1_DS4 launch_mmq_quantize_q8_1_D2S6
    launch_mmq_gguf_q4_0 launch_mmq_gguf_q4_1 launch_mmq_gguf_q5_0 launch_mmq_gguf_q5_1 launch_mmq_gguf_q8_0
    launch_mmq_gguf_q2_k launch_mmq_gguf_q3_k launch_mmq_gguf_q4_k launch_mmq_gguf_q5_k launch_mmq_gguf_q6_k
}
