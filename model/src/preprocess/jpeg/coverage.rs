//! How much of a JPEG its entropy-coded data holds: the codes are read (ITU T.81, annexes F and G), pixels are not computed.
//!
//! Decoders fill with gray what a cut-off file lacks, and do not tell how much it is. Neither does a missing end marker
//! mean that anything is missing, nor an end marker that all is there.

use super::{
    bits::{Bits, Over, Table},
    blocks::{Scan, read_block},
    outline::{END_OF_IMAGE, Frame, MARKER, START_OF_SCAN, stands_alone, starts_frame},
};

/// What a JPEG's data holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Coverage {
    /// Share of the image's area for which there is any data, 0 to 1.
    pub(super) area: f64,
    /// Whether the finest detail, or the color, of a part is missing beyond that.
    pub(super) lacks_detail: bool,
    /// Where the missing part begins, when it reaches to the end: column and row of its first pixel, and the height of the
    /// row of units that it begins in.
    pub(super) missing_from: Option<(u32, u32, u32)>,
    /// Bytes up to the end of the last scan, when nothing is missing.
    pub(super) end: Option<usize>,
    /// Where a marker's segment begins that the file ends within.
    pub(super) cut_at: Option<usize>,
}

/// Blocks of one image, at most: 65 535 pixels a side in blocks of 8 x 8.
const MAX_BLOCKS: usize = 8192 * 8192;

/// Reads all scans of a JPEG; `None` when its headers cannot be understood.
pub(super) fn coverage(bytes: &[u8]) -> Option<Coverage> {
    let mut reader = Reader::default();
    let (mut at, mut end, mut cut_at) = (2, None, None);
    while let Some(code) = next_marker(bytes, &mut at) {
        if code == END_OF_IMAGE {
            break;
        }
        if stands_alone(code) {
            continue;
        }
        // Of the marker, which has two bytes.
        let start = at - 2;
        let Some(length) = bytes.get(at..at + 2) else {
            cut_at = Some(start);
            break;
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let Some(body) = bytes.get(at + 2..at + length.max(2)) else {
            cut_at = Some(start);
            break;
        };
        at += length.max(2);
        match code {
            0xC4 => reader.tables(body)?,
            0xDD => {
                reader.restart = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]))
            }
            START_OF_SCAN => {
                at += reader.scan(body, &bytes[at..])?;
                // What follows without an end marker may be anything.
                if reader.is_complete() {
                    end = Some(at);
                    break;
                }
            }
            _ if starts_frame(code) => reader.frame(code, body)?,
            _ => {}
        }
    }
    let found = reader.coverage()?;
    Some(Coverage {
        end,
        cut_at,
        ..found
    })
}

fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    while *bytes.get(*at)? != MARKER {
        *at += 1;
    }
    while *bytes.get(*at)? == MARKER {
        *at += 1;
    }
    *at += 1;
    bytes.get(*at - 1).copied()
}

/// One component of the frame.
#[derive(Debug, Default)]
struct Component {
    id: u8,
    /// Blocks of one interleaved unit, sideways and downwards.
    h: usize,
    v: usize,
    /// Blocks that the component has, and in a row with those that only fill up the last unit.
    columns: usize,
    rows: usize,
    stride: usize,
    /// For each block, which coefficients are not zero so far. Only a progressive image's refinements need it.
    known: Vec<u64>,
    /// The lowest bit that has arrived of each coefficient; `u8::MAX` when nothing has.
    low_bit: Vec<u8>,
    /// Share of the first scan that is there.
    first: Option<f64>,
    /// Where the rest of the first scan begins, as in [`Coverage`].
    missing_from: Option<(u32, u32, u32)>,
}

#[derive(Default)]
struct Reader {
    frame: Option<Frame>,
    components: Vec<Component>,
    units: (usize, usize),
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart: usize,
    incomplete: bool,
}

/// The units of a scan.
struct Units {
    /// Those that are there.
    done: usize,
    /// Those that should be.
    all: usize,
    /// Those in a row.
    columns: usize,
    /// Those in the middle that are damaged.
    skipped: usize,
}

impl Reader {
    fn tables(&mut self, mut body: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = body {
            let (table, rest) = Table::parse(rest)?;
            let of_class = if head >> 4 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            *of_class.get_mut(usize::from(head & 15))? = Some(table);
            body = rest;
        }
        Some(())
    }

    fn frame(&mut self, code: u8, body: &[u8]) -> Option<()> {
        let frame = Frame::parse(code, body)?;
        let listed = body.get(6..6 + 3 * usize::from(frame.components))?;
        let sampling = |c: &[u8]| (usize::from(c[1] >> 4).max(1), usize::from(c[1] & 15).max(1));
        let most = |of: fn((usize, usize)) -> usize| listed.chunks(3).map(sampling).map(of).max();
        let (h_max, v_max) = (most(|s| s.0)?, most(|s| s.1)?);
        let (width, height) = (usize::from(frame.width), usize::from(frame.height));
        self.units = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
        for c in listed.chunks(3) {
            let (h, v) = sampling(c);
            let stride = self.units.0 * h;
            let blocks = stride * self.units.1 * v;
            if blocks > MAX_BLOCKS * 4 {
                return None;
            }
            self.components.push(Component {
                id: c[0],
                h,
                v,
                columns: (width * h).div_ceil(8 * h_max),
                rows: (height * v).div_ceil(8 * v_max),
                stride,
                known: vec![0; if frame.is_progressive() { blocks } else { 0 }],
                low_bit: vec![u8::MAX; 64],
                first: None,
                missing_from: None,
            });
        }
        self.frame = Some(frame);
        Some(())
    }

