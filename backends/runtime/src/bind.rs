//! Binding: from the sizes of the inputs to the values of their symbols, and the check that all inputs agree.
//! And what sizes are at any time, with words for those that are wrong.

use crate::{
    error::{RunError, SizeError},
    plan::{Bind, DType, Entry, Port, Relation},
    size::Size,
};

/// The values of the entry's symbols for inputs of these sizes, every size of every input checked. Those
/// that inputs do not decide are 0.
pub(crate) fn symbols(entry: &Entry, dims: &[&[i64]]) -> Result<Vec<i64>, RunError> {
    if dims.len() != entry.inputs.len() {
        return Err(RunError::Count { what: "inputs", expected: entry.inputs.len(), found: dims.len() });
    }
    for (port, dims) in entry.inputs.iter().zip(dims) {
        if dims.len() != port.dims.len() {
            let (expected, found) = (port.dims.len(), dims.len());
            return Err(RunError::Rank { input: port.name.clone(), expected, found });
        }
        if let Some(axis) = dims.iter().position(|dim| *dim < 0) {
            let expected = "a size >= 0".to_owned();
            return Err(RunError::Dim { input: port.name.clone(), axis, expected, found: dims[axis] });
        }
    }
    let mut symbols = vec![0; entry.symbols.len()];
    for bind in &entry.binds {
        let found = dims[bind.input as usize][bind.axis as usize];
        let what = || format!("input `{}`, axis {}", entry.inputs[bind.input as usize].name, bind.axis);
        let offset = eval(entry, &bind.offset, &symbols, what)?;
        let value = solve(bind.scale, offset, found);
        symbols[bind.symbol as usize] = value.ok_or_else(|| unbindable(entry, bind, offset, found))?;
    }
    for (port, dims) in entry.inputs.iter().zip(dims) {
        for (axis, (size, found)) in port.dims.iter().zip(*dims).enumerate() {
            let value = eval(entry, size, &symbols, || format!("input `{}`, axis {axis}", port.name))?;
            if value != *found {
                let expected = explain(entry, size, value, &symbols);
                return Err(RunError::Dim { input: port.name.clone(), axis, expected, found: *found });
            }
        }
    }
    Ok(symbols)
}

impl Bind {
    /// The value of its symbol where its axis is `found`, and symbols have these values: if it has one, and all that
    /// the offset mentions are known.
    pub fn value(&self, symbols: &[Option<i64>], found: i64) -> Option<i64> {
        let mut known = true;
        self.offset.symbols(&mut |symbol| known &= matches!(symbols.get(symbol as usize), Some(Some(_))));
        let values: Vec<i64> = symbols.iter().map(|value| value.unwrap_or(0)).collect();
        let names = vec![String::new(); values.len()];
        let offset = known.then(|| self.offset.eval(&values, &names))?.ok()?;
        solve(self.scale, offset, found)
    }
}

/// `(found - offset) / scale`, where that is a size.
fn solve(scale: i64, offset: i64, found: i64) -> Option<i64> {
    let rest = i128::from(found) - i128::from(offset);
    let scale = i128::from(scale);
    let value = if rest % scale == 0 { rest / scale } else { return None };
    i64::try_from(value).ok().filter(|value| *value >= 0)
}

fn unbindable(entry: &Entry, bind: &Bind, offset: i64, found: i64) -> RunError {
    let symbol = entry.symbols[bind.symbol as usize].clone();
    let scaled = if bind.scale == 1 { symbol.clone() } else { format!("{}*{symbol}", bind.scale) };
    let form = match offset {
        0 => scaled,
        offset if offset > 0 => format!("{scaled} + {offset}"),
        offset => format!("{scaled} - {}", offset.unsigned_abs()),
    };
    let input = entry.inputs[bind.input as usize].name.clone();
    RunError::Unbindable { input, axis: bind.axis as usize, found, form, symbol }
}

/// `2*n + 1 = 7, where n = 3 (axis 0 of `x`)`; a number alone where nothing is symbolic.
pub(crate) fn explain(entry: &Entry, size: &Size, value: i64, symbols: &[i64]) -> String {
    match size {
        Size::Symbol(symbol) => format!("{} ({})", valued(entry, size, value), origin(entry, *symbol)),
        _ => valued(entry, size, value) + &origins(entry, &[size], symbols),
    }
}

/// `2*n + 1 = 7`; a number alone.
fn valued(entry: &Entry, size: &Size, value: i64) -> String {
    match size {
        Size::Const(_) => value.to_string(),
        _ => format!("{} = {value}", size.print(&entry.symbols)),
    }
}

