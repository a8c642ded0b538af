//! The pipelines, as data, and the one function that runs them.

use ir::program::Program;
use ir::{At, Graph, Origin};

use crate::egraph::Saturate;
use crate::error::PassError;
use crate::graph::fold_constants::MAX_FOLDED;
use crate::graph::{Canonicalize, Cse, Dce, ExcessPrecision, Expand, FoldConstants, ReadStored, Reroll};
use crate::kernel::{ExpandMath, Schedule};
use crate::lower::{Fuse, PlaceStates, PlanMemory, ShareKernels, ToLoops, ToStages};
use crate::pass::{About, Changed, Cx, GraphPass, LowerPass, ProgramPass};

/// One step of a pipeline.
#[derive(Clone, Copy)]
pub enum Step {
    /// On the graph.
    Graph(&'static dyn GraphPass),
    /// From graph to program.
    Lower(&'static dyn LowerPass),
    /// On the program.
    Program(&'static dyn ProgramPass),
    /// Several steps again until nothing changes, at most so many times.
    Repeat(usize, &'static [Step]),
}

/// Constant folding, within its usual limit.
const FOLD: FoldConstants = FoldConstants { max_bytes: MAX_FOLDED, widens: true };

/// Constant folding while rules are to see in what type weights are stored.
const FOLD_AS_STORED: FoldConstants = FoldConstants { widens: false, ..FOLD };

/// Clean up: fold what is constant, drop what does nothing, is there twice, or is not needed.
const CLEAN: &[Step] = &[
    // What products read as it is stored is no longer there to be folded.
    Step::Graph(&ReadStored),
    Step::Graph(&FOLD),
    Step::Graph(&Canonicalize),
    Step::Graph(&Cse),
    Step::Graph(&Dce),
];

/// The same before rules have looked.
const CLEAN_AS_STORED: &[Step] = &[
    // First of all, since constants are folded in the type in which they are used.
    Step::Graph(&ExcessPrecision),
    Step::Graph(&FOLD_AS_STORED),
    Step::Graph(&Canonicalize),
    Step::Graph(&Cse),
    Step::Graph(&Dce),
];

/// Graph to program without fusion: one kernel for each op.
pub const UNFUSED: &[Step] = &[
    Step::Graph(&Dce),
    Step::Graph(&Expand),
    Step::Repeat(3, CLEAN),
    Step::Lower(&ToStages),
    Step::Program(&ToLoops),
    Step::Program(&PlaceStates),
    Step::Program(&Schedule),
    Step::Program(&ExpandMath),
    Step::Program(&ShareKernels),
    Step::Program(&PlanMemory),
];

/// Graph to program at the default level. Read from top to bottom, this is the compiler.
pub const DEFAULT: &[Step] = &[
    // Imported graphs compute shapes with ops; after folding, most of that is gone.
    Step::Repeat(3, CLEAN_AS_STORED),
    // What exporters unrolled is rolled up while it is as they wrote it.
    Step::Graph(&Reroll),
    // Whole ops are easier to match than their expansions: rules come before those are opened.
    Step::Graph(&Saturate),
    Step::Graph(&Expand),
    // Expansion brings new constants and common subterms.
    Step::Repeat(3, CLEAN),
    // From here on there are only kernels: first what they compute …
    Step::Lower(&ToStages),
    Step::Program(&Fuse),
    // … then how.
    Step::Program(&ToLoops),
    Step::Program(&PlaceStates),
    Step::Program(&Schedule),
    Step::Program(&ExpandMath),
    // Layers repeat; their kernels need to be compiled once.
    Step::Program(&ShareKernels),
    Step::Program(&PlanMemory),
];

/// The pipeline of an optimisation level: 0 leaves every op its own kernel, 1 to 3 fuse.
pub fn of_level(level: u8) -> &'static [Step] {
    if level == 0 { UNFUSED } else { DEFAULT }
}

/// Every pass, in the order of the default pipeline.
pub const ALL: &[Step] = &[
    Step::Graph(&ExcessPrecision),
    Step::Graph(&FOLD),
    Step::Graph(&Canonicalize),
    Step::Graph(&Cse),
    Step::Graph(&Dce),
    Step::Graph(&Reroll),
    Step::Graph(&Saturate),
    Step::Graph(&Expand),
    Step::Graph(&ReadStored),
    Step::Lower(&ToStages),
    Step::Program(&Fuse),
    Step::Program(&ToLoops),
    Step::Program(&PlaceStates),
    Step::Program(&Schedule),
    Step::Program(&ExpandMath),
    Step::Program(&ShareKernels),
    Step::Program(&PlanMemory),
];

impl Step {
    /// Its name and what it does; `None` for a repetition.
    pub fn about(&self) -> Option<About> {
        match self {
            Step::Graph(pass) => Some(pass.about()),
            Step::Lower(pass) => Some(pass.about()),
            Step::Program(pass) => Some(pass.about()),
            Step::Repeat(..) => None,
        }
    }

    /// The pass of that name.
    ///
    /// # Errors
    /// [`PassError::UnknownPass`].
    pub fn find(name: &str) -> Result<Step, PassError> {
        let found = ALL.iter().copied().find(|step| step.about().is_some_and(|about| about.name == name));
        found.ok_or_else(|| PassError::UnknownPass { name: name.to_owned() })
    }
}

/// The model on its way: a graph, then a program.
#[derive(Debug, Clone)]
pub enum State {
    /// Before lowering.
    Graph(Graph),
    /// After it.
    Program(Program),
}

impl State {
    /// What it is, in messages.
    pub fn noun(&self) -> &'static str {
        match self {
            State::Graph(_) => "a graph",
            State::Program(_) => "a program",
        }
    }

    /// Which names of dumps and inputs belong to it: `ir`, `kir`, or `prog` once memory is planned.
    pub fn extension(&self) -> &'static str {
        match self {
            State::Graph(_) => "ir",
            State::Program(program) if program.entries.iter().all(|entry| entry.arena.is_some()) => "prog",
            State::Program(_) => "kir",
        }
    }

    /// All violations that the verifier finds.
    pub fn verify(&self) -> Vec<String> {
        match self {
            State::Graph(graph) => ir::verify::verify(graph).iter().map(ToString::to_string).collect(),
            State::Program(program) => {
                ir::verify::verify_program(program).iter().map(ToString::to_string).collect()
            }
        }
    }
}

/// Is told what happens, between steps: for timing, dumps and progress.
pub trait Observer {
    /// A pass is about to run.
    fn before(&mut self, pass: About) {
        let _ = pass;
    }

