//! Plots as SVG and PNG.

use std::sync::LazyLock;

use image::{
    RgbImage,
    imageops::{self, FilterType},
};
use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{longest_s, value_axis};
use crate::monitor::{Metric, MonitorError, Session};

/// Program and version, recorded in every plot.
const GENERATOR: &str = concat!("vggt ", env!("CARGO_PKG_VERSION"));

/// Size of a panel and of the heading above all, in points of the image.
const PANEL: (u32, u32) = (600, 360);
const HEADING: u32 = 60;

/// Everything is drawn this many times as large, since plotters' coordinates are whole numbers: finer steps in an SVG.
const FINE: u32 = 4;

/// A PNG has this many pixels to a point; the finer drawing is averaged down to it, which makes smooth edges.
const PNG_PIXELS: u32 = 2;

/// The embedded font. An SVG names it with two of the same widths for machines that lack it.
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

/// How far above the middle, in font sizes, a backend sets text that it should center; measured on capitals.
const SVG_LIFT: f64 = 0.03;
const PNG_LIFT: f64 = 0.21;

const TEXT: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// Up to this many sessions have clearly different colors; more differ by shade, from first to last.
const DISTINCT: usize = colorous::TABLEAU10.len();

type Area<B> = DrawingArea<B, Shift>;

/// The image as SVG text.
///
/// # Errors
/// When plotters cannot draw.
pub fn svg(sessions: &[Session], metrics: &[Metric]) -> Result<String, MonitorError> {
    let (width, height) = size(metrics);
    let (fine_width, fine_height) = (width * FINE, height * FINE);
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (fine_width, fine_height)).into_drawing_area();
    draw(area, sessions, metrics, SVG_LIFT)?;
    // The drawing keeps its fine coordinates (viewBox) and is shown at the size it was meant for.
    let svg = svg.replacen(
        &format!("width=\"{fine_width}\" height=\"{fine_height}\""),
        &format!("width=\"{width}\" height=\"{height}\""),
        1,
    );
    Ok(format!("<!-- {GENERATOR} -->\n{svg}"))
}

/// The image as bytes of a PNG file.
///
/// # Errors
/// When plotters cannot draw or the PNG cannot be encoded.
pub fn png(sessions: &[Session], metrics: &[Metric]) -> Result<Vec<u8>, MonitorError> {
    let (width, height) = size(metrics);
    let mut fine = RgbImage::new(width * FINE, height * FINE);
    let area =
        BitMapBackend::with_buffer(&mut fine, (width * FINE, height * FINE)).into_drawing_area();
    draw(area, sessions, metrics, PNG_LIFT)?;
    let (width, height) = (width * PNG_PIXELS, height * PNG_PIXELS);
    let picture = imageops::resize(&fine, width, height, FilterType::Triangle);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .add_text_chunk("Software".to_owned(), GENERATOR.to_owned())
        .map_err(failed)?;
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&picture).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Width and height in points: panels in two columns.
fn size(metrics: &[Metric]) -> (u32, u32) {
    let rows = metrics.len().div_ceil(2) as u32;
    (2 * PANEL.0, HEADING + rows * PANEL.1)
}

fn failed(e: impl std::fmt::Display) -> MonitorError {
    MonitorError::Plot(e.to_string())
}

/// Length in fine units.
fn fine(points: f64) -> i32 {
    (points * f64::from(FINE)).round() as i32
}

fn font(points: f64, h: HPos, v: VPos) -> TextStyle<'static> {
    (FONT, fine(points))
        .into_font()
        .color(&TEXT)
        .pos(Pos::new(h, v))
}

fn color(session: usize, sessions: usize) -> RGBColor {
    let color = if sessions <= DISTINCT {
        colorous::TABLEAU10[session % DISTINCT]
    } else {
        // The last tenth is too light for a white ground.
        colorous::VIRIDIS.eval_continuous(0.9 * session as f64 / (sessions - 1) as f64)
    };
    RGBColor(color.r, color.g, color.b)
}