    /// Reads one scan; returns the bytes that it takes.
    fn scan(&mut self, head: &[u8], data: &[u8]) -> Option<usize> {
        let count = usize::from(*head.first()?);
        let listed = head.get(1..1 + 2 * count)?;
        let &[from, to, bits] = head.get(1 + 2 * count..4 + 2 * count)? else {
            return None;
        };
        let progressive = self.frame?.is_progressive();
        let part = |c: &[u8]| {
            let index = self.components.iter().position(|known| known.id == c[0])?;
            Some((index, usize::from(c[1] >> 4) & 3, usize::from(c[1] & 3)))
        };
        let scan = Scan {
            parts: listed.chunks(2).map(part).collect::<Option<_>>()?,
            from: usize::from(from).min(63),
            to: if progressive {
                usize::from(to).min(63)
            } else {
                63
            },
            high: if progressive { bits >> 4 } else { 0 },
            low: if progressive { bits & 15 } else { 0 },
            progressive,
        };
        if scan.from > scan.to {
            return None;
        }
        let mut bits = Bits::new(data);
        let Units {
            done,
            all: units,
            columns,
            skipped,
        } = self.units(&scan, &mut bits)?;
        let share = done as f64 / units.max(1) as f64;
        let (width, height) = self.unit_size(&scan);
        let at = |unit: usize| {
            let (x, y) = (
                unit % columns.max(1) * width,
                unit / columns.max(1) * height,
            );
            (x as u32, y as u32, height as u32)
        };
        let missing_from = (done < units && skipped == 0).then(|| at(done));
        for (index, ..) in &scan.parts {
            let component = &mut self.components[*index];
            if component.first.is_none() {
                component.first = Some(share);
                component.missing_from = missing_from;
            }
            if done == units {
                component.low_bit[scan.from..=scan.to].fill(scan.low);
            }
        }
        self.incomplete |= done < units;
        Some(bits.at)
    }

    /// Returns width and height of a scan's units, in pixels.
    fn unit_size(&self, scan: &Scan) -> (usize, usize) {
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        let (h, v) = (most(|c| c.h), most(|c| c.v));
        match scan.parts[..] {
            [(only, ..)] => {
                let only = &self.components[only];
                (8 * h / only.h, 8 * v / only.v)
            }
            _ => (8 * h, 8 * v),
        }
    }

    /// Reads the units of a scan.
    fn units(&mut self, scan: &Scan, bits: &mut Bits<'_>) -> Option<Units> {
        let single = match scan.parts[..] {
            [] => return None,
            [(only, ..)] => Some((self.components[only].columns, self.components[only].rows)),
            _ => None,
        };
        let (columns, rows) = single.unwrap_or(self.units);
        let mut units = Units {
            done: columns * rows,
            all: columns * rows,
            columns,
            skipped: 0,
        };
        // Blocks that the run of an earlier block ends as well.
        let mut run = 0;
        for unit in 0..units.all {
            if self.restart > 0 && unit > 0 && unit % self.restart == 0 {
                run = 0;
                bits.restart();
            }
            let place = (unit % columns, unit / columns);
            if self
                .unit(scan, bits, place, single.is_some(), &mut run)?
                .is_err()
            {
                if self.restart == 0 || !bits.at_restart() {
                    units.done = unit - units.skipped;
                    return Some(units);
                }
                // Damage in the middle ends with the interval.
                units.skipped += 1;
            }
        }
        units.done -= units.skipped;
        Some(units)
    }

    fn unit(
        &mut self,
        scan: &Scan,
        bits: &mut Bits<'_>,
        (column, row): (usize, usize),
        single: bool,
        run: &mut u32,
    ) -> Option<Result<(), Over>> {
        for &(index, dc, ac) in &scan.parts {
            let component = &mut self.components[index];
            let (h, v) = if single {
                (1, 1)
            } else {
                (component.h, component.v)
            };
            for block in 0..h * v {
                let at = (row * v + block / h) * component.stride + column * h + block % h;
                let mut unused = 0;
                let known = component.known.get_mut(at).unwrap_or(&mut unused);
                let done = read_block(scan, bits, (&self.dc[dc], &self.ac[ac]), known, run)?;
                if done.is_err() {
                    return Some(done);
                }
            }
        }
        Some(Ok(()))
    }

    fn is_complete(&self) -> bool {
        let whole = |c: &Component| c.low_bit.iter().all(|bit| *bit == 0);
        !self.incomplete && self.components.iter().all(whole)
    }

    fn coverage(&self) -> Option<Coverage> {
        self.frame?;
        let first = self.components.first()?;
        let area = first.first.unwrap_or(0.0);
        Some(Coverage {
            area,
            lacks_detail: !self.is_complete(),
            missing_from: first.missing_from,
            end: None,
            cut_at: None,
        })
    }
}
