//! Lowers a graph to a program with one kernel for each op, in the stage form; ops that no expression states are loops
//! from the start.
//!
//! Constants of one element become part of the expressions; larger ones become weights of the program. A value that is
//! an output of the graph is computed in place; an output that is an input or a weight is copied, and one that is a second
//! name for another output gets a kernel that copies. Control flow becomes steps around the steps of its bodies (`flow`);
//! what decides sizes from small inputs alone runs first (`host`).

mod flow;
mod host;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::attr::Attrs;
use ir::dim::{Condition, Ranges, Symbol};
use ir::graph::{Kind, Value};
use ir::kernel::lower::{Compute, Loops, Lower};
use ir::kernel::{Access, Body, Expr, ExprKind, Kernel, KernelKind, Param, Stage, Stmt};
use ir::op::{Flow, Infer, Requirement};
use ir::program::{
    Arg, Buffer, Call, Copy, Entry, Keep, Layout, PackedWeight, Port, Program, Require, Space, Step,
};
use ir::{At, Dim, Graph, NodeId, Origin, Scalar, TensorType, Weight};

use crate::error::PassError;
use crate::kernel::classify;
use crate::lower::{Names, any_expr};
use crate::pass::{About, Cx, LowerPass};
use flow::flow_sizes;

/// See the [module](self).
pub struct ToStages;

impl LowerPass for ToStages {
    fn about(&self) -> About {
        About::new("to_stages", "lower each op to a kernel of index expressions")
    }

    fn run(&self, graph: &Graph, _: &Cx) -> Result<Program, Vec<At<PassError>>> {
        let graph = &with_free_axis_names(graph).map_err(|at| vec![at])?;
        let mut shared = Shared::new(graph);
        let mut lowering = Lowering::new(graph, &mut shared, Vec::new());
        lowering.entry();
        let problems = lowering.problems;
        if problems.is_empty() { Ok(shared.program(graph.name())) } else { Err(problems) }
    }
}

/// The graph with those sizes renamed that are called like the axes of kernels (`i0`, `k1`, …).
fn with_free_axis_names(graph: &Graph) -> Result<Graph, At<PassError>> {
    let is_axis = |symbol: &Symbol| !symbol.is_free_for_sizes();
    let mut graph = graph.clone();
    if graph.symbols().iter().any(is_axis) {
        let with = |symbol: &Symbol| is_axis(symbol).then(|| Dim::symbol(format!("size_{symbol}")));
        graph.substitute(&with).map_err(|at| at.map(PassError::from))?;
    }
    Ok(graph)
}

/// What all graphs of a program share.
struct Shared {
    /// Every size that has a value somewhere.
    symbols: BTreeSet<Symbol>,
    weights: Vec<PackedWeight>,
    /// Where a weight is, by its contents.
    stored: HashMap<Weight, usize>,
    kernels: Vec<Kernel>,
    entry: Entry,
    /// Names of kernels and of weights.
    names: [Names; 2],
}

/// What a kernel is made of, and what it is called with.
struct Made {
    kind: KernelKind,
    params: Vec<Param>,
    args: Vec<Arg>,
    body: Body,
}

/// One graph on its way: the outermost, or a body.
struct Lowering<'a, 's> {
    graph: &'a Graph,
    shared: &'s mut Shared,
    places: BTreeMap<Value, Arg>,
    /// Constants of one element, put into the expressions that use them.
    scalars: BTreeMap<Value, Scalar>,
    steps: Vec<Step>,
    /// What was required so far: these are not negative.
    facts: Vec<Dim>,
    /// Where results of this space go: that of the steps around.
    space: Space,
    problems: Vec<At<PassError>>,
}

