//! Rules of steps: what decides sizes, what is required of them, and what may run when.

use ir::program::Program;
use ir::text::{NoWeights, parse_program};
use ir::verify::{ProgramViolation as V, verify_program};

/// A program with these lines in its entry, which takes `%x: f32[n]` and a number, and gives `%y`, `n` elements of it.
fn said(buffers: &str, steps: &str) -> Vec<V> {
    let text = format!(
        "program @p {{
          kernel @fill kind=fused [m](%y: write f32[m]) stages {{ stage %y[i0 in m] : f32 = 1.0 }}
          kernel @head kind=data [k, m](%x: f32[m], %y: write f32[k]) given k <= m stages {{
            stage %y[i0 in k] : f32 = %x[i0]
          }}
          entry @main(%x: f32[n], %c: i64[], %t: bool[]) -> (%y: f32[n]) {{
            {buffers}
            {steps}
          }}
        }}"
    );
    let program = parse_program(&text, &NoWeights).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    let again: Program = parse_program(&program.to_string(), &NoWeights).expect("what is printed reads back");
    assert_eq!(again, program);
    verify_program(&program)
}

const FILL: &str = "call @fill(%y) [m=n]";

#[test]
fn sizes_are_decided_before_they_are_used() {
    assert_eq!(said("buffer %b : f32[k]", &format!("size k = %c\ncall @fill(%b) [m=k]\n{FILL}")), []);
    let late = said("buffer %b : f32[k]", &format!("call @fill(%b) [m=k]\nsize k = %c\n{FILL}"));
    assert_eq!(late, [V::Undecided { step: 0, symbol: "k".into() }]);
    // A branch decides what both of its sides decide.
    let one_side = format!("if %t {{ size k = %c }} else {{ }}\nset m = k\n{FILL}");
    assert_eq!(said("", &one_side), [V::Undecided { step: 2, symbol: "k".into() }]);
    let both = format!("if %t {{ size k = %c }} else {{ set k = n }}\nset m = k\n{FILL}");
    assert_eq!(said("", &both), []);
    // A loop may not run at all.
    let inside = format!("loop i below n {{ size k = %c }}\nset m = k\n{FILL}");
    assert_eq!(said("", &inside), [V::Undecided { step: 2, symbol: "k".into() }]);
    let counted = format!("loop i below n while %t counted k {{ set m = i }}\nset m = k\n{FILL}");
    assert_eq!(said("", &counted), []);
    let index = format!("loop i below n {{ }}\nset m = i\n{FILL}");
    assert_eq!(said("", &index), [V::Undecided { step: 1, symbol: "i".into() }]);
}

#[test]
fn what_kernels_take_for_given_is_required_before() {
    let buffers = "buffer %b : f32[k]";
    let call = format!("call @head(%x, %b) [k=k, m=n]\n{FILL}");
    let not_given = |step| vec![V::NotGiven { step, kernel: "head".into(), condition: "k <= n".into() }];
    assert_eq!(said(buffers, &format!("size k = %c\n{call}")), not_given(1));
    assert_eq!(said(buffers, &format!("size k = %c <= n\n{call}")), []);
    assert_eq!(said(buffers, &format!("size k = %c\nrequire k <= n \"it fits\"\n{call}")), []);
    // What was required of another value says nothing.
    let again = format!("size k = %c\nrequire k <= n \"it fits\"\nsize k = %c\n{call}");
    assert_eq!(said(buffers, &again), not_given(3));
    let in_loop = format!(
        "size k = %c\nrequire k <= n \"it fits\"\nloop i below n {{ call @head(%x, %b) [k=k, m=n]\nsize k = %c }}\n{FILL}"
    );
    assert_eq!(said(buffers, &in_loop), not_given(3));
}

#[test]
fn sizes_and_truth_values_are_read_from_such() {
    let found = said("", &format!("size k = %t\n{FILL}"));
    assert!(matches!(&found[..], [V::Value { step: 0, expected: "a size", .. }]), "{found:?}");
    let found = said("", &format!("if %c {{ }} else {{ }}\n{FILL}"));
    assert!(matches!(&found[..], [V::Value { step: 0, expected: "a truth value", .. }]), "{found:?}");
    let found = said("", &format!("loop i while %x {{ }}\n{FILL}"));
    assert!(matches!(&found[..], [V::Value { expected: "a truth value", .. }]), "{found:?}");
}

#[test]
fn what_runs_before_the_arena_needs_none() {
    assert_eq!(said("", &format!("host {{ size k = %c }}\nset m = k\n{FILL}")), []);
    let own = "host %h : f32[3]";
    assert_eq!(said(own, &format!("host {{ call @fill(%h) [m=3] }}\n{FILL}")), []);
    let arena = said("buffer %h : f32[3]", &format!("host {{ call @fill(%h) [m=3] }}\n{FILL}"));
    assert!(matches!(&arena[..], [V::Host { step: 0, .. }]), "{arena:?}");
    let branch = said("", &format!("host {{ if %t {{ }} else {{ }} }}\n{FILL}"));
    assert!(matches!(&branch[..], [V::Host { .. }]), "{branch:?}");
}

#[test]
fn reads_come_after_writes_and_outputs_are_written() {
    let found = said("buffer %b : f32[n]", &format!("copy %b to %y\n{FILL}"));
    assert_eq!(found, [V::Unwritten { step: 0, buffer: "b".into() }]);
    assert_eq!(said("", "copy %x to %y"), []);
    assert_eq!(said("", ""), [V::NoOutput { output: "y".into() }]);
    assert!(matches!(&said("", &format!("copy %x to %x\n{FILL}"))[..], [V::WritesInput { step: 0, .. }]));
}
