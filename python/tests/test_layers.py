"""The layers of papers, where PyTorch is: formulas, gradients, and what egraft and onnxruntime make of their exports."""

import collections

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from egraft.torch import layers
from encoder import Encoder


def test_the_first_elliptical_layer_is_plain():
    torch.manual_seed(0)
    layer = layers.EllipticalAttention(8, 2)
    x = torch.randn(1, 5, 8)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in layer.qkv(x).chunk(3, -1))
    y, values = layer(x)
    plain = (q @ k.mT / 2).softmax(-1) @ v
    torch.testing.assert_close(y, layer.proj(plain.transpose(1, 2).flatten(2)))
    torch.testing.assert_close(values, v)


def test_a_last_window_is_the_mean_of_what_is_left():
    torch.manual_seed(0)
    x = torch.randn(1, 5, 4)
    layer = layers.ScaledHeadAttention(4, 1, (2,))
    q, k, v = layer.qkv(x).chunk(3, -1)
    k, v = (torch.stack([p[:, :2].mean(1), p[:, 2:4].mean(1), p[:, 4]], 1) for p in (k, v))
    torch.testing.assert_close(layer(x), layer.proj((q @ k.mT / 2).softmax(-1) @ v))


def test_no_state_is_zeros():
    torch.manual_seed(0)
    x = torch.randn(3, 8)
    zeros = torch.zeros_like(x)
    for kind, state in ((layers.MomentumSMoE, zeros), (layers.RobustMomentumSMoE, zeros), (layers.AdamSMoE, (zeros,) * 3)):
        module = kind(8, 8, 4)
        torch.testing.assert_close(module(x), module(x, state))


def test_acmoe_against_its_formula():
    torch.manual_seed(0)
    module = layers.ACMoE(8, 16, 4)
    x, previous = torch.randn(2, 6, 8), torch.randint(4, (12, 2))
    y, chosen = module(x, previous)
    gates, again = module.gate(x.view(12, 8), previous)
    assert (chosen == again).all()
    e = module.experts
    for row in range(12):
        token = x.view(12, 8)[row]
        parts = [g * (e.w2[j] @ F.relu(e.w1[j] @ token + e.b1[j]) + e.b2[j]) for g, j in zip(gates[row], chosen[row])]
        torch.testing.assert_close(y.view(12, 8)[row], module.norm(token + sum(parts)))


def test_directions():
    lines = layers.SlicedWasserstein(5, 7)
    before = lines.theta.clone()
    lines.resample(torch.Generator().manual_seed(1))
    torch.testing.assert_close(lines.theta.norm(dim=-1), torch.ones(7))
    assert not torch.equal(lines.theta, before)
    trees = layers.DbTSW(5, 3, 4, orthogonal=True)
    torch.testing.assert_close(trees.theta @ trees.theta.mT, torch.eye(4).expand(3, 4, 4))
    trees.resample(mean=torch.full((5,), 100.0))
    assert (trees.root > 90).all()
    spheres = layers.STSW(5, 3, 4)
    torch.testing.assert_close(spheres.dirs @ spheres.root.mT, torch.zeros(3, 4, 1))
    torch.testing.assert_close(spheres.dirs.norm(dim=-1), torch.ones(3, 4))


def test_what_does_not_fit():
    for make in (
        lambda: layers.EllipticalAttention(8, 2, scaling="median"),
        lambda: layers.ScaledHeadAttention(8, 2, (1,)),
        lambda: layers.BatchNormAttention(8, 2, causal=True, ratios=(1, 2)),
        lambda: layers.SMoE(8, 8, 4, order="random"),
        lambda: layers.RobustMomentumSMoE(8, 8, 4, rate=1.0),
        lambda: layers.ACRouter(8, 4, empty="never"),
        lambda: layers.ClusterWeights(4, over="all"),
        lambda: layers.MoLEx([], 8, level="word"),
        lambda: layers.DbTSW(2, 3, 4, orthogonal=True),
        lambda: layers.SlicedWasserstein(2, 3)(torch.ones(3, 2), torch.ones(4, 2)),
    ):
        with pytest.raises(ValueError):
            make()


