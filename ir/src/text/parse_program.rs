//! Programs from text.
//!
//! ```text
//! program = "program" "@" name "{" { weights | kernel | entry } "}" ;
//! weights = "weights" "@" name ":" type "=" contents [ layout ] [ "named" string ] ;
//! layout  = "permuted" "[" ints "]" | "panels" "depth=" int "cols=" int "row=" int "col=" int "offset=" int ;
//! entry   = "entry" "@" name "(" ports ")" "->" "(" port [ "for" "%" name ], … ")"
//!           "{" { buffer } [ "arena" size "bytes" ] [ "host" block ] { step } "}" ;
//! buffer  = ( "buffer" | "state" | "host" ) "%" name ":" type [ "at" size ] | "growing" "%" name ":" type "in" int ;
//! block   = "{" { step } "}" ;
//! step    = call | measure | set | require | "reserve" arg | copy | if | loop ;
//! measure = "size" name "=" arg [ "<=" size ] [ from ] ;
//! set     = "set" name "=" size { "," name "=" size } ;
//! require = "require" size ( "==" | "<=" ) size string [ from ] ;
//! copy    = "copy" arg "to" arg [ "at" size ] [ from ] ;
//! if      = "if" arg [ from ] block "else" block ;
//! loop    = "loop" name [ "below" size ] [ "while" arg ] [ "counted" name ] [ from ] block ;
//! call    = "call" ( "@" name | int ) "(" args ")" [ "[" [ name "=" ] size, … "]" ] [ from ] ;
//! arg     = "%" name | "@" name | ( "input" | "output" | "weight" | "buffer" ) int ;
//! ```
//!
//! Weights and kernels stand before the entries that use them.

use crate::dim::Symbol;
use crate::program::{
    Arg, Branch, Buffer, Call, Copy, Entry, Keep, Layout, Loop, Measure, PackedWeight, Port, Program,
    Require, Space, Step,
};
use crate::text::cursor::{Cursor, Parse};
use crate::text::dim;
use crate::text::error::{ParseError, Problem};
use crate::text::lex::{Kind, Sigil};
use crate::text::parse_graph::{contents, origin};
use crate::text::parse_kernel::kernel;
use crate::text::weights::WeightSource;

/// Parses a text with one program.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_program(text: &str, weights: &dyn WeightSource) -> Result<Program, Vec<ParseError>> {
    let mut cursor = Cursor::new(text);
    let read = program(&mut cursor, weights);
    let read = read
        .and_then(|program| if cursor.is_end() { Ok(program) } else { Err(cursor.unexpected("the end")) });
    let program = read.map_err(|error| cursor.report(error)).ok();
    cursor.finish(program)
}

fn program(cursor: &mut Cursor<'_>, source: &dyn WeightSource) -> Parse<Program> {
    cursor.expect_word("program")?;
    let name = cursor.sigil("@")?;
    let mut program = Program { name, weights: vec![], kernels: vec![], entries: vec![] };
    lines(cursor, |cursor| {
        if cursor.eat_word("weights") {
            let packed = packed(cursor, source)?;
            program.weights.push(packed);
        } else if cursor.is_word("kernel") {
            let kernel = kernel(cursor)?;
            program.kernels.push(kernel);
        } else if cursor.eat_word("entry") {
            let entry = entry(cursor, &program)?;
            program.entries.push(entry);
        } else {
            return Err(cursor.unexpected("`weights`, `kernel` or `entry`"));
        }
        Ok(())
    })?;
    Ok(program)
}

/// What stands between braces, line by line.
fn lines(cursor: &mut Cursor<'_>, mut line: impl FnMut(&mut Cursor<'_>) -> Parse<()>) -> Parse<()> {
    cursor.expect("{")?;
    while !cursor.eat("}") {
        let start = cursor.position();
        if cursor.is_end() {
            return Err(cursor.unexpected("}"));
        }
        if let Err(error) = line(cursor) {
            cursor.report(error);
            cursor.recover(start);
        }
    }
    Ok(())
}

