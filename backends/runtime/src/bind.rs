//! Binding: from the sizes of the inputs to the value of every symbol, and the check that all inputs agree.

use crate::{
    error::{RunError, SizeError},
    plan::{Bind, DType, Entry, Port},
    size::Size,
};

/// The values of the entry's symbols for inputs of these sizes, every size of every input checked.
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
        symbols[bind.symbol as usize] = solve(bind, found).ok_or_else(|| unbindable(entry, bind, found))?;
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

/// `(found - offset) / scale`, where that is a size.
fn solve(bind: &Bind, found: i64) -> Option<i64> {
    let rest = i128::from(found) - i128::from(bind.offset);
    let scale = i128::from(bind.scale);
    let value = if rest % scale == 0 { rest / scale } else { return None };
    i64::try_from(value).ok().filter(|value| *value >= 0)
}

fn unbindable(entry: &Entry, bind: &Bind, found: i64) -> RunError {
    let symbol = entry.symbols[bind.symbol as usize].clone();
    let scaled = if bind.scale == 1 { symbol.clone() } else { format!("{}*{symbol}", bind.scale) };
    let form = match bind.offset {
        0 => scaled,
        offset if offset > 0 => format!("{scaled} + {offset}"),
        offset => format!("{scaled} - {}", offset.unsigned_abs()),
    };
    let input = entry.inputs[bind.input as usize].name.clone();
    RunError::Unbindable { input, axis: bind.axis as usize, found, form, symbol }
}

/// `2*n + 1 = 7, where n = 3 (axis 0 of `x`)`; a number alone where nothing is symbolic.
fn explain(entry: &Entry, size: &Size, value: i64, symbols: &[i64]) -> String {
    let mut used: Vec<u32> = Vec::new();
    size.symbols(&mut |symbol| {
        if !used.contains(&symbol) {
            used.push(symbol);
        }
    });
    let origin = |symbol: u32| {
        let bind =
            entry.binds.iter().find(|bind| bind.symbol == symbol).expect("validated: every symbol is bound");
        format!("axis {} of `{}`", bind.axis, entry.inputs[bind.input as usize].name)
    };
    let text = size.print(&entry.symbols);
    match (size, used.is_empty()) {
        (Size::Const(_), _) => text,
        (_, true) => format!("{text} = {value}"),
        (Size::Symbol(symbol), _) => format!("{text} = {value} ({})", origin(*symbol)),
        _ => {
            let name = |symbol: u32| &entry.symbols[symbol as usize];
            let each = used.iter().map(|symbol| {
                format!("{} = {} ({})", name(*symbol), symbols[*symbol as usize], origin(*symbol))
            });
            format!("{text} = {value}, where {}", each.collect::<Vec<_>>().join(", "))
        }
    }
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

/// The sizes of a port.
pub(crate) fn dims(entry: &Entry, port: &Port, symbols: &[i64]) -> Result<Vec<i64>, RunError> {
    let each = port.dims.iter().enumerate();
    each.map(|(axis, dim)| eval_count(entry, dim, symbols, || format!("`{}`, axis {axis}", port.name)))
        .collect()
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
