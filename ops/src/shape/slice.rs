//! `slice(x)[i…] = x[starts + i · steps …]` for `i` below `sizes`.
//!
//! Shapes: one start, size and step for each axis; a step may be negative, never 0. All elements must exist.
//! Errors: [`OpError::Attribute`] else, as far as the sizes are numbers.
//! Source: ONNX Slice, opset 13; Split, opset 18.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::dim::{Condition, Ranges};
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType, Weight};

use crate::flow::as_size::{as_size, check_size};
use crate::math::abs::ABS;
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::elementwise::is_nonnegative;
use crate::math::lt::LT;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::ne::NE;
use crate::math::not::NOT;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reference;
use crate::shape::gather::{self, GATHER};
use crate::shape::iota::iota;
use crate::shape::run_time;
use crate::shape::size::size;

/// A part of `x`, maybe with steps.
pub static SLICE: OpDef =
    OpDef::new("slice", &["x"], &Slice).attrs(&[STARTS.spec(), SIZES.spec(), STEPS.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Slice", import_attributes),
    since("Slice", 10, import_inputs),
    by("Split", |node, b| {
        let parts = match node.ints("split")? {
            Some(parts) => Some(sizes_of(parts)),
            None => node.sizes(b, 1, "split")?,
        };
        import_split(parts, node, b)
    }),
    since("Split", 2, |node, b| import_split(node.ints("split")?.map(sizes_of), node, b)),
    since("Split", 13, |node, b| import_split(node.sizes(b, 1, "split")?, node, b)),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(|e| Some(vec![sliced(e)])));

/// The first index taken, for each axis.
pub const STARTS: Key<Vec<Dim>> = key("starts");

/// How many indices are taken, for each axis.
pub const SIZES: Key<Vec<Dim>> = key("sizes");

/// From one index taken to the next, for each axis.
pub const STEPS: Key<Vec<i64>> = key("steps");

struct Slice;

impl Semantics for Slice {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        let (starts, sizes, steps) = (cx.attrs.get(STARTS), cx.attrs.get(SIZES), cx.attrs.get(STEPS));
        for (key, count) in
            [(STARTS.name, starts.len()), (SIZES.name, sizes.len()), (STEPS.name, steps.len())]
        {
            if count != x.rank() {
                return Err(OpError::Attribute { key, why: "one for each axis is needed" });
            }
        }
        if steps.contains(&0) {
            return Err(OpError::Attribute { key: STEPS.name, why: "a step is 0" });
        }
        for axis in 0..x.rank() {
            if let [Some(start), Some(size), Some(extent)] =
                [&starts[axis], &sizes[axis], &x.shape[axis]].map(Dim::as_const)
            {
                let last = size.checked_sub(1).and_then(|n| n.checked_mul(steps[axis])?.checked_add(start));
                let inside = |i: i64| (0..extent).contains(&i);
                if size < 0 || (size > 0 && !(inside(start) && last.is_some_and(inside))) {
                    return Err(OpError::Attribute { key: STARTS.name, why: "the slice leaves its operand" });
                }
            }
        }
        Ok(vec![x.with_shape(sizes)])
    }

    /// Where anything is taken at all, the first and the last element exist.
    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let (starts, sizes, steps) = (cx.attrs.get(STARTS), cx.attrs.get(SIZES), cx.attrs.get(STEPS));
        let what = "a slice stays inside its operand";
        let one = Dim::constant(1);
        let mut needed = Vec::new();
        for (axis, extent) in cx.operands[0].shape.iter().enumerate() {
            let (start, size) = (&starts[axis], &sizes[axis]);
            let last = start.clone() + (size.clone() - one.clone()) * steps[axis].into();
            let (low, high) = if steps[axis] > 0 { (start.clone(), last) } else { (last, start.clone()) };
            for (left, right) in [(Dim::constant(0), low), (high + one.clone(), extent.clone())] {
                let plain = Condition::at_most(left.clone(), right.clone());
                let condition = match plain.is_proved(&Ranges::new()) {
                    true => plain,
                    false => Condition::at_most(left * size.clone(), right * size.clone()),
                };
                needed.push(Requirement { condition, what });
            }
            needed.push(Requirement { condition: Condition::at_most(Dim::constant(0), size.clone()), what });
        }
        needed
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (starts, steps) = (reference::numbers(STARTS.name, &cx.attrs.get(STARTS))?, cx.attrs.get(STEPS));
        let element = |at: &[usize]| cx.operands[0].at(&taken(at, &starts, &steps));
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    /// A range of the first axis lies together.
    fn rearranged(&self, x: &[&Weight], attrs: &Attrs) -> Option<Weight> {
        let [x] = x else { return None };
        let (starts, sizes, steps) = (attrs.get(STARTS), attrs.get(SIZES), attrs.get(STEPS));
        let whole = x.shape().iter().zip(&sizes).skip(1).all(|(&extent, size)| *size == Dim::from(extent));
        let number = |dims: &[Dim]| usize::try_from(dims.first()?.as_const()?).ok();
        let (start, count) = (number(&starts)?, number(&sizes)?);
        if whole && steps.iter().all(|&step| step == 1) { x.leading(x.name(), start, count) } else { None }
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (starts, steps) = (cx.attrs.get(STARTS), cx.attrs.get(STEPS));
        cx.each(|cx, at| {
            let index = at.iter().zip(starts.iter().zip(&steps));
            cx.load(0, index.map(|(i, (start, &step))| Expr::from(start.clone() + i.clone() * step.into())))
        })
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, shape) = (cx.operands[0].as_ref()?, cx.types[0].fixed_shape()?);
        let starts: Vec<i64> = cx.attrs.get(STARTS).iter().map(Dim::as_const).collect::<Option<_>>()?;
        let steps = cx.attrs.get(STEPS);
        let mut result = Vec::new();
        for_each_index(&cx.result.fixed_shape()?, |at| {
            let from = taken(at, &starts, &steps);
            let position = from.iter().zip(&shape).fold(0, |position, (&i, &size)| position * size + i);
            result.push(x[position].clone());
        });
        Some(result)
    }
}

