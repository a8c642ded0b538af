//! One model on every backend: evaluated, walked, and as native code, compiled once for all inputs.

use egraft::Options;
use ir::program::Program;
use ir::{Graph, Tensor};
use passes::pass::{About, Changed};
use passes::pipeline::{self, Observer, State};
use runtime::{Pool, Session};

use crate::check_all;

/// The levels that differ: nothing fused, and all that can be.
const LEVELS: [u8; 2] = [0, 2];

/// A compiled model.
pub struct Everywhere {
    name: String,
    graph: Graph,
    /// Programs to walk, with what they are.
    programs: Vec<(String, Program)>,
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
            all.programs.extend(seen.0.map(|stages| (format!("stages walked at -O{level}"), stages)));
            all.programs.push((format!("walked at -O{level}"), program));
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
        let Everywhere { name, graph, programs, sessions } = self;
        let expected = reference::run_graph(graph, inputs).unwrap_or_else(|e| panic!("{name}: {e}\n{graph}"));
        let agree = |what: &str, found: Result<Vec<Tensor>, String>| {
            found
                .and_then(|found| check_all(&expected, &found))
                .unwrap_or_else(|why| panic!("{name}, {what}: {why}\n{inputs:?}\n{graph}"));
        };
        for (what, program) in programs {
            agree(what, reference::run_program(program, 0, inputs).map_err(|e| e.to_string()));
        }
        for (what, session) in sessions {
            agree(what, egraft::run_again(session, inputs).map_err(|e| e.to_string()));
        }
        expected
    }

    /// All refuse these inputs, and the native ones for a reason with these words. What they compute afterwards is not
    /// changed by that.
    ///
    /// # Panics
    /// If one computes something.
    pub fn refuse(&mut self, inputs: &[Tensor], words: &[&str]) {
        let Everywhere { name, graph, programs, sessions } = self;
        assert!(
            reference::run_graph(graph, inputs).is_err(),
            "{name}: evaluation accepts {inputs:?}\n{graph}"
        );
        for (what, program) in programs {
            assert!(
                reference::run_program(program, 0, inputs).is_err(),
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

/// Keeps the last program that consists of stages.
struct Unplanned(Option<Program>);

impl Observer for Unplanned {
    fn after(&mut self, pass: About, state: &State, _: Changed) {
        if let (State::Program(program), "to_stages" | "fuse") = (state, pass.name) {
            self.0 = Some(program.clone());
        }
    }
}
