//! Kernels from text.
//!
//! After an error, reading goes on with the next statement. Whether the kernel makes sense beyond the types of its
//! expressions is for [`crate::verify`] to say.

use crate::dim::Symbol;
use crate::dtype::DType;
use crate::kernel::stmt::{Axes, FOLD_LANES};
use crate::kernel::{
    Access, Body, Expr, Gemm, Group, Kernel, KernelKind, LaneFold, LoopKind, Param, Reduce, Sort, Stage, Stmt,
};
use crate::text::cursor::{Cursor, Parse};
use crate::text::dim;
use crate::text::error::{ParseError, Problem};
use crate::text::lex::{Kind, Sigil};
use crate::text::parse_expr::{Scope, expr, factor, index};

/// Parses an expression over these arrays and bound scalars.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_expr(
    text: &str,
    arrays: &[(Symbol, DType)],
    scalars: &[(Symbol, DType)],
) -> Result<Expr, Vec<ParseError>> {
    let mut scope = Scope::default();
    arrays.iter().for_each(|(name, dtype)| scope.array(name.clone(), *dtype));
    scalars.iter().for_each(|(name, dtype)| scope.scalar(name.clone(), *dtype));
    let mut cursor = Cursor::new(text);
    let read = expr(&mut cursor, &scope);
    let read = read.and_then(|e| if cursor.is_end() { Ok(e) } else { Err(cursor.unexpected("the end")) });
    read.map_err(|error| vec![error])
}

/// Parses a text with one kernel.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_kernel(text: &str) -> Result<Kernel, Vec<ParseError>> {
    let mut kernels = parse_kernels(text)?;
    match (kernels.pop(), kernels.is_empty()) {
        (Some(kernel), true) => Ok(kernel),
        _ => {
            let problem =
                Problem::Unexpected { expected: "one kernel", found: "another number of them".to_owned() };
            Err(vec![ParseError { span: 0..text.len(), problem }])
        }
    }
}

/// Parses a text with any number of kernels.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_kernels(text: &str) -> Result<Vec<Kernel>, Vec<ParseError>> {
    let mut cursor = Cursor::new(text);
    let mut kernels = Vec::new();
    while !cursor.is_end() {
        let start = cursor.position();
        match kernel(&mut cursor) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => {
                cursor.report(error);
                cursor.recover(start);
                while cursor.eat("}") {}
            }
        }
    }
    cursor.finish(Some(kernels))
}

/// Reads a kernel.
pub(super) fn kernel(cursor: &mut Cursor<'_>) -> Parse<Kernel> {
    cursor.expect_word("kernel")?;
    let name = Symbol::new(cursor.sigil("@")?);
    cursor.expect_word("kind")?;
    cursor.expect("=")?;
    let kind = match cursor.kind() {
        Kind::Word => KernelKind::ALL.into_iter().find(|kind| kind.name() == cursor.slice()),
        _ => None,
    };
    let kind = kind.ok_or_else(|| cursor.unexpected("a kind of kernel, such as `fused` or `matmul`"))?;
    cursor.advance();
    let sizes = match cursor.eat("[") {
        true => cursor.list("]", |cursor| cursor.symbol("a size"))?,
        false => vec![],
    };
    cursor.expect("(")?;
    let params = cursor.list(")", |cursor| {
        let name = Symbol::new(cursor.sigil("%")?);
        cursor.expect(":")?;
        let access = if cursor.eat_word("write") {
            Access::Write
        } else if cursor.eat_word("scratch") {
            Access::Scratch
        } else {
            Access::Read
        };
        Ok(Param { name, ty: cursor.ty()?, access })
    })?;
    let mut given = vec![];
    if cursor.eat_word("given") {
        given.push(dim::condition(cursor)?);
        while cursor.eat(",") {
            given.push(dim::condition(cursor)?);
        }
    }
    let mut scope = Scope::default();
    params.iter().for_each(|param| scope.array(param.name.clone(), param.ty.dtype));
    let body = if cursor.eat_word("stages") {
        Body::Stages(items(cursor, &mut scope, stage)?)
    } else if cursor.eat_word("loops") {
        Body::Loops(items(cursor, &mut scope, stmt)?)
    } else {
        return Err(cursor.unexpected("`stages` or `loops`"));
    };
    Ok(Kernel { name, kind, sizes, given, params, body })
}