/// The index in the operand of the element at `at`.
fn taken(at: &[usize], starts: &[i64], steps: &[i64]) -> Vec<usize> {
    let index = at.iter().zip(starts.iter().zip(steps)).map(|(&i, (start, step))| start + i as i64 * step);
    index.map(|i| usize::try_from(i).expect("`infer` checks that the slice lies inside")).collect()
}

/// `size` indices of one axis from `start` on; `x` itself, if that is all of it.
///
/// # Errors
/// [`OpError::Attribute`] if the slice leaves `x`.
pub fn slice_axis(b: &mut Build, x: Value, axis: usize, start: Dim, size: Dim) -> Result<Value, OpError> {
    let mut sizes = b.ty(x).shape.clone();
    if start.is(0) && size == sizes[axis] {
        return Ok(x);
    }
    let mut starts = vec![Dim::constant(0); sizes.len()];
    (starts[axis], sizes[axis]) = (start, size);
    let steps = vec![1; sizes.len()];
    b.op_with(&SLICE, &[x], [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)])
}

fn sizes_of(numbers: Vec<i64>) -> Vec<Dim> {
    numbers.into_iter().map(Dim::constant).collect()
}

fn import_attributes(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (starts, ends) = (node.ints("starts")?, node.ints("ends")?);
    let (starts, ends) = (node.required("starts", starts)?, node.required("ends", ends)?);
    let made = import(node, b, &sizes_of(starts), &sizes_of(ends), node.ints("axes")?, None)?;
    Ok(made.expect("the sign of a number is known"))
}

