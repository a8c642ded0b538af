//! Where boxes stand: in layers, each below all those that lead to it, as Sugiyama, Tagawa and Toda do it.
//!
//! An arrow that passes layers has a bend in each of them, which takes room as boxes do. Within a layer, the order is that
//! of the means of neighbours, layer after layer, down and up; then everything moves as near to its neighbours as order
//! and room allow.

use super::svg::{letter, line};
use super::{Block, Picture};

/// Between boxes of a layer.
const ACROSS: f64 = 14.0;

/// Between layers.
const DOWN: f64 = 26.0;

/// Room of a bend.
const BEND: f64 = 6.0;

/// Times that all layers are looked at, down and up.
const SWEEPS: usize = 12;

/// A rectangle, by its middle.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Where everything is.
pub(super) struct Layout {
    /// Of each box.
    pub(super) boxes: Vec<Rect>,
    /// Of each arrow the points between its ends, top to bottom: of each layer that it passes, one at the upper and one at
    /// the lower edge.
    pub(super) bends: Vec<Vec<[f64; 2]>>,
    /// Of the whole picture.
    pub(super) size: [f64; 2],
}

/// What stands in a layer: a box, or a bend of an arrow.
struct Spot {
    rect: Rect,
    layer: usize,
    above: Vec<usize>,
    below: Vec<usize>,
    is_bend: bool,
}

/// Lays a picture out.
pub(super) fn of(picture: &Picture) -> Layout {
    let numbers = layers(picture);
    let mut spots: Vec<Spot> =
        picture.boxes.iter().zip(&numbers).map(|(of, layer)| Spot::of(of, *layer)).collect();
    let mut passing = Vec::with_capacity(picture.arrows.len());
    for &[from, to] in &picture.arrows {
        let first = spots.len();
        spots.extend((numbers[from] + 1..numbers[to]).map(Spot::bend));
        let bends: Vec<usize> = (first..spots.len()).collect();
        let path = [&[from], &bends[..], &[to]].concat();
        for pair in path.windows(2) {
            spots[pair[0]].below.push(pair[1]);
            spots[pair[1]].above.push(pair[0]);
        }
        passing.push(bends);
    }
    let mut rows = rows(&spots);
    for sweep in 0..SWEEPS {
        order(&mut spots, &mut rows, sweep % 2 == 0);
    }
    for sweep in 0..2 * SWEEPS {
        shift(&mut spots, &rows, sweep % 2 == 0);
    }
    let bottom = stack(&mut spots, &rows);
    let left = spots.iter().map(|spot| spot.rect.x - spot.rect.width / 2.0).fold(f64::MAX, f64::min);
    spots.iter_mut().for_each(|spot| spot.rect.x += ACROSS - left);
    let right = spots.iter().map(|spot| spot.rect.x + spot.rect.width / 2.0).fold(0.0, f64::max);
    let points = |bends: &Vec<usize>| {
        let of = |&bend: &usize| {
            let Rect { x, y, height, .. } = spots[bend].rect;
            [[x, y - height / 2.0], [x, y + height / 2.0]]
        };
        bends.iter().flat_map(of).collect()
    };
    Layout {
        bends: passing.iter().map(points).collect(),
        boxes: spots[..picture.boxes.len()].iter().map(|spot| spot.rect).collect(),
        size: [right + ACROSS, bottom],
    }
}

/// The layer of each box: as high as those above it allow, but for boxes without any, which are just above the first that
/// needs them.
fn layers(picture: &Picture) -> Vec<usize> {
    let count = picture.boxes.len();
    let mut layers = vec![0; count];
    let mut is_first = vec![true; count];
    let mut arrows = picture.arrows.clone();
    // Arrows go from earlier to later boxes: those to a box are looked at before those from it.
    arrows.sort_unstable_by_key(|[from, to]| (*to, *from));
    for [from, to] in &arrows {
        layers[*to] = layers[*to].max(layers[*from] + 1);
        is_first[*to] = false;
    }
    for number in (0..count).filter(|number| is_first[*number]) {
        let below = arrows.iter().filter(|[from, _]| *from == number).map(|[_, to]| layers[*to]);
        layers[number] = below.min().map_or(0, |below| below - 1);
    }
    layers
}