impl Shared {
    fn new(graph: &Graph) -> Shared {
        let port = |name: &str, ty: &TensorType| Port { name: name.to_owned(), ty: ty.clone() };
        let inputs: Vec<Port> =
            graph.inputs().iter().map(|&id| port(graph.input_name(id), &graph.node(id).types[0])).collect();
        let outputs = graph
            .outputs()
            .into_iter()
            .zip(graph.output_names())
            .map(|(value, name)| port(name, graph.ty(value)))
            .collect();
        let kept = graph.kept().into_iter().enumerate();
        let keeps = kept.filter_map(|(output, input)| Some(Keep { output, input: input? }));
        let entry = Entry {
            name: "main".to_owned(),
            inputs,
            outputs,
            keeps: keeps.collect(),
            buffers: Vec::new(),
            host: Vec::new(),
            steps: Vec::new(),
            arena: None,
        };
        Shared {
            symbols: graph.symbols().into_iter().collect(),
            weights: Vec::new(),
            stored: HashMap::new(),
            kernels: Vec::new(),
            entry,
            names: Default::default(),
        }
    }

    /// Memory for a value of this type.
    fn buffer(&mut self, ty: TensorType, space: Space) -> Arg {
        let buffers = &mut self.entry.buffers;
        let name = Symbol::new(format!("b{}", buffers.len()));
        buffers.push(Buffer { name, ty, space, offset: None });
        Arg::Buffer(buffers.len() - 1)
    }

    /// A size that no other is called like.
    fn fresh_symbol(&mut self, wanted: &Symbol) -> Symbol {
        let mut numbered = (1..).map(|n| Symbol::new(format!("{wanted}.{n}")));
        let symbol = numbered.find(|symbol| !self.symbols.contains(symbol));
        let symbol = symbol.expect("there are enough numbers");
        self.symbols.insert(symbol.clone());
        symbol
    }

    fn program(self, name: &str) -> Program {
        let mut program = Program {
            name: name.to_owned(),
            weights: self.weights,
            kernels: self.kernels,
            entries: vec![self.entry],
        };
        drop_unused_weights(&mut program);
        program
    }
}

impl<'a, 's> Lowering<'a, 's> {
    fn new(graph: &'a Graph, shared: &'s mut Shared, facts: Vec<Dim>) -> Self {
        Lowering {
            graph,
            shared,
            places: BTreeMap::new(),
            scalars: BTreeMap::new(),
            steps: Vec::new(),
            facts,
            space: Space::Arena,
            problems: Vec::new(),
        }
    }

    /// The outermost graph.
    fn entry(&mut self) {
        let host = host::nodes(self.graph);
        for (i, &id) in self.graph.inputs().iter().enumerate() {
            self.places.insert(id.into(), Arg::Input(i));
        }
        // Where an op computes an output, it writes there.
        for (i, value) in self.graph.outputs().into_iter().enumerate() {
            let is_size = matches!(self.graph.flow(value.node), Some(Flow::Size { .. }));
            if self.graph.node(value.node).op().is_some() && !is_size && !host.contains(&value.node) {
                self.places.entry(value).or_insert(Arg::Output(i));
            }
        }
        let order = self.graph.order();
        self.space = Space::Host;
        order.iter().filter(|id| host.contains(id)).for_each(|&id| self.node(id));
        self.shared.entry.host = std::mem::take(&mut self.steps);
        self.space = Space::Arena;
        order.iter().filter(|id| !host.contains(id)).for_each(|&id| self.node(id));
        if self.problems.is_empty() {
            self.copy_outputs();
        }
        let entry = &mut self.shared.entry;
        let mut known: BTreeSet<Symbol> = entry.symbols().into_iter().collect();
        Step::walk(&entry.host, &mut |step| known.extend(step.decides().into_iter().cloned()));
        entry.steps = with_requirements_first(std::mem::take(&mut self.steps), &known);
    }

    fn node(&mut self, id: NodeId) {
        if let Err(error) = self.lower(id) {
            self.problems.push(self.graph.at(id, error));
        }
    }

