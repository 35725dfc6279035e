//! The bits and the Huffman codes of a JPEG's scans (ITU T.81, annexes C and F).

use super::outline::MARKER;

/// Bits that are looked up at once: most codes are not longer.
const LOOKED_UP: u8 = 8;

/// A Huffman table: the lengths' first codes and first values (T.81, F.2.2.3).
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// For each beginning of 8 bits: the value of the code that it begins with, and the code's length; 0 for longer codes.
    short: [(u8, u8); 1 << LOOKED_UP],
    /// For each length: the first code, the number of codes, the index of the first value.
    lengths: [(u32, u32, usize); 16],
    values: Vec<u8>,
}

impl Table {
    /// Reads a table behind its class and number; returns what follows it.
    pub(super) fn parse(body: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, rest) = body.split_at_checked(16)?;
        let mut table = Self {
            short: [(0, 0); 1 << LOOKED_UP],
            lengths: [(0, 0, 0); 16],
            values: Vec::new(),
        };
        let (mut code, mut index) = (0, 0);
        for (length, count) in table.lengths.iter_mut().zip(counts) {
            *length = (code, u32::from(*count), index);
            code = (code + u32::from(*count)) << 1;
            index += usize::from(*count);
        }
        let (values, rest) = rest.split_at_checked(index)?;
        table.values = values.to_vec();
        for (length, (first, count, index)) in (1..=LOOKED_UP).zip(table.lengths) {
            let unused = LOOKED_UP - length;
            for code in 0..count {
                let from = ((first + code) << unused) as usize;
                let value = *table.values.get(index + code as usize)?;
                // More codes of a length than there are: the table is damaged.
                table
                    .short
                    .get_mut(from..from + (1 << unused))?
                    .fill((value, length));
            }
        }
        Some((table, rest))
    }
}

/// The data of a scan is over.
pub(super) struct Over;

/// The bits of a scan, without stuffed bytes.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Bytes that were read.
    pub(super) at: usize,
    held: u32,
    count: u8,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            held: 0,
            count: 0,
        }
    }

    /// Takes the next bits, 16 at most.
    pub(super) fn take(&mut self, count: u8) -> Result<u32, Over> {
        self.fill(count)?;
        self.count -= count;
        let value = self.held >> self.count & ((1 << count) - 1);
        self.held &= (1 << self.count) - 1;
        Ok(value)
    }

    /// Reads bytes until there are this many bits.
    fn fill(&mut self, count: u8) -> Result<(), Over> {
        while self.count < count {
            let byte = *self.data.get(self.at).ok_or(Over)?;
            if byte == MARKER {
                if self.data.get(self.at + 1) != Some(&0) {
                    return Err(Over);
                }
                self.at += 1;
            }
            self.at += 1;
            self.held = self.held << 8 | u32::from(byte);
            self.count += 8;
        }
        Ok(())
    }

    /// Reads the next code and returns its value.
    pub(super) fn code(&mut self, table: &Table) -> Result<u8, Over> {
        if self.fill(LOOKED_UP).is_ok() {
            let next = self.held >> (self.count - LOOKED_UP);
            let (value, length) = table.short[next as usize & 0xFF];
            if length > 0 {
                self.take(length)?;
                return Ok(value);
            }
        }
        let mut code = 0;
        for (first, count, index) in &table.lengths {
            code = code << 1 | self.take(1)?;
            if code < first + count {
                let value = table
                    .values
                    .get(index + (code.saturating_sub(*first)) as usize);
                return value.copied().ok_or(Over);
            }
        }
        Err(Over)
    }

    /// Whether the data stops at a restart marker, or at a code that is none in front of one.
    pub(super) fn at_restart(&self) -> bool {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let marker = rest
            .windows(2)
            .find(|pair| pair[0] == MARKER && !matches!(pair[1], 0 | MARKER));
        marker.is_some_and(|pair| matches!(pair[1], 0xD0..=0xD7))
    }

    /// Steps behind the next restart marker, if that is the next marker.
    pub(super) fn restart(&mut self) {
        (self.held, self.count) = (0, 0);
        if !self.at_restart() {
            return;
        }
        while let Some(pair) = self.data.get(self.at..self.at + 2) {
            self.at += 1;
            if pair[0] == MARKER && matches!(pair[1], 0xD0..=0xD7) {
                self.at += 1;
                return;
            }
        }
    }
}