fn packed(cursor: &mut Cursor<'_>, source: &dyn WeightSource) -> Parse<PackedWeight> {
    let name = cursor.sigil("@")?;
    let read = cursor.expect(":").and_then(|()| contents(cursor, &name, source));
    let weight = read.inspect_err(|error| cursor.poison(Sigil('@', &name).to_string(), error))?;
    let start = cursor.span();
    let layout = if cursor.eat_word("permuted") {
        cursor.expect("[")?;
        let perm: Vec<usize> = cursor.list("]", |cursor| cursor.integer("an axis"))?;
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..weight.shape().len()) {
            let why = "the axes of the weight, each once, are what it can be permuted by";
            return Err(ParseError { span: cursor.since(start), problem: Problem::Weight { why } });
        }
        Layout::Permuted(perm)
    } else if let Some(halves) = panels(cursor) {
        let mut outer = Vec::new();
        while cursor.kind() == Kind::Word && cursor.slice() == "outer" {
            outer.push((field(cursor, "outer")?, field(cursor, "by")?));
        }
        let [depth, cols, row, col, offset] = matrix(cursor)?;
        match halves {
            true => Layout::Nibbles { outer, depth, cols, row, col, offset },
            false => Layout::Panels { outer, depth, cols, row, col, offset },
        }
    } else if cursor.eat_word("quads") {
        let [depth, cols, row, col, offset] = matrix(cursor)?;
        Layout::Quads { depth, cols, row, col, offset }
    } else {
        Layout::Plain
    };
    let weight = if cursor.eat_word("named") { weight.renamed(cursor.string()?) } else { weight };
    Ok(PackedWeight { name: Symbol::new(name), weight, layout })
}

fn field(cursor: &mut Cursor<'_>, name: &'static str) -> Parse<usize> {
    cursor.expect_word(name)?;
    cursor.expect("=")?;
    cursor.integer("a number")
}

/// Extents, strides and the first element of a matrix in a weight.
fn matrix(cursor: &mut Cursor<'_>) -> Parse<[usize; 5]> {
    let mut numbers = [0; 5];
    for (number, name) in numbers.iter_mut().zip(["depth", "cols", "row", "col", "offset"]) {
        *number = field(cursor, name)?;
    }
    Ok(numbers)
}

/// Does a layout in panels follow, and are there two elements to a byte?
fn panels(cursor: &mut Cursor<'_>) -> Option<bool> {
    [("panels", false), ("nibbles", true)]
        .into_iter()
        .find_map(|(word, halves)| cursor.eat_word(word).then_some(halves))
}

fn port(cursor: &mut Cursor<'_>) -> Parse<Port> {
    let name = cursor.sigil("%")?;
    cursor.expect(":")?;
    Ok(Port { name, ty: cursor.ty()? })
}

fn entry(cursor: &mut Cursor<'_>, program: &Program) -> Parse<Entry> {
    let name = cursor.sigil("@")?;
    cursor.expect("(")?;
    let inputs: Vec<Port> = cursor.list(")", port)?;
    cursor.expect("->")?;
    cursor.expect("(")?;
    let mut keeps = Vec::new();
    let mut outputs = Vec::new();
    cursor.list(")", |cursor| {
        outputs.push(port(cursor)?);
        if cursor.eat_word("for") {
            let find = |name: &str| inputs.iter().position(|input| input.name == name);
            keeps.push(Keep { output: outputs.len() - 1, input: named(cursor, '%', find)? });
        }
        Ok(())
    })?;
    let mut entry =
        Entry { name, inputs, outputs, keeps, buffers: vec![], host: vec![], steps: vec![], arena: None };
    lines(cursor, |cursor| {
        if let Some(space) = space(cursor) {
            cursor.advance();
            let buffer = buffer(cursor, space)?;
            entry.buffers.push(buffer);
        } else if cursor.eat_word("arena") {
            entry.arena = Some(dim::dim(cursor)?);
            cursor.expect_word("bytes")?;
        } else if cursor.eat_word("host") {
            entry.host = block(cursor, program, &entry)?;
        } else {
            let step = step(cursor, program, &entry)?;
            entry.steps.push(step);
        }
        Ok(())
    })?;
    Ok(entry)
}