    fn lower(&mut self, id: NodeId) -> Result<(), PassError> {
        let node = self.graph.node(id);
        match &node.kind {
            Kind::Input(_) => Ok(()),
            Kind::Weight(weight) => {
                if weight.elements() == 1 {
                    // Somebody may still want it in memory: an output, or a data-dependent load.
                    self.scalars.insert(id.into(), weight.get(0));
                }
                self.weight(id.into(), weight.clone());
                Ok(())
            }
            Kind::Op { def, attrs } => {
                let operands = self.graph.operands(id);
                if operands.iter().any(|operand| !self.places.contains_key(operand)) {
                    // It needs what could not be lowered: one error is enough.
                    return Ok(());
                }
                if let Some(flow) = def.semantics.flow(attrs) {
                    self.check_sizes(&flow_sizes(&flow, &node.types))?;
                    return self.flow(id, flow, &operands);
                }
                let types: Vec<&TensorType> = operands.iter().map(|&v| self.graph.ty(v)).collect();
                let mut unbound = None;
                self.check_sizes(node.types.iter().flat_map(|ty| &ty.shape))?;
                attrs.for_each_symbol(&mut |symbol| self.note_unbound(symbol, &mut unbound));
                if let Some(size) = unbound {
                    return Err(PassError::UnboundSize { size });
                }
                let given = self.require(id, &types, attrs)?;
                let mut cx = Lower::new(&types, attrs, &node.types);
                let Some(compute) = def.semantics.lower(&mut cx) else {
                    return Err(PassError::NoLowering { op: def.name });
                };
                let results: Vec<Value> =
                    (0..node.types.len()).map(|result| Value { node: id, result }).collect();
                let mut made = match compute {
                    Compute::Stages(stages) => self.stages(&operands, &results, stages),
                    Compute::Loops(loops) => self.loops(&operands, &results, loops),
                };
                made.kind = def.semantics.kind().unwrap_or(made.kind);
                self.push(def.name, made, given, node.origin.clone());
                Ok(())
            }
        }
    }

    fn weight(&mut self, value: Value, weight: Weight) {
        let shared = &mut *self.shared;
        let at = *shared.stored.entry(weight.clone()).or_insert_with(|| {
            let name = Symbol::new(shared.names[1].fresh(weight.name(), "c"));
            shared.weights.push(PackedWeight { name, weight, layout: Layout::Plain });
            shared.weights.len() - 1
        });
        self.places.insert(value, Arg::Weight(at));
    }

    /// Notes a symbol that has no value by now.
    fn note_unbound(&self, symbol: &Symbol, unbound: &mut Option<String>) {
        if !self.shared.symbols.contains(symbol) {
            *unbound = Some(symbol.to_string());
        }
    }

