"""Models with bodies that break ONNX's rules, or that ask for what no run can do."""

from __future__ import annotations

from onnx import helper

from .case import invalid, parse
from .control import squeezes

YES_NO = "then_branch = yes () => (float[p] t) { t = Neg(x) }, else_branch = no () => (float[q] e) { e = Exp(x) }"


def without(text: str, name: str, attribute: str):
    """The model without an attribute of its first node."""
    model = parse(name, text)
    node = model.graph.node[0]
    kept = [one for one in node.attribute if one.name != attribute]
    del node.attribute[:]
    node.attribute.extend(kept)
    return model


@invalid("repeat", "body")
def loop_body_takes_too_little():
    """The body of a loop has no input for what it carries."""
    return """(int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Neg(x) }> (m, , x) }"""


@invalid("repeat", "body")
def loop_body_gives_too_little():
    """The body of a loop gives a condition and not what it carries."""
    return """(int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go) {
        go = Identity(c) }> (m, , x) }"""


@invalid("repeat", "z")
def loop_gives_too_little():
    """The loop promises a stack that its body has no elements for."""
    return """(int64 m, float[n] x) => (float[n] y, float[k, n] z) {
      [repeat] y, z = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Neg(v) }> (m, , x) }"""


@invalid("repeat", "nowhere")
def loop_body_reads_undefined():
    """A node of the body reads what nothing gives."""
    return """(int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Add(v, nowhere) }> (m, , x) }"""


@invalid("repeat", "Neg_1", accepted_elsewhere=True)
def loop_body_reads_what_comes_after():
    """A node of the body reads what the graph around makes from the loop's result."""
    return """(int64 m, float[n] x) => (float[n] y, float[n] later) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Add(v, later) }> (m, , x) later = Neg(y) }"""


@invalid("repeat", "lost")
def loop_body_output_undefined():
    """The body promises an output that nothing gives."""
    return """(int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] lost) {
        go = Identity(c) v2 = Neg(v) }> (m, , x) }"""


@invalid("first", "second")
def loop_body_cycle():
    """Two nodes of the body read each other's result."""
    return """(int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) [first] v2 = Add(v, w) [second] w = Neg(v2) }> (m, , x) }"""


@invalid("repeat", "v2")
def loop_body_duplicate():
    """Two nodes of the body give the same value."""
    return """(int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Neg(v) v2 = Exp(v) }> (m, , x) }"""


@invalid("repeat", "f32", "i64")
def loop_dtype_changes():
    """A carried f32 becomes an i64."""
    return """(int64 m, float[n] x) => (int64[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, int64[n] v2) {
        go = Identity(c) v2 = Cast <to = 7> (v) }> (m, , x) }"""


@invalid("repeat", accepted_elsewhere=True)
def loop_rank_changes():
    """A carried vector becomes a matrix."""
    return """(int64 m, float[n] x) => (float[a, b] y) <int64[1] zero = {0}>
    { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[a, b] v2) {
        go = Identity(c) v2 = Unsqueeze(v, zero) }> (m, , x) }"""


@invalid("repeat", accepted_elsewhere=True, unsupported=True)
def loop_without_end():
    """Neither a count nor a condition ends it."""
    return """(float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Neg(v) }> (, , x) }"""


@invalid("repeat", "f32")
def loop_condition_is_a_float():
    """A loop that goes on as long as a float."""
    return """(float c0, int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Neg(v) }> (m, c0, x) }"""


@invalid("repeat", "f32", accepted_elsewhere=True)
def loop_body_condition_is_a_float():
    """The body gives a float as its condition."""
    return """(int64 m, float[n] x) => (float[n] y) <int64[1] zero = {0}>
    { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (float go, float[n] v2) {
        v2 = Neg(v) go = ReduceSum <keepdims = 0> (v, zero) }> (m, , x) }"""