/// What stands between braces, one by one.
fn items<T>(
    cursor: &mut Cursor<'_>,
    scope: &mut Scope,
    item: impl Fn(&mut Cursor<'_>, &mut Scope) -> Parse<T>,
) -> Parse<Vec<T>> {
    cursor.expect("{")?;
    let mark = scope.mark();
    let items = cursor.deeper(|cursor| {
        let mut items = Vec::new();
        while !cursor.eat("}") {
            let start = cursor.position();
            if cursor.is_end() {
                return Err(cursor.unexpected("}"));
            }
            match item(cursor, scope) {
                Ok(item) => items.push(item),
                Err(error) => {
                    cursor.report(error);
                    cursor.recover(start);
                }
            }
        }
        Ok(items)
    });
    scope.reset(mark);
    items
}

fn stage(cursor: &mut Cursor<'_>, scope: &mut Scope) -> Parse<Stage> {
    cursor.expect_word("stage")?;
    let name = cursor.sigil("%")?;
    let read = |cursor: &mut Cursor<'_>| {
        cursor.expect("[")?;
        let axes = cursor.list("]", |cursor| {
            let axis = cursor.symbol("an axis")?;
            cursor.expect_word("in")?;
            Ok((axis, dim::dim(cursor)?))
        })?;
        cursor.expect(":")?;
        let dtype = cursor.dtype()?;
        cursor.expect("=")?;
        let start = cursor.span();
        let body = expr(cursor, scope)?;
        if body.dtype() != dtype {
            let problem = Problem::Stated { stated: dtype.to_string(), found: body.dtype().to_string() };
            return Err(ParseError { span: cursor.since(start), problem });
        }
        Ok(Stage { name: Symbol::new(&name), axes, body })
    };
    let stage = read(cursor).inspect_err(|error| cursor.poison(Sigil('%', &name).to_string(), error))?;
    scope.array(stage.name.clone(), stage.body.dtype());
    Ok(stage)
}

fn stmt(cursor: &mut Cursor<'_>, scope: &mut Scope) -> Parse<Stmt> {
    if cursor.is("%") {
        let target = Symbol::new(cursor.sigil("%")?);
        cursor.expect("[")?;
        let at = index(cursor, scope)?;
        cursor.expect("=")?;
        return Ok(Stmt::Store { target, at, value: expr(cursor, scope)? });
    }
    let word = if cursor.kind() == Kind::Word { cursor.slice() } else { "" };
    match word {
        "for" | "parallel" | "vector" | "unroll" | "blocks" | "grid" | "threads" => {
            cursor.advance();
            let (axis, extent) = cursor.range()?;
            let kind = match word {
                "parallel" if cursor.eat_word("grain") => {
                    LoopKind::Parallel(cursor.integer("a number of iterations")?)
                }
                "parallel" => LoopKind::Parallel(1),
                "vector" => {
                    cursor.expect_word("by")?;
                    LoopKind::Vector(cursor.integer("a number of lanes")?)
                }
                "unroll" => LoopKind::Unroll,
                "blocks" | "grid" => {
                    cursor.expect_word("of")?;
                    let threads = cursor.integer("a number of threads")?;
                    match word {
                        "grid" => LoopKind::Grid { threads, lanes: lanes_of_group(cursor)? },
                        _ => LoopKind::Blocks(threads),
                    }
                }
                "threads" => LoopKind::Threads(lanes_of_group(cursor)?),
                _ => LoopKind::Serial,
            };
            Ok(Stmt::For { axis, extent, kind, body: items(cursor, scope, stmt)? })
        }
        "if" => {
            cursor.advance();
            let start = cursor.span();
            let cond = expr(cursor, scope)?;
            if cond.dtype() != DType::Bool {
                let problem = Problem::Types { function: "if", types: cond.dtype().to_string() };
                return Err(ParseError { span: cursor.since(start), problem });
            }
            Ok(Stmt::If { cond, then: items(cursor, scope, stmt)? })
        }
        "let" | "var" | "set" => {
            cursor.advance();
            let name = cursor.sigil("%")?;
            let value = cursor.expect("=").and_then(|()| expr(cursor, scope));
            let value = value.inspect_err(|error| cursor.poison(Sigil('%', &name).to_string(), error))?;
            let name = Symbol::new(name);
            if word != "set" {
                scope.scalar(name.clone(), value.dtype());
            }
            Ok(match word {
                "let" => Stmt::Let { name, value },
                "var" => Stmt::Var { name, init: value },
                _ => Stmt::Set { name, value },
            })
        }
        "alloc" => {
            cursor.advance();
            let name = cursor.sigil("%")?;
            let ty = cursor.expect(":").and_then(|()| cursor.dtype()).and_then(|dtype| {
                cursor.expect("[")?;
                Ok((
                    dtype,
                    cursor.list("]", |cursor| {
                        let negative = cursor.eat("-");
                        dim::integer(cursor, negative)
                    })?,
                ))
            });
            let (dtype, shape) =
                ty.inspect_err(|error| cursor.poison(Sigil('%', &name).to_string(), error))?;
            let name = Symbol::new(name);
            scope.array(name.clone(), dtype);
            Ok(Stmt::Alloc { name, dtype, shape })
        }
        "fold" => {
            cursor.advance();
            fold(cursor, scope)
        }
        "gemm" => {
            cursor.advance();
            gemm(cursor, scope)
        }
        "sort" => {
            cursor.advance();
            sort(cursor)
        }
        _ => Err(cursor.unexpected("a statement")),
    }
}