    /// Every symbol of these sizes must have a value by now.
    fn check_sizes<'d>(&self, sizes: impl IntoIterator<Item = &'d Dim>) -> Result<(), PassError> {
        for dim in sizes {
            let mut unbound = None;
            dim.for_each_symbol(&mut |symbol| self.note_unbound(symbol, &mut unbound));
            if let Some(size) = unbound {
                return Err(PassError::UnboundSize { size });
            }
        }
        Ok(())
    }

    /// Steps for the conditions that a node needs and that are not known to hold. Gives those that its kernel may take
    /// for given.
    fn require(
        &mut self,
        id: NodeId,
        operands: &[&TensorType],
        attrs: &Attrs,
    ) -> Result<Vec<Condition>, PassError> {
        let Some((def, _)) = self.graph.node(id).op() else { return Ok(Vec::new()) };
        let ranges = Ranges::new();
        let needed = def.semantics.requires(&Infer { operands, attrs }).into_iter();
        let mut open = Vec::new();
        for Requirement { condition, what } in needed.filter(|needed| !needed.condition.is_proved(&ranges)) {
            if !condition.facts().iter().all(|fact| ranges.follows(&self.facts, fact)) {
                let origin = self.graph.node(id).origin.clone();
                self.facts.extend(condition.facts());
                let require = Require { condition: condition.clone(), what: what.into(), origin };
                self.steps.push(Step::Require(require));
            }
            open.push(condition);
        }
        Ok(open)
    }

    fn stages(&mut self, operands: &[Value], results: &[Value], mut stages: Vec<Stage>) -> Made {
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
        let read = |name: &Symbol| stages.iter().any(|stage| loads(&stage.body, name));
        let (params, args) = self.arrays(operands, results, read);
        Made { kind: classify(&stages), params, args, body: Body::Stages(stages) }
    }

    fn loops(&mut self, operands: &[Value], results: &[Value], loops: Loops) -> Made {
        let Loops { kind, scratch, body } = loops;
        let (mut params, mut args) = self.arrays(operands, results, |name| reads(&body, name));
        for (name, ty) in scratch {
            args.push(self.shared.buffer(ty.clone(), self.space));
            params.push(Param { name, ty, access: Access::Scratch });
        }
        Made { kind, params, args, body: Body::Loops(body) }
    }

    /// The parameters and arguments of a kernel: those operands that it reads, and all results.
    fn arrays(
        &mut self,
        operands: &[Value],
        results: &[Value],
        is_read: impl Fn(&Symbol) -> bool,
    ) -> (Vec<Param>, Vec<Arg>) {
        let mut params = Vec::new();
        let mut args = Vec::new();
        for (i, &operand) in operands.iter().enumerate() {
            let name = Lower::operand_name(i);
            if is_read(&name) {
                params.push(Param { name, ty: self.graph.ty(operand).clone(), access: Access::Read });
                args.push(self.places[&operand]);
            }
        }
        for (i, &result) in results.iter().enumerate() {
            let ty = self.graph.ty(result).clone();
            params.push(Param { name: Lower::result_name(i), ty: ty.clone(), access: Access::Write });
            args.push(self.place(result, ty));
        }
        (params, args)
    }

    /// Where a result goes: where it was said to, or a new buffer.
    fn place(&mut self, value: Value, ty: TensorType) -> Arg {
        *self.places.entry(value).or_insert_with(|| self.shared.buffer(ty, self.space))
    }

    /// A kernel, and a call of it.
    fn push(&mut self, op: &str, made: Made, given: Vec<Condition>, origin: Origin) {
        let Made { kind, params, args, body } = made;
        let shared = &mut *self.shared;
        let name = Symbol::new(shared.names[0].fresh(op, "k"));
        let sizes = sizes_of(&params, &body, &given, &shared.symbols);
        let call_sizes = sizes.iter().map(Dim::from).collect();
        let call = Call { kernel: shared.kernels.len(), args, sizes: call_sizes, origin };
        self.steps.push(Step::Call(call));
        shared.kernels.push(Kernel { name, kind, sizes, given, params, body });
    }

    /// Outputs that no op computes in place: copies.
    fn copy_outputs(&mut self) {
        for (i, value) in self.graph.outputs().into_iter().enumerate() {
            let from = self.places[&value];
            if from == Arg::Output(i) {
                continue;
            }
            let origin = self.graph.node(value.node).origin.clone();
            // What nothing computes, nothing can compute where it is wanted.
            if matches!(from, Arg::Input(_) | Arg::Weight(_)) {
                self.steps.push(Step::Copy(Copy { from, to: Arg::Output(i), at: None, origin }));
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
            let args = vec![from, Arg::Output(i)];
            let made = Made { kind: KernelKind::Data, params, args, body: Body::Stages(stages) };
            self.push("copy", made, vec![], origin);
        }
    }
}