fn import_inputs(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let known = [3, 4]
        .into_iter()
        .all(|index| node.optional_input(index).is_none() || node.known(b, index).is_some());
    if !known || [1, 2].into_iter().any(|index| node.is_raw(b, index)) {
        return import_run_time(node, b);
    }
    let starts = node.sizes(b, 1, "starts")?.ok_or(ImportError::MissingInput { index: 1 })?;
    let ends = node.sizes(b, 2, "ends")?.ok_or(ImportError::MissingInput { index: 2 })?;
    let (axes, steps) = (node.const_ints(b, 3, "axes")?, node.const_ints(b, 4, "steps")?);
    match import(node, b, &starts, &ends, axes, steps)? {
        Some(made) => Ok(made),
        None => import_run_time(node, b),
    }
}

/// Bounds, axes and steps that are known only when the model runs: for each axis, the first index and the number of
/// indices are computed as numpy does it, and become sizes.
fn import_run_time(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let (starts, ends) = (node.elements(b, 1, "starts")?, node.elements(b, 2, "ends")?);
    let axes = match node.optional_input(3) {
        Some(_) => node.elements(b, 3, "axes")?,
        None => (0..starts.len()).map(|axis| b.scalar(DType::I64, axis as f64)).collect(),
    };
    let steps: Vec<Step> = match (node.optional_input(4), node.known(b, 4)) {
        (None, _) => vec![Step::Known(1); starts.len()],
        (Some(_), Some(_)) => {
            let steps = node.const_ints(b, 4, "steps")?.unwrap_or_default();
            steps.into_iter().map(Step::Known).collect()
        }
        (Some(_), None) => node.elements(b, 4, "steps")?.into_iter().map(Step::Computed).collect(),
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        let why = "starts, ends, axes and steps differ in number".to_owned();
        return Err(ImportError::Attribute { name: "starts".to_owned(), why });
    }
    let fixed = node.known(b, 3).map_or_else(
        || node.optional_input(3).is_none().then(|| (0..starts.len() as i64).collect::<Vec<_>>()),
        |axes| axes.iter().map(Dim::as_const).collect(),
    );
    if fixed.is_none() {
        for &axis in &axes {
            let rank = shape.len() as i64;
            let (low, high) = (number(b, -rank), number(b, rank));
            let (too_low, below) = (b.op(&LT, &[axis, low])?, b.op(&LT, &[axis, high])?);
            let high_enough = b.op(&NOT, &[too_low])?;
            let found = b.op(&AND, &[high_enough, below])?;
            let found = convert(b, found, DType::I64)?;
            check_size(b, found, "axes_in_range", Dim::constant(1))?;
        }
    }
    let mut all = (vec![Dim::constant(0); shape.len()], shape.clone(), vec![1; shape.len()]);
    let mut stepped = Vec::new();
    for (axis, extent) in shape.iter().enumerate() {
        let named = |i: usize| match &fixed {
            Some(axes) => normalize_axis(axes[i], shape.len()).map(|named| named == axis),
            None => Ok(true),
        };
        let mut taken: Option<Taken> = None;
        for i in 0..starts.len() {
            if !named(i)? {
                continue;
            }
            let now = Taken::of(b, extent, [starts[i], ends[i]], steps[i])?;
            taken = Some(match &fixed {
                Some(_) => now,
                None => {
                    let named = run_time::is_axis(b, axes[i], axis, shape.len())?;
                    let before = match taken {
                        Some(taken) => taken,
                        None => Taken::whole(b, extent)?,
                    };
                    now.only_if(b, named, before)?
                }
            });
        }
        let Some(Taken { start, count, step }) = taken else { continue };
        let count = as_size(b, count, node.op_type, Some(extent.clone()))?;
        match step {
            Step::Known(step) => {
                let start = as_size(b, start, node.op_type, Some(extent.clone()))?;
                (all.0[axis], all.1[axis], all.2[axis]) = (start, count, step);
            }
            Step::Computed(step) => stepped.push((axis, start, count, step)),
        }
    }
    let (starts, sizes, steps) = all;
    let mut y = b.op_with(&SLICE, &[x], [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)])?;
    for (axis, start, count, step) in stepped {
        let counted = iota(b, count, DType::I64)?;
        let offset = b.op(&MUL, &[counted, step])?;
        let index = b.op(&ADD, &[offset, start])?;
        y = b.op_with(&GATHER, &[y, index], [gather::AXIS.is(axis as i64)])?;
    }
    Ok(vec![y])
}

