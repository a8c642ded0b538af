//! Models that keep something from run to run, on every backend: several runs give what one with all that was before
//! gives, nothing but new rows is written, and models that are compiled together go on from each other.

use egraft::{Options, load, load_all};
use harness::{Everywhere, Random, Tolerance, model, root};
use ir::dim::Symbol;
use ir::program::{Program, Space, Step};
use ir::{DType, Graph, Scalar, Tensor};
use passes::pipeline::State;
use runtime::{Pool, Session};

/// Room for so many tokens.
const CAPACITY: i64 = 9;

fn path(name: &str) -> std::path::PathBuf {
    root().join("tests/data/onnx/states").join(name).join("model.onnx")
}

fn options(keep: &str) -> Options {
    let keeps = vec![keep.parse().expect("it names two")];
    Options { keeps, capacity: Some(CAPACITY), ..Options::default() }
}

/// The graph of a model that keeps this.
fn kept(name: &str, keep: &str) -> Graph {
    match load(&path(name), &options(keep)).unwrap_or_else(|error| panic!("{name}: {error}")).state {
        State::Graph(graph) => graph,
        State::Program(_) => unreachable!("an ONNX file is a graph"),
    }
}

const CACHE: &str = "past.*=present.*";

/// So many tokens, from `first` on, of each member of the batch.
fn tokens(batch: usize, first: usize, count: usize) -> Tensor {
    let token =
        |at: &[usize]| Scalar::from_i64(DType::I64, ((5 * at[0] + 7 * (first + at[1]) + 3) % 32) as i64);
    Tensor::from_fn(DType::I64, &[batch, count], token)
}

/// Each new token sees those before it and itself.
fn mask(batch: usize, before: usize, count: usize) -> Tensor {
    let hidden = |at: &[usize]| if at[3] > before + at[2] { -1e9 } else { 0.0 };
    Tensor::from_fn(DType::F32, &[batch, 1, count, before + count], |at| Scalar::f32(hidden(at)))
}

