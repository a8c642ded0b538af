//! The plan as bytes: little-endian, lengths first, no alignment, no names of fields.
//!
//! `decode(encode(plan)) == plan` for every valid plan. Decoding is total, and what it returns is
//! valid. Deliberately absent: a version; the container's header has one for everything.

use crate::{
    bytes::{Reader, put_count, put_str},
    error::PlanError,
    plan::{
        Arg, Bind, Buffer, Call, DType, Entry, KernelSlot, MAX_DEPTH, MAX_NESTING, Plan, Port, Relation,
        Space, Step, WeightSlot,
    },
    size::Size,
};

impl Plan {
    /// The plan as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, &self.entries, put_entry);
        put_list(&mut out, &self.weights, put_weight);
        put_list(&mut out, &self.kernels, |out, kernel| {
            put_str(out, &kernel.name);
            out.extend_from_slice(&kernel.offset.to_le_bytes());
        });
        out
    }

    /// The plan from its bytes, validated.
    ///
    /// # Errors
    /// The bytes are no plan, or the plan is not consistent.
    pub fn decode(bytes: &[u8]) -> Result<Plan, PlanError> {
        let mut r = Reader::new(bytes);
        let plan = Plan {
            entries: r.list("entries", entry)?,
            weights: r.list("weights", weight)?,
            kernels: r.list("kernels", |r| {
                Ok(KernelSlot { name: r.string("a kernel's name")?, offset: r.u64("a kernel's offset")? })
            })?,
        };
        r.end()?;
        plan.validate()?;
        Ok(plan)
    }
}

pub(crate) fn put_list<T>(out: &mut Vec<u8>, list: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_count(out, list.len());
    list.iter().for_each(|element| put(out, element));
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_str(out, &entry.name);
    put_list(out, &entry.symbols, |out, name| put_str(out, name));
    put_list(out, &entry.inputs, put_port);
    put_list(out, &entry.outputs, put_port);
    put_list(out, &entry.binds, |out, bind| {
        for index in [bind.symbol, bind.input, bind.axis] {
            out.extend_from_slice(&index.to_le_bytes());
        }
        out.extend_from_slice(&bind.scale.to_le_bytes());
        put_size(out, &bind.offset);
    });
    put_list(out, &entry.host, put_step);
    put_size(out, &entry.host_bytes);
    put_size(out, &entry.arena_bytes);
    put_list(out, &entry.buffers, put_buffer);
    put_list(out, &entry.states, put_port);
    put_list(out, &entry.steps, put_step);
}

fn entry(r: &mut Reader<'_>) -> Result<Entry, PlanError> {
    Ok(Entry {
        name: r.string("an entry's name")?,
        symbols: r.list("symbols", |r| r.string("a symbol's name"))?,
        inputs: r.list("inputs", port)?,
        outputs: r.list("outputs", port)?,
        binds: r.list("binds", |r| {
            Ok(Bind {
                symbol: r.u32("a bind")?,
                input: r.u32("a bind")?,
                axis: r.u32("a bind")?,
                scale: r.i64("a bind")?,
                offset: size(r)?,
            })
        })?,
        host: r.list("steps", step)?,
        host_bytes: size(r)?,
        arena_bytes: size(r)?,
        buffers: r.list("buffers", buffer)?,
        states: r.list("states", port)?,
        steps: r.list("steps", step)?,
    })
}

