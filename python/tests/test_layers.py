"""The layers of papers, where PyTorch is: golden results, gradients, and what egraft and onnxruntime make of their exports."""

import collections
import io
import json
import math
import struct
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


ELLIPTICAL = {
    "dynamic": {},
    "mean_scaling": {"scaling": "mean"},
    "vit_mul": {},
    "vit_diag": {},
}


@pytest.mark.parametrize("case", ELLIPTICAL)
def test_elliptical(case):
    golden = Golden(f"attention/elliptical_layer_{case}")
    layer = golden.load(layers.EllipticalAttention(32, 4, **ELLIPTICAL[case]))
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


@pytest.mark.parametrize("case, rounds, causal", [("dynamic", 2, 0), ("n0_full", 0, 0), ("n1_full", 1, 0), ("n2_causal", 2, 1), ("n4_full", 4, 0)])
def test_rpc(case, rounds, causal):
    golden = Golden(f"attention/rpc_layer_{case}")
    layer = golden.load(layers.RPCAttention(32, 4, rounds, causal=bool(causal)))
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
    "softmax_topk": {"order": "softmax-topk", "activation": lambda x: F.gelu(x, approximate="tanh")},
    "softmax_topk_renorm": {"order": "softmax-topk-scaled", "activation": F.gelu},
}


@pytest.mark.parametrize("case", SMOE)
def test_smoe(case):
    golden = Golden(f"moe/smoe_{case}")
    module = layers.SMoE(16, 32, 8, **SMOE[case])
    if "gate.bias" not in golden.weights:
        module.gate = torch.nn.Linear(16, 8, bias=False)
    golden.check(y=golden.load(module)(golden.given["x"]))


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


@pytest.mark.parametrize("case, options", [("linear", {"rank": 2}), ("linear_ties", {"rank": 2, "ties": True}), ("domain", {"curvature": False}), ("domain_ties", {"curvature": False, "ties": True})])
def test_camex(case, options):
    golden = Golden(f"moe/camex_{case}", "m.")
    layer = golden.load(layers.CAMExLinear(24, 36, 4, **options))
    x = golden.given["x"]
    golden.check(y=layer(x))
    if "merged" in golden.wanted:
        golden.check(merged=layer.merged(x))


def encoder(golden):
    """The layers of a golden MoLEx, as PyTorch's, with their adapters in the weights."""
    p = {name.removeprefix("params."): tensor for name, tensor in golden.weights.items()}
    scaling = 8 / 4
    made = []
    for at in range(4):
        q, v = (p[f"w{n}"][at] + scaling * p[f"u{n}"][at] @ p[f"a{n}"][at] for n in "qv")
        layer = torch.nn.TransformerEncoderLayer(32, 4, 48, 0.0, F.gelu, batch_first=True).double()
        layer.load_state_dict({
            "self_attn.in_proj_weight": torch.cat([q, p["wk"][at], v]),
            "self_attn.in_proj_bias": torch.cat([p["bq"][at], p["bk"][at], p["bv"][at]]),
            "self_attn.out_proj.weight": p["wo"][at],
            "self_attn.out_proj.bias": p["bo"][at],
            "linear1.weight": p["w1"][at],
            "linear1.bias": p["b1"][at],
            "linear2.weight": p["w2"][at],
            "linear2.bias": p["b2"][at],
            "norm1.weight": p["g1"][at],
            "norm1.bias": p["c1"][at],
            "norm2.weight": p["g2"][at],
            "norm2.bias": p["c2"][at],
        })
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
    golden.check(z_out=molex(golden)(golden.given["z0"]))


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


DB = {"2d_p1": (1, 1), "5d_p2": (2, 10), "far_root": (2, 0.5), "flow_size": (1, 10), "perp": (1, 2), "ties": (1, 2), "unequal_weighted": (1, 3)}


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


# Gradients and exports: a small module of each kind, what it is called with, and the kernels that egraft makes of it.


