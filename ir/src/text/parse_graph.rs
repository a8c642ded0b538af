//! Graphs from text.
//!
//! ```text
//! file    = { weights } graph ;
//! weights = "weights" "@" name ":" type "=" ( "splat" element | "[" elements "]" | "data" hash )
//!           [ "named" string ] [ from ] ;
//! graph   = "graph" "@" name "(" [ input { "," input } ] ")" "->" types "{" { weights | node } return "}" ;
//! input   = "%" name ":" type [ from ] ;
//! node    = results "=" op [ operand { "," operand } ] [ attrs ] [ ":" types ] [ from ] ;
//! results = "%" int { "," "%" int } | "()" ;      operand = "%" ( int | name ) | "@" name ;
//! attrs   = "{" key "=" attr { "," key "=" attr } "}" ;
//! attr    = size | float | string | dtype | "true" | "false" | "[" [ attr { "," attr } ] "]" | graph ;
//! types   = type { "," type } | "()" ;            type = dtype "[" [ size { "," size } ] "]" | "?" ;
//! return  = "return" [ output { "," output } ] ;   output = operand [ "as" string ] [ "for" "%" name ] ;
//! from    = "from" place { "," place } ;          place = string [ "(" string { "," string } ")" ] ;
//! ```
//!
//! A weight that is called `c0`, `c1`, … and not said to be named has no name. Types that are left out, or `?`, are inferred. Stated ones are taken as they are: [`crate::verify`] compares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::attr::Attr;
use crate::dtype::DType;
use crate::graph::{self, Graph, Node, Value};
use crate::op::{Infer, Lookup, OpDef};
use crate::origin::{Origin, Place};
use crate::text::cursor::{Cursor, Parse};
use crate::text::dim;
use crate::text::error::{ParseError, Problem};
use crate::text::lex::{Kind, Sigil};
use crate::text::parse_region::region;
use crate::text::print_graph::{SPLAT, implied_name};
use crate::text::weights::WeightSource;
use crate::types::TensorType;
use crate::weight::{Hash, Weight};

/// Parses a text with one graph.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_graph(text: &str, ops: Lookup, weights: &dyn WeightSource) -> Result<Graph, Vec<ParseError>> {
    let mut cursor = Cursor::new(text);
    let cx = Context { ops, weights };
    let mut stored = Vec::new();
    let mut found = None;
    while !cursor.is_end() {
        let start = cursor.position();
        let read = if cursor.is_word("weights") {
            weight_line(&mut cursor, &cx).map(|weight| stored.push(weight))
        } else if cursor.is_word("graph") && found.is_none() {
            graph(&mut cursor, &cx, std::mem::take(&mut stored)).map(|graph| found = Some(graph))
        } else if found.is_some() {
            Err(cursor.unexpected("nothing more than one graph"))
        } else {
            Err(cursor.unexpected("`weights` or `graph`"))
        };
        if let Err(error) = read {
            cursor.report(error);
            cursor.recover(start);
            while cursor.eat("}") {}
        }
    }
    if found.is_none() && !cursor.failed() {
        cursor.report(cursor.unexpected("a graph"));
    }
    cursor.finish(found)
}

/// What reading a graph needs.
struct Context<'a> {
    ops: Lookup<'a>,
    weights: &'a dyn WeightSource,
}

/// What a text calls a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Number(u64),
    Input(String),
    Weight(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Number(number) => write!(f, "%{number}"),
            Name::Input(name) => write!(f, "{}", Sigil('%', name)),
            Name::Weight(name) => write!(f, "{}", Sigil('@', name)),
        }
    }
}

type Values = BTreeMap<Name, Value>;

type WeightLine = (String, Weight, Origin, std::ops::Range<usize>);

fn define(
    cursor: &mut Cursor<'_>,
    values: &mut Values,
    name: Name,
    value: Value,
    span: std::ops::Range<usize>,
) {
    let text = name.to_string();
    if values.insert(name, value).is_some() {
        cursor.report(ParseError { span, problem: Problem::Redefined { name: text } });
    }
}