    /// A pass has run.
    fn after(&mut self, pass: About, state: &State, changed: Changed) {
        let _ = (pass, state, changed);
    }
}

/// Watches nothing.
impl Observer for () {}

/// How to run a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The options that passes see.
    pub cx: Cx,
    /// Verify after every pass.
    pub verify: bool,
    /// Stop after this pass.
    pub stop_after: Option<String>,
}

/// Runs `steps` on `state`.
///
/// A `stop_after` inside a repetition means its last round.
///
/// # Errors
/// What the first failing pass says: all nodes that it cannot go on with.
pub fn run(
    mut state: State,
    steps: &[Step],
    options: &Run,
    observer: &mut dyn Observer,
) -> Result<State, Vec<At<PassError>>> {
    if let Some(name) = &options.stop_after {
        Step::find(name).map_err(nowhere)?;
    }
    let to = options.stop_after.as_ref().and_then(|name| steps.iter().rposition(|step| step.contains(name)));
    let to = to.map_or(steps.len(), |at| at + 1);
    for step in &steps[..to] {
        (state, _) = run_step(state, step, options, observer)?;
    }
    Ok(state)
}

impl Step {
    /// Is it the pass of that name, or does it repeat it?
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Step::Repeat(_, steps) => steps.iter().any(|step| step.contains(name)),
            step => step.about().is_some_and(|about| about.name == name),
        }
    }
}

/// The steps before the first that is the pass of that name, and those after it; `None` where there is none. A
/// repetition is taken as a whole.
pub fn around<'a>(steps: &'a [Step], name: &str) -> Option<(&'a [Step], &'a [Step])> {
    let at = steps.iter().position(|step| step.contains(name))?;
    Some((&steps[..at], &steps[at + 1..]))
}

/// The place of the step that is the pass of that name, repetitions aside: it runs once.
pub fn once(steps: &[Step], name: &str) -> Option<usize> {
    steps.iter().position(|step| step.about().is_some_and(|about| about.name == name))
}

fn nowhere(error: PassError) -> Vec<At<PassError>> {
    vec![At { node: None, origin: Origin::none(), error }]
}

fn run_step(
    state: State,
    step: &Step,
    options: &Run,
    observer: &mut dyn Observer,
) -> Result<(State, Changed), Vec<At<PassError>>> {
    let Some(about) = step.about() else {
        let Step::Repeat(times, steps) = step else { unreachable!("bug: only repetitions have no name") };
        return repeat(state, *times, steps, options, observer);
    };
    observer.before(about);
    let wrong =
        |wants, state: &State| nowhere(PassError::WrongNoun { pass: about.name, wants, found: state.noun() });
    let (state, changed) = match (step, state) {
        (Step::Graph(pass), State::Graph(mut graph)) => {
            let changed = everywhere(&mut graph, &mut |graph| Ok(pass.run(graph, &options.cx)?.0));
            let changed = changed.map_err(|at: At<PassError>| vec![at])?;
            (State::Graph(graph), Changed(changed))
        }
        (Step::Lower(pass), State::Graph(graph)) => {
            (State::Program(pass.run(&graph, &options.cx)?), Changed(true))
        }
        (Step::Program(pass), State::Program(mut program)) => {
            let changed = pass.run(&mut program, &options.cx).map_err(|at| vec![at])?;
            (State::Program(program), changed)
        }
        (Step::Graph(_) | Step::Lower(_), state) => return Err(wrong("graphs", &state)),
        (_, state) => return Err(wrong("programs", &state)),
    };
    if options.verify
        && let Some(violation) = state.verify().into_iter().next()
    {
        return Err(nowhere(PassError::Invalid { pass: about.name, violation }));
    }
    observer.after(about, &state, changed);
    Ok((state, changed))
}

/// Changes a graph and then those nested in it; says whether one was changed.
///
/// # Errors
/// The first that `change` gives.
pub(crate) fn everywhere<E>(
    graph: &mut Graph,
    change: &mut dyn FnMut(&mut Graph) -> Result<bool, E>,
) -> Result<bool, E> {
    let changed = change(graph)?;
    Ok(graph.change_nested(&mut |nested| everywhere(nested, change))? || changed)
}

fn repeat(
    mut state: State,
    times: usize,
    steps: &[Step],
    options: &Run,
    observer: &mut dyn Observer,
) -> Result<(State, Changed), Vec<At<PassError>>> {
    let mut ever = false;
    for _ in 0..times {
        let mut now = false;
        for step in steps {
            let (next, changed) = run_step(state, step, options, observer)?;
            state = next;
            now |= changed.0;
        }
        ever |= now;
        if !now {
            break;
        }
    }
    Ok((state, Changed(ever)))
}
