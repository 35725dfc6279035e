//! What runs a kernel in a test: the emulator, and a card where there is one.

use std::{fmt, sync::OnceLock};

use vggt_model::ops::cuda::Call;

#[cfg(feature = "cuda-kernel-tests")]
use super::card::Card;
use super::emulator::{Emulator, Memory, Order};

/// Names the devices that the tests use: `cpu`, the emulator alone; `cuda`, the card alone, and a missing one is a failure.
/// Without it the emulator runs, and a card where there is one.
const DEVICE_VARIABLE: &str = "VGGT_TEST_DEVICE";

/// How often each kernel runs. On the card as often as in the emulator: a race may show as results that differ.
const ATTEMPTS: usize = Order::ALL.len();

#[derive(Clone, Copy)]
pub(crate) enum Runner {
    Emulator,
    #[cfg(feature = "cuda-kernel-tests")]
    Card(&'static Card),
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulator => "emulator",
            #[cfg(feature = "cuda-kernel-tests")]
            Self::Card(_) => "card",
        })
    }
}

impl Runner {
    /// All that this process tests with, each of which has to compute what the reference implementations compute.
    pub(crate) fn all() -> &'static [Self] {
        static RUNNERS: OnceLock<Vec<Runner>> = OnceLock::new();
        RUNNERS.get_or_init(|| {
            let device = std::env::var(DEVICE_VARIABLE).unwrap_or_default();
            match device.as_str() {
                "" => std::iter::once(Self::Emulator)
                    .chain(Self::card_if_any())
                    .collect(),
                "cpu" => vec![Self::Emulator],
                "cuda" => vec![Self::card().unwrap_or_else(|why| {
                    panic!("{DEVICE_VARIABLE} is cuda, but no kernel can run on a card: {why}")
                })],
                other => panic!("{DEVICE_VARIABLE} is {other:?}; it takes cpu or cuda"),
            }
        })
    }

    #[cfg(feature = "cuda-kernel-tests")]
    fn card() -> Result<Self, String> {
        Card::first().map(Self::Card)
    }

    #[cfg(not(feature = "cuda-kernel-tests"))]
    fn card() -> Result<Self, String> {
        Err("the tests were built without the feature cuda-kernel-tests".to_owned())
    }

    /// One line says where there is none, unless nobody asked for one by building the feature.
    fn card_if_any() -> Option<Self> {
        let card = Self::card();
        #[cfg(feature = "cuda-kernel-tests")]
        if let Err(why) = &card {
            use std::io::Write;

            // Not with `eprintln!`, which the test harness keeps to itself when all is well.
            let told = writeln!(
                std::io::stderr(),
                "kernels run in the emulator only, not on a card: {why}"
            );
            drop(told);
        }
        card.ok()
    }

    /// Runs a call several times, in the emulator in every order. The result has to be the same bytes each time.
    pub(crate) fn run(self, call: &Call, inputs: &[&Memory], output: &mut Memory) {
        self.run_all(call, inputs, &mut [output]);
    }

    /// As [`Runner::run`] for a call with several outputs.
    pub(crate) fn run_all(self, call: &Call, inputs: &[&Memory], outputs: &mut [&mut Memory]) {
        let contents = |outputs: &[&mut Memory]| -> Vec<Vec<u8>> {
            outputs.iter().map(|m| m.contents().to_vec()).collect()
        };
        let before = contents(outputs);
        let results: Vec<_> = (0..ATTEMPTS)
            .map(|attempt| {
                for (output, before) in outputs.iter_mut().zip(&before) {
                    output.contents_mut().copy_from_slice(before);
                }
                self.attempt(attempt, call, inputs, outputs)
                    .unwrap_or_else(|e| panic!("{self}, attempt {attempt}: {call:?}: {e}"));
                contents(outputs)
            })
            .collect();
        let same = results.iter().all(|r| *r == results[0]);
        assert!(same, "{self}: {call:?} depends on the order of its threads");
    }

    /// Runs a call once. Returns what the kernel did wrong.
    pub(crate) fn attempt(
        self,
        attempt: usize,
        call: &Call,
        inputs: &[&Memory],
        outputs: &mut [&mut Memory],
    ) -> Result<(), String> {
        match self {
            Self::Emulator => {
                let emulator = Emulator::of(call.module);
                emulator.run(call, Order::ALL[attempt], inputs, outputs)
            }
            #[cfg(feature = "cuda-kernel-tests")]
            Self::Card(card) => card.run(call, inputs, outputs),
        }
    }
}