impl Spot {
    fn of(of: &Block, layer: usize) -> Spot {
        let notes = of.notes.iter().map(|note| note.chars().count() as f64 * letter(false));
        let width = notes.fold(of.title.chars().count() as f64 * letter(true), f64::max) + letter(true) * 2.0;
        let height = line(true) + line(false) * of.notes.len() as f64 + line(false) / 2.0;
        let rect = Rect { width, height, ..Rect::default() };
        Spot { rect, layer, above: Vec::new(), below: Vec::new(), is_bend: false }
    }

    fn bend(layer: usize) -> Spot {
        let rect = Rect { width: BEND, ..Rect::default() };
        Spot { rect, layer, above: Vec::new(), below: Vec::new(), is_bend: true }
    }
}

/// The spots of each layer, one beside the other.
fn rows(spots: &[Spot]) -> Vec<Vec<usize>> {
    let count = spots.iter().map(|spot| spot.layer + 1).max().unwrap_or(0);
    let mut rows = vec![Vec::new(); count];
    spots.iter().enumerate().for_each(|(number, spot)| rows[spot.layer].push(number));
    rows
}

fn mean(of: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = of.len() as f64;
    (count > 0.0).then(|| of.sum::<f64>() / count)
}

/// Orders each layer by the means of the places of neighbours in the layer before, or, going up, behind it. While this
/// lasts, places are numbers.
fn order(spots: &mut [Spot], rows: &mut [Vec<usize>], down: bool) {
    let mut each: Vec<&mut Vec<usize>> = rows.iter_mut().collect();
    if !down {
        each.reverse();
    }
    for row in each {
        let mut keyed: Vec<(f64, usize)> = row
            .iter()
            .map(|&number| {
                let spot = &spots[number];
                let near = if down { &spot.above } else { &spot.below };
                (mean(near.iter().map(|&near| spots[near].rect.x)).unwrap_or(spot.rect.x), number)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        *row = keyed.into_iter().map(|(_, number)| number).collect();
        row.iter().enumerate().for_each(|(place, &number)| spots[number].rect.x = place as f64);
    }
}

/// Moves each layer to where its neighbours are, as near as order and room allow: the least sum of squares, by pooling
/// adjacent violators. Bends weigh more, so that arrows that pass layers are straight.
fn shift(spots: &mut [Spot], rows: &[Vec<usize>], down: bool) {
    let mut each: Vec<&Vec<usize>> = rows.iter().collect();
    if !down {
        each.reverse();
    }
    for row in each {
        // Pools of spots: the sum of weights, that of weighted places, and how many there are.
        let mut pools: Vec<(f64, f64, usize)> = Vec::new();
        let mut offsets = Vec::with_capacity(row.len());
        let mut offset = 0.0;
        for (place, &number) in row.iter().enumerate() {
            let spot = &spots[number];
            if place > 0 {
                offset += (spots[row[place - 1]].rect.width + spot.rect.width) / 2.0 + ACROSS;
            }
            offsets.push(offset);
            let near = match (down, spot.above.is_empty(), spot.below.is_empty()) {
                (true, false, _) | (false, _, true) => &spot.above,
                _ => &spot.below,
            };
            let wanted = mean(near.iter().map(|&near| spots[near].rect.x)).unwrap_or(spot.rect.x) - offset;
            let weight = if spot.is_bend { 4.0 } else { 1.0 };
            let mut pool = (weight, weight * wanted, 1);
            while let Some(before) = pools.pop_if(|before| before.1 / before.0 > pool.1 / pool.0) {
                pool = (before.0 + pool.0, before.1 + pool.1, before.2 + pool.2);
            }
            pools.push(pool);
        }
        let places = pools.iter().flat_map(|&(weight, sum, count)| std::iter::repeat_n(sum / weight, count));
        for ((&number, place), offset) in row.iter().zip(places).zip(offsets) {
            spots[number].rect.x = place + offset;
        }
    }
}

/// Gives layers their heights; says where the last one ends.
fn stack(spots: &mut [Spot], rows: &[Vec<usize>]) -> f64 {
    let mut top = ACROSS;
    for row in rows {
        let height = row.iter().map(|&number| spots[number].rect.height).fold(0.0, f64::max);
        for &number in row {
            let rect = &mut spots[number].rect;
            rect.y = top + height / 2.0;
            if spots[number].is_bend {
                spots[number].rect.height = height;
            }
        }
        top += height + DOWN;
    }
    top - DOWN + ACROSS
}