/// The space of the buffer that stands here, if one does.
fn space(cursor: &Cursor<'_>) -> Option<Space> {
    if cursor.next_kind() != Kind::Sign("%") || cursor.kind() != Kind::Word {
        return None;
    }
    match cursor.slice() {
        "buffer" => Some(Space::Arena),
        "state" => Some(Space::State),
        "host" => Some(Space::Host),
        "growing" => Some(Space::Growing(0)),
        _ => None,
    }
}

fn buffer(cursor: &mut Cursor<'_>, mut space: Space) -> Parse<Buffer> {
    let name = Symbol::new(cursor.sigil("%")?);
    cursor.expect(":")?;
    let ty = cursor.ty()?;
    let mut offset = None;
    if let Space::Growing(slot) = &mut space {
        cursor.expect_word("in")?;
        *slot = cursor.integer("the number of its memory")?;
    } else if cursor.eat_word("at") {
        offset = Some(dim::dim(cursor)?);
    }
    Ok(Buffer { name, ty, space, offset })
}

fn block(cursor: &mut Cursor<'_>, program: &Program, entry: &Entry) -> Parse<Vec<Step>> {
    let mut steps = vec![];
    cursor.deeper(|cursor| {
        lines(cursor, |cursor| {
            steps.push(step(cursor, program, entry)?);
            Ok(())
        })
    })?;
    Ok(steps)
}

fn step(cursor: &mut Cursor<'_>, program: &Program, entry: &Entry) -> Parse<Step> {
    if cursor.eat_word("call") {
        return call(cursor, program, entry).map(Step::Call);
    }
    if cursor.eat_word("size") {
        let symbol = cursor.symbol("a size")?;
        cursor.expect("=")?;
        let source = arg(cursor, program, entry)?;
        let bound = if cursor.eat("<=") { Some(dim::dim(cursor)?) } else { None };
        return Ok(Step::Measure(Measure { symbol, source, bound, origin: origin(cursor)? }));
    }
    if cursor.eat_word("set") {
        let mut sizes = vec![];
        while sizes.is_empty() || cursor.eat(",") {
            let symbol = cursor.symbol("a size")?;
            cursor.expect("=")?;
            sizes.push((symbol, dim::dim(cursor)?));
        }
        return Ok(Step::Set(sizes));
    }
    if cursor.eat_word("require") {
        let condition = dim::condition(cursor)?;
        let what = cursor.string()?.into();
        return Ok(Step::Require(Require { condition, what, origin: origin(cursor)? }));
    }
    if cursor.eat_word("reserve") {
        return Ok(Step::Reserve(arg(cursor, program, entry)?));
    }
    if cursor.eat_word("copy") {
        let from = arg(cursor, program, entry)?;
        cursor.expect_word("to")?;
        let to = arg(cursor, program, entry)?;
        let at = if cursor.eat_word("at") { Some(dim::dim(cursor)?) } else { None };
        return Ok(Step::Copy(Copy { from, to, at, origin: origin(cursor)? }));
    }
    if cursor.eat_word("if") {
        let (cond, origin) = (arg(cursor, program, entry)?, origin(cursor)?);
        let then = block(cursor, program, entry)?;
        cursor.expect_word("else")?;
        let otherwise = block(cursor, program, entry)?;
        return Ok(Step::If(Branch { cond, then, otherwise, origin }));
    }
    if cursor.eat_word("loop") {
        let index = cursor.symbol("the number of the iteration")?;
        let count = if cursor.eat_word("below") { Some(dim::dim(cursor)?) } else { None };
        let cond = if cursor.eat_word("while") { Some(arg(cursor, program, entry)?) } else { None };
        let trips = if cursor.eat_word("counted") { Some(cursor.symbol("a size")?) } else { None };
        let (origin, body) = (origin(cursor)?, block(cursor, program, entry)?);
        return Ok(Step::Loop(Loop { index, count, cond, trips, body, origin }));
    }
    Err(cursor.unexpected("a step, such as `call`, or `buffer`, `state`, `arena`"))
}

