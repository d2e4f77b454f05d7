//! Draws plots as SVG. A transparent background and medium colors make them legible on light and dark
//! pages.

use std::{ops::Range, path::Path};

use plotters::{
    coord::{Shift, ranged1d::ValueFormatter},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    Result,
    format::{significant, with_thousands_separators},
};

const GREY: RGBColor = RGBColor(125, 125, 125);
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 138, 212),
    RGBColor(224, 122, 31),
    RGBColor(46, 160, 84),
    RGBColor(180, 90, 190),
    RGBColor(214, 72, 82),
    RGBColor(40, 170, 175),
    RGBColor(150, 110, 60),
    RGBColor(215, 175, 40),
];
const SIZE: (u32, u32) = (760, 420);

/// A bar that consists of one or more parts.
pub struct Bar {
    /// The label of the bar.
    pub name: String,
    /// The lengths of the parts. All bars of a plot have the same number of parts.
    pub parts: Vec<f64>,
}

/// A line of a plot.
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// The points from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines that share a vertical axis.
pub struct Plot<'a> {
    /// The label of the vertical axis.
    y_label: &'a str,
    lines: Vec<Line>,
}

impl<'a> Plot<'a> {
    /// Creates a plot from the label of its vertical axis and its lines.
    pub fn new(y_label: &'a str, lines: Vec<Line>) -> Self {
        Self { y_label, lines }
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn text_style(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&GREY)
}

/// Draws plots with a logarithmic horizontal axis side by side. Values with different units, such as
/// times and counts, need different plots.
pub fn lines(path: &Path, x_label: &str, plots: &[Plot<'_>]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let areas = root.split_evenly((1, plots.len()));
    for (area, plot) in areas.iter().zip(plots) {
        draw_lines(area, x_label, plot)?;
    }
    root.present()?;
    Ok(())
}

/// Draws a plot with two logarithmic axes, for values that differ by factors. All values must be above 0.
/// The ticks of the horizontal axis are powers of two.
pub fn logarithmic_lines(path: &Path, x_label: &str, plot: &Plot<'_>) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    let x = logarithmic_range(points().map(|point| point.0));
    let y = logarithmic_range(points().map(|point| point.1));
    let chart = chart_builder(&root).build_cartesian_2d(x.log_scale().base(2.0), y.log_scale())?;
    draw_on_chart(chart, x_label, plot, SeriesLabelPosition::UpperRight)?;
    root.present()?;
    Ok(())
}

/// The range of the values, with a margin on both sides.
fn logarithmic_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (min, max) = values.fold((f64::INFINITY, 0.0_f64), |(min, max), value| {
        (value.min(min), value.max(max))
    });
    min / 1.2..max * 1.2
}

fn draw_lines(area: &Area<'_>, x_label: &str, plot: &Plot<'_>) -> Result<()> {
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let chart = chart_builder(area).build_cartesian_2d(
        (1.0..right.max(2.0)).log_scale(),
        0.0..(top * 1.15).max(1e-9),
    )?;
    draw_on_chart(chart, x_label, plot, SeriesLabelPosition::UpperLeft)
}

/// The margins of a plot with lines.
fn chart_builder<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'static, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(12)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(58);
    builder
}

/// Draws the axes, the lines, and the legend if there is more than one line.
fn draw_on_chart<'a, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, Y>>,
    x_label: &str,
    plot: &Plot<'_>,
    legend: SeriesLabelPosition,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let Plot { y_label, lines } = plot;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .label_style(text_style(13))
        .axis_desc_style(text_style(14))
        .x_labels(6)
        .x_desc(x_label)
        .y_desc(*y_label)
        .x_label_formatter(&|x| with_thousands_separators(&x.to_string()))
        .y_label_formatter(&|y| axis_number(*y))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(series.point_size(3))?
            .label(&line.name)
            .legend(move |position| legend_swatch(position, colour));
    }
    if lines.len() == 1 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(legend)
        .label_font(text_style(13))
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// Draws horizontal bars from top to bottom, each with the sum of its parts. `part_names` are for the
/// legend.
pub fn bars(path: &Path, x_label: &str, part_names: &[&str], bars: &[Bar]) -> Result<()> {
    let rows = i32::try_from(bars.len())?;
    let height = 90 + 26 * u32::try_from(rows)?;
    let root = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    let sum = |bar: &Bar| bar.parts.iter().sum::<f64>();
    let max_sum = bars.iter().map(sum).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..(max_sum * 1.12).max(1e-9), (0..rows).into_segmented())?;
    let bar_name = |row: &SegmentValue<i32>| match row {
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
        .label_style(text_style(13))
        .axis_desc_style(text_style(14))
        .x_desc(x_label)
        .x_label_formatter(&|x| axis_number(*x))
        .y_labels(bars.len())
        .y_label_formatter(&bar_name)
        .draw()?;
    let edges = |row: i32| [row, row + 1].map(SegmentValue::Exact);
    for (part, (name, colour)) in part_names.iter().zip(COLOURS).enumerate() {
        let rectangles = (0..rows).rev().zip(bars).map(|(row, bar)| {
            let begin: f64 = bar.parts[..part].iter().sum();
            let [low, high] = edges(row);
            let corners = [(begin, low), (begin + bar.parts[part], high)];
            let mut rectangle = Rectangle::new(corners, colour.filled());
            rectangle.set_margin(4, 4, 0, 0);
            rectangle
        });
        chart
            .draw_series(rectangles)?
            .label(*name)
            .legend(move |position| legend_swatch(position, colour));
    }
    let sums = (0..rows).rev().zip(bars).map(|(row, bar)| {
        let style = text_style(13).pos(Pos::new(HPos::Left, VPos::Center));
        let end = EmptyElement::at((sum(bar), SegmentValue::CenterOf(row)));
        end + Text::new(significant(sum(bar)), (6, 0), style)
    });
    chart.draw_series(sums)?;
    if part_names.len() == 1 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(text_style(13))
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// The rectangle that shows a color in the legend.
fn legend_swatch((x, y): (i32, i32), colour: RGBColor) -> Rectangle<(i32, i32)> {
    Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled())
}

/// A number on an axis, without trailing zeros.
fn axis_number(number: f64) -> String {
    let number = significant(number);
    if number.contains('.') {
        number
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    } else {
        number
    }
}