/// From one index to the next: a number, or computed.
#[derive(Clone, Copy)]
enum Step {
    Known(i64),
    Computed(Value),
}

impl Step {
    fn value(self, b: &mut Build) -> Value {
        match self {
            Step::Known(step) => number(b, step),
            Step::Computed(step) => step,
        }
    }

    /// `up` if the step is positive, else `down`.
    fn pick(self, b: &mut Build, up: Value, down: Value) -> Result<Value, OpError> {
        match self {
            Step::Known(step) => Ok(if step > 0 { up } else { down }),
            Step::Computed(step) => {
                let zero = number(b, 0);
                let is_up = b.op(&LT, &[zero, step])?;
                b.op(&WHERE, &[is_up, up, down])
            }
        }
    }
}

fn number(b: &mut Build, value: i64) -> Value {
    b.constant(&Tensor::scalar(Scalar::from_i64(DType::I64, value)))
}

/// What is taken of an axis, computed: the first index, and how many.
struct Taken {
    start: Value,
    count: Value,
    step: Step,
}

impl Taken {
    /// All of it.
    fn whole(b: &mut Build, extent: &Dim) -> Result<Taken, OpError> {
        Ok(Taken { start: number(b, 0), count: size(b, DType::I64, extent)?, step: Step::Known(1) })
    }

    /// `start:end:step` of an axis of `extent`.
    fn of(b: &mut Build, extent: &Dim, [start, end]: [Value; 2], step: Step) -> Result<Taken, OpError> {
        match step {
            Step::Known(0) => return Err(OpError::Attribute { key: STEPS.name, why: "a step is 0" }),
            Step::Known(_) => {}
            Step::Computed(step) => {
                let zero = number(b, 0);
                let moves = b.op(&NE, &[step, zero])?;
                let moves = convert(b, moves, DType::I64)?;
                check_size(b, moves, "step_is_not_0", Dim::constant(1))?;
            }
        }
        let extent = size(b, DType::I64, extent)?;
        let (zero, one) = (number(b, 0), number(b, 1));
        let last = b.op(&SUB, &[extent, one])?;
        // Going down, the place before the first element is an end.
        let before = number(b, -1);
        let (low, high) = (step.pick(b, zero, before)?, step.pick(b, extent, last)?);
        let clamped = |b: &mut Build, bound: Value, low: Value| -> Result<Value, OpError> {
            let (negative, from_end) = (b.op(&LT, &[bound, zero])?, b.op(&ADD, &[bound, extent])?);
            let bound = b.op(&WHERE, &[negative, from_end, bound])?;
            let bound = b.op(&MAX, &[bound, low])?;
            b.op(&MIN, &[bound, high])
        };
        let (start, end) = (clamped(b, start, zero)?, clamped(b, end, low)?);
        let (near, far) = (step.pick(b, start, end)?, step.pick(b, end, start)?);
        let distance = b.op(&SUB, &[far, near])?;
        let distance = b.op(&MAX, &[distance, zero])?;
        let length = match step {
            Step::Known(step) => number(b, step.abs()),
            Step::Computed(step) => b.op(&ABS, &[step])?,
        };
        let up = b.op(&SUB, &[length, one])?;
        let distance = b.op(&ADD, &[distance, up])?;
        let count = b.op(&DIV, &[distance, length])?;
        Ok(Taken { start: b.op(&MAX, &[start, zero])?, count, step })
    }

    /// This if `named` holds, else `other`.
    fn only_if(self, b: &mut Build, named: Value, other: Taken) -> Result<Taken, OpError> {
        let step = match (self.step, other.step) {
            (Step::Known(one), Step::Known(another)) if one == another => self.step,
            _ => {
                let (step, other) = (self.step.value(b), other.step.value(b));
                Step::Computed(b.op(&WHERE, &[named, step, other])?)
            }
        };
        let start = b.op(&WHERE, &[named, self.start, other.start])?;
        Ok(Taken { start, count: b.op(&WHERE, &[named, self.count, other.count])?, step })
    }
}

