//! Compiling: a model through the passes, its kernels to machine code, and the plan that runs them.

use std::sync::Arc;

use ir::program::Program;
use ir::{At, Graph, Tensor};
use passes::lint::{Lint, lint};
use passes::pipeline::{self, Observer, Run, State, Step};
use passes::{About, Changed, Cx, PassError, Target};
use runtime::device::Device;
use runtime::plan::Plan;
use runtime::{Guarded, LoadError, Model, Pool, Session, TensorRef, Weights};
use serde_json::{Value, json};

use crate::error::Error;
use crate::gpu;
use crate::options::{Options, Recorded};
use crate::packed::Packed;
use crate::plan::{check_inputs, plan};
use crate::provenance::Provenance;
use crate::source::Source;
use crate::summary;
use crate::tensors::{from_result, to_runtime};

/// How observers see the making of machine code.
pub const EMIT: About = About::new("emit", "make machine code of every kernel");

/// A compiled model in memory: to be run, or written as an artifact.
#[derive(Debug)]
pub struct Compiled {
    /// What runs: kernels, buffers, steps.
    pub program: Program,
    /// The kernels as machine code.
    pub code: Code,
    /// The same program for the runtime.
    pub plan: Plan,
    /// What artifacts say about the model: JSON.
    pub meta: String,
    /// Which model it was.
    pub provenance: Provenance,
    pub(crate) weights: Packed,
}

/// The kernels of a compiled model.
#[derive(Debug)]
pub enum Code {
    /// For a processor.
    Processor(cranelift::Image),
    /// For GPUs.
    Gpu(Vec<runtime::cuda::Kernel>),
}

impl Code {
    /// How many bytes it is.
    pub fn bytes(&self) -> usize {
        match self {
            Code::Processor(image) => image.code.len(),
            Code::Gpu(kernels) => {
                kernels.iter().flat_map(|kernel| &kernel.images).map(|image| image.bytes.len()).sum()
            }
        }
    }

    /// What it is for, in JSON.
    pub fn target(&self) -> Value {
        match self {
            Code::Processor(image) => json!({"kind": "cpu", "arch": image.arch, "features": image.features}),
            Code::Gpu(kernels) => {
                let images = kernels.first().map_or(&[][..], |kernel| &kernel.images);
                let architectures: Vec<&str> = images.iter().map(|image| image.arch.as_str()).collect();
                json!({"kind": "cuda", "architectures": architectures})
            }
        }
    }

    /// Where each kernel of a program starts; those for GPUs have no place.
    fn places(&self) -> Vec<(String, u64)> {
        match self {
            Code::Processor(image) => image.kernels.clone(),
            Code::Gpu(kernels) => kernels.iter().map(|kernel| (kernel.name.clone(), 0)).collect(),
        }
    }
}

/// Runs the passes that `source` has not been through yet. The result is a program whose buffers have places.
///
/// # Errors
/// What the first failing pass says: all nodes that it cannot go on with.
pub fn optimize(source: Source, options: &Options, observer: &mut dyn Observer) -> Result<Source, Error> {
    let steps = pipeline::of_level(source.provenance.options.level);
    let rest = remaining(steps, &source);
    run_passes(source, rest, None, options, observer)
}

