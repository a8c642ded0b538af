//! Windows that slide over an image: what convolutions and pools share.
//!
//! Along each axis, element `k` of the window at `i` lies at `i·stride + k·dilation − low` of the image.
//! There are `⌊(size + low + high − dilation·(kernel − 1) − 1)/stride⌋ + 1` windows.

use ir::Dim;
use ir::attr::{Attr, AttrSpec, AttrValue, Attrs, Key, key};
use ir::build::Build;
use ir::dim::{Condition, Ranges};
use ir::graph::Value;
use ir::kernel::lower::Lower;
use ir::kernel::{Expr, Reduce};
use ir::op::{OpError, Requirement};

use crate::math::elementwise::is_nonnegative;
use crate::onnx::export::Attributes;
use crate::onnx::{ImportError, NodeAttr, NodeView};
use crate::shape::pad::{self, PAD};

/// From one window to the next, for each axis.
pub const STRIDES: Key<Vec<i64>> = key("strides");

/// From one element of a window to the next, for each axis.
pub const DILATIONS: Key<Vec<i64>> = key("dilations");

/// Padding before the first element, for each axis. Negative amounts cut off.
pub const LOW: Key<Vec<Dim>> = key("low");

/// Padding after the last element, for each axis. Negative amounts cut off.
pub const HIGH: Key<Vec<Dim>> = key("high");

/// Elements of a window, for each axis.
pub const KERNEL: Key<Vec<i64>> = key("kernel");

/// May the last window reach beyond the padding? It never starts there.
pub const CEIL: Key<bool> = key("ceil");

/// The declaration of [`CEIL`].
pub(crate) const CEIL_SPEC: AttrSpec = CEIL.or(|| Attr::Bool(false));

/// A window.
pub(crate) struct Window {
    pub(crate) kernel: Vec<Dim>,
    pub(crate) strides: Vec<i64>,
    pub(crate) dilations: Vec<i64>,
    pub(crate) low: Vec<Dim>,
    pub(crate) high: Vec<Dim>,
    pub(crate) ceil: bool,
}

/// How large an image must be along an axis.
struct Room {
    /// What the first window needs: it may begin in the image and end beyond the padding where sizes are rounded up.
    needed: Dim,
    /// What there is, with padding.
    padded: Dim,
    /// How far the padded image reaches beyond the first window.
    beyond: Dim,
    /// Does an empty image have a number of windows that is not negative?
    nothing: bool,
}

/// What is wrong where no window fits.
const LARGER: &str = "window larger than the padded image";

impl Window {
    /// A window of these sizes that slides as the attributes say.
    pub(crate) fn new(kernel: Vec<Dim>, attrs: &Attrs, ceil: bool) -> Result<Window, OpError> {
        let (strides, dilations) = (attrs.get(STRIDES), attrs.get(DILATIONS));
        let (low, high) = (attrs.get(LOW), attrs.get(HIGH));
        let counts = [
            (STRIDES.name, strides.len()),
            (DILATIONS.name, dilations.len()),
            (LOW.name, low.len()),
            (HIGH.name, high.len()),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count != kernel.len()) {
            return Err(OpError::Attribute { key, why: "one for each axis of the window is needed" });
        }
        for (key, values) in [(STRIDES.name, &strides), (DILATIONS.name, &dilations)] {
            if values.iter().any(|&value| value < 1) {
                return Err(OpError::Attribute { key, why: "it must be 1 or more" });
            }
        }
        Ok(Window { kernel, strides, dilations, low, high, ceil })
    }

    /// How many windows there are on an image of these sizes.
    pub(crate) fn count(&self, image: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let one = Dim::constant(1);
        let count = |axis: usize| {
            let Room { needed, padded, beyond, nothing } = self.room(axis, &image[axis]);
            let (refused, is_empty) = (Condition::at_most(needed.clone(), padded.clone()), image[axis].is(0));
            if refused.is_refuted() && !(is_empty && nothing) {
                return Err(OpError::Size { what: LARGER, left: needed, right: padded });
            }
            let stride = Dim::constant(self.strides[axis]);
            if !self.ceil {
                return Ok(beyond.floor_div(&stride) + one.clone());
            }
            // The last window starts before the end of the image.
            let starts = (self.low[axis].clone() + image[axis].clone()).ceil_div(&stride);
            Ok(Dim::smaller(&(beyond.ceil_div(&stride) + one.clone()), &starts))
        };
        (0..image.len()).map(count).collect()
    }

