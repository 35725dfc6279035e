//! The cases of `vggt doctor` through the kernels; and what doctor says when a kernel is wrong.

mod card;
mod faults;

use candle_core::DType;
use vggt_model::{
    check::{self, Case, Purpose, Target},
    ops::cuda::ComputeCapability,
};

use super::DTYPES;
use card::{Card, Result};

/// Hopper: with tensor cores that the kernels know. Turing: without.
const HOPPER: ComputeCapability = ComputeCapability::new(9, 0);
const TURING: ComputeCapability = ComputeCapability::new(7, 5);

/// Doctor's cases of correctness, each once; those of the dense heads are F32.
fn cases() -> Vec<Case> {
    let all = check::cases(&DTYPES, Target::Card).into_iter();
    all.filter(|case| case.purpose != Purpose::Speed).collect()
}

/// The error of a case on this card; `None` where no kernel of ours takes part.
fn error_on(card: &Card, case: &Case) -> Option<Result<f64>> {
    let inputs = case.inputs().unwrap();
    let result = card.compute(case, &inputs)?;
    Some(result.map(|result| case.judge(&result, &case.exact(&inputs).unwrap()).unwrap()))
}

/// Every case that `of` chooses passes on a card of this capability. Prints how near each is to its tolerance.
fn all_pass(capability: ComputeCapability, of: impl Fn(&Case) -> bool) {
    let card = Card::new(capability);
    let mut wrong = Vec::new();
    let mut computed = 0;
    for case in cases().iter().filter(|case| of(case)) {
        let Some(error) = error_on(&card, case) else {
            continue;
        };
        let error = error.unwrap_or_else(|e| panic!("{}: {e}", case.label()));
        let roundings = error / check::unit_roundoff(case.dtype);
        let part = error / case.tolerance();
        let label = case.label();
        let line = format!("{label}: {roundings:.2} roundings, {part:.2} of the tolerance");
        println!("{line}");
        if !case.passed(error) {
            wrong.push(line);
        }
        computed += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(computed > 10, "{computed}");
}

#[test]
fn doctors_cases_pass_in_bf16() {
    all_pass(HOPPER, |case| case.dtype == DType::BF16);
}

#[test]
fn doctors_cases_pass_in_f16() {
    all_pass(HOPPER, |case| case.dtype == DType::F16);
}

#[test]
fn doctors_cases_pass_in_f32() {
    all_pass(HOPPER, |case| case.dtype == DType::F32);
}

/// Attention in f16 takes another kernel on a card without the tensor cores of later ones.
#[test]
fn doctors_cases_of_attention_pass_on_turing() {
    all_pass(TURING, |case| {
        case.dtype == DType::F16 && case.operation.family().ends_with("attention")
    });
}
