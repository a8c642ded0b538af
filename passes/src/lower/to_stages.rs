//! Lowers a graph to a program with one kernel for each op, in the stage form.
//!
//! Constants of one element become part of the expressions; larger ones become weights of the program. A value
//! that is an output of the graph is computed in place; an output that is an input, a weight, or a second name for
//! another output gets a kernel that copies.

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::Symbol;
use ir::graph::{Kind, Value};
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Access, Body, Expr, Kernel, Param, Stage};
use ir::program::{Arg, Buffer, Entry, Layout, PackedWeight, Port, Program, Space, Step};
use ir::{At, Dim, Graph, NodeId, Origin, Scalar, TensorType};

use crate::error::PassError;
use crate::kernel::classify;
use crate::lower::Names;
use crate::pass::{About, Cx, LowerPass};

/// See the [module](self).
pub struct ToStages;

impl LowerPass for ToStages {
    fn about(&self) -> About {
        About::new("to_stages", "lower each op to a kernel of index expressions")
    }

    fn run(&self, graph: &Graph, _: &Cx) -> Result<Program, Vec<At<PassError>>> {
        let graph = &with_free_axis_names(graph).map_err(|at| vec![at])?;
        let mut lowering = Lowering::new(graph);
        let mut problems = Vec::new();
        for id in graph.order() {
            if let Err(error) = lowering.node(id) {
                problems.push(graph.at(id, error));
            }
        }
        if problems.is_empty() {
            lowering.copy_outputs();
            Ok(lowering.program())
        } else {
            Err(problems)
        }
    }
}

