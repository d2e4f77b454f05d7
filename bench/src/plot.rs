//! Plots as SVG, legible on white and on black: a transparent background, and colours between the two.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{Result, figures::digits};

const GREY: RGBColor = RGBColor(125, 125, 125);
const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 138, 212),
    RGBColor(224, 122, 31),
    RGBColor(46, 160, 84),
    RGBColor(180, 90, 190),
];
const SIZE: (u32, u32) = (760, 420);

/// A row of a bar plot: its parts lie behind one another.
pub struct Bar {
    /// What it is called.
    pub name: String,
    /// Lengths, as many as there are names of parts.
    pub parts: Vec<f64>,
}

/// A line of a plot.
pub struct Line {
    /// What it is called.
    pub name: String,
    /// Points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines that share a scale.
pub struct Plot<'a> {
    /// What the vertical axis counts, with its unit.
    y: &'a str,
    lines: Vec<Line>,
}

impl<'a> Plot<'a> {
    /// With what the vertical axis counts, and its unit.
    pub fn new(y: &'a str, lines: Vec<Line>) -> Self {
        Self { y, lines }
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&GREY)
}

/// Lines over a logarithmic scale, one plot for each set of lines, side by side: what is counted, and how
/// long it takes, are not of one unit.
pub fn lines(path: &Path, x: &str, plots: &[Plot<'_>]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let areas = root.split_evenly((1, plots.len()));
    for (area, plot) in areas.iter().zip(plots) {
        draw_lines(area, x, plot)?;
    }
    root.present()?;
    Ok(())
}

fn draw_lines(area: &Area<'_>, x: &str, Plot { y, lines }: &Plot<'_>) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d(
            (1.0..right.max(2.0)).log_scale(),
            0.0..(top * 1.15).max(1e-9),
        )?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .label_style(text(13))
        .axis_desc_style(text(14))
        .x_labels(6)
        .x_desc(x)
        .y_desc(*y)
        .x_label_formatter(&|x| thousands(*x))
        .y_label_formatter(&|y| round(*y))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(series.point_size(3))?
            .label(&line.name)
            .legend(move |at| swatch(at, colour));
    }
    if lines.len() == 1 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(text(13))
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// Horizontal bars from the top down, each with its sum.
pub fn bars(path: &Path, x: &str, parts: &[&str], bars: &[Bar]) -> Result<()> {
    let rows = i32::try_from(bars.len())?;
    let height = 90 + 26 * u32::try_from(rows)?;
    let root = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    let sum = |bar: &Bar| bar.parts.iter().sum::<f64>();
    let longest = bars.iter().map(sum).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..(longest * 1.12).max(1e-9), (0..rows).into_segmented())?;
    let name = |row: &SegmentValue<i32>| match row {
        SegmentValue::CenterOf(row) => {
            let from_top = usize::try_from(rows - 1 - row).ok();
            let bar = from_top.and_then(|row| bars.get(row));
            bar.map_or_else(String::new, |bar| bar.name.clone())
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .label_style(text(13))
        .axis_desc_style(text(14))
        .x_desc(x)
        .x_label_formatter(&|x| round(*x))
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .draw()?;
    let place = |row: i32| [row, row + 1].map(SegmentValue::Exact);
    for (part, (name, colour)) in parts.iter().zip(COLOURS).enumerate() {
        let rectangles = (0..rows).rev().zip(bars).map(|(row, bar)| {
            let begin: f64 = bar.parts[..part].iter().sum();
            let [low, high] = place(row);
            let corners = [(begin, low), (begin + bar.parts[part], high)];
            let mut rectangle = Rectangle::new(corners, colour.filled());
            rectangle.set_margin(4, 4, 0, 0);
            rectangle
        });
        chart
            .draw_series(rectangles)?
            .label(*name)
            .legend(move |at| swatch(at, colour));
    }
    let sums = (0..rows).rev().zip(bars).map(|(row, bar)| {
        let style = text(13).pos(Pos::new(HPos::Left, VPos::Center));
        let after = EmptyElement::at((sum(bar), SegmentValue::CenterOf(row)));
        after + Text::new(digits(sum(bar)), (6, 0), style)
    });
    chart.draw_series(sums)?;
    if parts.len() == 1 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(text(13))
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// A line's or part's colour, in the legend.
fn swatch((x, y): (i32, i32), colour: RGBColor) -> Rectangle<(i32, i32)> {
    Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled())
}

/// A number at an axis, which has no more digits than it needs.
fn round(number: f64) -> String {
    let digits = digits(number);
    if digits.contains('.') {
        digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    } else {
        digits
    }
}

fn thousands(number: f64) -> String {
    match number {
        1_000.0.. => format!("{},000", number / 1_000.0),
        _ => number.to_string(),
    }
}
