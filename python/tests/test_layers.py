"""The layers of papers, where PyTorch is: golden results, gradients, and what egraft and onnxruntime make of their exports."""

import collections
import io
import json
import re
import struct
import textwrap
import warnings

import pytest
from conftest import ROOT

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from egraft.torch import layers

KINDS = {"F32": torch.float32, "I64": torch.int64}


def read(path):
    """The tensors of a safetensors file; floats as float64."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + at for at in entry["data_offsets"])
            tensor = torch.frombuffer(bytearray(data[start:end]), dtype=KINDS[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = tensor.double() if tensor.is_floating_point() else tensor
    return tensors


class Golden:
    """A golden case: `given` and `wanted` by name, `weights` (of the case that has them), and how near is near enough."""

    def __init__(self, case, prefix=""):
        folder = ROOT / "tests" / "golden" / case
        tensors = read(folder / "tensors.safetensors")
        self.given = {name[3:]: tensor for name, tensor in tensors.items() if name.startswith("in.")}
        self.wanted = {name[4:]: tensor for name, tensor in tensors.items() if name.startswith("out.")}
        self.tolerance = json.loads((folder / "case.json").read_text())["tolerance"]
        for line in (ROOT / "tests" / "golden" / "zoo.tsv").read_text().splitlines():
            columns = line.split("\t")
            if columns[0] == case and len(columns) > 3:
                folder = ROOT / "tests" / "golden" / columns[3]
        file = folder / "weights.safetensors"
        weights = read(file) if file.exists() else {}
        self.weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}

    def load(self, module):
        module.double().load_state_dict(self.weights)
        return module

    def check(self, **results):
        for name, result in results.items():
            torch.testing.assert_close(result, self.wanted[name].reshape(result.shape), **self.tolerance)


# Golden results.


@pytest.mark.parametrize("case", ["dynamic", "mean_scaling", "vit_mul", "vit_diag"])
def test_elliptical(case):
    golden = Golden(f"attention/elliptical_layer_{case}")
    layer = golden.load(layers.EllipticalAttention(32, 4, "mean" if "mean" in case else "max"))
    y, v = layer(golden.given["x"], golden.given["v_prev"])
    golden.check(y=y, v=v)


@pytest.mark.parametrize("case, scale", [("scaled", None), ("unscaled", 1.0)])
def test_elliptical_in_a_language_model(case, scale):
    golden = Golden(f"attention/elliptical_layer_lm_{case}")
    weights = golden.weights
    norm = weights.pop("layer_norm.weight"), weights.pop("layer_norm.bias")
    golden.weights = {
        "qkv.weight": torch.cat([weights["q_net.weight"], weights["kv_net.weight"]]),
        "proj.weight": weights["o_net.weight"],
    }
    layer = golden.load(layers.EllipticalAttention(32, 4, causal=True, scale=scale, bias=False))
    h = golden.given["h"]
    y, v = layer(h, golden.given["v_prev"])
    golden.check(h_out=F.layer_norm(h + y, (32,), *norm), v=v)


def test_the_first_elliptical_layer_is_plain():
    torch.manual_seed(0)
    layer = layers.EllipticalAttention(8, 2)
    x = torch.randn(1, 5, 8)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in layer.qkv(x).chunk(3, -1))
    y, values = layer(x)
    plain = (q @ k.mT / 2).softmax(-1) @ v
    torch.testing.assert_close(y, layer.proj(plain.transpose(1, 2).flatten(2)))
    torch.testing.assert_close(values, v)


@pytest.mark.parametrize("case, rounds", [("dynamic", 2), ("n0_full", 0), ("n1_full", 1), ("n2_causal", 2), ("n4_full", 4)])
def test_rpc(case, rounds):
    golden = Golden(f"attention/rpc_layer_{case}")
    layer = golden.load(layers.RPCAttention(32, 4, rounds, causal="causal" in case))
    golden.check(y=layer(golden.given["x"]))


BN = {
    "bn": {},
    "bn_beta_nostd": {"beta": 0.6, "divided": False},
    "bn_causal": {"beta": 0.6, "causal": True},
    "bn_dynamic": {},
    "bn_folded": {},
    "bn_sh": {"beta": 0.6, "ratios": (1, 1, 2, 4)},
}


@pytest.mark.parametrize("case", BN)
def test_bn(case):
    golden = Golden(f"attention/primal_{case}")
    layer = golden.load(layers.BatchNormAttention(32, 4, **BN[case]))
    golden.check(y=layer(golden.given["x"]))


def test_sh():
    golden = Golden("attention/primal_sh")
    layer = golden.load(layers.ScaledHeadAttention(32, 4, (1, 1, 2, 4)))
    golden.check(y=layer(golden.given["x"]))


def test_a_last_window_is_the_mean_of_what_is_left():
    torch.manual_seed(0)
    x = torch.randn(1, 5, 4)
    layer = layers.ScaledHeadAttention(4, 1, (2,))
    q, k, v = layer.qkv(x).chunk(3, -1)
    k, v = (torch.stack([p[:, :2].mean(1), p[:, 2:4].mean(1), p[:, 4]], 1) for p in (k, v))
    torch.testing.assert_close(layer(x), layer.proj((q @ k.mT / 2).softmax(-1) @ v))


@pytest.mark.parametrize("case", ["fare", "sparse_fare"])
def test_fare(case):
    golden = Golden(f"attention/{case}")
    layer = golden.load(layers.FARE(3, 8))
    given = golden.given
    given = given["a"], given["b"], given["z"], given.get("R")
    golden.check(o=layer.negatives(*given), loss=layer(*given))


SMOE = {
    "dense": {},
    "dense_dynamic": {},
    "topk1": {"k": 1},
    "softmax_topk": {"order": "softmax-topk", "activation": lambda x: F.gelu(x, approximate="tanh"), "bias": False},
    "softmax_topk_renorm": {"order": "softmax-topk-scaled", "activation": F.gelu, "bias": False},
}


@pytest.mark.parametrize("case", SMOE)
def test_smoe(case):
    golden = Golden(f"moe/smoe_{case}")
    golden.check(y=golden.load(layers.SMoE(16, 32, 8, **SMOE[case]))(golden.given["x"]))


@pytest.mark.parametrize("case", ["momentum_layer", "momentum_layer_loop", "robust_layer", "adam_layer_later"])
def test_momentum(case):
    golden = Golden(f"moe/{case}", "mlp.")
    kind = layers.RobustMomentumSMoE if "robust" in case else layers.MomentumSMoE
    y, m = golden.load(kind(16, 32, 8))(golden.given["x"], golden.given["m"])
    golden.check(y=y, m_next=m)


def test_adam():
    golden = Golden("moe/adam_layer_first", "mlp.")
    given = golden.given
    module = golden.load(layers.AdamSMoE(16, 32, 8, gamma1=0.8))
    y, (p, v, m) = module(given["x"], (given["p"], given["v"], given["m"]))
    golden.check(y=y, p_next=p, v_next=v, m_next=m)


def test_no_state_is_zeros():
    torch.manual_seed(0)
    x = torch.randn(3, 8)
    zeros = torch.zeros_like(x)
    for kind, state in ((layers.MomentumSMoE, zeros), (layers.RobustMomentumSMoE, zeros), (layers.AdamSMoE, (zeros,) * 3)):
        module = kind(8, 8, 4)
        torch.testing.assert_close(module(x), module(x, state))


@pytest.mark.parametrize("case, empty", [("", "official"), ("_empty_official", "official"), ("_empty_skip", "skip")])
def test_ac_weights(case, empty):
    golden = Golden(f"moe/ac_weights{case}")
    router = layers.ACRouter(16, 8, empty=empty).double()
    golden.check(w=router.weights(golden.given["x"], golden.given["prev_idx"]))


def test_ac_router():
    golden = Golden("moe/ac_gate")
    gates, chosen = golden.load(layers.ACRouter(16, 8))(golden.given["x"], golden.given["prev_idx"])
    golden.check(gate=gates, idx=chosen)


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


@pytest.mark.parametrize("case", ["linear", "linear_ties", "domain", "domain_ties"])
def test_camex(case):
    golden = Golden(f"moe/camex_{case}", "m.")
    layer = golden.load(layers.CAMExLinear(24, 36, 4, rank=2, curvature="linear" in case, ties="ties" in case))
    x = golden.given["x"]
    golden.check(y=layer(x))
    if "merged" in golden.wanted:
        golden.check(merged=layer.merged(x))


class Encoder(torch.nn.Module):
    """A layer of an encoder, normalized after its residuals."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (torch.nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = torch.nn.Linear(dim, hidden), torch.nn.Linear(hidden, dim)
        self.norm1, self.norm2 = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)

    def forward(self, z):
        q, k, v = (part(z).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        z = self.norm1(z + self.o(y))
        return self.norm2(z + self.down(F.gelu(self.up(z))))


def encoder(golden):
    """The layers of a golden MoLEx, with their adapters in the weights."""
    p = {name.removeprefix("params."): tensor for name, tensor in golden.weights.items()}
    names = {"q": "q", "k": "k", "v": "v", "o": "o", "up": "1", "down": "2"}
    made = []
    for at in range(4):
        weights = {}
        for name, short in names.items():
            weights[f"{name}.weight"], weights[f"{name}.bias"] = p[f"w{short}"][at], p[f"b{short}"][at]
        for name in "qv":  # lora_alpha / rank is 2
            weights[f"{name}.weight"] = p[f"w{name}"][at] + 2 * p[f"u{name}"][at] @ p[f"a{name}"][at]
        for norm in "12":
            weights[f"norm{norm}.weight"], weights[f"norm{norm}.bias"] = p[f"g{norm}"][at], p[f"c{norm}"][at]
        layer = Encoder(32, 4, 48).double()
        layer.load_state_dict(weights)
        made.append(layer)
    return made


def molex(golden):
    module = layers.MoLEx(encoder(golden), 32).double()
    with torch.no_grad():
        module.alpha.copy_(golden.weights["alpha"])
        for at, gate in enumerate(module.gates):
            gate.weight.copy_(golden.weights["gate_w"][at])
            gate.bias.copy_(golden.weights["gate_b"][at])
    return module


@pytest.mark.parametrize("case", ["batch_dense", "batch_gather", "alpha_one"])
def test_molex(case):
    golden = Golden(f"moe/molex_{case}")
    module, z = molex(golden), golden.given["z0"]
    golden.check(z_out=module(z))
    with torch.no_grad():
        golden.check(z_out=torch.export.export(module, (z,)).module()(z))


def with_directions(module, given):
    """A distance along what is given."""
    module.double()
    for name in ("theta", "root"):
        if name in given:
            setattr(module, name, given[name])
    return module


@pytest.mark.parametrize("p", [1, 2])
def test_sliced_wasserstein(p):
    golden = Golden(f"sliced_ot/sw_p{p}")
    given = golden.given
    golden.check(value=with_directions(layers.SlicedWasserstein(4, 16, p), given)(given["X"], given["Y"]))


@pytest.mark.parametrize("case, p", [("uniform_p1", 1), ("uniform_p2", 2), ("logits", 1), ("chain_uniform", 1)])
def test_tswsl(case, p):
    golden = Golden(f"sliced_ot/tswsl_{case}")
    given = golden.given
    trees, lines, dim = given["theta"].shape
    distance = with_directions(layers.TSWSL(dim, trees, lines, p), given)
    if "logits" in given:
        distance.logits.data = given["logits"]
    golden.check(value=distance(given["X"], given["Y"]))


# p and δ.
DB = {
    "2d_p1": (1, 1),
    "5d_p2": (2, 10),
    "far_root": (2, 0.5),
    "flow_size": (1, 10),
    "perp": (1, 2),
    "ties": (1, 2),
    "unequal_weighted": (1, 3),
}


@pytest.mark.parametrize("case", DB)
def test_dbtsw(case):
    golden = Golden(f"sliced_ot/dbtsw_{case}")
    given = golden.given
    trees, lines, dim = given["theta"].shape
    p, delta = DB[case]
    distance = with_directions(layers.DbTSW(dim, trees, lines, p, delta), given)
    golden.check(value=distance(given["X"], given["Y"], given.get("a"), given.get("b")))


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


def test_what_does_not_fit():
    for make in (
        lambda: layers.EllipticalAttention(8, 2, scaling="median"),
        lambda: layers.ScaledHeadAttention(8, 2, (1,)),
        lambda: layers.BatchNormAttention(8, 2, causal=True, ratios=(1, 2)),
        lambda: layers.SMoE(8, 8, 4, order="random"),
        lambda: layers.RobustMomentumSMoE(8, 8, 4, rate=1.0),
        lambda: layers.ACRouter(8, 4, empty="never"),
        lambda: layers.DbTSW(2, 3, 4, orthogonal=True),
        lambda: layers.SlicedWasserstein(2, 3)(torch.ones(3, 2), torch.ones(4, 2)),
    ):
        with pytest.raises(ValueError):
            make()


# Gradients and exports.


MIXTURE = {"route": 1, "grouped_matmul": 2, "combine": 1, "all": 4}

# A small module of each kind, the shapes of what it is called with, and the kernels that egraft makes of it.
SMALL = {
    "ACMoE": (lambda: layers.ACMoE(8, 12, 4), [(12, 8), "previous"], MIXTURE),
    "AdamSMoE": (lambda: layers.AdamSMoE(8, 12, 4), [(2, 6, 8)], MIXTURE),
    "BatchNormAttention": (lambda: layers.BatchNormAttention(8, 2), [(2, 6, 8)], {"attention": 1, "all": 4}),
    "CAMExLinear": (lambda: layers.CAMExLinear(8, 12, 3, k=2, rank=2), [(2, 6, 8)], {"matmul": 4, "all": 8}),
    "DbTSW": (lambda: layers.DbTSW(3, 4, 3), [(6, 3), (7, 3)], {"sort": 1, "scan": 1, "all": 6}),
    "EllipticalAttention": (lambda: layers.EllipticalAttention(8, 2), [(2, 6, 8), (2, 2, 6, 4)], {"attention": 1, "all": 4}),
    "FARE": (lambda: layers.FARE(3, 4), [(12, 8), (12, 8), (12, 3)], {"matmul": 3}),
    "MoLEx": (lambda: layers.MoLEx([Encoder(8, 2, 12) for _ in range(4)], 8), [(2, 6, 8)], {"route": 2, "grouped_matmul": 8}),
    "MomentumSMoE": (lambda: layers.MomentumSMoE(8, 12, 4), [(2, 6, 8), (2, 6, 8)], MIXTURE),
    "RPCAttention": (lambda: layers.RPCAttention(8, 2, 2), [(2, 6, 8)], {"attention": 2, "all": 5}),
    "RobustMomentumSMoE": (lambda: layers.RobustMomentumSMoE(8, 12, 4), [(2, 6, 8), (2, 6, 8)], MIXTURE),
    "SMoE": (lambda: layers.SMoE(8, 12, 4), [(12, 8)], MIXTURE),
    "ScaledHeadAttention": (lambda: layers.ScaledHeadAttention(8, 2, (1, 2)), [(2, 6, 8)], {"attention": 1, "all": 6}),
    "SlicedWasserstein": (lambda: layers.SlicedWasserstein(3, 5), [(6, 3), (6, 3)], {"sort": 2, "all": 5}),
    "TSWSL": (lambda: layers.TSWSL(3, 4, 3), [(6, 3), (7, 3)], {"sort": 1, "scan": 1, "all": 5}),
}


def small(name, dtype=torch.float32):
    torch.manual_seed(3)
    make, shapes, kinds = SMALL[name]
    module = make().to(dtype)
    given = (torch.randint(4, (12, 2)) if shape == "previous" else torch.randn(shape, dtype=dtype) for shape in shapes)
    return module, tuple(given), kinds


def test_no_layer_is_left_out():
    assert set(SMALL) == set(layers.__all__) - {"ACRouter", "Experts"}


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
    made = {}

    def export(name):
        """A small module as ONNX: its bytes, inputs and results."""
        if name not in made:
            module, given, kinds = small(name)
            module.eval()
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = io.BytesIO()
                torch.onnx.export(module, given, dynamo=True, verbose=False).save(data)
                made[name] = data.getvalue(), [tensor.numpy() for tensor in given], flat(module(*given)), kinds
        return made[name]

    return export


def near(name, ours, theirs):
    # A step of Adam is a soft sign, which multiplies what is small, and its rounding, by a thousand.
    atol = 1e-3 if name == "AdamSMoE" else 2e-5
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(torch.from_numpy(mine), other, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("name", SMALL)
def test_onnxruntime_runs_it(name, export):
    onnxruntime = pytest.importorskip("onnxruntime")
    data, given, wanted, _ = export(name)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    near(name, session.run(None, dict(zip((port.name for port in session.get_inputs()), given))), wanted)


@pytest.mark.parametrize("name", SMALL)
def test_egraft_takes_it_whole(name, export):
    import egraft

    data, given, wanted, kinds = export(name)
    model = egraft.compile(data)
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


def test_the_example_of_the_documentation():
    pytest.importorskip("onnxscript")
    section = (ROOT / "docs" / "python.md").read_text().split("### Layers of papers")[1]
    example = re.findall(r"^    .*\n|^\n", section, re.MULTILINE)
    exec(compile(textwrap.dedent("".join(example)), "docs/python.md", "exec"), {"__name__": "example"})