fn graph(cursor: &mut Cursor<'_>, cx: &Context<'_>, weights: Vec<WeightLine>) -> Parse<Graph> {
    cursor.expect_word("graph")?;
    let mut graph = Graph::new(cursor.sigil("@")?);
    let mut values = Values::new();
    for (name, weight, origin, span) in weights {
        let value = graph.add_weight(weight, origin);
        define(cursor, &mut values, Name::Weight(name), value, span);
    }
    cursor.expect("(")?;
    let inputs = cursor.list(")", |cursor| {
        let start = cursor.span();
        let name = cursor.sigil("%")?;
        let span = cursor.since(start);
        cursor.expect(":")?;
        let ty = cursor.ty()?;
        Ok((name, ty, origin(cursor)?, span))
    })?;
    for (name, ty, origin, span) in inputs {
        let value = graph.add_input(name.clone(), ty, origin);
        define(cursor, &mut values, Name::Input(name), value, span);
    }
    cursor.expect("->")?;
    let start = cursor.span();
    let stated = types(cursor)?;
    let stated_at = cursor.since(start);
    cursor.expect("{")?;
    cursor.deeper(|cursor| body(cursor, cx, &mut graph, &mut values))?;
    let found: Vec<&TensorType> = graph.outputs().iter().map(|value| graph.ty(*value)).collect();
    let agree = stated.len() == found.len()
        && stated.iter().zip(&found).all(|(s, f)| s.as_ref().is_none_or(|s| s == *f));
    if !agree && !cursor.failed() {
        let list = |types: Vec<String>| if types.is_empty() { "()".to_owned() } else { types.join(", ") };
        let stated =
            list(stated.iter().map(|ty| ty.as_ref().map_or("?".to_owned(), TensorType::to_string)).collect());
        let found = list(found.iter().map(|ty| ty.to_string()).collect());
        cursor.report(ParseError { span: stated_at, problem: Problem::Stated { stated, found } });
    }
    Ok(graph)
}

/// Nodes, then `return`, then the brace.
fn body(cursor: &mut Cursor<'_>, cx: &Context<'_>, graph: &mut Graph, values: &mut Values) -> Parse<()> {
    let mut returned = false;
    while !cursor.eat("}") {
        let start = cursor.position();
        if cursor.is_end() {
            return Err(cursor.unexpected("}"));
        }
        let read = if returned {
            Err(cursor.unexpected("}"))
        } else if cursor.is_word("weights") {
            weight_line(cursor, cx).map(|(name, weight, origin, span)| {
                let value = graph.add_weight(weight, origin);
                define(cursor, values, Name::Weight(name), value, span);
            })
        } else if cursor.eat_word("return") {
            returned = true;
            outputs(cursor, graph, values)
        } else {
            node(cursor, cx, graph, values)
        };
        if let Err(error) = read {
            cursor.report(error);
            cursor.recover(start);
        }
    }
    if !returned && !cursor.failed() {
        let mut error = cursor.unexpected("`return`");
        error.span.end = error.span.start;
        cursor.report(error);
    }
    Ok(())
}

fn outputs(cursor: &mut Cursor<'_>, graph: &mut Graph, values: &Values) -> Parse<()> {
    let mut outputs = Vec::new();
    while !cursor.is("}") {
        if !outputs.is_empty() {
            cursor.expect(",")?;
        }
        let value = operand(cursor, values)?;
        let name = match cursor.eat_word("as") {
            true => cursor.string()?,
            false => format!("y{}", outputs.len()),
        };
        let kept = match cursor.eat_word("for") {
            true => Some(input_position(cursor, graph)?),
            false => None,
        };
        outputs.push((name, value, kept));
    }
    graph.set_outputs([]);
    for (name, value, kept) in outputs {
        match kept {
            Some(input) => graph.keep(name, value, input),
            None => graph.add_output(name, value),
        }
    }
    Ok(())
}