MIXTURE = {"route": 1, "grouped_matmul": 2, "combine": 1, "all": 4}

# A small module of each kind, the shapes of what it is called with, and the kernels that egraft makes of it.
SMALL = {
    "ACMoE": (lambda: layers.ACMoE(8, 12, 4), [(12, 8), "previous"], MIXTURE),
    "AdamSMoE": (lambda: layers.AdamSMoE(8, 12, 4), [(2, 6, 8)], MIXTURE),
    "BatchNormAttention": (lambda: layers.BatchNormAttention(8, 2), [(2, 6, 8)], {"attention": 1, "all": 4}),
    "CAMExDynamic": (lambda: layers.CAMExDynamic(8, 12, 3, depth=2), [(2, 6, 8)], {"matmul": 16, "all": 32}),
    "CAMExFFN": (lambda: layers.CAMExFFN(8, 12, 3, k=2), [(2, 6, 8)], {"matmul": 8, "all": 16}),
    "CAMExLinear": (lambda: layers.CAMExLinear(8, 12, 3, k=2, rank=2), [(2, 6, 8)], {"matmul": 4, "all": 8}),
    "CAMExSegmentLinear": (
        lambda: layers.CAMExSegmentLinear(8, 12, 3, k=2, segment=3),
        [(2, 6, 8)],
        {"matmul": 4, "all": 8},
    ),
    "DbTSW": (lambda: layers.DbTSW(3, 4, 3), [(6, 3), (7, 3)], {"sort": 1, "scan": 1, "all": 6}),
    "EllipticalAttention": (lambda: layers.EllipticalAttention(8, 2), [(2, 6, 8), (2, 2, 6, 4)], {"attention": 1, "all": 4}),
    "FARE": (lambda: layers.FARE(3, 4), [(12, 8), (12, 8), (12, 3)], {"matmul": 3}),
    "MoLEx": (lambda: layers.MoLEx([Encoder(8, 2, 12) for _ in range(4)], 8), [(2, 6, 8)], {"route": 2, "grouped_matmul": 8}),
    "MomentumSMoE": (lambda: layers.MomentumSMoE(8, 12, 4), [(2, 6, 8), (2, 6, 8)], MIXTURE),
    "RPCAttention": (lambda: layers.RPCAttention(8, 2, 2), [(2, 6, 8)], {"attention": 2, "all": 5}),
    "RobustMomentumSMoE": (lambda: layers.RobustMomentumSMoE(8, 12, 4), [(2, 6, 8), (2, 6, 8)], MIXTURE),
    "SMoE": (lambda: layers.SMoE(8, 12, 4), [(12, 8)], MIXTURE),
    "STSW": (lambda: layers.STSW(4, 4, 3), ["sphere", "sphere"], {"sort": 1, "scan": 1, "all": 11}),
    "ScaledHeadAttention": (lambda: layers.ScaledHeadAttention(8, 2, (1, 2)), [(2, 6, 8)], {"attention": 1, "all": 6}),
    "SlicedWasserstein": (lambda: layers.SlicedWasserstein(3, 5), [(6, 3), (6, 3)], {"sort": 2, "all": 5}),
    "SwinACMoE": (
        lambda: layers.SwinACMoE(8, 12, 4),
        [(12, 8), "previous"],
        # Router and experts both read the weighted tokens, so these are computed before.
        {"route": 1, "grouped_matmul": 2, "combine": 1, "all": 13},
    ),
    "TSWSL": (lambda: layers.TSWSL(3, 4, 3), [(6, 3), (7, 3)], {"sort": 1, "scan": 1, "all": 5}),
}


