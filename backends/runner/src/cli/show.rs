//! Results for people and for programs.
//!
//! A float vector also gets its answer: the index of its largest value and that value, because for a
//! classifier this is what one wants to know. Numbers for people have four decimals; `--json` and `--outputs`
//! have them in full.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runtime::DType;
use serde_json::{Map, Number, Value, json};

use crate::tensor::Tensor;
use crate::values;

/// A tensor with more elements is abridged to the edges of its axes.
const MAX_ELEMENTS: usize = 1000;
/// Elements kept at each edge of an abridged axis.
const EDGE: usize = 3;
/// Longest line of values.
const WIDTH: usize = 100;
/// Rows whose answers are shown.
const MAX_ANSWERS: usize = 20;
/// Values of a tensor in JSON.
const MAX_JSON_VALUES: usize = 10_000;

/// Prints the outputs of one run after the other.
pub(super) struct Printer<'a> {
    entry: &'a str,
    runs: usize,
    /// Collected where JSON is wanted, which is one value for all runs.
    json: Option<Vec<Value>>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(entry: &'a str, runs: usize, json: bool) -> Self {
        Printer { entry, runs, json: json.then(Vec::new) }
    }

    pub(super) fn run(
        &mut self,
        files: &[PathBuf],
        outputs: &[(String, Tensor)],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if let Some(collected) = &mut self.json {
            let files: Vec<_> = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
            let outputs: Vec<_> = outputs.iter().map(|(name, tensor)| to_json(name, tensor)).collect();
            collected.push(json!({ "files": files, "outputs": outputs }));
            return Ok(());
        }
        // The file's name stands for the run where it says which one it is.
        let label = files.first().filter(|_| files.len() == 1 || self.runs > 1).map(|path| name_of(path));
        if let ([(name, tensor)], Some(label)) = (outputs, &label)
            && let [row] = answers(tensor).as_slice()
        {
            writeln!(out, "{label}: {row}")?;
            // Many files are a list of answers; one file has room for all its values.
            return if self.runs > 1 { Ok(()) } else { print(name, tensor, out) };
        }
        if self.runs > 1 {
            writeln!(out, "{}", files.iter().map(|path| name_of(path)).collect::<Vec<_>>().join(" "))?;
        }
        for (name, tensor) in outputs {
            print(name, tensor, out)?;
            let answers = answers(tensor);
            match answers.as_slice() {
                [row] => writeln!(out, "largest: {row}")?,
                rows => {
                    for (i, row) in rows.iter().take(MAX_ANSWERS).enumerate() {
                        writeln!(out, "largest in row {i}: {row}")?;
                    }
                    if rows.len() > MAX_ANSWERS {
                        writeln!(out, "… and {} more rows", rows.len() - MAX_ANSWERS)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// After the last run.
    pub(super) fn finish(self, out: &mut dyn Write) -> io::Result<()> {
        let Some(mut collected) = self.json else { return Ok(()) };
        let report = match (collected.len(), collected.pop()) {
            (1, Some(Value::Object(run))) => json!({ "entry": self.entry, "outputs": run["outputs"] }),
            (_, last) => {
                collected.extend(last);
                json!({ "entry": self.entry, "runs": collected })
            }
        };
        writeln!(out, "{report}")
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Index and value of the largest element of each row of a float vector or matrix. As in NumPy, the first
/// of equal ones, and NaN is larger than any number.
fn answers(tensor: &Tensor) -> Vec<String> {
    let (rows, columns) = match *tensor.dims() {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => return Vec::new(),
    };
    if columns < 2 || values::float(tensor.dtype(), &[0; 8], 0).is_none() {
        return Vec::new();
    }
    let value = |index| values::float(tensor.dtype(), tensor.bytes(), index).expect("it is a float tensor");
    let row = |row: usize| {
        let mut best = (0, value(row * columns));
        for column in 1..columns {
            let found = value(row * columns + column);
            if !best.1.is_nan() && (found.is_nan() || found > best.1) {
                best = (column, found);
            }
        }
        let (index, largest) = best;
        let size = largest.abs();
        let plain = size == 0.0 || (1e-4..1e6).contains(&size);
        format!("{index}  {}", Notation::of(plain).write(largest))
    };
    (0..rows).map(row).collect()
}

/// How the floats of a tensor are written: all in the same way, so that columns line up.
#[derive(Clone, Copy)]
enum Notation {
    Plain,
    Scientific,
}

impl Notation {
    fn of(plain: bool) -> Notation {
        if plain { Notation::Plain } else { Notation::Scientific }
    }

    /// Plain with four decimals where the largest value keeps some digits in it and is not too long.
    fn for_values(finite: impl Iterator<Item = f64>) -> Notation {
        let largest = finite
            .filter(|value| value.is_finite())
            .fold(0.0, |largest: f64, value| largest.max(value.abs()));
        Notation::of(largest == 0.0 || (1e-3..1e6).contains(&largest))
    }

    fn write(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "nan".to_owned(),
            _ if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
            Notation::Plain => format!("{value:.4}"),
            Notation::Scientific => format!("{value:.4e}"),
        }
    }
}

/// Name, dtype, shape and values, as NumPy would print them.
fn print(name: &str, tensor: &Tensor, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{name}: {}{:?}", tensor.dtype(), tensor.dims())?;
    if tensor.is_empty() {
        return writeln!(out, "[]");
    }
    let layout = Layout::new(tensor);
    let mut text = String::new();
    layout.axis(0, 0, &mut text);
    writeln!(out, "{text}")
}

/// The elements of a tensor that are shown, written and as wide as the widest.
struct Layout<'a> {
    tensor: &'a Tensor,
    abridged: bool,
    notation: Notation,
    width: usize,
}

impl<'a> Layout<'a> {
    fn new(tensor: &'a Tensor) -> Layout<'a> {
        let mut layout =
            Layout { tensor, abridged: tensor.len() > MAX_ELEMENTS, notation: Notation::Plain, width: 0 };
        let mut shown = Vec::new();
        layout.shown(0, 0, &mut shown);
        let floats = shown.iter().filter_map(|&index| values::float(tensor.dtype(), tensor.bytes(), index));
        layout.notation = Notation::for_values(floats);
        layout.width = shown.iter().map(|&index| layout.element(index).len()).max().unwrap_or(0);
        layout
    }

    /// Positions on an axis that are shown; `None` stands for what is left out.
    fn positions(&self, axis: usize) -> Vec<Option<usize>> {
        let size = self.tensor.dims()[axis];
        if self.abridged && size > 2 * EDGE {
            let last = (size - EDGE..size).map(Some);
            (0..EDGE).map(Some).chain([None]).chain(last).collect()
        } else {
            (0..size).map(Some).collect()
        }
    }

    /// Indices of all elements that are shown, under the `index`-th slice of the axes before `axis`.
    fn shown(&self, axis: usize, index: usize, into: &mut Vec<usize>) {
        if axis == self.tensor.dims().len() {
            return into.push(index);
        }
        for position in self.positions(axis).into_iter().flatten() {
            self.shown(axis + 1, index * self.tensor.dims()[axis] + position, into);
        }
    }

    fn element(&self, index: usize) -> String {
        match values::float(self.tensor.dtype(), self.tensor.bytes(), index) {
            Some(value) => self.notation.write(value),
            None => values::text(self.tensor.dtype(), self.tensor.bytes(), index),
        }
    }

    fn axis(&self, axis: usize, index: usize, text: &mut String) {
        let rank = self.tensor.dims().len();
        if axis == rank {
            return text.push_str(&format!("{:>width$}", self.element(index), width = self.width));
        }
        text.push('[');
        // Inside `axis + 1` open brackets.
        let indent = " ".repeat(axis + 1);
        let innermost = axis + 1 == rank;
        let mut column = axis + 1;
        for (i, position) in self.positions(axis).into_iter().enumerate() {
            if i > 0 {
                if !innermost {
                    // One empty line for each axis between this one and the rows, as NumPy does.
                    text.push_str(&"\n".repeat(rank - axis - 1));
                    text.push_str(&indent);
                } else if column + 1 + self.width >= WIDTH {
                    text.push('\n');
                    text.push_str(&indent);
                    column = axis + 1;
                } else {
                    text.push(' ');
                    column += 1;
                }
            }
            match position {
                Some(position) => self.axis(axis + 1, index * self.tensor.dims()[axis] + position, text),
                None => text.push_str("..."),
            }
            column += self.width;
        }
        text.push(']');
    }
}

/// Values flat and row-major. JSON has no infinities and no NaN: they are strings.
fn to_json(name: &str, tensor: &Tensor) -> Value {
    let shown = tensor.len().min(MAX_JSON_VALUES);
    let value = |index| {
        let text = values::text(tensor.dtype(), tensor.bytes(), index);
        match values::float(tensor.dtype(), tensor.bytes(), index) {
            _ if tensor.dtype() == DType::Bool => Value::Bool(tensor.bytes()[index] != 0),
            Some(float) if float.is_nan() => Value::from("NaN"),
            Some(float) if float.is_infinite() => {
                Value::from(if float > 0.0 { "Infinity" } else { "-Infinity" })
            }
            // Through the text: 0.1 in f32 is 0.1, not the f64 nearest to it.
            Some(float) => Number::from_f64(text.parse().unwrap_or(float)).map_or(Value::Null, Value::Number),
            None => match (text.parse::<i64>(), text.parse::<u64>()) {
                (Ok(signed), _) => Value::from(signed),
                (_, Ok(unsigned)) => Value::from(unsigned),
                _ => Value::from(text),
            },
        }
    };
    let mut object = Map::new();
    object.insert("name".into(), name.into());
    object.insert("dtype".into(), tensor.dtype().name().into());
    object.insert("shape".into(), tensor.dims().into());
    object.insert("values".into(), (0..shown).map(value).collect::<Vec<_>>().into());
    object.insert("truncated".into(), (shown < tensor.len()).into());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(dims: &[usize], values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::from_bytes(DType::F32, dims, &bytes).expect("small")
    }

    fn printed(files: &[&str], runs: usize, outputs: Vec<(&str, Tensor)>) -> String {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let outputs: Vec<_> = outputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        let mut out = Vec::new();
        let mut printer = Printer::new("main", runs, false);
        printer.run(&files, &outputs, &mut out).expect("a vector takes everything");
        printer.finish(&mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn a_classifier_answers_first() {
        let probabilities = || floats(&[1, 3], &[0.0015, 0.9981, 0.0004]);
        assert_eq!(
            printed(&["d/1.npy"], 1, vec![("p", probabilities())]),
            "1.npy: 1  0.9981\np: f32[1, 3]\n[[0.0015 0.9981 0.0004]]\n"
        );
        assert_eq!(printed(&["d/1.npy"], 9, vec![("p", probabilities())]), "1.npy: 1  0.9981\n");
        assert_eq!(
            printed(&[], 1, vec![("p", probabilities())]),
            "p: f32[1, 3]\n[[0.0015 0.9981 0.0004]]\nlargest: 1  0.9981\n"
        );
        assert_eq!(
            printed(&["x.npy"], 1, vec![("p", floats(&[2, 2], &[1.0, -1.0, f32::NAN, 2.0]))]),
            "p: f32[2, 2]\n[[ 1.0000 -1.0000]\n [    nan  2.0000]]\nlargest in row 0: 0  1.0000\nlargest in row 1: 0  nan\n"
        );
    }

    #[test]
    fn shapes_of_all_kinds() {
        assert_eq!(printed(&[], 1, vec![("s", floats(&[], &[2.5]))]), "s: f32[]\n2.5000\n");
        assert_eq!(printed(&[], 1, vec![("e", floats(&[2, 0], &[]))]), "e: f32[2, 0]\n[]\n");
        assert_eq!(printed(&[], 1, vec![("tiny", floats(&[1], &[1e-9]))]), "tiny: f32[1]\n[1.0000e-9]\n");
        let ids = Tensor::from_bytes(DType::U8, &[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 80]).expect("small");
        assert_eq!(
            printed(&[], 1, vec![("i", ids)]),
            "i: u8[2, 2, 2]\n[[[ 1  2]\n  [ 3  4]]\n\n [[ 5  6]\n  [ 7 80]]]\n"
        );
    }

    #[test]
    fn large_tensors_are_abridged_and_long_rows_are_wrapped() {
        let large = Tensor::zeroed(DType::I32, &[100, 1, 100]).expect("small");
        let text = printed(&[], 1, vec![("x", large)]);
        assert!(text.contains("[[[0 0 0 ... 0 0 0]]\n\n") && text.contains("\n\n ...\n\n"), "{text}");
        assert!(text.lines().count() < 20, "{text}");
        let wide = floats(&[40], &[0.0; 40]);
        let text = printed(&[], 1, vec![("x", wide)]);
        assert!(text.lines().all(|line| line.len() <= WIDTH) && text.lines().count() == 5, "{text}");
    }

    #[test]
    fn json_keeps_values_and_says_what_it_leaves_out() {
        let value = to_json("x", &floats(&[3], &[0.1, f32::NAN, f32::NEG_INFINITY]));
        assert_eq!(value["values"], json!([0.1, "NaN", "-Infinity"]));
        assert_eq!(
            (&value["truncated"], &value["shape"], &value["dtype"]),
            (&json!(false), &json!([3]), &json!("f32"))
        );
        let long = Tensor::zeroed(DType::Bool, &[MAX_JSON_VALUES + 1]).expect("small");
        let value = to_json("x", &long);
        assert_eq!(
            (value["values"].as_array().map(Vec::len), &value["truncated"]),
            (Some(MAX_JSON_VALUES), &json!(true))
        );
        let ids = Tensor::from_bytes(DType::U64, &[1], &u64::MAX.to_le_bytes()).expect("small");
        assert_eq!(to_json("x", &ids)["values"], json!([u64::MAX]));
    }
}