/// The position of the input that is called so.
fn input_position(cursor: &mut Cursor<'_>, graph: &Graph) -> Parse<usize> {
    let start = cursor.span();
    let name = cursor.sigil("%")?;
    let position = graph.inputs().iter().position(|&input| graph.input_name(input) == name);
    let problem = Problem::Undefined { name: Sigil('%', &name).to_string() };
    position.ok_or_else(|| ParseError { span: cursor.since(start), problem })
}

fn name(cursor: &mut Cursor<'_>) -> Parse<Name> {
    if cursor.is("@") {
        return Ok(Name::Weight(cursor.sigil("@")?));
    }
    if cursor.is("%") && matches!(cursor.next_kind(), Kind::Number { .. }) {
        cursor.advance();
        return Ok(Name::Number(cursor.integer("the number of a value")?));
    }
    match cursor.is("%") {
        true => Ok(Name::Input(cursor.sigil("%")?)),
        false => Err(cursor.unexpected("a value, such as %0, %x or @w")),
    }
}

fn operand(cursor: &mut Cursor<'_>, values: &Values) -> Parse<Value> {
    let start = cursor.span();
    let name = name(cursor)?;
    let problem = || Problem::Undefined { name: name.to_string() };
    values.get(&name).copied().ok_or_else(|| ParseError { span: cursor.since(start), problem: problem() })
}

/// What stands to the left of a node's `=`.
type Results = Vec<(Name, std::ops::Range<usize>)>;

fn results(cursor: &mut Cursor<'_>) -> Parse<Results> {
    let mut results = Vec::new();
    if cursor.eat("(") {
        cursor.expect(")")?;
        cursor.expect("=")?;
        return Ok(results);
    }
    loop {
        let start = cursor.span();
        let name = name(cursor)?;
        if let Name::Weight(_) = name {
            return Err(ParseError {
                span: cursor.since(start),
                problem: Problem::Unexpected { expected: "a value, such as %0", found: format!("`{name}`") },
            });
        }
        results.push((name, cursor.since(start)));
        if !cursor.eat(",") {
            cursor.expect("=")?;
            return Ok(results);
        }
    }
}

fn node(cursor: &mut Cursor<'_>, cx: &Context<'_>, graph: &mut Graph, values: &mut Values) -> Parse<()> {
    let results = results(cursor)?;
    let read = application(cursor, cx, graph, values, &results);
    let (node, operands) = read.inspect_err(|error| {
        for (name, _) in &results {
            cursor.poison(name.to_string(), error);
        }
    })?;
    let id = graph.add_node_unchecked(node, &operands);
    for (result, (name, span)) in results.into_iter().enumerate() {
        define(cursor, values, name, Value { node: id, result }, span);
    }
    Ok(())
}

/// What stands to the right of a node's `=`.
fn application(
    cursor: &mut Cursor<'_>,
    cx: &Context<'_>,
    graph: &Graph,
    values: &Values,
    results: &Results,
) -> Parse<(Node, Vec<Value>)> {
    let start = cursor.span();
    if cursor.kind() != Kind::Word {
        return Err(cursor.unexpected("the name of an op"));
    }
    let name = cursor.slice();
    let def = (cx.ops)(name).ok_or_else(|| cursor.error(Problem::UnknownOp { name: name.to_owned() }))?;
    cursor.advance();
    let mut operands = Vec::new();
    if cursor.is("%") || cursor.is("@") {
        operands.push(operand(cursor, values)?);
        while cursor.eat(",") {
            operands.push(operand(cursor, values)?);
        }
    }
    let given = match cursor.eat("{") {
        true => cursor.list("}", |cursor| {
            let key = cursor.symbol("the name of an attribute")?;
            cursor.expect("=")?;
            Ok((key.name().to_owned(), attr(cursor, cx)?))
        })?,
        false => vec![],
    };
    let applied = cursor.since(start);
    let refuse = |error| ParseError { span: applied.clone(), problem: Problem::Op { op: def.name, error } };
    let attrs = def.check_attrs(given).map_err(|error| refuse(error.into()))?;
    let stated = match cursor.eat(":") {
        true => types(cursor)?.into_iter().collect::<Option<Vec<_>>>(),
        false => None,
    };
    let origin = origin(cursor)?;
    let types = match stated {
        Some(types) => types,
        None => infer(graph, def, &operands, &attrs).map_err(refuse)?,
    };
    if types.len() != results.len() {
        let problem = Problem::Count { what: "values", left: results.len(), of: "types", right: types.len() };
        return Err(ParseError { span: applied.clone(), problem });
    }
    Ok((Node { kind: graph::Kind::Op { def, attrs }, types, origin }, operands))
}