fn assert_close(what: &str, expected: &[Tensor], found: &[Tensor]) {
    assert_eq!(expected.len(), found.len(), "{what}");
    for (expected, found) in expected.iter().zip(found) {
        Tolerance { atol: 1e-6, rtol: 1e-5 }
            .check(expected, found)
            .unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}

/// What the model as it was written gives, for steps of so many tokens, when its outputs are its inputs again.
fn by_hand(graph: &Graph, batch: usize, steps: &[usize], masked: bool) -> Vec<Tensor> {
    let mut caches: Vec<Tensor> = (0..4).map(|_| Tensor::from_f32(&[batch, 2, 0, 8], &[])).collect();
    let mut all = Vec::new();
    let mut before = 0;
    for &count in steps {
        let mut inputs = vec![tokens(batch, before, count)];
        inputs.extend(masked.then(|| mask(batch, before, count)));
        inputs.extend(caches);
        let mut outputs = reference::run_graph(graph, &inputs).expect("it runs");
        caches = outputs.split_off(1);
        all.append(&mut outputs);
        before += count;
    }
    all
}

#[test]
fn a_cache_grows_where_it_is() {
    for (name, masked) in [("decode", true), ("step", false)] {
        let mut everywhere = Everywhere::new(name, &kept(name, CACHE));
        for (batch, steps) in [(1, &[3, 1, 1, 2, 1][..]), (2, &[1, 4, 1])] {
            everywhere.reset();
            let expected = by_hand(&model(&path(name)), batch, steps, masked);
            let mut before = 0;
            for (&count, expected) in steps.iter().zip(expected) {
                let mut inputs = vec![tokens(batch, before, count)];
                inputs.extend(masked.then(|| mask(batch, before, count)));
                let found = everywhere.run(&inputs);
                assert_close(name, &[expected], &found);
                before += count;
            }
            // There is room for nine.
            let mut inputs = vec![tokens(batch, before, 4)];
            inputs.extend(masked.then(|| mask(batch, before, 4)));
            everywhere.refuse(&inputs, &["has room for them", "must be at most 9"]);
        }
    }
    // What a mask says of the length must be so.
    let mut everywhere = Everywhere::new("decode", &kept("decode", CACHE));
    everywhere.run(&[tokens(1, 0, 2), mask(1, 0, 2)]);
    everywhere.refuse(&[tokens(1, 2, 1), mask(1, 3, 1)], &["sizes agree where they must", "past = 3"]);
    everywhere.run(&[tokens(1, 2, 1), mask(1, 2, 1)]);
}

/// Bytes that the calls of an entry write, for a batch of one, one new token, and so many before.
fn written(program: &Program, before: i64) -> i64 {
    let value = |symbol: &Symbol| Some(if symbol.name() == "past" { before } else { 1 });
    let written =
        |call| passes::cost::of_call(program, call).bytes_written.eval(&value).expect("sizes are known");
    program.entries[0].calls().into_iter().map(written).sum()
}

#[test]
fn a_step_writes_new_rows_only() {
    for name in ["decode", "step"] {
        let everywhere = Everywhere::new(name, &kept(name, CACHE));
        let program = everywhere.program();
        assert_eq!(written(program, 0), written(program, 8), "{name}");
        let entry = &program.entries[0];
        // Keys and values of two layers: a row of eight for each head.
        let puts = entry.calls().into_iter().filter(|call| program.kernels[call.kernel].name.name() == "put");
        let bytes = |call| passes::cost::of_call(program, call).bytes_written.eval(&|_| Some(1));
        assert_eq!(puts.map(bytes).collect::<Vec<_>>(), [Some(2 * 8 * 4); 4], "{name}");
        let mut copies = 0;
        Step::walk(&entry.steps, &mut |step| copies += usize::from(matches!(step, Step::Copy(_))));
        assert_eq!(copies, 0, "{name}");
        // No buffer is as long as the cache.
        let past = Symbol::new("past");
        let long =
            entry.buffers.iter().filter(|buffer| buffer.ty.shape.iter().any(|dim| dim.mentions(&past)));
        assert_eq!(long.count(), 0, "{name}");
        let states = entry.buffers.iter().filter(|buffer| buffer.space == Space::State);
        assert_eq!(states.count(), 5, "{name}: keys and values of two layers, and their length");
    }
}

#[test]
fn states_that_do_not_grow() {
    let mut random = Random::new(3);
    for (name, keep, copied) in [("recurrent", "h=next", true), ("momentum", "m=m_next", false)] {
        let mut everywhere = Everywhere::new(name, &kept(name, keep));
        let plain = model(&path(name));
        let shape: &[usize] = if copied { &[2, 4] } else { &[37] };
        let mut state = Tensor::splat(Scalar::f32(0.0), shape);
        for _ in 0..4 {
            let x = random.tensor(DType::F32, shape);
            let outputs = reference::run_graph(&plain, &[x.clone(), state]).expect("it runs");
            assert_close(name, &outputs[..1], &everywhere.run(&[x]));
            state = outputs[1].clone();
        }
        let steps = &everywhere.program().entries[0].steps;
        assert_eq!(steps.iter().any(|step| matches!(step, Step::Copy(_))), copied, "{name}");
        // Another batch would be another state.
        let other = random.tensor(DType::F32, if copied { &[3, 4] } else { &[5] });
        let mut session = Session::new(compiled(&[name], keep), 0, Pool::new(1)).expect("the entry is there");
        egraft::run_again(&mut session, &[random.tensor(DType::F32, shape)]).expect("it runs");
        let error =
            egraft::run_again(&mut session, &[other]).expect_err("the state has other sizes").to_string();
        assert!(error.contains("reset the state first"), "{error}");
    }
    let mut ring = Everywhere::new("ring", &kept("ring", "cache=cache_next"));
    let plain = model(&path("ring"));
    let mut cache = Tensor::splat(Scalar::f32(0.0), &[5, 3]);
    for at in [4, 0, 4, 2] {
        let at = Tensor::from_i64(&[1, 3], &[at; 3]);
        let x = random.tensor(DType::F32, &[1, 3]);
        let outputs = reference::run_graph(&plain, &[x.clone(), at.clone(), cache]).expect("it runs");
        assert_close("ring", &outputs[..1], &ring.run(&[x, at]));
        cache = outputs[1].clone();
    }
    assert_eq!(written(ring.program(), 0), 12 + 12, "one row, and the sums");
}

/// The cache of onnxruntime's attention for decoders is a buffer with room, of which an input tells how much is used.
#[test]
fn a_cache_with_room_is_written_where_it_is() {
    let options = Options { dims: vec![(Symbol::new("room"), 6)], ..options("past_*=present_*") };
    let load = |options: &Options| match load(&path("grouped"), options).expect("it imports").state {
        State::Graph(graph) => graph,
        State::Program(_) => unreachable!("an ONNX file is a graph"),
    };
    let mut everywhere = Everywhere::new("grouped", &load(&options));
    let plain = load(&Options { keeps: Vec::new(), ..options });
    let mut random = Random::new(9);
    let mut caches = vec![Tensor::splat(Scalar::f32(0.0), &[2, 2, 6, 8]); 2];
    let mut total = 0;
    let counts = |total: usize| {
        let count = |_: &[usize]| Scalar::from_i64(DType::I32, total as i64 - 1);
        let all = Tensor::splat(Scalar::from_i64(DType::I32, total as i64), &[1]);
        [Tensor::from_fn(DType::I32, &[2], count), all]
    };
    for new in [3, 1, 1, 1] {
        total += new;
        let rows = [32, 16, 16].map(|width| random.tensor(DType::F32, &[2, new, width]));
        let all: Vec<Tensor> = rows.iter().cloned().chain(caches).chain(counts(total)).collect();
        let mut outputs = reference::run_graph(&plain, &all).expect("it runs");
        caches = outputs.split_off(1);
        let inputs: Vec<Tensor> = rows.into_iter().chain(counts(total)).collect();
        assert_close("grouped", &outputs, &everywhere.run(&inputs));
    }
    let entry = &everywhere.program().entries[0];
    assert!(!entry.steps.iter().any(|step| matches!(step, Step::Copy(_))));
    let rows = [32, 16, 16].map(|width| random.tensor(DType::F32, &[2, 1, width]));
    everywhere.refuse(&rows.into_iter().chain(counts(7)).collect::<Vec<_>>(), &["not be negative"]);
}

/// Models compiled together.
fn compiled(names: &[&str], keep: &str) -> std::sync::Arc<runtime::Model> {
    let options = options(keep);
    let paths: Vec<_> = names.iter().map(|name| path(name)).collect();
    let sources = load_all(&paths, &options).expect("they import");
    let models = names.iter().map(|name| (*name).to_owned()).zip(sources).collect();
    let compiled = egraft::compile_all(models, &options, &mut ()).expect("they compile");
    compiled.model().expect("there is memory")
}

#[test]
fn models_go_on_from_each_other_and_share_weights() {
    let both = compiled(&["prefill", "step"], CACHE);
    let one = compiled(&["step"], CACHE);
    let bytes = |model: &runtime::Model| model.plan().weights.iter().map(|weight| weight.bytes).sum::<u64>();
    // `prefill` multiplies all queries, keys and values at once, `step` those of its first layer apart.
    let names: Vec<&str> = both.plan().entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["prefill", "step"]);
    assert!(bytes(&both) < 2 * bytes(&one), "{} of {}", bytes(&both), bytes(&one));
    let first = &both.plan().entries[0];
    assert_eq!(first.states, both.plan().entries[1].states);
    assert_eq!(first.outputs.len(), 1);

    let mut prefill = Session::new(both, 0, Pool::new(2)).expect("the entry is there");
    let mut step = prefill.beside(1).expect("the entry is there");
    let expected = by_hand(&model(&path("step")), 2, &[4, 1, 2], false);
    for round in 0..2 {
        let found = egraft::run_again(&mut prefill, &[tokens(2, 0, 4)]).expect("it runs");
        assert_close("prefill", &expected[..1], &found);
        let found = egraft::run_again(&mut step, &[tokens(2, 4, 1)]).expect("it runs");
        assert_close("first step", &expected[1..2], &found);
        let found = egraft::run_again(&mut step, &[tokens(2, 5, 2)]).expect("it runs");
        assert_close("second step", &expected[2..], &found);
        // A prompt begins anew, also without a reset.
        if round == 0 {
            let length = step.entry().states.len() - 1;
            let mut bytes = [0; 8];
            step.read_state(length, &mut bytes).expect("it is bound");
            assert_eq!((step.entry().states[length].name.as_str(), i64::from_ne_bytes(bytes)), ("length", 7));
        }
    }
}

#[test]
fn texts_say_what_is_kept() {
    let graph = kept("step", CACHE);
    let text = graph.to_string();
    assert!(text.contains(" as \"present.0.key\" for %past.0.key"), "{text}");
    let weights = harness::Weights::of(&State::Graph(graph.clone()));
    let again = ir::text::parse_graph(&text, &ops::find, &weights).expect("it parses");
    assert_eq!((again.to_string(), again.kept()), (text, graph.kept()));
    assert!(ir::verify::verify(&graph).is_empty());
}