fn draw<B: DrawingBackend>(
    area: Area<B>,
    sessions: &[Session],
    metrics: &[Metric],
    lift: f64,
) -> Result<(), MonitorError> {
    /// Registered once; false when the font's bytes are none, which no test has seen.
    static REGISTERED: LazyLock<bool> =
        LazyLock::new(|| register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_ok());
    if !*REGISTERED {
        return Err(failed("the embedded font cannot be read"));
    }
    area.fill(&WHITE).map_err(failed)?;
    let (heading, body) = area.split_vertically(fine(HEADING.into()));
    legend(&heading, sessions.len(), lift).map_err(failed)?;
    let rows = metrics.len().div_ceil(2);
    for (area, metric) in body.split_evenly((rows, 2)).iter().zip(metrics) {
        panel(area, sessions, *metric, lift).map_err(failed)?;
    }
    area.present().map_err(failed)
}

/// One line of text that says which color is which session.
fn legend<B: DrawingBackend>(
    area: &Area<B>,
    sessions: usize,
    lift: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    /// Font size in points.
    const LEGEND: f64 = 14.0;
    let y = fine(34.0);
    let style = font(LEGEND, HPos::Left, VPos::Center);
    let mut x = fine(60.0);
    for i in 0..sessions {
        let swatch = if sessions <= DISTINCT { 22.0 } else { 6.0 };
        let rect = [(x, y - fine(2.0)), (x + fine(swatch), y + fine(2.0))];
        area.draw(&Rectangle::new(rect, color(i, sessions).filled()))?;
        x += fine(swatch);
        // Of many sessions only the ends are named.
        let name = match (sessions <= DISTINCT, i) {
            (true, _) => format!("session {}", i + 1),
            (false, i) if i + 1 == sessions => format!("sessions 1 to {sessions}"),
            (false, _) => continue,
        };
        let (width, _) = area.estimate_text_size(&name, &style)?;
        area.draw_text(&name, &style, (x + fine(8.0), y + fine(LEGEND * lift)))?;
        x += fine(8.0) + width as i32 + fine(20.0);
    }
    Ok(())
}

fn panel<B: DrawingBackend>(
    area: &Area<B>,
    sessions: &[Session],
    metric: Metric,
    lift: f64,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    /// Font size of the numbers in points.
    const NUMBERS: f64 = 13.0;
    let axis = value_axis(metric, sessions);
    let title = format!("{}, {}", metric.name(), metric.unit());
    let title_style = font(17.0, HPos::Left, VPos::Center);
    area.draw_text(&title, &title_style, (fine(60.0), fine(18.0)))?;

    let mut chart = ChartBuilder::on(area)
        .margin_top(fine(36.0))
        .margin_right(fine(28.0))
        .x_label_area_size(fine(42.0))
        .y_label_area_size(fine(60.0))
        .build_cartesian_2d(0.0..longest_s(sessions), axis.low..axis.high)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.stroke_width(FINE))
        .axis_style(TEXT.stroke_width(FINE))
        .set_all_tick_mark_size(fine(4.0))
        .x_labels(6)
        .y_labels(axis.ticks().len())
        .x_label_style(font(NUMBERS, HPos::Center, VPos::Top))
        .y_label_style(font(NUMBERS, HPos::Right, VPos::Center))
        .y_label_offset(fine(NUMBERS * lift))
        .y_label_formatter(&|value| axis.label(*value))
        .x_desc("seconds")
        .axis_desc_style(font(NUMBERS, HPos::Center, VPos::Bottom))
        .draw()?;
    for (i, session) in sessions.iter().enumerate() {
        let style = color(i, sessions.len()).stroke_width(FINE * 3 / 2);
        chart.draw_series(LineSeries::new(session.curve.line(metric), style))?;
    }
    Ok(())
}
