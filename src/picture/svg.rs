//! A picture whose boxes have places, as text.

use std::fmt::Write;

use super::Picture;
use super::layout::{Layout, Rect};

/// Size of letters of titles and notes.
const SIZES: [f64; 2] = [12.0, 10.0];

/// The width of a letter: those of the fonts that are asked for are all as wide.
pub(super) fn letter(is_title: bool) -> f64 {
    SIZES[usize::from(!is_title)] * 0.602
}

/// The height of a line.
pub(super) fn line(is_title: bool) -> f64 {
    SIZES[usize::from(!is_title)] + 3.0
}

/// What boxes of these titles are filled with: kinds of kernels, and ops that are called as they are.
const FILLS: [(&str, &str); 9] = [
    ("attention", "#cfe2f9"),
    ("matmul", "#d9efd5"),
    ("grouped_matmul", "#d9efd5"),
    ("conv", "#d9efd5"),
    ("route", "#fbe0c3"),
    ("combine", "#e6daf3"),
    ("fused", "#fdf3c8"),
    ("sort", "#f6d5d8"),
    ("scan", "#f6d5d8"),
];

pub(super) fn write(picture: &Picture, layout: &Layout) -> String {
    let mut out = String::new();
    let written = picture.write(layout, &mut out);
    written.expect("a text takes all that is written to it");
    out
}

impl Picture {
    fn write(&self, layout: &Layout, out: &mut String) -> std::fmt::Result {
        let [width, height] = layout.size.map(f64::ceil);
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             font-family=\"monospace\" font-size=\"{}\" text-anchor=\"middle\">",
            SIZES[1]
        )?;
        writeln!(
            out,
            "<defs><marker id=\"tip\" viewBox=\"0 0 6 6\" refX=\"6\" refY=\"3\" markerWidth=\"6\" markerHeight=\"6\" \
             orient=\"auto\"><path d=\"M0 0L6 3L0 6z\" fill=\"#777\"/></marker></defs>"
        )?;
        writeln!(out, "<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>")?;
        writeln!(out, "<g fill=\"none\" stroke=\"#777\" marker-end=\"url(#tip)\">")?;
        for (&[from, to], bends) in self.arrows.iter().zip(&layout.bends) {
            write_arrow(layout.boxes[from], layout.boxes[to], bends, out)?;
        }
        writeln!(out, "</g>\n<g fill=\"#fff\" stroke=\"#444\">")?;
        for (of, rect) in self.boxes.iter().zip(&layout.boxes) {
            let Rect { width, height, .. } = rect;
            let (left, top) = (rect.x - width / 2.0, rect.y - height / 2.0);
            write!(out, "<rect x=\"{left:.0}\" y=\"{top:.0}\" width=\"{width:.0}\" height=\"{height:.0}\"")?;
            match FILLS.iter().find(|(title, _)| *title == of.title) {
                _ if of.is_port => writeln!(out, " rx=\"9\" fill=\"#eee\"/>")?,
                Some((_, fill)) => writeln!(out, " fill=\"{fill}\"/>")?,
                None => writeln!(out, "/>")?,
            }
        }
        writeln!(out, "</g>\n<g font-size=\"{}\">", SIZES[0])?;
        for (of, rect) in self.boxes.iter().zip(&layout.boxes) {
            write_text(rect.x, first_line(*rect), &of.title, out)?;
        }
        writeln!(out, "</g>\n<g fill=\"#555\">")?;
        for (of, rect) in self.boxes.iter().zip(&layout.boxes) {
            let mut y = first_line(*rect);
            for note in &of.notes {
                y += line(false);
                write_text(rect.x, y, note, out)?;
            }
        }
        writeln!(out, "</g>\n</svg>")
    }
}

/// Where the letters of a box's title stand.
fn first_line(rect: Rect) -> f64 {
    rect.y - rect.height / 2.0 + line(true)
}

fn write_text(x: f64, y: f64, text: &str, out: &mut String) -> std::fmt::Result {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(out, "<text x=\"{x:.0}\" y=\"{y:.0}\">{text}</text>")
}

/// From the lower edge of a box to the upper one of another: straight through layers, curves between them.
fn write_arrow(from: Rect, to: Rect, bends: &[[f64; 2]], out: &mut String) -> std::fmt::Result {
    let start = [from.x, from.y + from.height / 2.0];
    let end = [to.x, to.y - to.height / 2.0];
    write!(out, "<path d=\"M{:.0} {:.0}", start[0], start[1])?;
    let mut at = start;
    for point in bends.iter().chain([&end]) {
        let [x, y] = *point;
        if (x - at[0]).abs() < 0.5 {
            write!(out, "V{y:.0}")?;
        } else {
            let half = (at[1] + y) / 2.0;
            write!(out, "C{:.0} {half:.0} {x:.0} {half:.0} {x:.0} {y:.0}", at[0])?;
        }
        at = *point;
    }
    writeln!(out, "\"/>")
}