/// `, where n = 3 (axis 0 of `x`), k = 2 (decided while the model runs)`; nothing where nothing is symbolic.
fn origins(entry: &Entry, sizes: &[&Size], symbols: &[i64]) -> String {
    let mut used: Vec<u32> = Vec::new();
    for size in sizes {
        size.symbols(&mut |symbol| {
            if !used.contains(&symbol) {
                used.push(symbol);
            }
        });
    }
    let each = used.iter().map(|&symbol| {
        let (name, value) = (&entry.symbols[symbol as usize], symbols[symbol as usize]);
        format!("{name} = {value} ({})", origin(entry, symbol))
    });
    if used.is_empty() { String::new() } else { format!(", where {}", each.collect::<Vec<_>>().join(", ")) }
}

fn origin(entry: &Entry, symbol: u32) -> String {
    match entry.binds.iter().find(|bind| bind.symbol == symbol) {
        Some(bind) => format!("axis {} of `{}`", bind.axis, entry.inputs[bind.input as usize].name),
        None => "decided while the model runs".to_owned(),
    }
}

/// An error that names `what` unless the sizes compare as they must.
pub(crate) fn require(
    entry: &Entry,
    left: &Size,
    relation: Relation,
    right: &Size,
    symbols: &[i64],
    what: &str,
) -> Result<(), RunError> {
    let value = |size| eval(entry, size, symbols, || what.to_owned());
    let (a, b) = (value(left)?, value(right)?);
    let (holds, must) = match relation {
        Relation::Equal => (a == b, "must equal"),
        Relation::AtMost => (a <= b, "must be at most"),
    };
    if holds {
        return Ok(());
    }
    let (a, b) = (valued(entry, left, a), valued(entry, right, b));
    let why = format!("{a} {must} {b}{}", origins(entry, &[left, right], symbols));
    Err(RunError::Requirement { what: what.to_owned(), why })
}

/// A value that was found while the model runs, if it can be a size and is within its bound.
pub(crate) fn measured(
    entry: &Entry,
    value: i64,
    bound: Option<&Size>,
    symbols: &[i64],
    what: &str,
) -> Result<i64, RunError> {
    let wrong = |limit| Err(RunError::Measured { what: what.to_owned(), value, limit });
    if value < 0 {
        return wrong("not be negative".to_owned());
    }
    if let Some(bound) = bound {
        let most = eval(entry, bound, symbols, || what.to_owned())?;
        if value > most {
            return wrong(format!("be at most {}", explain(entry, bound, most, symbols)));
        }
    }
    Ok(value)
}

/// The value of a size; `what` says whose it is.
pub(crate) fn eval(
    entry: &Entry,
    size: &Size,
    symbols: &[i64],
    what: impl Fn() -> String,
) -> Result<i64, RunError> {
    size.eval(symbols, &entry.symbols).map_err(|error: SizeError| RunError::Size { what: what(), error })
}

/// As [`eval`], for what must not be negative.
pub(crate) fn eval_count(
    entry: &Entry,
    size: &Size,
    symbols: &[i64],
    what: impl Fn() -> String,
) -> Result<i64, RunError> {
    match eval(entry, size, symbols, &what)? {
        value if value < 0 => {
            Err(RunError::Negative { what: what(), expr: size.print(&entry.symbols), value })
        }
        value => Ok(value),
    }
}

/// The sizes of a port, into `dims`.
pub(crate) fn dims(entry: &Entry, port: &Port, symbols: &[i64], dims: &mut Vec<i64>) -> Result<(), RunError> {
    dims.clear();
    for (axis, dim) in port.dims.iter().enumerate() {
        dims.push(eval_count(entry, dim, symbols, || format!("`{}`, axis {axis}", port.name))?);
    }
    Ok(())
}

/// Bytes of a tensor of these sizes, none of them negative.
pub(crate) fn tensor_bytes(dtype: DType, dims: &[i64], what: impl Fn() -> String) -> Result<usize, RunError> {
    if dims.contains(&0) {
        return Ok(0);
    }
    let elements = dims.iter().try_fold(1_i64, |product, dim| product.checked_mul(*dim));
    let bytes = elements.and_then(|elements| elements.checked_mul(dtype.bytes() as i64));
    bytes
        .and_then(|bytes| isize::try_from(bytes).ok())
        .map(isize::unsigned_abs)
        .ok_or_else(|| RunError::TooLarge { what: what() })
}