/// The graph with those sizes renamed that are called like the axes of kernels (`i0`, `k1`, …).
fn with_free_axis_names(graph: &Graph) -> Result<Graph, At<PassError>> {
    let is_axis = |symbol: &Symbol| {
        let number = symbol.name().strip_prefix(['i', 'k', 'a']);
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut graph = graph.clone();
    if graph.symbols().iter().any(is_axis) {
        let with = |symbol: &Symbol| is_axis(symbol).then(|| Dim::symbol(format!("size_{symbol}")));
        graph.substitute(&with).map_err(|at| at.map(PassError::from))?;
    }
    Ok(graph)
}

struct Lowering<'a> {
    graph: &'a Graph,
    symbols: BTreeSet<Symbol>,
    places: BTreeMap<Value, Arg>,
    /// Constants of one element, put into the expressions that use them.
    scalars: BTreeMap<Value, Scalar>,
    weights: Vec<PackedWeight>,
    kernels: Vec<Kernel>,
    entry: Entry,
    /// Names of kernels and of weights.
    names: [Names; 2],
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph) -> Self {
        let port = |name: &str, ty: &TensorType| Port { name: name.to_owned(), ty: ty.clone() };
        let inputs: Vec<Port> =
            graph.inputs().iter().map(|&id| port(graph.input_name(id), &graph.node(id).types[0])).collect();
        let outputs = graph
            .outputs()
            .into_iter()
            .zip(graph.output_names())
            .map(|(value, name)| port(name, graph.ty(value)))
            .collect();
        let entry = Entry {
            name: "main".to_owned(),
            inputs,
            outputs,
            buffers: Vec::new(),
            steps: Vec::new(),
            arena: None,
        };
        let mut lowering = Lowering {
            graph,
            symbols: graph.symbols().into_iter().collect(),
            places: BTreeMap::new(),
            scalars: BTreeMap::new(),
            weights: Vec::new(),
            kernels: Vec::new(),
            entry,
            names: Default::default(),
        };
        for (i, &id) in graph.inputs().iter().enumerate() {
            lowering.places.insert(id.into(), Arg::Input(i));
        }
        // Where an op computes an output, it writes there.
        for (i, value) in graph.outputs().into_iter().enumerate() {
            if graph.node(value.node).op().is_some() {
                lowering.places.entry(value).or_insert(Arg::Output(i));
            }
        }
        lowering
    }

    fn node(&mut self, id: NodeId) -> Result<(), PassError> {
        let node = self.graph.node(id);
        match &node.kind {
            Kind::Input(_) => Ok(()),
            Kind::Weight(weight) if weight.elements() == 1 => {
                self.scalars.insert(id.into(), Scalar::read(weight.dtype(), weight.bytes()));
                // Somebody may still want it in memory: an output, or a data-dependent load.
                self.weight(id.into(), weight.clone());
                Ok(())
            }
            Kind::Weight(weight) => {
                self.weight(id.into(), weight.clone());
                Ok(())
            }
            Kind::Op { def, attrs } => {
                let operands = self.graph.operands(id);
                if operands.iter().any(|operand| !self.places.contains_key(operand)) {
                    // It needs what could not be lowered: one error is enough.
                    return Ok(());
                }
                let types: Vec<&TensorType> = operands.iter().map(|&v| self.graph.ty(v)).collect();
                self.check_sizes(&node.types)?;
                let mut cx = Lower::new(&types, attrs, &node.types);
                let Some(compute) = def.semantics.lower(&mut cx) else {
                    return Err(PassError::NoLowering { op: def.name });
                };
                self.kernel(
                    def.name,
                    &operands,
                    (0..node.types.len()).map(|result| Value { node: id, result }),
                    compute,
                );
                Ok(())
            }
        }
    }

    fn weight(&mut self, value: Value, weight: ir::Weight) {
        let name = self.names[1].fresh(weight.name(), "c");
        self.places.insert(value, Arg::Weight(self.weights.len()));
        self.weights.push(PackedWeight { name: Symbol::new(name), weight, layout: Layout::Plain });
    }

    /// Every symbol of the results must be one that the inputs bind.
    fn check_sizes(&self, types: &[TensorType]) -> Result<(), PassError> {
        for dim in types.iter().flat_map(|ty| &ty.shape) {
            let mut unbound = None;
            dim.for_each_symbol(&mut |symbol| {
                if !self.symbols.contains(symbol) {
                    unbound = Some(symbol.to_string());
                }
            });
            if let Some(size) = unbound {
                return Err(PassError::UnboundSize { size });
            }
        }
        Ok(())
    }

    fn kernel(
        &mut self,
        op: &str,
        operands: &[Value],
        results: impl Iterator<Item = Value>,
        Compute { mut stages }: Compute,
    ) {
        let results: Vec<Value> = results.collect();
        let first = stages.len() - results.len();
        // The last stages are the results; name them, here and where later stages load them.
        let rename: BTreeMap<Symbol, Symbol> = stages[first..]
            .iter()
            .enumerate()
            .map(|(i, stage)| (stage.name.clone(), Symbol::new(format!("y{i}"))))
            .collect();
        for stage in &mut stages {
            stage.name = rename.get(&stage.name).unwrap_or(&stage.name).clone();
            stage.body = stage.body.replace_loads(&mut |source, at| {
                if let Some(index) = operand_index(source)
                    && let Some(scalar) = self.scalars.get(&operands[index])
                {
                    return Some(Expr::constant(*scalar));
                }
                let to = rename.get(source)?;
                let dtype = results[to.name()[1..].parse::<usize>().expect("named just above")];
                Some(Expr::load(to.clone(), self.graph.ty(dtype).dtype, at.to_vec()))
            });
        }
        let mut params = Vec::new();
        let mut args = Vec::new();
        for (i, &operand) in operands.iter().enumerate() {
            let name = Lower::operand_name(i);
            if stages.iter().any(|stage| loads(&stage.body, &name)) {
                params.push(Param { name, ty: self.graph.ty(operand).clone(), access: Access::Read });
                args.push(self.places[&operand]);
            }
        }
        for (i, &result) in results.iter().enumerate() {
            let ty = self.graph.ty(result).clone();
            params.push(Param { name: Symbol::new(format!("y{i}")), ty: ty.clone(), access: Access::Write });
            args.push(self.place(result, ty));
        }
        let origin = self.graph.node(results[0].node).origin.clone();
        self.push(op, params, args, stages, origin);
    }

    /// Where a result goes: an output, or a new buffer.
    fn place(&mut self, value: Value, ty: TensorType) -> Arg {
        let buffers = &mut self.entry.buffers;
        *self.places.entry(value).or_insert_with(|| {
            let name = Symbol::new(format!("b{}", buffers.len()));
            buffers.push(Buffer { name, ty, space: Space::Arena, offset: None });
            Arg::Buffer(buffers.len() - 1)
        })
    }

    fn push(&mut self, op: &str, params: Vec<Param>, args: Vec<Arg>, stages: Vec<Stage>, origin: Origin) {
        let name = self.names[0].fresh(op, "k");
        let sizes = sizes_of(&params, &stages, &self.symbols);
        let kind = classify(&stages);
        let step_sizes = sizes.iter().map(Dim::from).collect();
        self.entry.steps.push(Step { kernel: self.kernels.len(), args, sizes: step_sizes, origin });
        let name = Symbol::new(name);
        self.kernels.push(Kernel { name, kind, sizes, params, body: Body::Stages(stages) });
    }

    /// Outputs that no op computes in place: copies.
    fn copy_outputs(&mut self) {
        for (i, value) in self.graph.outputs().into_iter().enumerate() {
            let from = self.places[&value];
            if from == Arg::Output(i) {
                continue;
            }
            let ty = self.graph.ty(value).clone();
            let axes: Vec<(Symbol, Dim)> =
                (0..).map(|n| Symbol::new(format!("i{n}"))).zip(ty.shape.iter().cloned()).collect();
            let at = axes.iter().map(|(axis, _)| Expr::from(Dim::from(axis)));
            let body = Expr::load(Symbol::new("x0"), ty.dtype, at);
            let param = |name: &str, access| Param { name: Symbol::new(name), ty: ty.clone(), access };
            let params = vec![param("x0", Access::Read), param("y0", Access::Write)];
            let stages = vec![Stage { name: Symbol::new("y0"), axes, body }];
            let origin = self.graph.node(value.node).origin.clone();
            self.push("copy", params, vec![from, Arg::Output(i)], stages, origin);
        }
    }

    fn program(self) -> Program {
        let mut program = Program {
            name: self.graph.name().to_owned(),
            weights: self.weights,
            kernels: self.kernels,
            entries: vec![self.entry],
        };
        drop_unused_weights(&mut program);
        program
    }
}

