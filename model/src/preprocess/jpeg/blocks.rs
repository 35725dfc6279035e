//! The codes of one block of a JPEG's scan (ITU T.81, annexes F and G): read, and no coefficient kept.

use super::bits::{Bits, Over, Table};

/// What one scan holds.
pub(super) struct Scan {
    /// Index of each component with the numbers of its tables.
    pub(super) parts: Vec<(usize, usize, usize)>,
    /// First and last coefficient.
    pub(super) from: usize,
    pub(super) to: usize,
    /// The lowest bit that arrived before this scan, and with it; 0 and 0 when it is the only one.
    pub(super) high: u8,
    pub(super) low: u8,
    pub(super) progressive: bool,
}

/// Reads the codes of one block; `None` when a table is missing.
pub(super) fn read_block(
    scan: &Scan,
    bits: &mut Bits<'_>,
    (dc, ac): (&Option<Table>, &Option<Table>),
    known: &mut u64,
    run: &mut u32,
) -> Option<Result<(), Over>> {
    let mut at = scan.from;
    if at == 0 {
        let dc_done = if scan.high > 0 {
            bits.take(1).map(|_| ())
        } else {
            let table = dc.as_ref()?;
            bits.code(table)
                .and_then(|size| bits.take(size.min(16)).map(|_| ()))
        };
        if dc_done.is_err() {
            return Some(dc_done);
        }
        at = 1;
    }
    if at > scan.to {
        return Some(Ok(()));
    }
    let table = ac.as_ref()?;
    Some(if scan.high > 0 {
        refine(bits, table, (at, scan.to), known, run)
    } else {
        first_pass(scan, bits, table, at, known, run)
    })
}

/// T.81, F.2.2.2 and G.1.2.2: coefficients seen for the first time.
fn first_pass(
    scan: &Scan,
    bits: &mut Bits<'_>,
    table: &Table,
    mut at: usize,
    known: &mut u64,
    run: &mut u32,
) -> Result<(), Over> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    while at <= scan.to {
        let code = bits.code(table)?;
        let (zeros, size) = (code >> 4, code & 15);
        if size > 0 {
            at += usize::from(zeros);
            bits.take(size)?;
            *known |= 1u64.checked_shl(at as u32).unwrap_or(0);
            at += 1;
        } else if zeros == 15 {
            at += 16;
        } else if scan.progressive {
            *run = (1 << zeros) - 1 + bits.take(zeros)?;
            return Ok(());
        } else {
            return Ok(());
        }
    }
    Ok(())
}

/// T.81, G.1.2.3: one more bit of known coefficients, and new ones between them.
fn refine(
    bits: &mut Bits<'_>,
    table: &Table,
    (mut at, to): (usize, usize),
    known: &mut u64,
    run: &mut u32,
) -> Result<(), Over> {
    while *run == 0 && at <= to {
        let code = bits.code(table)?;
        let (mut zeros, size) = (code >> 4, code & 15);
        if size > 0 {
            bits.take(1)?;
        } else if zeros < 15 {
            *run = (1 << zeros) + bits.take(zeros)?;
            break;
        }
        while at <= to {
            if *known >> at & 1 == 1 {
                bits.take(1)?;
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            at += 1;
        }
        if size > 0 && at <= to {
            *known |= 1 << at;
        }
        at += 1;
    }
    if *run > 0 {
        for at in at..=to {
            if *known >> at & 1 == 1 {
                bits.take(1)?;
            }
        }
        *run -= 1;
    }
    Ok(())
}