fn infer(
    graph: &Graph,
    def: &'static OpDef,
    operands: &[Value],
    attrs: &crate::attr::Attrs,
) -> Result<Vec<TensorType>, crate::op::OpError> {
    if !def.arity.admits(operands.len()) {
        return Err(graph::arity_error(def, operands.len()));
    }
    let operands: Vec<&TensorType> = operands.iter().map(|value| graph.ty(*value)).collect();
    def.result_types(&Infer { operands: &operands, attrs })
}

/// Types; `None` for `?`.
fn types(cursor: &mut Cursor<'_>) -> Parse<Vec<Option<TensorType>>> {
    if cursor.eat("(") {
        cursor.expect(")")?;
        return Ok(vec![]);
    }
    let mut types = Vec::new();
    loop {
        types.push(if cursor.eat("?") { None } else { Some(cursor.ty()?) });
        if !cursor.eat(",") {
            return Ok(types);
        }
    }
}

fn attr(cursor: &mut Cursor<'_>, cx: &Context<'_>) -> Parse<Attr> {
    let negative = cursor.is("-");
    let number = if negative { cursor.next_kind() } else { cursor.kind() };
    let word = if cursor.kind() == Kind::Word { cursor.slice() } else { "" };
    let infinite = word == "inf" || word == "nan" || (negative && cursor.next_is_word("inf"));
    if infinite || matches!(number, Kind::Number { float: true, .. }) {
        let bits = cursor.element(DType::F64)?.bits();
        return Ok(Attr::Float(f64::from_bits(bits)));
    }
    match (cursor.kind(), word) {
        (Kind::Str, _) => Ok(Attr::Str(cursor.string()?.into())),
        (Kind::Sign("["), _) => {
            cursor.advance();
            Ok(Attr::List(cursor.deeper(|cursor| cursor.list("]", |cursor| attr(cursor, cx)))?))
        }
        // A size may stand in parentheses, too.
        (Kind::Sign("("), _) if cursor.next_kind() == Kind::Sign("%") => Ok(Attr::Region(region(cursor)?)),
        (_, "true" | "false") => {
            cursor.advance();
            Ok(Attr::Bool(word == "true"))
        }
        (_, "graph") => Ok(Attr::Graph(Arc::new(cursor.deeper(|cursor| graph(cursor, cx, vec![]))?))),
        // A size may begin with such a word, and is no word alone.
        _ if word.parse::<DType>().is_ok() && matches!(cursor.next_kind(), Kind::Sign("," | "]" | "}")) => {
            Ok(Attr::DType(cursor.dtype()?))
        }
        _ => Ok(Attr::dim(dim::dim(cursor)?)),
    }
}

/// ` from "…", … by "…", …`, if it stands here.
pub(super) fn origin(cursor: &mut Cursor<'_>) -> Parse<Origin> {
    let places = if cursor.eat_word("from") { strings(cursor, place)? } else { Vec::new() };
    let rules = if cursor.eat_word("by") { strings(cursor, |cursor| cursor.string())? } else { Vec::new() };
    Ok(rules.iter().fold(Origin::places_from(places), |origin, rule| origin.by(rule)))
}

/// Items that start with a string, with commas between them.
fn strings<T>(cursor: &mut Cursor<'_>, item: impl Fn(&mut Cursor<'_>) -> Parse<T>) -> Parse<Vec<T>> {
    let mut items = vec![item(cursor)?];
    while cursor.is(",") && cursor.next_kind() == Kind::Str {
        cursor.advance();
        items.push(item(cursor)?);
    }
    Ok(items)
}