def small(name, dtype=torch.float32):
    torch.manual_seed(3)
    make, shapes, kinds = SMALL[name]
    module = make().to(dtype)
    make = {
        "previous": lambda: torch.randint(4, (12, 2)),
        "sphere": lambda: F.normalize(torch.randn(6, 4, dtype=dtype), dim=-1),
    }
    given = (make[shape]() if shape in make else torch.randn(shape, dtype=dtype) for shape in shapes)
    return module, tuple(given), kinds


def test_no_layer_is_left_out():
    assert set(SMALL) == set(layers.__all__) - {"ACRouter", "ClusterWeights", "Experts"}


def flat(results):
    """The tensors of nested tuples."""
    return [results] if isinstance(results, torch.Tensor) else [tensor for part in results for tensor in flat(part)]


@pytest.mark.parametrize("name", SMALL)
def test_gradients(name):
    module, given, _ = small(name, torch.float64)
    given = [tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in given]
    floats = [result for result in flat(module(*given)) if result.is_floating_point()]
    sum((result * torch.randn_like(result)).sum() for result in floats).backward()
    for parameter, value in module.named_parameters():
        if name == "MoLEx" and parameter.startswith("gates."):
            assert value.grad.abs().max() < 1e-12, "the gate of one chosen layer is 1"
        else:
            assert value.grad.isfinite().all() and value.grad.abs().sum() > 0, parameter
    assert given[0].grad.isfinite().all() and given[0].grad.abs().sum() > 0


# Not where something is held constant, as EllipticalAttention's metric, for numerical gradients see through that.
CHECKED = ["BatchNormAttention", "CAMExLinear", "DbTSW", "FARE", "RPCAttention", "RobustMomentumSMoE", "TSWSL"]


@pytest.mark.parametrize("name", CHECKED)
def test_gradcheck(name):
    module, given, _ = small(name, torch.float64)
    names, parameters = zip(*module.named_parameters()) if list(module.parameters()) else ((), ())

    def call(*tensors):
        weights = dict(zip(names, tensors))
        return tuple(flat(torch.func.functional_call(module, weights, tensors[len(names) :])))

    tensors = [tensor.detach().clone().requires_grad_() for tensor in (*parameters, *given)]
    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)


