//! Sessions on a device: one that has its memory in this process, does all at once, and notes what it is asked for.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{add, call, mul, port, symbol};
use crate::device::{Device, DeviceError, Queue, Recording, Stopwatch};
use crate::plan::{Arg, Bind, Buffer, Entry, KernelSlot, Plan, Space, Step};
use crate::{Guarded, Model, Pool, Profile, RunError, Session, Size, TensorRef};

/// What is asked for again by a recording.
type Work = Arc<Mutex<Vec<(Vec<usize>, Vec<i64>)>>>;

#[derive(Default)]
struct Notes {
    asked: BTreeMap<&'static str, usize>,
    allocations: BTreeMap<usize, usize>,
    recording: Option<Work>,
    /// Calls fail from now on.
    broken: bool,
}

/// A device of one kernel, `y[i] = x[i] + 1`, for as many numbers as its size says.
#[derive(Default, Clone)]
struct Here(Arc<Mutex<Notes>>);

impl Here {
    fn note(&self, what: &'static str) {
        *self.0.lock().expect("no test panics with it").asked.entry(what).or_default() += 1;
    }

    fn asked(&self, what: &str) -> usize {
        self.0.lock().expect("no test panics with it").asked.get(what).copied().unwrap_or(0)
    }

    /// Whether the bytes lie in one allocation.
    fn has(&self, start: usize, bytes: usize) -> bool {
        let notes = self.0.lock().expect("no test panics with it");
        notes.allocations.range(..=start).next_back().is_some_and(|(at, len)| start + bytes <= at + len)
    }

    fn add_one(&self, args: &[usize], sizes: &[i64]) {
        let [x, y] = [0, 1].map(|i| std::ptr::with_exposed_provenance_mut::<f32>(args[i]));
        let bytes = 4 * sizes[0] as usize;
        assert!(bytes == 0 || args.iter().all(|&arg| self.has(arg, bytes)), "memory of the device");
        for i in 0..sizes[0] as usize {
            // SAFETY: both have as many numbers, as was just seen.
            unsafe { *y.add(i) = *x.add(i) + 1.0 };
        }
    }
}

impl Device for Here {
    fn name(&self) -> &str {
        "here"
    }

    fn queue(&self) -> Result<Arc<dyn Queue>, DeviceError> {
        Ok(Arc::new(self.clone()))
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 64).expect("it is small")
}

impl Queue for Here {
    fn allocate(&self, bytes: usize) -> Result<*mut u8, DeviceError> {
        self.note("allocate");
        // SAFETY: it is at least one byte.
        let start = unsafe { alloc(layout(bytes)) };
        // SAFETY: there are as many.
        unsafe { start.write_bytes(0, bytes) };
        self.0.lock().expect("alone").allocations.insert(start.expose_provenance(), bytes);
        Ok(start)
    }

    unsafe fn free(&self, start: *mut u8) {
        self.note("free");
        let bytes = self.0.lock().expect("alone").allocations.remove(&start.addr());
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(start, layout(bytes.expect("it was allocated"))) };
    }

    unsafe fn clear(&self, start: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        assert!(self.has(start.addr(), bytes));
        // SAFETY: as was just seen.
        unsafe { start.write_bytes(0, bytes) };
        Ok(())
    }

    unsafe fn write(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        self.note("write");
        assert!(self.has(to.addr(), bytes) && !self.has(from.addr(), 1));
        // SAFETY: as was just seen, and as the caller vouches.
        unsafe { to.copy_from(from, bytes) };
        Ok(())
    }

    unsafe fn read(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        self.note("read");
        assert!(self.has(from.addr(), bytes) && !self.has(to.addr(), 1));
        // SAFETY: as was just seen, and as the caller vouches.
        unsafe { to.copy_from(from, bytes) };
        Ok(())
    }

    unsafe fn copy(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        self.note("copy");
        assert!(self.has(from.addr(), bytes) && self.has(to.addr(), bytes));
        // SAFETY: as was just seen.
        unsafe { to.copy_from(from, bytes) };
        Ok(())
    }

    unsafe fn call(&self, kernel: u32, args: &[*mut u8], sizes: &[i64]) -> Result<(), DeviceError> {
        assert_eq!(kernel, 0);
        self.note("call");
        let args: Vec<usize> = args.iter().map(|arg| arg.addr()).collect();
        let notes = self.0.lock().expect("alone");
        if notes.broken {
            return Err(DeviceError { call: "a call".to_owned(), why: "it is broken".to_owned() });
        }
        if let Some(work) = &notes.recording {
            work.lock().expect("alone").push((args, sizes.to_vec()));
            return Ok(());
        }
        drop(notes);
        self.add_one(&args, sizes);
        Ok(())
    }

    fn wait(&self) -> Result<(), DeviceError> {
        self.note("wait");
        Ok(())
    }

    fn stopwatch(&self) -> Result<Box<dyn Stopwatch>, DeviceError> {
        Ok(Box::new(Ticks { here: self.clone(), marks: 0 }))
    }

    fn begin_recording(&self) -> Result<(), DeviceError> {
        self.note("record");
        self.0.lock().expect("alone").recording = Some(Arc::default());
        Ok(())
    }

    fn end_recording(&self) -> Result<Box<dyn Recording>, DeviceError> {
        let work = self.0.lock().expect("alone").recording.take().expect("it was begun");
        Ok(Box::new(Recorded { here: self.clone(), work }))
    }
}