    /// There is at least one window along each axis of the image, unless that is empty. What always holds is left out.
    pub(crate) fn fits(&self, image: &[Dim]) -> Vec<Requirement> {
        let ranges = Ranges::new();
        let along = |axis: usize| {
            let size = &image[axis];
            let Room { needed, padded, beyond, nothing } = self.room(axis, size);
            let stride = Dim::constant(self.strides[axis]);
            // So much padding that `⌈size/stride⌉` windows fit, whatever the size.
            let same = (size.ceil_div(&stride) - Dim::constant(1)) * stride;
            let enough = [size.clone() - Dim::constant(1), same];
            if enough.into_iter().any(|least| ranges.is_nonnegative(&(beyond.clone() - least))) {
                return None;
            }
            let condition = match nothing {
                true => Condition::at_most(needed * size.clone(), padded * size.clone()),
                false => Condition::at_most(needed, padded),
            };
            Some(Requirement { condition, what: "a window is no larger than the padded image" })
        };
        (0..image.len()).filter_map(along).collect()
    }

    /// How much room the windows have along an axis of this size.
    fn room(&self, axis: usize, size: &Dim) -> Room {
        let (one, stride) = (Dim::constant(1), Dim::constant(self.strides[axis]));
        let padding = self.low[axis].clone() + self.high[axis].clone();
        let span = (self.kernel[axis].clone() - one.clone()) * self.dilations[axis].into() + one.clone();
        let padded = padding.clone() + size.clone();
        let nothing = (padding - span.clone() + stride.clone()).as_const().is_some_and(|least| least >= 0);
        let beyond = padded.clone() - span.clone();
        let needed = if self.ceil { span - stride + one } else { span };
        Room { needed, padded, beyond, nothing }
    }

    /// Where in the image element `k` of the window `i` lies, along an axis.
    pub(crate) fn position(&self, axis: usize, i: &Dim, k: &Dim) -> Dim {
        i.clone() * self.strides[axis].into() + k.clone() * self.dilations[axis].into()
            - self.low[axis].clone()
    }

    /// The positions along all axes, and whether they lie in an image of these sizes; `None` if they always
    /// do.
    pub(crate) fn positions(&self, at: &[Dim], k: &[Dim], image: &[Dim]) -> (Vec<Dim>, Option<Expr>) {
        let positions: Vec<Dim> =
            (0..image.len()).map(|axis| self.position(axis, &at[axis], &k[axis])).collect();
        let beyond = Dim::constant(1);
        let guards = (0..image.len()).map(|axis| {
            let high = if self.ceil { &beyond } else { &self.high[axis] };
            inside(&positions[axis], &image[axis], &self.low[axis], high)
        });
        let guard = all(guards);
        (positions, guard)
    }

    /// The same on numbers: the position, if it lies in the image.
    pub(crate) fn position_in(
        &self,
        image: &[usize],
        at: &[usize],
        k: &[usize],
        low: &[i64],
    ) -> Option<Vec<usize>> {
        let position = |axis: usize| {
            let from =
                at[axis] as i64 * self.strides[axis] + k[axis] as i64 * self.dilations[axis] - low[axis];
            usize::try_from(from).ok().filter(|&i| i < image[axis])
        };
        (0..image.len()).map(position).collect()
    }
}

/// `0 ≤ i < size` where `i` runs over `−low..size + high`. `None` if that always holds.
pub(crate) fn inside(i: &Dim, size: &Dim, low: &Dim, high: &Dim) -> Option<Expr> {
    let never = |amount: &Dim| is_nonnegative(&-amount.clone());
    let above = (!never(low)).then(|| Expr::from(Dim::constant(0)).at_most(i.into()));
    let below = (!never(high)).then(|| Expr::from(i).less(size.into()));
    all([above, below].into_iter())
}

/// All of these conditions. `None` if there is none.
pub(crate) fn all(conditions: impl Iterator<Item = Option<Expr>>) -> Option<Expr> {
    conditions.flatten().reduce(Expr::and)
}

/// A fold over several axes, the first one outermost. Axes of size 1 need none.
pub(crate) fn fold_over(
    cx: &mut Lower,
    op: Reduce,
    extents: &[Dim],
    element: &dyn Fn(&mut Lower, &[Dim]) -> Expr,
) -> Expr {
    fold_inside(cx, op, extents, &mut Vec::new(), element)
}

