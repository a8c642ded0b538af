//! One model on every backend: evaluated, walked, and as native code, compiled once for all inputs. What a model keeps is
//! kept from one run to the next, on each of them.

use egraft::Options;
use ir::program::Program;
use ir::{Graph, Tensor};
use passes::pass::{About, Changed};
use passes::pipeline::{self, Observer, State};
use reference::States;
use runtime::{Pool, Session};

use crate::check_all;

/// The levels that differ: nothing fused, and all that can be.
const LEVELS: [u8; 2] = [0, 2];

/// A compiled model.
pub struct Everywhere {
    name: String,
    graph: Graph,
    /// What the graph keeps, for each of its inputs that is kept; nothing before the first run.
    kept: Option<Vec<(usize, Tensor)>>,
    /// Programs to walk, with what they are, and what they keep.
    programs: Vec<(String, Program, States)>,
    /// Sessions that live on from one run to the next, with what they are.
    sessions: Vec<(String, Session)>,
}

impl Everywhere {
    /// Compiles a graph, verified after every pass.
    ///
    /// # Panics
    /// If it does not compile.
    pub fn new(name: &str, graph: &Graph) -> Everywhere {
        let mut all = Everywhere {
            name: name.to_owned(),
            graph: graph.clone(),
            kept: None,
            programs: Vec::new(),
            sessions: Vec::new(),
        };
        for level in LEVELS {
            let options = pipeline::Run { verify: true, ..pipeline::Run::default() };
            let mut seen = Unplanned(None);
            let state =
                pipeline::run(State::Graph(graph.clone()), pipeline::of_level(level), &options, &mut seen)
                    .unwrap_or_else(|errors| panic!("{name} at -O{level}: {errors:#?}\n{graph}"));
            let State::Program(program) = state else { unreachable!("bug: the pipeline ends in a program") };
            let compiled = egraft::compile_program(program.clone(), &Options::default())
                .unwrap_or_else(|error| panic!("{name} at -O{level}: {error}\n{program}"));
            for threads in [1, 2] {
                let model = compiled.model().unwrap_or_else(|error| panic!("{name} at -O{level}: {error}"));
                let session = Session::new(model, 0, Pool::new(threads)).expect("the entry is there");
                all.sessions.push((format!("native at -O{level}, {threads} threads"), session));
            }
            let stages = seen.0.map(|stages| (format!("stages walked at -O{level}"), stages, States::new()));
            all.programs.extend(stages);
            all.programs.push((format!("walked at -O{level}"), program, States::new()));
        }
        all
    }

    /// The program that runs natively at `-O2`.
    pub fn program(&self) -> &Program {
        &self.programs.last().expect("the last one is that of the last level").1
    }

    /// The results of a run, on which all agree.
    ///
    /// # Panics
    /// If two differ, or one fails.
    pub fn run(&mut self, inputs: &[Tensor]) -> Vec<Tensor> {
        let Everywhere { name, graph, kept, programs, sessions } = self;
        let before = kept.take().unwrap_or_else(|| zeros(graph, inputs));
        let all_inputs = with_states(graph, inputs, &before);
        let all = reference::run_graph(graph, &all_inputs).unwrap_or_else(|e| panic!("{name}: {e}\n{graph}"));
        let seen = graph.kept().into_iter().zip(&all).filter(|(kept, _)| kept.is_none());
        let expected: Vec<Tensor> = seen.map(|(_, output)| output.clone()).collect();
        let agree = |what: &str, expected: &[Tensor], found: Result<Vec<Tensor>, String>| {
            found
                .and_then(|found| check_all(expected, &found))
                .unwrap_or_else(|why| panic!("{name}, {what}: {why}\n{inputs:?}\n{graph}"));
        };
        for (what, program, states) in programs {
            if program.entries[0].keeps.is_empty() {
                let found = reference::run_program_on(program, 0, inputs, states);
                agree(what, &expected, found.map_err(|e| e.to_string()));
            } else {
                let found = reference::run_program(program, 0, &all_inputs);
                agree(what, &all, found.map_err(|e| e.to_string()));
            }
        }
        for (what, session) in sessions {
            agree(what, &expected, egraft::run_again(session, inputs).map_err(|e| e.to_string()));
        }
        let next = graph.kept().into_iter().zip(all).filter_map(|(input, output)| Some((input?, output)));
        *kept = Some(next.collect());
        expected
    }