/// A clock on which a second passes from mark to mark.
struct Ticks {
    here: Here,
    marks: u64,
}

impl Stopwatch for Ticks {
    fn mark(&mut self) -> Result<(), DeviceError> {
        self.here.note("mark");
        self.marks += 1;
        Ok(())
    }

    fn times(&self) -> Result<Vec<Duration>, DeviceError> {
        Ok((0..self.marks).map(Duration::from_secs).collect())
    }
}

struct Recorded {
    here: Here,
    work: Work,
}

impl Recording for Recorded {
    unsafe fn replay(&self) -> Result<(), DeviceError> {
        self.here.note("replay");
        self.work.lock().expect("alone").iter().for_each(|(args, sizes)| self.here.add_one(args, sizes));
        Ok(())
    }
}

/// `y = x + 2` over `n` numbers by two calls, with `state += 1` in a third if there is one.
fn model(here: &Here, with_state: bool) -> Arc<Model> {
    let bytes = || mul(symbol(0), 4.into());
    let arena = || super::aligned(bytes());
    let mut buffers = vec![Buffer { offset: 0.into(), bytes: bytes(), space: Space::Arena }];
    let mut steps = vec![
        call(0, vec![Arg::Input(0), Arg::Buffer(0)], vec![symbol(0)]),
        call(0, vec![Arg::Buffer(0), Arg::Output(0)], vec![symbol(0)]),
    ];
    let mut states = Vec::new();
    if with_state {
        buffers.push(Buffer { offset: 0.into(), bytes: 8.into(), space: Space::State });
        states.push(port("state", vec![2.into()]));
        steps.push(call(0, vec![Arg::Buffer(1), Arg::Buffer(1)], vec![2.into()]));
    }
    let entry = Entry {
        name: "main".to_owned(),
        symbols: vec!["n".to_owned()],
        inputs: vec![port("x", vec![symbol(0)])],
        outputs: vec![port("y", vec![symbol(0)])],
        binds: vec![Bind { symbol: 0, input: 0, axis: 0, scale: 1, offset: Size::Const(0) }],
        host: vec![],
        host_bytes: Size::Const(0),
        arena_bytes: arena(),
        buffers,
        states,
        steps,
    };
    let kernels = vec![KernelSlot { name: "add_one".to_owned(), offset: 0 }];
    let plan = Plan { entries: vec![entry], weights: vec![], kernels };
    Model::on_device(plan, Arc::new(here.clone()), &[], String::new()).expect("the plan is consistent")
}

fn run(session: &mut Session, x: &[f32]) -> Result<Vec<f32>, RunError> {
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let dims = [x.len() as i64];
    let input = TensorRef { dtype: crate::DType::F32, dims: &dims, data: &bytes };
    let outputs = session.run_tensors(&[input])?;
    Ok(outputs[0].data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect())
}

