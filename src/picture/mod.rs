//! Pictures of models, as SVG: a graph with a box for each op, or a program with a box for each launch of a kernel.
//!
//! Boxes stand in layers, so that every arrow points down. Equal models give equal bytes.

mod layout;
mod svg;

use std::collections::BTreeMap;

use ir::graph::{Kind, Value};
use ir::kernel::Access;
use ir::program::{Arg, Entry, Program, Step};
use ir::{Graph, Weight};
use passes::pipeline::State;

/// Boxes, and arrows between them.
#[derive(Debug, Default)]
struct Picture {
    /// In an order in which arrows go from earlier to later ones.
    boxes: Vec<Block>,
    /// From where to where, each once.
    arrows: Vec<[usize; 2]>,
}

/// A box.
#[derive(Debug)]
struct Block {
    /// What it is: the name of a port, an op or a kind of kernel.
    title: String,
    /// What else is written in it, line by line.
    notes: Vec<String>,
    /// Whether it is an input or an output.
    is_port: bool,
}

/// The picture of a model: of a graph its ops, of a program its kernels.
pub fn svg(state: &State) -> String {
    let mut picture = Picture::default();
    match state {
        State::Graph(graph) => picture.add_graph(graph),
        State::Program(program) => program.entries.iter().for_each(|entry| picture.add_entry(program, entry)),
    }
    svg::write(&picture, &layout::of(&picture))
}

/// Letters in a line of a box, at most.
const LINE: usize = 30;

impl Picture {
    fn add(&mut self, title: impl Into<String>, notes: Vec<String>, is_port: bool) -> usize {
        self.boxes.push(Block { title: title.into(), notes, is_port });
        self.boxes.len() - 1
    }

    fn connect(&mut self, from: usize, to: usize) {
        if !self.arrows.contains(&[from, to]) {
            self.arrows.push([from, to]);
        }
    }

    /// Weights have no boxes: they are named where they are used.
    fn add_graph(&mut self, graph: &Graph) {
        let mut places = BTreeMap::new();
        for id in graph.order() {
            let node = graph.node(id);
            let place = match &node.kind {
                Kind::Weight(_) => continue,
                Kind::Input(name) => self.add(name, vec![node.types[0].to_string()], true),
                Kind::Op { def, .. } => {
                    let weights =
                        graph.operands(id).into_iter().filter_map(|value| graph.node(value.node).weight());
                    let weights = weights.map(shown).collect::<Vec<_>>().join(", ");
                    let mut notes = wrapped(&weights, ", ");
                    notes.extend(node.types.iter().map(ToString::to_string));
                    self.add(def.name, notes, false)
                }
            };
            for Value { node, .. } in graph.operands(id) {
                if let Some(&from) = places.get(&node) {
                    self.connect(from, place);
                }
            }
            places.insert(id, place);
        }
        for (name, value) in graph.output_names().into_iter().zip(graph.outputs()) {
            let place = self.add(name, vec![graph.ty(value).to_string()], true);
            if let Some(&from) = places.get(&value.node) {
                self.connect(from, place);
            }
        }
    }

    fn add_entry(&mut self, program: &Program, entry: &Entry) {
        let mut places = BTreeMap::new();
        for (i, port) in entry.inputs.iter().enumerate() {
            places.insert(Arg::Input(i), self.add(&port.name, vec![port.ty.to_string()], true));
        }
        for steps in [&entry.host, &entry.steps] {
            Step::walk(steps, &mut |step| {
                let (title, notes, reads, writes) = match step {
                    Step::Call(call) => {
                        let kernel = &program.kernels[call.kernel];
                        let of = |access: Access| {
                            let args = kernel.params.iter().zip(&call.args);
                            args.filter(move |(param, _)| param.access == access).map(|(_, arg)| *arg)
                        };
                        let mut notes = wrapped(&kernel.name.to_string(), "_");
                        notes.extend(of(Access::Write).map(|arg| program.arg_type(entry, arg).to_string()));
                        let [reads, writes] =
                            [Access::Read, Access::Write].map(|access| of(access).collect::<Vec<_>>());
                        (kernel.kind.name(), notes, reads, writes)
                    }
                    Step::Copy(copy) => {
                        let ty = program.arg_type(entry, copy.from).to_string();
                        ("copy", vec![ty], vec![copy.from], vec![copy.to])
                    }
                    _ => return,
                };
                let place = self.add(title, notes, false);
                for from in reads.iter().filter_map(|arg| places.get(arg)) {
                    self.connect(*from, place);
                }
                places.extend(writes.into_iter().map(|arg| (arg, place)));
            });
        }
        for (i, port) in entry.outputs.iter().enumerate() {
            let place = self.add(&port.name, vec![port.ty.to_string()], true);
            if let Some(&from) = places.get(&Arg::Output(i)) {
                self.connect(from, place);
            }
        }
    }
}

/// A weight by its name, or by its value if it is a number without one.
fn shown(weight: &Weight) -> String {
    match (weight.name(), weight.elements()) {
        ("", 1) => weight.get(0).to_string(),
        ("", _) => weight.ty().to_string(),
        (name, _) => name.to_owned(),
    }
}

/// A text in lines, broken behind `between` where they would be longer than a box is wide.
fn wrapped(text: &str, between: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in text.split_inclusive(between).filter(|part| !part.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.len() + part.trim_end().len() <= LINE => line.push_str(part),
            _ => lines.push(part.to_owned()),
        }
    }
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines
}