/// Runs some steps on a model.
///
/// # Errors
/// As [`optimize`].
pub fn run_passes(
    source: Source,
    steps: &[Step],
    stop_after: Option<&str>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Source, Error> {
    let Source { state, mut provenance, after, fixed } = source;
    let run = Run {
        cx: cx(&provenance, options),
        verify: options.verify,
        stop_after: stop_after.map(str::to_owned),
    };
    let start = state.clone();
    let mut counted = Counted { inner: observer, passes: 0, provenance: &mut provenance };
    match pipeline::run(state, steps, &run, &mut counted) {
        Ok(state) => Ok(Source { state, provenance, after, fixed }),
        Err(errors) => {
            let passes = counted.passes;
            let graph = failing_graph(&errors, start, passes, steps, &run).map(Box::new);
            Err(Error::Passes { errors, graph })
        }
    }
}

/// What passes may know of a model and how it is compiled.
pub(crate) fn cx(provenance: &Provenance, options: &Options) -> Cx {
    Cx { extra_rules: options.extra_rules, ..provenance.options.cx() }
}

/// The steps of a pipeline that a model has not been through yet.
///
/// A text that egraft wrote says which of the passes that run once are behind it, and a dump names the pass after
/// which it was made. Inside a repetition, the round is not known, so the repetition starts again: its passes change
/// nothing where they already ran. A program without such a name goes on with fusion
/// if a kernel is in stage form, with states and schedules if all are loops, and is complete if its buffers have places.
pub fn remaining<'a>(steps: &'a [Step], source: &Source) -> &'a [Step] {
    let (state, after) = (&source.state, source.after.as_deref());
    let once = pipeline::once(steps, &source.provenance.past);
    let steps = once.map_or(steps, |at| &steps[at + 1..]);
    if let Some(pass) = after
        && let Some(at) = steps.iter().position(|step| step.contains(pass))
    {
        return match steps[at] {
            Step::Repeat(..) => &steps[at..],
            _ => &steps[at + 1..],
        };
    }
    let State::Program(program) = state else { return steps };
    if once.is_some() {
        return steps;
    }
    if state.extension() == "prog" {
        return &[];
    }
    let is_stages = |kernel: &ir::kernel::Kernel| matches!(kernel.body, ir::kernel::Body::Stages(_));
    let first = match program.kernels.iter().any(is_stages) {
        true => steps.iter().position(|step| matches!(step, Step::Program(_))),
        false => steps.iter().position(|step| step.contains("to_loops")).map(|at| at + 1),
    };
    &steps[first.unwrap_or(steps.len())..]
}

/// Counts the passes that have run, and notes how far the model has come.
struct Counted<'a> {
    inner: &'a mut dyn Observer,
    passes: usize,
    provenance: &'a mut Provenance,
}

impl Observer for Counted<'_> {
    fn before(&mut self, pass: About) {
        self.inner.before(pass);
    }

    fn after(&mut self, pass: About, state: &State, changed: Changed) {
        self.passes += 1;
        self.provenance.advance(pass.name);
        self.inner.after(pass, state, changed);
    }
}

/// Keeps the graph as it is after a number of passes.
struct Keep {
    left: usize,
    graph: Option<Graph>,
}

impl Observer for Keep {
    fn after(&mut self, _: About, state: &State, _: Changed) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0
            && let (None, State::Graph(graph)) = (&self.graph, state)
        {
            self.graph = Some(graph.clone());
        }
    }
}

/// The graph that errors are about: passes are deterministic, so running those before the failing one again gives it.
/// So a compilation that succeeds keeps no copies.
fn failing_graph(
    errors: &[At<PassError>],
    start: State,
    passes: usize,
    steps: &[Step],
    run: &Run,
) -> Option<Graph> {
    if errors.iter().all(|at| at.node.is_none()) {
        return None;
    }
    if passes == 0 {
        return match start {
            State::Graph(graph) => Some(graph),
            State::Program(_) => None,
        };
    }
    let mut keep = Keep { left: passes, graph: None };
    // It fails as it did before.
    let _ = pipeline::run(start, steps, run, &mut keep);
    keep.graph
}

/// Compiles a model.
///
/// # Errors
/// What passes or the backend cannot go on with; for GPUs, NVRTC is not there.
pub fn compile(source: Source, options: &Options, observer: &mut dyn Observer) -> Result<Compiled, Error> {
    match source.provenance.options.target() {
        Target::Cpu => {
            let target = options.processor()?;
            let emit =
                |program: &Program, _: &Recorded| Ok(Code::Processor(cranelift::emit(program, &target)?));
            with(emit, source, options, observer)
        }
        Target::Gpu => {
            // What is not there is told before any work.
            let compiler = gpu::Compiler::find(None)?;
            let targets = gpu::targets(options);
            let emit = |program: &Program, options: &Recorded| {
                Ok(Code::Gpu(compiler.kernels(program, options, &targets)?))
            };
            with(emit, source, options, observer)
        }
    }
}