    /// Begins anew: what is kept is zeros.
    pub fn reset(&mut self) {
        self.kept = None;
        self.programs.iter_mut().for_each(|(_, _, states)| states.clear());
        self.sessions.iter_mut().for_each(|(_, session)| session.reset_state());
    }

    /// All refuse these inputs, and the native ones for a reason with these words. What they compute afterwards is not
    /// changed by that.
    ///
    /// # Panics
    /// If one computes something.
    pub fn refuse(&mut self, inputs: &[Tensor], words: &[&str]) {
        let Everywhere { name, graph, kept, programs, sessions } = self;
        let before = kept.clone().unwrap_or_else(|| zeros(graph, inputs));
        let all = with_states(graph, inputs, &before);
        assert!(reference::run_graph(graph, &all).is_err(), "{name}: evaluation accepts {inputs:?}\n{graph}");
        for (what, program, states) in programs {
            let given = if program.entries[0].keeps.is_empty() { inputs } else { &all };
            assert!(
                reference::run_program_on(program, 0, given, &mut states.clone()).is_err(),
                "{name}, {what}: accepts {inputs:?}"
            );
        }
        for (what, session) in sessions {
            let Err(error) = egraft::run_again(session, inputs) else {
                panic!("{name}, {what}: accepts {inputs:?}")
            };
            let error = error.to_string();
            for word in words {
                assert!(error.contains(word), "{name}, {what}: `{word}` is not in: {error}");
            }
        }
    }
}

/// The positions of the inputs that are kept.
fn kept_inputs(graph: &Graph) -> Vec<usize> {
    graph.kept().into_iter().flatten().collect()
}

/// What a graph keeps before its first run, which has these inputs: their sizes decide those of the rest.
fn zeros(graph: &Graph, inputs: &[Tensor]) -> Vec<(usize, Tensor)> {
    let kept = kept_inputs(graph);
    if kept.is_empty() {
        return Vec::new();
    }
    let mut given = Graph::new("inputs");
    for (_, &id) in graph.inputs().iter().enumerate().filter(|(at, _)| !kept.contains(at)) {
        given.add_input(graph.input_name(id), graph.ty(id.into()).clone(), ir::Origin::none());
    }
    let sizes = ir::graph::bind(&given, inputs).expect("the inputs fit");
    let zeros = |&at: &usize| {
        let ty = graph.ty(graph.inputs()[at].into());
        let size = |dim: &ir::Dim| {
            dim.eval(&|symbol| sizes.get(symbol).copied()).expect("inputs decide it") as usize
        };
        let shape: Vec<usize> = ty.shape.iter().map(size).collect();
        (at, Tensor::splat(ir::Scalar::from_i64(ty.dtype, 0), &shape))
    };
    kept.iter().map(zeros).collect()
}

/// All inputs of a graph: those that are given, and those that are kept.
fn with_states(graph: &Graph, inputs: &[Tensor], kept: &[(usize, Tensor)]) -> Vec<Tensor> {
    let mut given = inputs.iter();
    let input = |at: usize| {
        let state = kept.iter().find(|(input, _)| *input == at).map(|(_, state)| state);
        state.or_else(|| given.next()).cloned().expect("as many inputs as the graph has")
    };
    (0..graph.inputs().len()).map(input).collect()
}

/// Keeps the last program that consists of stages.
struct Unplanned(Option<Program>);

impl Observer for Unplanned {
    fn after(&mut self, pass: About, state: &State, _: Changed) {
        if let (State::Program(program), "to_stages" | "fuse") = (state, pass.name) {
            self.0 = Some(program.clone());
        }
    }
}