fn place(cursor: &mut Cursor<'_>) -> Parse<Arc<Place>> {
    let name = cursor.string()?;
    let start = cursor.span();
    let notes = if cursor.eat("(") { cursor.list(")", Cursor::string)? } else { vec![] };
    if notes.len() > 3 {
        let problem = Problem::Count { what: "notes", left: notes.len(), of: "at most", right: 3 };
        return Err(ParseError { span: cursor.since(start), problem });
    }
    let mut notes = notes.into_iter();
    let [op, module, source] = std::array::from_fn(|_| notes.next().unwrap_or_default());
    Ok(Arc::new(Place { name, op, module, source }))
}

fn weight_line(cursor: &mut Cursor<'_>, cx: &Context<'_>) -> Parse<WeightLine> {
    cursor.expect_word("weights")?;
    let start = cursor.span();
    let name = cursor.sigil("@")?;
    let span = cursor.since(start);
    let read = cursor.expect(":").and_then(|()| contents(cursor, &name, cx.weights));
    let weight = read.inspect_err(|error| cursor.poison(Sigil('@', &name).to_string(), error))?;
    let given = if cursor.eat_word("named") { cursor.string()? } else { implied_name(&name).to_owned() };
    let weight = if weight.name() == given { weight } else { weight.renamed(given) };
    Ok((name, weight, origin(cursor)?, span))
}

/// The type and the contents of a weight.
pub(super) fn contents(cursor: &mut Cursor<'_>, name: &str, source: &dyn WeightSource) -> Parse<Weight> {
    let start = cursor.span();
    let ty = cursor.ty()?;
    let at = cursor.since(start);
    let fail = |why| ParseError { span: at.clone(), problem: Problem::Weight { why } };
    let shape = ty.fixed_shape().ok_or_else(|| fail("the sizes of a weight are numbers"))?;
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let elements = elements.ok_or_else(|| fail("a weight of more elements than there are addresses"))?;
    cursor.expect("=")?;
    let start = cursor.span();
    let mut stated = None;
    let bytes = if cursor.eat_word("splat") {
        let value = cursor.element(ty.dtype)?;
        if elements > SPLAT {
            return Err(fail("a weight of equal elements that is too large to write as one"));
        }
        let mut one = Vec::new();
        value.append_to(&mut one);
        one.repeat(elements).into()
    } else if cursor.eat("[") {
        let values = cursor.list("]", |cursor| cursor.element(ty.dtype))?;
        if values.len() != elements {
            let problem =
                Problem::Count { what: "values", left: values.len(), of: "elements", right: elements };
            return Err(ParseError { span: cursor.since(start), problem });
        }
        let mut all = Vec::with_capacity(elements * ty.dtype.bytes());
        values.into_iter().for_each(|value| value.append_to(&mut all));
        all.into()
    } else if cursor.eat_word("data") {
        let text_at = cursor.span();
        let text = cursor.string()?;
        let hash = Hash::from_hex(&text).ok_or_else(|| ParseError {
            span: text_at,
            problem: Problem::Unexpected { expected: "64 hexadecimal digits", found: format!("\"{text}\"") },
        })?;
        stated = Some(hash);
        let missing =
            || ParseError { span: cursor.since(start.clone()), problem: Problem::NoWeight { hash } };
        source.find(&hash).ok_or_else(missing)?
    } else {
        return Err(cursor.unexpected("`splat`, `data` or a list of elements"));
    };
    let span = cursor.since(start);
    let weight = Weight::new(name, ty.dtype, shape, bytes);
    let weight = weight.map_err(|error| ParseError { span: span.clone(), problem: error.into() })?;
    match stated {
        Some(stated) if stated != weight.hash() => {
            Err(ParseError { span, problem: Problem::Corrupt { stated, found: weight.hash() } })
        }
        _ => Ok(weight),
    }
}