#[test]
fn runs_are_recorded_and_repeated_until_sizes_change() {
    let here = Here::default();
    let mut session = Session::new(model(&here, false), 0, Pool::new(1)).expect("there is an entry");
    for (x, records, replays) in [
        (&[1.0, 2.0][..], 0, 0),
        (&[3.0, 4.0], 1, 1),
        (&[5.0, 6.0], 1, 2),
        (&[1.0, 2.0, 3.0], 1, 2),
        (&[4.0, 5.0, 6.0], 2, 3),
        (&[], 2, 3),
        (&[7.0, 8.0, 9.0], 2, 3),
    ] {
        let expected: Vec<f32> = x.iter().map(|x| x + 2.0).collect();
        assert_eq!(run(&mut session, x).expect("it fits"), expected);
        assert_eq!((here.asked("record"), here.asked("replay")), (records, replays), "{x:?}");
    }
    drop(session);
    assert_eq!(here.asked("allocate"), here.asked("free"));
}

#[test]
fn states_are_on_the_device_and_can_be_read() {
    let here = Here::default();
    let mut session = Session::new(model(&here, true), 0, Pool::new(1)).expect("there is an entry");
    for round in 1..=4_u8 {
        run(&mut session, &[0.0]).expect("it fits");
        let mut state = [0; 8];
        session.read_state(0, &mut state).expect("there is one");
        assert_eq!(state[..4], f32::from(round).to_le_bytes());
    }
    let state: Vec<u8> = [10.0_f32, 20.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    session.write_state(0, &state).expect("it fits");
    run(&mut session, &[0.0]).expect("it fits");
    let mut found = [0; 8];
    session.read_state(0, &mut found).expect("there is one");
    assert_eq!(found[4..], 21.0_f32.to_le_bytes());
    session.reset_state();
    session.read_state(0, &mut found).expect("there is one");
    assert_eq!(found, [0; 8]);
    assert!(matches!(session.write_state(0, &[0; 4]), Err(RunError::Bytes { expected: 8, found: 4, .. })));
}

#[test]
fn a_device_that_fails_is_an_error() {
    let here = Here::default();
    let mut session = Session::new(model(&here, false), 0, Pool::new(1)).expect("there is an entry");
    run(&mut session, &[1.0]).expect("it fits");
    here.0.lock().expect("alone").broken = true;
    // In a recording, too, which ends nevertheless.
    for _ in 0..2 {
        let error = run(&mut session, &[1.0]).expect_err("it is broken");
        assert_eq!(error.code(), "egraft::runtime::device");
        assert!(error.to_string().contains("a call: it is broken"), "{error}");
    }
    here.0.lock().expect("alone").broken = false;
    assert_eq!(run(&mut session, &[1.0]).expect("it works again"), [3.0]);
}

/// A size that the run decides is read from the device; nothing is recorded then.
#[test]
fn what_decides_sizes_is_read() {
    let here = Here::default();
    let bytes = Size::Const(64);
    let entry = Entry {
        name: "main".to_owned(),
        symbols: vec!["n".to_owned(), "m".to_owned()],
        inputs: vec![port("x", vec![symbol(0)])],
        outputs: vec![port("y", vec![symbol(0)])],
        binds: vec![Bind { symbol: 0, input: 0, axis: 0, scale: 1, offset: Size::Const(0) }],
        host: vec![],
        host_bytes: Size::Const(0),
        arena_bytes: bytes.clone(),
        buffers: vec![Buffer { offset: 0.into(), bytes, space: Space::Arena }],
        states: vec![],
        steps: vec![
            call(0, vec![Arg::Input(0), Arg::Output(0)], vec![symbol(0)]),
            Step::Measure { symbol: 1, source: Arg::Buffer(0), bound: None, what: "m".to_owned() },
            call(0, vec![Arg::Output(0), Arg::Output(0)], vec![add(symbol(1), 1.into())]),
        ],
    };
    let kernels = vec![KernelSlot { name: "add_one".to_owned(), offset: 0 }];
    let plan = Plan { entries: vec![entry], weights: vec![], kernels };
    let model = Model::on_device(plan, Arc::new(here.clone()), &[], String::new()).expect("consistent");
    let mut session = Session::new(model, 0, Pool::new(1)).expect("there is an entry");
    for _ in 0..3 {
        // Nobody has written the size: memory of this device is zero at first.
        assert_eq!(run(&mut session, &[1.0, 1.0]).expect("it fits"), [3.0, 2.0]);
    }
    assert_eq!((here.asked("record"), here.asked("call"), here.asked("read")), (0, 6, 6));
}

/// Calls are timed by the device's own clock, without a wait between them, as far as there is room.
#[test]
fn profiles_have_the_times_of_the_device() {
    let here = Here::default();
    let mut session = Session::new(model(&here, false), 0, Pool::new(1)).expect("there is an entry");
    run(&mut session, &[1.0]).expect("it fits");
    let (x, mut y) = ([1.0_f32], [0.0_f32]);
    for (room, marks) in [(8, 4), (1, 2)] {
        let mut profile = Profile::with_room(room);
        let before = (here.asked("mark"), here.asked("wait"));
        // SAFETY: the session was bound to tensors of these sizes.
        unsafe { session.run_profiled(&[x.as_ptr().cast()], &[y.as_mut_ptr().cast()], &mut profile) }
            .expect("it fits");
        assert_eq!(here.asked("mark") - before.0, marks);
        assert!(here.asked("wait") - before.1 <= 1, "of all calls at most the end is waited for");
        assert_eq!((y, profile.calls()), ([3.0], 2));
        let took = profile.records().iter().map(|record| record.end - record.start);
        assert!(took.eq(std::iter::repeat_n(Duration::from_secs(1), marks / 2)), "{:?}", profile.records());
    }
}

/// A kernel writes a number more than there is room for: beside a buffer, beside an output, and nowhere.
#[test]
fn what_is_written_beside_an_array_is_found() {
    let bytes = || mul(symbol(0), 4.into());
    let run_with = |sizes: [i64; 2], x: &[f32]| {
        let here = Here::default();
        let steps = [Arg::Input(0), Arg::Buffer(0), Arg::Output(0)];
        let steps = sizes.iter().zip(steps.windows(2));
        let entry = Entry {
            name: "main".to_owned(),
            symbols: vec!["n".to_owned()],
            inputs: vec![port("x", vec![symbol(0)])],
            outputs: vec![port("y", vec![symbol(0)])],
            binds: vec![Bind { symbol: 0, input: 0, axis: 0, scale: 1, offset: Size::Const(0) }],
            host: vec![],
            host_bytes: Size::Const(0),
            // There is room for one more number in the arena, where nobody would see it.
            arena_bytes: add(bytes(), 64.into()),
            buffers: vec![Buffer { offset: 0.into(), bytes: bytes(), space: Space::Arena }],
            states: vec![],
            steps: steps
                .map(|(more, args)| call(0, args.to_vec(), vec![add(symbol(0), (*more).into())]))
                .collect(),
        };
        let kernels = vec![KernelSlot { name: "add_one".to_owned(), offset: 0 }];
        let plan = Plan { entries: vec![entry], weights: vec![], kernels };
        let device = Arc::new(Guarded::new(Arc::new(here.clone())));
        let model = Model::on_device(plan, device, &[], String::new()).expect("the plan is consistent");
        let mut session = Session::new(model, 0, Pool::new(1)).expect("there is an entry");
        // Memory of earlier sizes is not taken for that of these.
        assert!(sizes != [0, 0] || run(&mut session, &[0.0; 9]).is_ok());
        let done = [(); 3].map(|()| run(&mut session, x));
        drop(session);
        assert_eq!((here.asked("record"), here.asked("allocate")), (0, here.asked("free")));
        done
    };
    let x = [1.0, 2.0, 3.0];
    assert_eq!(run_with([0, 0], &x), [(); 3].map(|()| Ok(vec![3.0, 4.0, 5.0])));
    for (sizes, step, memory) in [([1, 0], 0, "buffer 0"), ([0, 1], 1, "output `y`")] {
        for found in run_with(sizes, &x) {
            let Err(RunError::Trespass { kernel, bytes, from, side, memory: whose, len }) = found else {
                panic!("{found:?}")
            };
            assert_eq!(kernel, format!("step {step}, kernel `add_one`"));
            assert!((1..=4).contains(&bytes), "{bytes} bytes of a number");
            assert_eq!((from, side, whose.as_str(), len), (0, "behind", memory, 12));
        }
    }
}
