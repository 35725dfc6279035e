//! Plots out of braille characters: eight dots in each cell of a terminal.

use std::fmt::Write as _;

use super::{longest_s, value_axis};
use crate::monitor::{Metric, Session};

/// Cells of a panel from top to bottom.
const ROWS: usize = 6;

/// Least and most cells of a panel from left to right.
const COLUMNS: (usize, usize) = (16, 200);

/// Columns beside the cells of a panel: the numbers, its edge, and some that stay free.
const BESIDE: usize = 16;

/// Columns left of a panel, for numbers.
const MARGIN: usize = 8;

/// Bits of U+2800 for the dots of a cell, by row and column.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// Codes of the terminal's own colors, which fit its background: cyan, yellow, magenta, green, blue, red.
const COLORS: [u8; 6] = [36, 33, 35, 32, 34, 31];

/// Whether lines may be colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// With the escape codes of terminals.
    Color,
    /// Plain characters, for files and pipes.
    Plain,
}

/// One panel for each metric as lines of text.
///
/// Where lines cross, the later session is on top. No line is longer than `width`, the columns of the terminal, unless that is less
/// than 32.
pub fn text(sessions: &[Session], metrics: &[Metric], ink: Ink, width: usize) -> String {
    let mut out = String::new();
    let columns = width.saturating_sub(BESIDE).clamp(COLUMNS.0, COLUMNS.1);
    for metric in metrics {
        panel(&mut out, sessions, *metric, (columns, ink));
    }
    if sessions.len() > 1 {
        legend(&mut out, sessions.len(), ink);
    }
    out
}

/// Writes the legend, four entries per row; without color the lines cannot be distinguished, and it only says so.
fn legend(out: &mut String, sessions: usize, ink: Ink) {
    if ink == Ink::Plain {
        let _ = writeln!(
            out,
            "{:MARGIN$}  sessions 1 to {sessions}, later ones on top",
            ""
        );
        return;
    }
    for i in 0..sessions {
        if i % 4 == 0 {
            let _ = write!(out, "{:MARGIN$}", "");
        }
        let _ = write!(out, "  {} session {:<2}", colored("━━", i, ink), i + 1);
        if i % 4 == 3 || i + 1 == sessions {
            out.push('\n');
        }
    }
}

fn panel(out: &mut String, sessions: &[Session], metric: Metric, (columns, ink): (usize, Ink)) {
    let axis = value_axis(metric, sessions);
    let longest = longest_s(sessions);
    let mut cells = vec![vec![(0u8, 0usize); columns]; ROWS];
    for (i, session) in sessions.iter().enumerate() {
        let points: Vec<_> = session.curve.line(metric).collect();
        let mut last_row = None;
        for column in 0..2 * columns {
            let seconds = longest * column as f64 / (2 * columns - 1) as f64;
            let Some(value) = at(&points, seconds) else {
                continue;
            };
            let row = ((1.0 - axis.place(value)) * (4 * ROWS - 1) as f64).round() as usize;
            // A line has no gaps where it is steep.
            let from = last_row.replace(row).unwrap_or(row);
            for row in from.min(row)..=from.max(row) {
                let (dots, top) = &mut cells[row / 4][column / 2];
                *dots |= DOTS[row % 4][column % 2];
                *top = i;
            }
        }
    }
    let _ = writeln!(out, "{:MARGIN$}   {} {}", "", metric.name(), metric.unit());
    for (row, line) in cells.iter().enumerate() {
        let label = match row {
            0 => axis.label(axis.high),
            r if r == ROWS - 1 => axis.label(axis.low),
            _ => String::new(),
        };
        let edge = if label.is_empty() { '│' } else { '┤' };
        let _ = write!(out, "{label:>MARGIN$} {edge}");
        let end = line.iter().rposition(|(dots, _)| *dots != 0);
        let line = &line[..end.map_or(0, |end| end + 1)];
        for run in line.chunk_by(|a, b| a.1 == b.1) {
            let cells: String = run.iter().map(|(dots, _)| cell(*dots)).collect();
            out.push_str(&colored(&cells, run[0].1, ink));
        }
        out.push('\n');
    }
    let end = format!("{longest:.1} s");
    let _ = writeln!(out, "{:MARGIN$} └{}", "", "─".repeat(columns));
    let _ = writeln!(out, "{:MARGIN$}  0{end:>width$}", "", width = columns - 1);
}

