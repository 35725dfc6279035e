//! The stand-in for CUDA finds what it says it finds.

use std::sync::OnceLock;

use candle_core::DType;
use half::{bf16, f16};
use vggt_model::ops::cuda::{Arg, Call, Epilogue, Module, epilogue};

use super::{
    Memory, Random, Runner,
    emulator::{Emulator, Order},
};

const THREADS: usize = 64;

fn broken() -> &'static Emulator {
    static LOADED: OnceLock<Emulator> = OnceLock::new();
    LOADED.get_or_init(|| {
        let here = crate::crate_dir().join("tests/kernels");
        Emulator::compile(&here.join("broken.cu"))
    })
}

/// What comes of a kernel of `broken.cu`: its output, or what is wrong.
fn outcome(
    function: &'static str,
    order: Order,
    change: impl Fn(&mut Call),
) -> Result<Vec<u8>, String> {
    let x = Memory::new(&Random(5).values(THREADS), DType::F32);
    let mut y = Memory::unwritten(THREADS, DType::F32, 0);
    let mut call = Call {
        // Not read: the emulator was chosen.
        module: Module::LayerNorm,
        function,
        grid: 1,
        block: THREADS as u32,
        shared_bytes: 4 * THREADS as u32,
        args: vec![
            Arg::Address(x.address()),
            Arg::Address(y.address()),
            Arg::I32(THREADS as i32),
        ],
    };
    change(&mut call);
    broken().run(&call, order, &[&x], &mut [&mut y])?;
    Ok(y.contents().to_vec())
}

#[test]
fn faults_are_found_and_named() {
    for (function, fault) in [
        ("divergent_barrier", "__syncthreads"),
        ("divergent_shuffle", "__shfl_xor_sync"),
        ("reads_outside", "reads 4 bytes outside"),
        ("writes_the_input", "writes the input"),
        ("unaligned_vector", "no multiple"),
        ("writes_beyond_shared", "outside its arrays"),
        ("copy_forgotten", "nobody waited for"),
    ] {
        for order in Order::ALL {
            let e = outcome(function, order, |_| ()).unwrap_err();
            assert!(e.contains(fault), "{function}: {e}");
        }
    }
}

#[test]
fn wrong_launches_of_a_good_kernel_are_found() {
    let run = |change: &dyn Fn(&mut Call)| outcome("good", Order::Forward, change);
    assert!(run(&|_| ()).is_ok());
    // One thread too many reads and writes beyond the values.
    assert!(run(&|call| call.block += 1).is_err());
    let e = run(&|call| call.args[2] = Arg::I64(64)).unwrap_err();
    assert!(e.contains("not the 3 parameters"), "{e}");
    assert!(run(&|call| call.args.truncate(2)).is_err());
}

#[test]
fn a_missing_barrier_and_a_late_wait_show_in_some_order() {
    let results =
        |function: &'static str| Order::ALL.map(|order| outcome(function, order, |_| ()).unwrap());
    let good = results("good");
    assert!(good.iter().all(|r| *r == good[0]));
    let racy = results("missing_barrier");
    assert!(racy.iter().any(|r| *r != good[0]));
    // A copy that is read before it is waited for has not come yet in some of them.
    let waited = results("copy_waited_for");
    assert!(waited.iter().all(|r| *r == waited[0]));
    let late = results("copy_waited_for_late");
    assert!(late.iter().any(|r| *r != waited[0]));
}

#[test]
fn a_kernel_that_leaves_its_buffers_is_found_by_every_runner() {
    let (rows, n) = (9, 40);
    let values = Random(6).values(rows * n);
    for &runner in Runner::all() {
        let bias = Memory::new(&values[..n], DType::F32);
        let attempt = |rows, inputs: &[&Memory], y: &mut Memory| {
            let addresses = (y.address(), bias.address());
            let call = epilogue(Epilogue::Bias, DType::F32, (rows, n), addresses).unwrap();
            runner.attempt(0, &call, inputs, &mut [y])
        };
        let mut y = Memory::new(&values, DType::F32);
        assert_eq!(attempt(rows, &[&bias], &mut y), Ok(()), "{runner}");
        // A row more than there is, and bias that no buffer holds.
        let mut y = Memory::new(&values, DType::F32);
        let e = attempt(rows + 1, &[&bias], &mut y).unwrap_err();
        assert!(e.contains("outside of"), "{runner}: {e}");
        let e = attempt(rows, &[], &mut y).unwrap_err();
        assert!(e.contains("outside of every buffer"), "{runner}: {e}");
        // What the kernel writes, passed as something to read.
        let (input, mut other) = (Memory::new(&values, DType::F32), y);
        let addresses = (input.address(), bias.address());
        let call = epilogue(Epilogue::Bias, DType::F32, (rows, n), addresses).unwrap();
        let done = runner.attempt(0, &call, &[&bias, &input], &mut [&mut other]);
        let e = done.unwrap_err();
        assert!(e.contains("writes the input"), "{runner}: {e}");
    }
}

#[test]
fn every_kernel_of_the_list_is_in_its_file() {
    for module in Module::ALL {
        for kernel in module.kernels() {
            assert!(Emulator::of(module).has(kernel), "{kernel}");
        }
    }
}

#[test]
fn halves_round_as_everywhere_else() {
    // Through a kernel that does nothing but convert: bias 0 on every kind of number.
    let specials = [
        0.0,
        -0.0,
        1.0,
        65504.0,
        65519.9,
        65520.0,
        1e-7,
        5.96e-8,
        2.9e-8,
        6.1e-5,
        3.39e38,
        1e-40,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1.000_488_3,
        1.001_464_8,
        1.003_906_3,
        1.011_718_8,
    ];
    let mut random = Random(7);
    let mut values = specials.to_vec();
    values.extend(
        (0..5000)
            .map(|_| f32::from_bits(random.next() as u32))
            .filter(|x| !x.is_nan()),
    );
    let library = broken();
    for dtype in [DType::F16, DType::BF16] {
        let x = Memory::new(&values, DType::F32);
        let mut y = Memory::unwritten(values.len(), dtype, 0);
        let call = Call {
            module: Module::LayerNorm,
            function: if dtype == DType::F16 {
                "convert_f16"
            } else {
                "convert_bf16"
            },
            grid: 1,
            block: 32,
            shared_bytes: 0,
            args: vec![
                Arg::Address(x.address()),
                Arg::Address(y.address()),
                Arg::I32(values.len() as i32),
            ],
        };
        library
            .run(&call, Order::Forward, &[&x], &mut [&mut y])
            .unwrap();
        let exact: Vec<u8> = values
            .iter()
            .flat_map(|x| match dtype {
                DType::F16 => f16::from_f32(*x).to_ne_bytes(),
                _ => bf16::from_f32(*x).to_ne_bytes(),
            })
            .collect();
        assert!(y.contents() == exact, "{dtype:?}");
    }
}
