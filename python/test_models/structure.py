"""Valid models about everything around the operators: functions, names, metadata, outputs that are no results."""

from __future__ import annotations

import onnx

from .case import parse, valid

BATCHES = [{"batch": 1}, {"batch": 4}]


@valid(sets=BATCHES, imports='"local" : 1', oracle="onnxruntime")
def functions_nested():
    """Functions that call functions; attributes are given, defaulted and passed on; both bodies reuse the caller's names."""
    return """(float[batch, 4] x) => (float[batch, 3] y, float[batch, 3] z)
    <float[4, 3] w, float[3] b>
    { h = local.Dense <slope = 0.25> (x, w, b)
      y = local.Twice <slope: float = 0.5> (h)
      z = local.Dense(x, w, b) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]>
    Dense <slope: float = 0.125> (x, w, b) => (y)
    { h = MatMul(x, w)
      s = Add(h, b)
      y = local.Leak <slope: float = @slope> (s) }
    <domain: "local", opset_import: ["" : 21]>
    Leak <slope> (x) => (y)
    { h = LeakyRelu <alpha: float = @slope> (x)
      factor = Constant <value_float: float = @slope> ()
      y = Add(h, factor) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]>
    Twice <slope> (x) => (y)
    { h = local.Leak <slope: float = @slope> (x)
      y = local.Leak <slope: float = @slope> (h) }"""


@valid(sets=BATCHES, imports='"pkg.block" : 1', oracle="onnxruntime")
def functions_optional():
    """A function with two results of which one is dropped, inputs left empty, an attribute for an axis, and an older opset."""
    return """(float[batch, 4] x) => (float[batch, 4] y, float[batch, 1] total)
    <float top = {0.5}, int64[1] axes = {1}>
    { "", y = pkg.block.Weigh <axis = 1> (x, axes, "", top)
      total, unused = pkg.block.Weigh <axis = 1> (x, axes, "", "") }
    <domain: "pkg.block", opset_import: ["" : 18]>
    Weigh <axis> (x, axes, low, high) => (total, weights)
    { held = Clip(x, low, high)
      total = ReduceSum(held, axes)
      weights = Softmax <axis: int = @axis> (held) }"""


@valid(sets=BATCHES)
def passthrough_outputs():
    """Outputs that are an input, an initializer, and one result under two uses; an input that nothing reads."""
    return """(float[batch, 2] x, float[batch] ignored) => (float[batch, 2] x, float[2] w, float[batch, 2] y, float[batch, 2] z)
    <float[2] w = {3, 4}>
    { y = Add(x, w)
      z = Relu(y) }"""


@valid(sets=BATCHES)
def odd_names():
    """Names that are no identifiers: slashes, dots, colons, blanks, quotes, letters beyond ASCII, sigils, a number."""
    return r"""(float[batch, 4] "input.1", float[4] "0") => (float[batch, 4] "/out/Add_output_0")
    <float[4] "encoder.layers.0.weight", float[4] "a \"quoted\" name", float[4] "größe", float[4] "@w">
    { ["/encoder/layers.0/Mul"] "/encoder/layers.0/Mul_output_0" = Mul("input.1", "encoder.layers.0.weight")
      ["MatMul:0"] "%1" = Add("/encoder/layers.0/Mul_output_0", "a \"quoted\" name")
      ["two words"] "two words" = Mul("%1", "größe")
      ["{x}"] "x, y" = Add("two words", "@w")
      ["/out/Add"] "/out/Add_output_0" = Add("x, y", "0") }"""


@valid(sets=BATCHES)
def node_names_missing():
    """Node names are optional and need not be unique."""
    model = parse(
        "node_names_missing",
        """(float[batch, 4] x) => (float[batch, 4] y)
        { a = Relu(x)
          b = Neg(a)
          y = Exp(b) }""",
    )
    for node, name in zip(model.graph.node, ["", "", "Exp"]):
        node.name = name
    return model


