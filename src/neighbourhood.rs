//! A node and what it reads, as text to point into: an ONNX file has no lines.
//!
//! The text is the whole graph as IR, so that the numbers in it are those of a dump; only the lines around the node
//! are shown.

use ir::graph::Kind;
use ir::{Graph, NodeId};

use crate::report::Excerpt;

/// The graph as text, with labels at the node's op and operands.
pub(crate) fn excerpt(graph: &Graph, node: NodeId) -> Excerpt {
    let text = graph.to_string();
    let ops = graph.order().into_iter().filter(|id| matches!(graph.node(*id).kind, Kind::Op { .. }));
    let at = ops.into_iter().position(|id| id == node);
    let line = at.and_then(|at| statements(&text).nth(at));
    let labels = line.map_or_else(Vec::new, |(start, line)| labels(graph, node, start, line));
    Excerpt { name: format!("{}, as IR", graph.name()), text, labels }
}

/// The lines of the outermost block with their places: one for each op, in order, then `return`.
fn statements(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line.trim_end_matches('\n'))
    });
    // What closes a nested graph stands at the same depth.
    let is_statement =
        |line: &str| line.strip_prefix("  ").is_some_and(|rest| !rest.starts_with([' ', '}', ']', ')']));
    lines
        .skip_while(|(_, line)| !line.starts_with("graph "))
        .skip(1)
        .filter(move |(_, line)| is_statement(line))
}

fn labels(graph: &Graph, node: NodeId, start: usize, line: &str) -> Vec<(usize, usize, String)> {
    let Some((op, _)) = graph.node(node).op() else { return Vec::new() };
    let Some(at) = line.find(&format!(" = {}", op.name)).map(|at| at + 3) else { return Vec::new() };
    let types = graph.operands(node).into_iter().map(|operand| graph.ty(operand).to_string());
    let operands = operands(line, at + op.name.len());
    let mut labels = vec![(start + at, op.name.len(), "here".to_owned())];
    labels.extend(operands.into_iter().zip(types).map(|((at, len), ty)| (start + at, len, ty)));
    labels
}

/// Where the operands stand after the op's name: names with commas between them, up to ` {` or ` : `.
fn operands(line: &str, from: usize) -> Vec<(usize, usize)> {
    let (mut found, mut begin, mut quoted, mut escaped) = (Vec::new(), None, false, false);
    for (at, c) in line.char_indices().skip_while(|(at, _)| *at < from) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '%' | '@' => begin = begin.or(Some(at)),
            ',' | ' ' => found.extend(begin.take().map(|begin| (begin, at - begin))),
            '{' | ':' => return found,
            _ => {}
        }
    }
    found.extend(begin.map(|begin| (begin, line.len() - begin)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_end_where_attributes_or_types_begin() {
        let line = r#"  %3 = conv2d %"a, : {b", @w {strides=[2, 2]} : f32[1]"#;
        let from = line.find("conv2d").expect("it is there") + "conv2d".len();
        let words: Vec<&str> =
            operands(line, from).into_iter().map(|(at, len)| &line[at..at + len]).collect();
        assert_eq!(words, [r#"%"a, : {b""#, "@w"]);
        assert_eq!(operands("  %3 = iota {n=4} : i64[4]", 11), []);
        assert_eq!(operands("  %3 = relu %2 : f32[4]", 11), [(12, 2)]);
    }

    #[test]
    fn statements_are_those_of_the_outermost_block() {
        let text = "weights @w : f32[1] = [1]\ngraph @g(%x: f32[1]) -> f32[1] {\n  %0 = if %x {body=graph @b() {\n    \
                    return\n  }} : f32[1]\n  %1 = relu %0 : f32[1]\n  return %1\n}\n";
        let found: Vec<&str> = statements(text).map(|(_, line)| line.trim()).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].starts_with("%1 = relu"));
        let (at, line) = statements(text).nth(1).expect("there are three");
        assert!(text[at..].starts_with(line));
    }

    #[test]
    fn the_node_is_labelled_with_the_types_of_what_it_reads() {
        let mut build = ir::build::Build::new("g");
        let ty = ir::TensorType::fixed(ir::DType::F32, &[2]);
        let x = build.input("x", ty);
        let op = ops::find("relu").expect("there is a relu");
        let attrs = op.check_attrs([]).expect("it has none");
        let mut graph = build.finish(vec![x]);
        let node = graph.add_op(op, &[x], attrs, ir::Origin::none()).expect("it fits");
        graph.set_outputs([("y0".to_owned(), node.into())]);
        let excerpt = excerpt(&graph, node);
        let words: Vec<(&str, &str)> = excerpt
            .labels
            .iter()
            .map(|(at, len, label)| (&excerpt.text[*at..at + len], label.as_str()))
            .collect();
        assert_eq!(words, [("relu", "here"), ("%x", "f32[2]")]);
    }
}