fn cell(dots: u8) -> char {
    match dots {
        0 => ' ',
        dots => char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '),
    }
}

/// The value at a moment, on the straight line between its neighbors; `None` outside the session.
///
/// The first point counts from the very start: a sample is about the period before it.
fn at(points: &[(f64, f64)], seconds: f64) -> Option<f64> {
    /// Part of a second by which the end of the axis and the last point may differ from rounding.
    const ROUNDING: f64 = 1e-9;
    let (first, last) = (points.first()?, points.last()?);
    if seconds > last.0 + ROUNDING {
        return None;
    }
    let next = points.partition_point(|(t, _)| *t < seconds);
    let (t1, v1) = points.get(next).unwrap_or(last);
    let (t0, v0) = next.checked_sub(1).map_or(first, |i| &points[i]);
    if t1 <= t0 {
        return Some(*v1);
    }
    Some(v0 + (v1 - v0) * (seconds - t0) / (t1 - t0))
}

fn colored(text: &str, session: usize, ink: Ink) -> String {
    match ink {
        Ink::Color => format!("\x1b[{}m{text}\x1b[0m", COLORS[session % COLORS.len()]),
        Ink::Plain => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Sample;

    /// CPU load that rises from 0 to 100 in ten seconds.
    fn ramp() -> Session {
        let mut session = Session::default();
        for i in 0..=100 {
            session.push(&Sample {
                seconds: f64::from(i) / 10.0,
                values: [f64::from(i), 0.0, 0.0, 0.0],
            });
        }
        session
    }

    #[test]
    fn a_ramp_rises_from_the_lower_left_to_the_upper_right() {
        let text = text(&[ramp()], &[Metric::Cpu], Ink::Plain, 80);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("CPU %"));
        assert!(lines[1].starts_with("     100 ┤"), "{text}");
        assert!(lines[6].starts_with("       0 ┤"), "{text}");
        // Each row is used, and further right than the one below it.
        let starts: Vec<usize> = lines[1..=6]
            .iter()
            .map(|l| l.chars().skip(10).take_while(|c| *c == ' ').count())
            .collect();
        assert!(starts.is_sorted_by(|a, b| a > b), "{starts:?}\n{text}");
        assert_eq!(lines[1].chars().count(), 10 + 64);
        assert!(lines[8].ends_with("10.0 s"));
    }

    #[test]
    fn every_line_fits_a_terminal() {
        let sessions = [ramp(), ramp(), Session::default()];
        for width in [60, 80, 120] {
            let text = text(&sessions, &Metric::ALL, Ink::Plain, width);
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            // The legend of many sessions has a width of its own.
            assert!((width - 10..=width).contains(&longest), "{text}");
        }
    }

    #[test]
    fn only_a_terminal_gets_escape_codes() {
        let sessions = [ramp(), ramp()];
        assert!(!text(&sessions, &Metric::ALL, Ink::Plain, 80).contains('\x1b'));
        assert!(text(&sessions, &Metric::ALL, Ink::Color, 80).contains("\x1b[33m"));
    }

    #[test]
    fn a_value_between_two_samples_lies_on_their_line() {
        let points = [(1.0, 10.0), (2.0, 20.0)];
        assert_eq!(at(&points, 1.5), Some(15.0));
        assert_eq!(at(&points, 0.0), Some(10.0));
        assert_eq!(at(&points, 2.0), Some(20.0));
        assert_eq!(at(&points, 2.1), None);
        assert_eq!(at(&[], 0.0), None);
    }
}