fn put_buffer(out: &mut Vec<u8>, buffer: &Buffer) {
    put_size(out, &buffer.offset);
    put_size(out, &buffer.bytes);
    match buffer.space {
        Space::Arena => out.push(0),
        Space::State => out.push(1),
        Space::Host => out.push(2),
        Space::Grow(number) => {
            out.push(3);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn buffer(r: &mut Reader<'_>) -> Result<Buffer, PlanError> {
    let (offset, bytes) = (size(r)?, size(r)?);
    let space = match tag(r, "a space")? {
        (_, 0) => Space::Arena,
        (_, 1) => Space::State,
        (_, 2) => Space::Host,
        (_, 3) => Space::Grow(r.u32("a space")?),
        (at, value) => return Err(PlanError::Value { at, what: "space of a buffer", value: value.into() }),
    };
    Ok(Buffer { offset, bytes, space })
}

fn put_step(out: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Call(Call { kernel, args, sizes }) => {
            out.push(0);
            put_u32(out, kernel);
            put_list(out, args, put_arg);
            put_list(out, sizes, put_size);
        }
        Step::Measure { symbol, source, bound, what } => {
            out.push(1);
            put_u32(out, symbol);
            put_arg(out, source);
            put_option(out, bound.as_ref(), put_size);
            put_str(out, what);
        }
        Step::Set(values) => {
            out.push(2);
            put_list(out, values, |out, (symbol, size)| {
                put_u32(out, symbol);
                put_size(out, size);
            });
        }
        Step::Require { left, relation, right, what } => {
            out.push(3);
            put_size(out, left);
            out.push(match relation {
                Relation::Equal => 0,
                Relation::AtMost => 1,
            });
            put_size(out, right);
            put_str(out, what);
        }
        Step::Reserve(arg) => {
            out.push(4);
            put_arg(out, arg);
        }
        Step::Copy { from, to, bytes, at } => {
            out.push(5);
            put_arg(out, from);
            put_arg(out, to);
            put_size(out, bytes);
            put_option(out, at.as_ref(), put_size);
        }
        Step::If { cond, then, otherwise } => {
            out.push(6);
            put_arg(out, cond);
            put_list(out, then, put_step);
            put_list(out, otherwise, put_step);
        }
        Step::Loop { index, count, cond, trips, body } => {
            out.push(7);
            put_u32(out, index);
            put_size(out, count);
            put_option(out, cond.as_ref(), put_arg);
            put_option(out, trips.as_ref(), put_u32);
            put_list(out, body, put_step);
        }
    }
}

fn step(r: &mut Reader<'_>) -> Result<Step, PlanError> {
    step_within(r, MAX_NESTING)
}

fn step_within(r: &mut Reader<'_>, left: u32) -> Result<Step, PlanError> {
    let Some(left) = left.checked_sub(1) else { return Err(PlanError::Nesting { limit: MAX_NESTING }) };
    let (at, tag) = tag(r, "a step")?;
    Ok(match tag {
        0 => Step::Call(Call {
            kernel: r.u32("a call")?,
            args: r.list("arguments", arg)?,
            sizes: r.list("sizes", size)?,
        }),
        1 => Step::Measure {
            symbol: r.u32("a measured size")?,
            source: arg(r)?,
            bound: option(r, size)?,
            what: r.string("the name of a size")?,
        },
        2 => Step::Set(r.list("sizes", |r| Ok((r.u32("a symbol")?, size(r)?)))?),
        3 => Step::Require {
            left: size(r)?,
            relation: relation(r)?,
            right: size(r)?,
            what: r.string("a rule")?,
        },
        4 => Step::Reserve(arg(r)?),
        5 => Step::Copy { from: arg(r)?, to: arg(r)?, bytes: size(r)?, at: option(r, size)? },
        6 => Step::If {
            cond: arg(r)?,
            then: r.list("steps", |r| step_within(r, left))?,
            otherwise: r.list("steps", |r| step_within(r, left))?,
        },
        7 => Step::Loop {
            index: r.u32("a loop")?,
            count: size(r)?,
            cond: option(r, arg)?,
            trips: option(r, |r| r.u32("a loop"))?,
            body: r.list("steps", |r| step_within(r, left))?,
        },
        _ => return Err(PlanError::Value { at, what: "step", value: tag.into() }),
    })
}

fn relation(r: &mut Reader<'_>) -> Result<Relation, PlanError> {
    match tag(r, "a relation")? {
        (_, 0) => Ok(Relation::Equal),
        (_, 1) => Ok(Relation::AtMost),
        (at, value) => Err(PlanError::Value { at, what: "relation", value: value.into() }),
    }
}

fn put_option<T>(out: &mut Vec<u8>, option: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(u8::from(option.is_some()));
    option.iter().for_each(|value| put(out, value));
}

fn option<'a, T>(
    r: &mut Reader<'a>,
    value: impl Fn(&mut Reader<'a>) -> Result<T, PlanError>,
) -> Result<Option<T>, PlanError> {
    match tag(r, "an option")? {
        (_, 0) => Ok(None),
        (_, 1) => value(r).map(Some),
        (at, value) => Err(PlanError::Value { at, what: "mark of an option", value: value.into() }),
    }
}

fn put_u32(out: &mut Vec<u8>, value: &u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_arg(out: &mut Vec<u8>, arg: &Arg) {
    let (tag, index) = match arg {
        Arg::Input(index) => (0, index),
        Arg::Output(index) => (1, index),
        Arg::Weight(index) => (2, index),
        Arg::Buffer(index) => (3, index),
    };
    out.push(tag);
    put_u32(out, index);
}

fn arg(r: &mut Reader<'_>) -> Result<Arg, PlanError> {
    let (at, tag) = tag(r, "an argument")?;
    let index = r.u32("an argument")?;
    Ok(match tag {
        0 => Arg::Input(index),
        1 => Arg::Output(index),
        2 => Arg::Weight(index),
        3 => Arg::Buffer(index),
        _ => return Err(PlanError::Value { at, what: "kind of argument", value: tag.into() }),
    })
}

fn put_port(out: &mut Vec<u8>, port: &Port) {
    put_str(out, &port.name);
    out.push(port.dtype.code());
    put_list(out, &port.dims, put_size);
}

fn port(r: &mut Reader<'_>) -> Result<Port, PlanError> {
    Ok(Port { name: r.string("a port's name")?, dtype: dtype(r)?, dims: r.list("dimensions", size)? })
}

fn put_weight(out: &mut Vec<u8>, weight: &WeightSlot) {
    put_str(out, &weight.name);
    out.push(weight.dtype.code());
    put_list(out, &weight.dims, |out, dim| out.extend_from_slice(&dim.to_le_bytes()));
    out.extend_from_slice(&weight.offset.to_le_bytes());
    out.extend_from_slice(&weight.bytes.to_le_bytes());
    out.extend_from_slice(&weight.hash);
}

fn weight(r: &mut Reader<'_>) -> Result<WeightSlot, PlanError> {
    Ok(WeightSlot {
        name: r.string("a weight's name")?,
        dtype: dtype(r)?,
        dims: r.list("dimensions", |r| r.u64("a dimension"))?,
        offset: r.u64("a weight's offset")?,
        bytes: r.u64("a weight's length")?,
        hash: r.array("a weight's hash")?,
    })
}

fn dtype(r: &mut Reader<'_>) -> Result<DType, PlanError> {
    let (at, code) = tag(r, "an element type")?;
    DType::from_code(code).ok_or(PlanError::Value { at, what: "element type", value: code.into() })
}

/// A byte and where it stood.
fn tag(r: &mut Reader<'_>, what: &'static str) -> Result<(usize, u8), PlanError> {
    let at = r.at();
    Ok((at, r.u8(what)?))
}

pub(crate) fn put_size(out: &mut Vec<u8>, size: &Size) {
    let (tag, a, b) = match size {
        Size::Const(value) => {
            out.push(0);
            out.extend_from_slice(&value.to_le_bytes());
            return;
        }
        Size::Symbol(symbol) => {
            out.push(1);
            out.extend_from_slice(&symbol.to_le_bytes());
            return;
        }
        Size::Add(a, b) => (2, a, b),
        Size::Mul(a, b) => (3, a, b),
        Size::FloorDiv(a, b) => (4, a, b),
        Size::Min(a, b) => (5, a, b),
        Size::Max(a, b) => (6, a, b),
    };
    out.push(tag);
    put_size(out, a);
    put_size(out, b);
}

pub(crate) fn size(r: &mut Reader<'_>) -> Result<Size, PlanError> {
    size_within(r, MAX_DEPTH)
}

fn size_within(r: &mut Reader<'_>, left: u32) -> Result<Size, PlanError> {
    let Some(left) = left.checked_sub(1) else { return Err(PlanError::Depth { limit: MAX_DEPTH }) };
    let (at, tag) = tag(r, "a size")?;
    let node: fn(Box<Size>, Box<Size>) -> Size = match tag {
        0 => return Ok(Size::Const(r.i64("a size")?)),
        1 => return Ok(Size::Symbol(r.u32("a size")?)),
        2 => Size::Add,
        3 => Size::Mul,
        4 => Size::FloorDiv,
        5 => Size::Min,
        6 => Size::Max,
        _ => return Err(PlanError::Value { at, what: "size", value: tag.into() }),
    };
    let a = size_within(r, left)?;
    let b = size_within(r, left)?;
    Ok(node(Box::new(a), Box::new(b)))
}