@invalid("repeat", "body")
def loop_without_body():
    """The graph of a loop is missing."""
    return without(
        """(int64 m, float[n] x) => (float[n] y) { [repeat] y = Loop <body = b (int64 i, bool c, float[n] v) => (bool go, float[n] v2) {
        go = Identity(c) v2 = Neg(v) }> (m, , x) }""",
        "loop_without_body",
        "body",
    )


@invalid("repeat", accepted_elsewhere=True)
def loop_stack_elements_grow():
    """The elements of a stack are of different sizes."""
    return """(int64 m, float[n] x) => (float[k] y, float[r, s] z) {
      [repeat] y, z = Loop <body = b (int64 i, bool c, float[p] v) => (bool go, float[q] v2, float[q] e) {
        go = Identity(c) v2 = Concat <axis = 0> (v, x) e = Neg(v2) }> (m, , x) }"""


@invalid("choose", "f32", "i64")
def if_dtypes_differ():
    """The sides of a branch give a float and an integer, and both make sense."""
    return """(bool c, float[n] x) => (float[n] y) { [choose] z = If (c) <
      then_branch = yes () => (float[n] t) { t = Neg(x) }, else_branch = no () => (int64[n] e) { e = Cast <to = 7> (x) }>
      y = Cast <to = 1> (z) }"""


@invalid("choose", accepted_elsewhere=True)
def if_ranks_fit_nothing():
    """The sides differ in rank, and what follows fits neither."""
    return """(bool c, float[2, 2] x) => (float[2, 2, 2] y) <int64[1] zero = {0}, int64[4] perm = {1, 2, 3, 4}>
    { [choose] z = If (c) <then_branch = yes () => (float[a] t) { t = ReduceSum <keepdims = 0> (x, zero) },
                            else_branch = no () => (float[a, b] e) { e = Neg(x) }>
      [turn] y = Transpose <perm = [2, 0, 1]> (z) }"""


@invalid("choose", "f32")
def if_condition_is_a_float():
    """A branch on a float."""
    return f"""(float c, float[n] x) => (float[n] y) {{ [choose] y = If (c) <{YES_NO}> }}"""


@invalid("choose", accepted_elsewhere=True)
def if_condition_of_many():
    """A branch on three truth values."""
    return f"""(bool[3] c, float[n] x) => (float[n] y) {{ [choose] y = If (c) <{YES_NO}> }}"""


@invalid("choose", "else_branch")
def if_without_else():
    """One of the sides is missing."""
    text = f"""(bool c, float[n] x) => (float[n] y) {{ [choose] y = If (c) <{YES_NO}> }}"""
    return without(text, "if_without_else", "else_branch")


@invalid("choose", "then_branch")
def if_side_is_a_number():
    """One of the sides is a number."""
    model = parse("if_side_is_a_number", f"(bool c, float[n] x) => (float[n] y) {{ [choose] y = If (c) <{YES_NO}> }}")
    (side,) = [one for one in model.graph.node[0].attribute if one.name == "then_branch"]
    side.CopyFrom(helper.make_attribute("then_branch", 3))
    return model


@invalid("choose")
def if_counts_differ():
    """One side gives two results, the other one."""
    return """(bool c, float[n] x) => (float[n] y, float[n] z) { [choose] y, z = If (c) <
      then_branch = yes () => (float[n] t, float[n] u) { t = Neg(x) u = Exp(x) },
      else_branch = no () => (float[n] e) { e = Exp(x) }> }"""


@invalid("choose", "w")
def if_gives_too_little():
    """The branch promises more results than both of its sides give."""
    return f"""(bool c, float[n] x) => (float[n] y, float[n] w) {{ [choose] y, w = If (c) <{YES_NO}> }}"""


@invalid("lost")
def if_body_reads_undefined():
    """A node on one side reads what nothing gives; the other side is good."""
    return """(bool c, float[n] x) => (float[n] y) { [choose] y = If (c) <
      then_branch = yes () => (float[n] t) { t = Add(x, lost) }, else_branch = no () => (float[n] e) { e = Neg(x) }> }"""