/// Negative bounds count from the end, and bounds are clamped to what there is, as in numpy; but going down from before the
/// first element is going down from it. `None` where the sign
/// of a bound is not known.
fn import(
    node: &NodeView,
    b: &mut Build,
    starts: &[Dim],
    ends: &[Dim],
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> Result<Option<Vec<Value>>, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        let why = "starts, ends, axes and steps differ in number".to_owned();
        return Err(ImportError::Attribute { name: "starts".to_owned(), why });
    }
    let mut all = (vec![Dim::constant(0); shape.len()], shape.clone(), vec![1; shape.len()]);
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, shape.len())?;
        if steps[i] == 0 {
            return Err(OpError::Attribute { key: STEPS.name, why: "a step is 0" }.into());
        }
        let Some(taken) = bounds(&shape[axis], &starts[i], &ends[i], steps[i]) else { return Ok(None) };
        (all.0[axis], all.1[axis]) = taken;
        all.2[axis] = steps[i];
    }
    let (starts, sizes, steps) = all;
    if sizes == shape && steps.iter().all(|&step| step == 1) {
        return Ok(Some(vec![x]));
    }
    let attrs = [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)];
    Ok(Some(vec![b.op_with(&SLICE, &[x], attrs)?]))
}

/// First index and number of indices of `start:end:step` on an axis of `size`. `None` where the sign of a
/// bound is not known.
///
/// With bounds that count from 0, the number is `⌈max(0, min(end, size) − max(start, 0))/step⌉` going up and
/// `⌈max(0, min(max(start, 0), size − 1) − max(end, −1))/|step|⌉` going down. Differences of extrema are written as
/// the smallest of four differences, so that `x[1:]` and `x[:-1]` have equal sizes as expressions, too.
fn bounds(size: &Dim, start: &Dim, end: &Dim, step: i64) -> Option<(Dim, Dim)> {
    let (zero, one) = (Dim::constant(0), Dim::constant(1));
    let from_zero = |bound: &Dim| match bound.as_const() {
        // Exporters write the largest integers for "all of it"; those of 32 bits stand for any size, too.
        Some(value) if value >= i64::from(i32::MAX) => Some(size.clone()),
        Some(value) if value <= i64::from(i32::MIN) => Some(-one.clone()),
        _ if is_nonnegative(bound) => Some(bound.clone()),
        _ => is_nonnegative(&(-bound.clone() - one.clone())).then(|| bound.clone() + size.clone()),
    };
    let (start, end) = (from_zero(start)?, from_zero(end)?);
    let last = size.clone() - one.clone();
    let smallest = |a: Dim, b: Dim, c: Dim, d: Dim| {
        let all = Dim::smaller(&Dim::smaller(&a, &b), &Dim::smaller(&c, &d)).simplify(&Ranges::new());
        if is_nonnegative(&all) { all } else { Dim::larger(&all, &zero) }
    };
    let (first, distance) = if step > 0 {
        let distance = smallest(end.clone() - start.clone(), size.clone() - start.clone(), end, size.clone());
        (if is_nonnegative(&start) { start } else { Dim::larger(&start, &zero) }, distance)
    } else {
        // From the last element on, it starts at none only where there is none.
        let start = if start == last || is_nonnegative(&start) { start } else { Dim::larger(&start, &zero) };
        let distance =
            smallest(start.clone() - end.clone(), last.clone() - end, start.clone() + one, size.clone());
        (Dim::smaller(&start, &last).simplify(&Ranges::new()), distance)
    };
    let count = distance.ceil_div(&Dim::constant(step.abs()));
    Some((if count.is(0) { zero } else { first }, count))
}