def small(name, dtype=torch.float32):
    torch.manual_seed(3)
    tokens = torch.randn(2, 6, 8)
    rows = torch.randn(10, 8)
    points = torch.randn(6, 3), torch.randn(6, 3) + 1
    mixture = {"route": 1, "grouped_matmul": 2, "combine": 1}
    module, given, kinds = {
        "SMoE": lambda: (layers.SMoE(8, 12, 4), (rows,), {**mixture, "all": 4}),
        "MomentumSMoE": lambda: (layers.MomentumSMoE(8, 12, 4), (tokens, torch.randn(2, 6, 8)), {**mixture, "all": 4}),
        "AdamSMoE": lambda: (layers.AdamSMoE(8, 12, 4), (tokens,), {**mixture, "all": 4}),
        "RobustMomentumSMoE": lambda: (layers.RobustMomentumSMoE(8, 12, 4), (tokens, torch.randn(2, 6, 8)), {**mixture, "all": 4}),
        "ACMoE": lambda: (layers.ACMoE(8, 12, 4), (rows, torch.randint(4, (10, 2))), mixture),
        "CAMExLinear": lambda: (layers.CAMExLinear(8, 12, 3, k=2, rank=2, ties=True), (tokens,), {}),
        "MoLEx": lambda: (layers.MoLEx([torch.nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True) for _ in range(2)], 8), (tokens,), {}),
        "EllipticalAttention": lambda: (layers.EllipticalAttention(8, 2), (tokens, torch.randn(2, 2, 6, 4)), {"attention": 1}),
        "RPCAttention": lambda: (layers.RPCAttention(8, 2, 2), (tokens,), {"attention": 2}),
        "ScaledHeadAttention": lambda: (layers.ScaledHeadAttention(8, 2, (1, 2)), (tokens,), {"attention": 1}),
        "BatchNormAttention": lambda: (layers.BatchNormAttention(8, 2), (tokens,), {"attention": 1}),
        "FARE": lambda: (layers.FARE(3, 4), (rows, torch.randn(10, 8), torch.randn(10, 3)), {}),
        "SlicedWasserstein": lambda: (layers.SlicedWasserstein(3, 5), points, {"sort": 2}),
        "TSWSL": lambda: (layers.TSWSL(3, 4, 3), points, {"sort": 1, "scan": 1}),
        "DbTSW": lambda: (layers.DbTSW(3, 4, 3), points, {"sort": 1, "scan": 1}),
    }[name]()
    given = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in given)
    return module.to(dtype), given, kinds


NAMES = sorted(set(layers.__all__) - {"Experts", "ACRouter"})


def flat(results):
    """The tensors of nested tuples."""
    return [results] if isinstance(results, torch.Tensor) else [tensor for part in results for tensor in flat(part)]


# What gets no gradient, or is zero in sum: the router of one chosen layer; logits when all lines weigh the same are not.
STILL = {"MoLEx": "gates."}


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    module, given, _ = small(name, torch.float64)
    given = tuple(tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in given)
    floats = [result for result in flat(module(*given)) if result.is_floating_point()]
    weights = [torch.randn_like(result) for result in floats]
    sum((result * weight).sum() for result, weight in zip(floats, weights)).backward()
    for parameter, value in module.named_parameters():
        if not parameter.startswith(STILL.get(name, "-")):
            assert value.grad.isfinite().all() and value.grad.abs().sum() > 0, parameter
    assert all(tensor.grad.isfinite().all() for tensor in given if tensor.grad is not None)


# Where a result has a part that is held constant, numerical gradients in the inputs differ, and only those of parameters count.
@pytest.mark.parametrize("name", ["BatchNormAttention", "DbTSW", "FARE", "MomentumSMoE", "RPCAttention", "TSWSL"])
def test_gradcheck(name):
    module, given, _ = small(name, torch.float64)
    given = tuple(tensor.requires_grad_() for tensor in given)
    assert torch.autograd.gradcheck(lambda *given: tuple(flat(module(*given))), given, fast_mode=True)


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


def near(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(torch.from_numpy(mine), other, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_runs_it(name, export):
    onnxruntime = pytest.importorskip("onnxruntime")
    data, given, wanted, _ = export(name)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    near(session.run(None, dict(zip((port.name for port in session.get_inputs()), given))), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_egraft_takes_it_whole(name, export):
    import egraft

    data, given, wanted, kinds = export(name)
    model = egraft.compile(data)
    near(model.run(*given), wanted)
    found = collections.Counter(kernel["kind"] for kernel in model.kernels())
    found["all"] = sum(found.values())
    assert kinds == {kind: found[kind] for kind in kinds}, dict(found)