fn call(cursor: &mut Cursor<'_>, program: &Program, entry: &Entry) -> Parse<Call> {
    let kernel = match cursor.is("@") {
        true => {
            named(cursor, '@', |name| program.kernels.iter().position(|kernel| kernel.name.name() == name))?
        }
        false => cursor.integer("a kernel")?,
    };
    cursor.expect("(")?;
    let args = cursor.list(")", |cursor| arg(cursor, program, entry))?;
    let mut sizes = Vec::new();
    if cursor.eat("[") {
        sizes = cursor.list("]", |cursor| {
            if matches!(cursor.kind(), Kind::Word | Kind::Name) && cursor.next_kind() == Kind::Sign("=") {
                let start = cursor.span();
                let name = cursor.symbol("a size")?;
                cursor.expect("=")?;
                return Ok((Some((name, start)), dim::dim(cursor)?));
            }
            Ok((None, dim::dim(cursor)?))
        })?;
    }
    // A name is there for the reader; a wrong one would mislead.
    for (i, (name, _)) in sizes.iter().enumerate() {
        let expected = program.kernels.get(kernel).and_then(|kernel| kernel.sizes.get(i));
        if let (Some((name, span)), Some(expected)) = (name, expected)
            && name != expected
        {
            let problem = Problem::Stated { stated: name.to_string(), found: expected.to_string() };
            return Err(ParseError { span: span.clone(), problem });
        }
    }
    let sizes = sizes.into_iter().map(|(_, size)| size).collect();
    Ok(Call { kernel, args, sizes, origin: origin(cursor)? })
}

/// A name behind its sigil, as the position that `find` gives for it.
fn named(cursor: &mut Cursor<'_>, sigil: char, find: impl Fn(&str) -> Option<usize>) -> Parse<usize> {
    let start = cursor.span();
    let name = cursor.sigil(if sigil == '@' { "@" } else { "%" })?;
    let problem = || Problem::Undefined { name: Sigil(sigil, &name).to_string() };
    find(&name).ok_or_else(|| ParseError { span: cursor.since(start), problem: problem() })
}

fn arg(cursor: &mut Cursor<'_>, program: &Program, entry: &Entry) -> Parse<Arg> {
    if cursor.is("@") {
        let find = |name: &str| program.weights.iter().position(|packed| packed.name.name() == name);
        return named(cursor, '@', find).map(Arg::Weight);
    }
    if cursor.is("%") {
        // Inputs, then outputs, then buffers: one list of positions.
        let (inputs, outputs) = (entry.inputs.len(), entry.outputs.len());
        let at = named(cursor, '%', |name| {
            super::print_program::local_names(entry).position(|known| known == name)
        })?;
        return Ok(match at {
            at if at < inputs => Arg::Input(at),
            at if at < inputs + outputs => Arg::Output(at - inputs),
            at => Arg::Buffer(at - inputs - outputs),
        });
    }
    let kind: fn(usize) -> Arg = match cursor.slice() {
        "input" => Arg::Input,
        "output" => Arg::Output,
        "weight" => Arg::Weight,
        "buffer" => Arg::Buffer,
        _ => return Err(cursor.unexpected("what to pass: %name, @name, or `buffer 0`")),
    };
    cursor.advance();
    Ok(kind(cursor.integer("a position")?))
}