/// The parts' sizes are given, or the parts are equal but for a smaller last one.
fn import_split(parts: Option<Vec<Dim>>, node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let axis = normalize_axis(node.int_or("axis", 0)?, b.ty(x).rank())?;
    let size = b.ty(x).shape[axis].clone();
    let count = node.output_count() as i64;
    if node.int_or("num_outputs", count)? != count {
        return Err(OpError::Attribute { key: "num_outputs", why: "it is not the number of outputs" }.into());
    }
    let is_given = parts.is_some();
    let parts = match parts {
        Some(parts) => parts,
        None => {
            let chunk = size.ceil_div(&count.into());
            let part = |i: i64| match size.exact_div(&count.into()) {
                Some(part) => part,
                None => {
                    let rest = size.clone() - chunk.clone() * i.into();
                    Dim::larger(&Dim::smaller(&rest, &chunk), &Dim::constant(0))
                }
            };
            (0..count).map(part).collect()
        }
    };
    let total: Dim = parts.iter().cloned().sum();
    if is_given && total != size {
        if !node.is_lenient() || (total.as_const().is_some() && size.as_const().is_some()) {
            let what = "sum of the parts of a split";
            return Err(OpError::Size { what, left: total, right: size }.into());
        }
        let total = crate::shape::size::size(b, DType::I64, &total)?;
        check_size(b, total, "parts", size)?;
    }
    let mut start = Dim::constant(0);
    let mut results = Vec::new();
    for part in parts {
        results.push(slice_axis(b, x, axis, start.clone(), part.clone())?);
        start = start + part;
    }
    Ok(results)
}

/// Where it reads back as it is: bounds in ONNX are clamped, which the sizes must survive.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (starts, sizes, steps) = (e.attrs.get(STARTS), e.attrs.get(SIZES), e.attrs.get(STEPS));
    let shape = &e.ty(0).shape;
    let reads_back = |axis: usize| {
        let whole = starts[axis].is(0) && sizes[axis] == shape[axis] && steps[axis] == 1;
        let end = end(&starts[axis], &sizes[axis], steps[axis])?;
        let read = bounds(&shape[axis], &starts[axis], &end, steps[axis]);
        let same =
            read.is_some_and(|(start, size)| size == sizes[axis] && (start == starts[axis] || size.is(0)));
        (whole || same).then_some(())
    };
    (0..shape.len()).all(|axis| reads_back(axis).is_some()).then(|| vec![sliced(e)])
}

/// Where a slice ends, as ONNX has it; `None` where the sign of an end that lies before the start is not known.
fn end(start: &Dim, size: &Dim, step: i64) -> Option<Dim> {
    let end = start.clone() + size.clone() * step.into();
    match end.as_const() {
        _ if step > 0 => Some(end),
        Some(end) if end < 0 => Some(Dim::constant(i64::MIN + 1)),
        Some(_) => Some(end),
        None => is_nonnegative(&end).then_some(end),
    }
}

fn sliced(e: &mut Emit) -> String {
    let (starts, sizes, steps) = (e.attrs.get(STARTS), e.attrs.get(SIZES), e.attrs.get(STEPS));
    let shape = e.ty(0).shape.clone();
    let changes = |axis: &usize| !starts[*axis].is(0) || sizes[*axis] != shape[*axis] || steps[*axis] != 1;
    let axes: Vec<usize> = (0..shape.len()).filter(changes).collect();
    if axes.is_empty() {
        return e.same("Identity").remove(0);
    }
    // Going down, an end before the first element counts from the end once more.
    let before = |axis: usize| {
        let last = starts[axis].clone() + sizes[axis].clone() * steps[axis].into();
        end(&starts[axis], &sizes[axis], steps[axis])
            .unwrap_or_else(|| last - shape[axis].clone() - Dim::constant(1))
    };
    let ends: Vec<Dim> = axes.iter().map(|&axis| before(axis)).collect();
    let begins: Vec<Dim> = axes.iter().map(|&axis| starts[axis].clone()).collect();
    let strides: Vec<i64> = axes.iter().map(|&axis| steps[axis]).collect();
    let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let mut inputs = vec![e.x(0), e.sizes(&begins), e.sizes(&ends), e.ints(&axes)];
    if strides.iter().any(|&step| step != 1) {
        inputs.push(e.ints(&strides));
    }
    e.node("Slice", &inputs)
}
