//! The plan as bytes: little-endian, lengths first, no alignment, no names of fields.
//!
//! `decode(encode(plan)) == plan` for every valid plan. Decoding is total, and what it returns is
//! valid. Deliberately absent: a version; the container's header has one for everything.

use crate::{
    bytes::{Reader, put_count, put_str},
    error::PlanError,
    plan::{Arg, Bind, Buffer, DType, Entry, KernelSlot, MAX_DEPTH, Plan, Port, Space, Step, WeightSlot},
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

fn put_list<T>(out: &mut Vec<u8>, list: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
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
        out.extend_from_slice(&bind.offset.to_le_bytes());
    });
    put_size(out, &entry.arena_bytes);
    put_list(out, &entry.buffers, |out, buffer| {
        put_size(out, &buffer.offset);
        put_size(out, &buffer.bytes);
        out.push(match buffer.space {
            Space::Arena => 0,
            Space::State => 1,
        });
    });
    put_list(out, &entry.steps, |out, step| {
        out.extend_from_slice(&step.kernel.to_le_bytes());
        put_list(out, &step.args, |out, arg| {
            let (tag, index) = match *arg {
                Arg::Input(index) => (0, index),
                Arg::Output(index) => (1, index),
                Arg::Weight(index) => (2, index),
                Arg::Buffer(index) => (3, index),
            };
            out.push(tag);
            out.extend_from_slice(&index.to_le_bytes());
        });
        put_list(out, &step.sizes, put_size);
    });
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
                offset: r.i64("a bind")?,
            })
        })?,
        arena_bytes: size(r)?,
        buffers: r.list("buffers", |r| {
            Ok(Buffer {
                offset: size(r)?,
                bytes: size(r)?,
                space: match tag(r, "space of a buffer")? {
                    (_, 0) => Space::Arena,
                    (_, 1) => Space::State,
                    (at, value) => {
                        return Err(PlanError::Value { at, what: "space of a buffer", value: value.into() });
                    }
                },
            })
        })?,
        steps: r.list("steps", |r| {
            Ok(Step {
                kernel: r.u32("a step")?,
                args: r.list("arguments", arg)?,
                sizes: r.list("sizes", size)?,
            })
        })?,
    })
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

fn put_size(out: &mut Vec<u8>, size: &Size) {
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

fn size(r: &mut Reader<'_>) -> Result<Size, PlanError> {
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