def test_layers_learn():
    torch.manual_seed(0)
    module = layers.SMoE(8, 16, 4)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    x = torch.randn(64, 8)
    losses = []
    for _ in range(60):
        loss = (module(x) - x.roll(1, -1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


@pytest.fixture(scope="module")
def export():
    pytest.importorskip("onnxscript")
    import egraft.torch

    made = {}

    def export(name):
        """A small module as an ONNX model, inputs and results."""
        if name not in made:
            module, given, kinds = small(name)
            model = egraft.torch.export(module.eval(), given).model_proto
            with torch.no_grad():
                made[name] = model, [tensor.numpy() for tensor in given], flat(module(*given)), kinds
        return made[name]

    return export


def near(name, ours, theirs):
    # A step of Adam is a soft sign, which multiplies what is small, and its rounding, by a thousand.
    atol = 1e-3 if name == "AdamSMoE" else 2e-5
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(torch.from_numpy(mine), other, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("name", SMALL)
def test_a_layer_is_one_call(name, export):
    model, given, wanted, _ = export(name)
    (node,), (function,) = model.graph.node, model.functions
    assert (node.domain, node.op_type) == (function.domain, function.name) == ("egraft", name)
    assert len(node.output) == len(wanted)
    assert {inner.domain for inner in function.node} == {""}, "other runtimes know the ops of the body"
    own = [operand.removeprefix("self.") for operand in function.input if operand.startswith("self.")]
    assert len(function.input) == len(given) + len(own)
    module, _, _ = small(name)
    assert set(own) <= {name for name, _ in (*module.named_parameters(), *module.named_buffers())}


@pytest.mark.parametrize("name", SMALL)
def test_onnxruntime_runs_it(name, export):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, given, wanted, _ = export(name)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    near(name, session.run(None, dict(zip((port.name for port in session.get_inputs()), given))), wanted)


@pytest.mark.parametrize("name", SMALL)
def test_egraft_takes_it_whole(name, export):
    import egraft

    model, given, wanted, kinds = export(name)
    model = egraft.compile(model)
    near(name, model.run(*given), wanted)
    found = collections.Counter(kernel["kind"] for kernel in model.kernels())
    found["all"] = sum(found.values())
    assert kinds == {kind: found[kind] for kind in kinds}, dict(found)


@pytest.mark.parametrize("name", ["ACMoE", "EllipticalAttention", "MomentumSMoE"])
def test_free_sizes(name):
    pytest.importorskip("onnxscript")
    import egraft.torch

    module, given, kinds = small(name)
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    free = {
        "ACMoE": ({0: rows}, {0: rows}),
        "EllipticalAttention": ({0: rows, 1: tokens}, {0: rows, 2: tokens}),
        "MomentumSMoE": ({0: rows, 1: tokens},) * 2,
    }[name]
    fast = egraft.torch.compile(module.eval(), given, free)
    assert len(fast.model.kernels()) == kinds["all"]
    given = [torch.cat([tensor, tensor[:1]]) for tensor in given]
    with torch.no_grad():
        for ours, theirs in zip(fast(*given), module(*given)):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


class Repeated(torch.nn.Module):
    """Layers with weights of their own, and one that is called twice."""

    def __init__(self):
        super().__init__()
        self.attention = torch.nn.ModuleList(layers.BatchNormAttention(8, 2) for _ in range(2))
        self.experts = layers.SMoE(8, 12, 4)

    def forward(self, x):
        for attention in self.attention:
            x = self.experts(x + attention(x))
        return x, x.sum(-1)


@pytest.mark.parametrize("is_free", [False, True])
def test_calls_share_a_function(is_free):
    pytest.importorskip("onnxscript")
    import egraft.torch

    torch.manual_seed(0)
    module, x = Repeated().eval(), torch.randn(2, 6, 8)
    shapes = ({0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")},) if is_free else None
    program = egraft.torch.export(module, (x,), shapes)
    calls = [node for node in program.model.graph if node.domain == "egraft"]
    assert [node.name for node in calls] == ["attention.0", "experts", "attention.1", "experts_1"]
    assert [node.op_type for node in calls] == ["BatchNormAttention", "SMoE"] * 2
    assert len(program.model.functions) == 2
    # What else there is: the sums, and the sizes of the input.
    others = {node.op_type for node in program.model.graph} - {"BatchNormAttention", "SMoE"}
    assert others == {"Add", "ReduceSum"} | ({"Shape", "Squeeze"} if is_free else set())
    again = egraft.torch.export(module, (x,), shapes)
    assert program.model_proto.SerializeToString(True) == again.model_proto.SerializeToString(True)
    model = egraft.compile(program.model_proto)
    assert any(origin.startswith("attention.1/") for kernel in model.kernels() for origin in kernel["origins"])
    x = torch.randn(3, 5, 8) if is_free else x
    with torch.no_grad():
        for ours, theirs in zip(model.run(x), module(x)):
            torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-4, atol=2e-5)


def test_any_module_can_be_a_function():
    pytest.importorskip("onnxscript")
    import egraft.torch

    module, given, _ = small("MomentumSMoE")
    model = egraft.torch.export(module.eval(), given, functions=[layers.SMoE, torch.nn.LayerNorm]).model_proto
    calls = [node.op_type for node in model.graph.node if node.domain == "egraft"]
    assert calls == ["SMoE", "LayerNorm"] and len(model.graph.node) > 2
    model = egraft.torch.export(module, given, functions=()).model_proto
    assert not model.functions and all(node.domain == "" for node in model.graph.node)