/// Removes the weights that no step passes, and renumbers the rest.
pub(crate) fn drop_unused_weights(program: &mut Program) {
    let mut used = BTreeSet::new();
    for step in program.entries.iter().flat_map(|entry| &entry.steps) {
        used.extend(
            step.args.iter().filter_map(|arg| if let Arg::Weight(i) = arg { Some(*i) } else { None }),
        );
    }
    let place: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, &old)| (old, new)).collect();
    let mut index = 0;
    program.weights.retain(|_| {
        index += 1;
        used.contains(&(index - 1))
    });
    for step in program.entries.iter_mut().flat_map(|entry| &mut entry.steps) {
        for arg in &mut step.args {
            if let Arg::Weight(i) = arg {
                *i = place[i];
            }
        }
    }
}

/// The sizes among `symbols` that occur in parameters or stages, in order of name.
pub(super) fn sizes_of(params: &[Param], stages: &[Stage], symbols: &BTreeSet<Symbol>) -> Vec<Symbol> {
    let mut used = BTreeSet::new();
    let mut note = |dim: &Dim| {
        dim.for_each_symbol(&mut |symbol| {
            if symbols.contains(symbol) {
                used.insert(symbol.clone());
            }
        });
    };
    params.iter().flat_map(|param| &param.ty.shape).for_each(&mut note);
    for stage in stages {
        stage.axes.iter().for_each(|(_, extent)| note(extent));
        stage.body.walk(&mut |e| match e.kind() {
            ir::kernel::ExprKind::Index(dim) => note(dim),
            ir::kernel::ExprKind::Fold(fold) => note(&fold.extent),
            _ => {}
        });
    }
    used.into_iter().collect()
}

/// Does `body` load from `source`?
pub(super) fn loads(body: &Expr, source: &Symbol) -> bool {
    body.any(&mut |e| matches!(e.kind(), ir::kernel::ExprKind::Load { source: s, .. } if s == source))
}

fn operand_index(source: &Symbol) -> Option<usize> {
    source.name().strip_prefix('x')?.parse().ok()
}