/// Steps, with what is required of sizes that are known before them all in front: between calls, it would keep them from
/// being fused. The same of those inside them, where the number of an iteration is known, too.
fn with_requirements_first(steps: Vec<Step>, known: &BTreeSet<Symbol>) -> Vec<Step> {
    let is_early = |step: &Step| {
        let Step::Require(require) = step else { return false };
        let mut early = true;
        require.condition.for_each_symbol(&mut |symbol| early &= known.contains(symbol));
        early
    };
    let (mut steps, rest): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(is_early);
    steps.extend(rest);
    for step in &mut steps {
        let mut inside = known.clone();
        if let Step::Loop(each) = step {
            inside.insert(each.index.clone());
        }
        for block in step.blocks_mut() {
            *block = with_requirements_first(std::mem::take(block), &inside);
        }
    }
    steps
}

/// Removes the weights that no step uses, and renumbers the rest.
pub(crate) fn drop_unused_weights(program: &mut Program) {
    let mut used = BTreeSet::new();
    for entry in &program.entries {
        for list in [&entry.host, &entry.steps] {
            Step::walk(list, &mut |step| {
                used.extend(
                    step.args()
                        .iter()
                        .filter_map(|arg| if let Arg::Weight(i) = arg { Some(*i) } else { None }),
                );
            });
        }
    }
    let place: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, &old)| (old, new)).collect();
    let mut index = 0;
    program.weights.retain(|_| {
        index += 1;
        used.contains(&(index - 1))
    });
    for entry in &mut program.entries {
        Step::walk_args_mut(&mut entry.host, &mut |arg| renumber(arg, &place));
        Step::walk_args_mut(&mut entry.steps, &mut |arg| renumber(arg, &place));
    }
}

fn renumber(arg: &mut Arg, place: &BTreeMap<usize, usize>) {
    if let Arg::Weight(i) = arg {
        *i = place[i];
    }
}

/// The sizes among `symbols` that occur in parameters or in the body, in order of name.
pub(super) fn sizes_of(
    params: &[Param],
    body: &Body,
    given: &[Condition],
    symbols: &BTreeSet<Symbol>,
) -> Vec<Symbol> {
    let mut used = BTreeSet::new();
    let mut note = |dim: &Dim| {
        dim.for_each_symbol(&mut |symbol| {
            if symbols.contains(symbol) {
                used.insert(symbol.clone());
            }
        });
    };
    params.iter().flat_map(|param| &param.ty.shape).for_each(&mut note);
    given.iter().for_each(|condition| [&condition.left, &condition.right].into_iter().for_each(&mut note));
    let mut note_all = |e: &Expr| {
        e.walk(&mut |e| match e.kind() {
            ExprKind::Index(dim) => note(dim),
            ExprKind::Fold(fold) => note(&fold.extent),
            _ => {}
        });
    };
    match body {
        Body::Stages(stages) => {
            for stage in stages {
                stage.axes.iter().for_each(|(_, extent)| note_all(&extent.into()));
                note_all(&stage.body);
            }
        }
        Body::Loops(body) => {
            for stmt in body {
                stmt.walk(&mut |stmt| {
                    if let Stmt::For { extent, .. } = stmt {
                        note_all(&extent.into());
                    }
                    stmt.exprs().into_iter().for_each(&mut note_all);
                });
            }
        }
    }
    used.into_iter().collect()
}

/// Does the block read from `source`?
fn reads(body: &[Stmt], source: &Symbol) -> bool {
    let mut sorted = false;
    for stmt in body {
        stmt.walk(&mut |stmt| sorted |= matches!(stmt, Stmt::Sort(sort) if sort.keys == *source));
    }
    sorted || any_expr(body, &mut |e| matches!(e, ExprKind::Load { source: s, .. } if s == source))
}

/// Does `body` load from `source`?
pub(super) fn loads(body: &Expr, source: &Symbol) -> bool {
    body.any(&mut |e| matches!(e.kind(), ExprKind::Load { source: s, .. } if s == source))
}

fn operand_index(source: &Symbol) -> Option<usize> {
    source.name().strip_prefix('x')?.parse().ok()
}