LINEAR = """File "torch/nn/modules/linear.py", line 134, in forward
    return F.linear(input, self.weight, self.bias)"""


def origin(node: onnx.NodeProto, scopes: list[str], classes: list[str], stack: str) -> None:
    """The entries that torch's exporter leaves on each node, in its spelling."""
    pairs = zip(scopes, classes)
    properties = {
        "namespace": "/".join(f"{scope}: {kind}" for scope, kind in pairs),
        "pkg.torch.onnx.class_hierarchy": str(classes),
        "pkg.torch.onnx.fx_node": f"%{scopes[-1]} : [num_users=1] = call_function[target=torch.ops.{classes[-1]}]",
        "pkg.torch.onnx.name_scopes": str(scopes),
        "pkg.torch.onnx.stack_trace": stack,
    }
    for key, value in properties.items():
        node.metadata_props.add(key=key, value=value)


@valid(sets=BATCHES)
def metadata_torch():
    """Metadata as torch's exporter writes it: module path, classes and a Python stack, innermost frame last; one node has none."""
    model = parse(
        "metadata_torch",
        """(float[batch, 4] x) => (float[batch, 2] y)
        <float[3, 4] "layers.0.weight", float[3] "layers.0.bias", float[2, 3] "head.weight", float[2] "head.bias">
        { [node_linear] linear = Gemm <transB = 1> (x, "layers.0.weight", "layers.0.bias")
          [node_relu] relu = Relu(linear)
          [node_linear_1] linear_1 = Gemm <transB = 1> (relu, "head.weight", "head.bias")
          [node_tanh] y = Tanh(linear_1) }""",
    )
    model.producer_name, model.producer_version = "pytorch", "2.15.0"
    linear, relu, head, _ = model.graph.node
    forward = 'File "model.py", line {}, in forward\n    {}'
    origin(
        linear,
        ["", "layers", "layers.0", "linear"],
        ["model.Net", "torch.nn.modules.container.Sequential", "torch.nn.modules.linear.Linear", "aten.linear.default"],
        forward.format(21, "x = self.layers(x)") + "\n  " + LINEAR,
    )
    origin(
        relu,
        ["", "layers", "layers.1", "relu"],
        ["model.Net", "torch.nn.modules.container.Sequential", "torch.nn.modules.activation.ReLU", "aten.relu.default"],
        forward.format(21, "x = self.layers(x)")
        + '\n  File "torch/nn/modules/activation.py", line 144, in forward\n    return F.relu(input, inplace=self.inplace)',
    )
    origin(
        head,
        ["", "head", "linear_1"],
        ["model.Net", "torch.nn.modules.linear.Linear", "aten.linear.default"],
        forward.format(22, "x = self.head(x)") + "\n  " + LINEAR,
    )
    return model


@valid(sets=BATCHES, opset=17, ir=8)
def metadata_torchscript():
    """The older exporter: scope in the node's name, stack in `doc_string`, innermost frame first; text on graph and model too."""
    model = parse(
        "metadata_torchscript",
        """(float[batch, 4] "input.1") => (float[batch, 3] "7")
        <float[3, 4] "fc.weight", float[3] "fc.bias">
        { ["/fc/Gemm"] "/fc/Gemm_output_0" = Gemm <alpha = 1.0, beta = 1.0, transB = 1> ("input.1", "fc.weight", "fc.bias")
          ["/act/Relu"] "7" = Relu("/fc/Gemm_output_0") }""",
    )
    model.producer_name, model.producer_version = "pytorch", "2.1.0"
    model.doc_string = "A model's own words, over\ntwo lines."
    model.graph.doc_string = "The graph's."
    gemm, relu = model.graph.node
    gemm.doc_string = "torch/nn/modules/linear.py(114): forward\ntorch/nn/modules/module.py(1508): _slow_forward\nmodel.py(21): forward\nexport.py(9): <module>\n"
    relu.doc_string = "torch/nn/functional.py(1471): relu\nmodel.py(22): forward\nexport.py(9): <module>\n"
    return model