/// Compiles a model; `emit` makes the code.
pub(crate) fn with(
    emit: impl FnOnce(&Program, &Recorded) -> Result<Code, Error>,
    source: Source,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Compiled, Error> {
    let Source { state, provenance, .. } = optimize(source, options, observer)?;
    observer.before(EMIT);
    let State::Program(program) = &state else { return Err(Error::NotLowered) };
    let code = emit(program, &provenance.options)?;
    observer.after(EMIT, &state, Changed(true));
    let State::Program(program) = state else { return Err(Error::NotLowered) };
    assemble(program, code, provenance)
}

/// Compiles models to one artifact with an entry for each, called as `names` says. They share weights of equal contents,
/// and states of one name.
///
/// # Errors
/// As [`compile`], for each model; states that are not the same.
pub fn compile_all(
    models: Vec<(String, Source)>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Compiled, Error> {
    compile(link(models, options, observer)?, options, observer)
}

/// Models on their way to one artifact, as one program: what comes after [`passes::lower::link()`] is still to run.
///
/// # Errors
/// As [`compile_all`].
pub fn link(
    models: Vec<(String, Source)>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Source, Error> {
    let name = models.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("+");
    let (mut programs, mut provenances) = (Vec::new(), Vec::new());
    for (name, source) in models {
        let steps = pipeline::of_level(source.provenance.options.level);
        let rest = remaining(steps, &source);
        let alone = rest.iter().position(|step| step.contains(SHARED)).unwrap_or(rest.len());
        let Source { state, provenance, .. } = run_passes(source, &rest[..alone], None, options, observer)?;
        let State::Program(program) = state else { return Err(Error::NotLowered) };
        programs.push((name, program));
        provenances.push(provenance);
    }
    let program = passes::lower::link(&name, programs)?;
    let (provenance, after) = (Provenance::of_all(&provenances), Some(BEFORE_SHARED.to_owned()));
    Ok(Source { state: State::Program(program), provenance, after, fixed: Vec::new() })
}

/// From this pass on, models that are compiled together are one program.
const SHARED: &str = "share_kernels";

/// The pass before.
const BEFORE_SHARED: &str = "expand_math";

/// What was found out about a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// A graph.
    Graph {
        /// So many nodes, with those nested in others.
        nodes: usize,
        /// What of it cannot be compiled, all of it.
        problems: Vec<At<PassError>>,
        /// What it can hardly be meant to do.
        lints: Vec<At<Lint>>,
    },
    /// A program, which was compiled to so many kernels.
    Program(usize),
}

/// Looks for everything in a model that cannot be compiled, or can hardly be meant. Of a graph each node is looked at, which
/// takes no time for rewriting and machine code; a program is compiled.
///
/// # Errors
/// A model that is broken, and a program that cannot be compiled.
pub fn check(source: Source, options: &Options, observer: &mut dyn Observer) -> Result<Checked, Error> {
    options.processor()?;
    let State::Graph(graph) = source.state else {
        return Ok(Checked::Program(compile(source, options, observer)?.program.kernels.len()));
    };
    check_inputs(&graph)?;
    let passes::check::Report { nodes, problems } = passes::check::check(&graph);
    Ok(Checked::Graph { nodes, problems, lints: lint(&graph, &source.fixed) })
}

/// Compiles a program that was made by a program; what is missing of the passes runs first.
///
/// # Errors
/// As [`compile`].
pub fn compile_program(program: Program, options: &Options) -> Result<Compiled, Error> {
    compile(Source::of_program(program, options), options, &mut ())
}

fn assemble(program: Program, code: Code, provenance: Provenance) -> Result<Compiled, Error> {
    let weights = Packed::new(&program);
    let plan = plan(&program, &code.places(), weights.slots.clone())?;
    let meta = summary::meta(&program, code.target(), &provenance).to_string();
    Ok(Compiled { program, code, plan, meta, provenance, weights })
}

impl Compiled {
    /// Total size of the weights as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes
    }

    /// The model, ready to run in this process.
    ///
    /// # Errors
    /// Memory is short, or the system denies executable memory; there is no GPU for kernels that need one.
    pub fn model(&self) -> Result<Arc<Model>, Error> {
        self.model_on(|device| device)
    }

    /// The same; on a GPU with guards beside all memory, so that a kernel that writes there is an error.
    ///
    /// # Errors
    /// As [`Compiled::model`].
    pub fn guarded_model(&self) -> Result<Arc<Model>, Error> {
        self.model_on(|device| Arc::new(Guarded::new(device)))
    }

    fn model_on(&self, with: impl FnOnce(Arc<dyn Device>) -> Arc<dyn Device>) -> Result<Arc<Model>, Error> {
        let weights = self.weights.in_memory(&self.program).map_err(LoadError::from)?;
        let (plan, meta) = (self.plan.clone(), self.meta.clone());
        Ok(match &self.code {
            Code::Processor(image) => Model::from_parts(plan, &image.code, Weights::from(weights), meta)?,
            Code::Gpu(kernels) => {
                let device = runtime::cuda::load(kernels).map_err(LoadError::from)?;
                Model::on_device(plan, with(device), &weights, meta)?
            }
        })
    }

    /// Runs the first entry once on `threads` threads.
    ///
    /// # Errors
    /// Inputs that don't fit, or those of [`Compiled::model`].
    pub fn run(&self, inputs: &[Tensor], threads: usize) -> Result<Vec<Tensor>, Error> {
        run(self.model()?, inputs, threads)
    }
}

/// Runs the first entry of a model once.
///
/// # Errors
/// Inputs that don't fit.
pub fn run(model: Arc<Model>, inputs: &[Tensor], threads: usize) -> Result<Vec<Tensor>, Error> {
    run_again(&mut Session::new(model, 0, Pool::new(threads))?, inputs)
}

/// Runs a session once more, maybe with inputs of other sizes.
///
/// # Errors
/// Inputs that don't fit.
pub fn run_again(session: &mut Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let dims: Vec<Vec<i64>> =
        inputs.iter().map(|tensor| tensor.shape().iter().map(|&size| size as i64).collect()).collect();
    let views: Vec<TensorRef<'_>> = inputs
        .iter()
        .zip(&dims)
        .map(|(tensor, dims)| TensorRef { dtype: to_runtime(tensor.dtype()), dims, data: tensor.bytes() })
        .collect();
    let outputs = session.run_tensors(&views)?;
    Ok(outputs.iter().map(from_result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &[Step]) -> Vec<&'static str> {
        steps
            .iter()
            .flat_map(|step| match step {
                Step::Repeat(_, steps) => names(steps),
                step => vec![step.about().expect("a pass has a name").name],
            })
            .collect()
    }

    #[test]
    fn dumps_go_on_after_their_pass() {
        let steps = pipeline::DEFAULT;
        let mut source = Source::of_graph(Graph::new("g"), &Options::default());
        let mut rest = |pass: &str| {
            source.after = Some(pass.to_owned());
            names(remaining(steps, &source))
        };
        assert_eq!(rest("import"), names(steps));
        assert_eq!(rest("dce"), names(steps), "a repetition starts again");
        assert_eq!(rest("to_stages").first(), Some(&"fuse"));
        assert_eq!(rest("plan_memory"), [""; 0]);
        // What is said on top decides between repetitions.
        source.provenance.advance("expand");
        source.provenance.advance("dce");
        source.after = Some("dce".to_owned());
        let rest = names(remaining(steps, &source));
        assert!(rest.starts_with(&["read_stored"]) && !rest.contains(&"saturate"), "{rest:?}");
    }

    #[test]
    fn programs_go_on_by_their_form() {
        let program = |arena| {
            let entry = ir::program::Entry {
                name: "main".to_owned(),
                inputs: vec![],
                outputs: vec![],
                keeps: vec![],
                buffers: vec![],
                host: vec![],
                steps: vec![],
                arena,
            };
            let program =
                Program { name: "p".into(), weights: vec![], kernels: vec![], entries: vec![entry] };
            Source::of_program(program, &Options::default())
        };
        assert_eq!(names(remaining(pipeline::DEFAULT, &program(None))).first(), Some(&"place_states"));
        let planned = program(Some(ir::Dim::constant(0)));
        assert!(remaining(pipeline::DEFAULT, &planned).is_empty());
    }
}