/// `by 4`, or nothing where threads work for themselves.
fn lanes_of_group(cursor: &mut Cursor<'_>) -> Parse<u32> {
    if cursor.eat_word("by") { cursor.integer("a number of threads") } else { Ok(1) }
}

/// `i in 0..n`, or any number of them in parentheses.
fn axes(cursor: &mut Cursor<'_>) -> Parse<Axes> {
    if !cursor.eat("(") {
        return Ok(vec![cursor.range()?]);
    }
    let mut axes = Vec::new();
    while !cursor.eat(")") {
        if !axes.is_empty() {
            cursor.expect(",")?;
        }
        axes.push(cursor.range()?);
    }
    Ok(axes)
}

fn fold(cursor: &mut Cursor<'_>, scope: &mut Scope) -> Parse<Stmt> {
    let acc = Symbol::new(cursor.sigil("%")?);
    let dtype = if cursor.eat(":") { cursor.dtype()? } else { DType::F32 };
    cursor.expect("=")?;
    let op = match cursor.kind() {
        Kind::Word => Reduce::ALL.into_iter().find(|op| op.name() == cursor.slice()),
        _ => None,
    };
    let op = op.ok_or_else(|| cursor.unexpected("a reduction, such as `sum` or `max`"))?;
    cursor.advance();
    let (axis, extent) = cursor.range()?;
    let lanes = if cursor.eat_word("by") { cursor.integer("a number of lanes")? } else { FOLD_LANES as u32 };
    scope.scalar(acc.clone(), dtype);
    let body = items(cursor, scope, stmt)?;
    Ok(Stmt::Fold(Box::new(LaneFold { acc, dtype, op, lanes, axis, extent, body })))
}

fn gemm(cursor: &mut Cursor<'_>, scope: &mut Scope) -> Parse<Stmt> {
    let row = axes(cursor)?;
    cursor.expect(",")?;
    let col = axes(cursor)?;
    cursor.expect(",")?;
    let depth = axes(cursor)?;
    let group = if cursor.eat_word("for") { Some(group(cursor)?) } else { None };
    cursor.expect("{")?;
    let a = factor(cursor, scope)?;
    cursor.expect("*")?;
    let b = factor(cursor, scope)?;
    cursor.expect("}")?;
    cursor.expect_word("as")?;
    let acc = Symbol::new(cursor.sigil("%")?);
    let mark = scope.mark();
    scope.scalar(acc.clone(), a.dtype());
    let body = items(cursor, scope, stmt);
    scope.reset(mark);
    Ok(Stmt::Gemm(Box::new(Gemm { row, col, depth, group, a, b, acc, body: body? })))
}

/// `g in 0..n order %o starts %s`.
fn group(cursor: &mut Cursor<'_>) -> Parse<Group> {
    let (axis, extent) = cursor.range()?;
    let mut array = |word: &'static str| {
        cursor.expect_word(word)?;
        cursor.sigil("%").map(Symbol::new)
    };
    Ok(Group { axis, extent, order: array("order")?, starts: array("starts")? })
}

fn sort(cursor: &mut Cursor<'_>) -> Parse<Stmt> {
    let array = |cursor: &mut Cursor<'_>| cursor.sigil("%").map(Symbol::new);
    let optional = |cursor: &mut Cursor<'_>, word: &str| {
        if cursor.eat_word(word) { array(cursor).map(Some) } else { Ok(None) }
    };
    let keys = array(cursor)?;
    cursor.expect_word("along")?;
    let axis = cursor.integer("an axis, counted from 0")?;
    let descending = cursor.eat_word("descending");
    if !descending && !cursor.eat_word("ascending") {
        return Err(cursor.unexpected("`ascending` or `descending`"));
    }
    let (values, positions) = (optional(cursor, "values")?, optional(cursor, "positions")?);
    cursor.expect_word("scratch")?;
    let scratch = array(cursor)?;
    Ok(Stmt::Sort(Box::new(Sort { keys, axis, descending, values, positions, scratch })))
}