@invalid("NoSuchOp", unsupported=True)
def if_often_and_unknown_op():
    """Two dozen branches whose sides differ in rank, then what nobody knows: no choice helps, and few are tried."""
    return squeezes("y = NoSuchOp(p0)")


SCAN = "body = b (float[2] s, float[2] e, float[2] f) => (float[2] s2, float[2] o) { s2 = Add(s, e) o = Mul(e, f) }"


@invalid("sweep", "4", "3")
def scan_sizes_differ():
    """Two scanned inputs of different lengths."""
    return f"""(float[2] s, float[4, 2] x, float[3, 2] z) => (float[2] y, float[k, 2] ys)
    {{ [sweep] y, ys = Scan <num_scan_inputs = 2, {SCAN}> (s, x, z) }}"""


@invalid("sweep", "num_scan_inputs")
def scan_without_inputs():
    """A scan over nothing."""
    return f"""(float[2] s, float[t, 2] x, float[t, 2] z) => (float[2] y, float[k, 2] ys)
    {{ [sweep] y, ys = Scan <num_scan_inputs = 0, {SCAN}> (s, x, z) }}"""


@invalid("sweep", "body")
def scan_body_takes_too_little():
    """The body takes three values, the scan has two."""
    return f"""(float[2] s, float[t, 2] x) => (float[2] y, float[k, 2] ys)
    {{ [sweep] y, ys = Scan <num_scan_inputs = 1, {SCAN}> (s, x) }}"""


@invalid("sweep", "5")
def scan_axis_out_of_range():
    """An axis that there is not."""
    return f"""(float[2] s, float[t, 2] x, float[t, 2] z) => (float[2] y, float[k, 2] ys)
    {{ [sweep] y, ys = Scan <num_scan_inputs = 2, scan_input_axes = [0, 5], {SCAN}> (s, x, z) }}"""


@invalid("sweep", "w")
def scan_gives_too_little():
    """The scan promises a result that its body has no elements for."""
    return f"""(float[2] s, float[t, 2] x, float[t, 2] z) => (float[2] y, float[k, 2] ys, float[k, 2] w)
    {{ [sweep] y, ys, w = Scan <num_scan_inputs = 2, {SCAN}> (s, x, z) }}"""


@invalid("widen", "axes", accepted_elsewhere=True, unsupported=True)
def rank_at_run_time():
    """How many axes the result has, only a run knows."""
    return """(float[n] x, int64[k] axes) => (float[a, b] y) { [widen] y = Unsqueeze(x, axes) }"""


@invalid("opening", imports='"local" : 1', accepted_elsewhere=True)
def function_bomb_in_branch():
    """Forty functions, each calling the next twice, from one side of a branch."""
    header = '<domain: "local", opset_import: ["" : 21, "local" : 1]>'
    calls = [f"{header} F{i} (x) => (y) {{ a = local.F{i + 1}(x) y = local.F{i + 1}(a) }}" for i in range(40)]
    return "\n".join(
        [
            """(bool c, float[n] x) => (float[n] y) { [choose] y = If (c) <
            then_branch = yes () => (float[n] t) { [call] t = local.F0(x) },
            else_branch = no () => (float[n] e) { e = Neg(x) }> }""",
            *calls,
            f"{header} F40 (x) => (y) {{ y = Neg(x) }}",
        ]
    )


@invalid("Again", imports='"local" : 1', accepted_elsewhere=True)
def function_recursive_in_branch():
    """A function that calls itself from one side of a branch, which would end it."""
    return """(bool c, float[n] x) => (float[n] y) { [call] y = local.Again(x, c) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]> Again (x, c) => (y) { y = If (c) <
    then_branch = yes () => (float[n] t) { t = local.Again(x, c) }, else_branch = no () => (float[n] e) { e = Neg(x) }> }"""