fn fold_inside(
    cx: &mut Lower,
    op: Reduce,
    extents: &[Dim],
    outer: &mut Vec<Dim>,
    element: &dyn Fn(&mut Lower, &[Dim]) -> Expr,
) -> Expr {
    let Some(extent) = extents.get(outer.len()) else { return element(cx, outer) };
    let mut inside = |cx: &mut Lower, index: &Dim| {
        outer.push(index.clone());
        let body = fold_inside(cx, op, extents, outer, element);
        outer.pop();
        body
    };
    if extent.is(1) { inside(cx, &Dim::constant(0)) } else { cx.fold(op, extent, inside) }
}

/// The attributes of ONNX that say how a window of these sizes slides over an image: `strides`, `dilations`,
/// `pads` and `auto_pad`.
///
/// # Errors
/// An attribute of another length, or an unknown `auto_pad`.
pub(crate) fn import_sliding(
    node: &NodeView,
    kernel: &[Dim],
    image: &[Dim],
) -> Result<[(&'static str, Attr); 4], ImportError> {
    let rank = kernel.len();
    let strides = node.ints("strides")?.unwrap_or_else(|| vec![1; rank]);
    let dilations = node.ints("dilations")?.unwrap_or_else(|| vec![1; rank]);
    let pads = node.ints("pads")?.unwrap_or_else(|| vec![0; 2 * rank]);
    for (name, count, expected) in [
        ("strides", strides.len(), rank),
        ("dilations", dilations.len(), rank),
        ("pads", pads.len(), 2 * rank),
    ] {
        if count != expected {
            let why = format!("{count} values, expected {expected}");
            return Err(ImportError::Attribute { name: name.to_owned(), why });
        }
    }
    let zero = Dim::constant(0);
    let mut low: Vec<Dim> = pads[..rank].iter().map(|&amount| amount.into()).collect();
    let mut high: Vec<Dim> = pads[rank..].iter().map(|&amount| amount.into()).collect();
    match node.str_or("auto_pad", "NOTSET")? {
        "NOTSET" | "" => {}
        "VALID" => (low, high) = (vec![zero.clone(); rank], vec![zero; rank]),
        mode @ ("SAME_UPPER" | "SAME_LOWER") => {
            for axis in 0..rank {
                let (stride, dilation) = (Dim::constant(strides[axis]), Dim::constant(dilations[axis]));
                let windows = image[axis].ceil_div(&stride);
                let one = Dim::constant(1);
                let span = (kernel[axis].clone() - one.clone()) * dilation + one.clone();
                let total = (windows - one) * stride + span - image[axis].clone();
                let total = if is_nonnegative(&total) { total } else { Dim::larger(&total, &zero) };
                let half = total.floor_div(&Dim::constant(2));
                let rest = total - half.clone();
                (low[axis], high[axis]) = if mode == "SAME_UPPER" { (half, rest) } else { (rest, half) };
            }
        }
        other => {
            return Err(ImportError::value("auto_pad", other, "NOTSET, VALID, SAME_UPPER and SAME_LOWER"));
        }
    }
    Ok([
        (STRIDES.name, strides.into_attr()),
        (DILATIONS.name, dilations.into_attr()),
        (LOW.name, low.into_attr()),
        (HIGH.name, high.into_attr()),
    ])
}

/// The attributes of ONNX that say how a window slides, if it can say so: its padding is numbers that are not negative.
pub(crate) fn sliding(attrs: &Attrs) -> Option<Attributes> {
    let amounts = [attrs.get(LOW), attrs.get(HIGH)].concat();
    let pads: Vec<i64> = amounts.iter().map(Dim::as_const).collect::<Option<_>>()?;
    let mut how = vec![
        ("strides", NodeAttr::Ints(attrs.get(STRIDES))),
        ("dilations", NodeAttr::Ints(attrs.get(DILATIONS))),
    ];
    if pads.iter().any(|&amount| amount != 0) {
        how.push(("pads", NodeAttr::Ints(pads.clone())));
    }
    pads.iter().all(|&amount| amount >= 0).then_some(how)
}

/// An image `[N, C, …]` with `value` around it.
///
/// # Errors
/// What `pad` says of the amounts.
pub(crate) fn around(
    b: &mut Build,
    x: Value,
    low: &[Dim],
    high: &[Dim],
    value: f64,
) -> Result<Value, OpError> {
    if low.iter().chain(high).all(|amount| amount.is(0)) {
        return Ok(x);
    }
    let value = b.scalar(b.ty(x).dtype, value);
    let all = |amounts: &[Dim]| [&[Dim::constant(0), Dim::constant(0)], amounts].concat();
    b.op_with(&PAD, &[x, value], [pad::LOW.is(all(low)), pad::HIGH.is(all(high))])
}
