"""The layers of papers against the golden cases, where PyTorch is, in both precisions."""

import functools
import json
import struct

import pytest
from conftest import ROOT

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from egraft.torch import layers
from encoder import Encoder

KINDS = {"F32": torch.float32, "I64": torch.int64}


@pytest.fixture(params=[torch.float64, torch.float32], ids=["f64", "f32"])
def dtype(request):
    """In what a layer computes."""
    return request.param


def read(path, dtype):
    """The tensors of a safetensors file; floats as they are computed with."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + at for at in entry["data_offsets"])
            tensor = torch.frombuffer(bytearray(data[start:end]), dtype=KINDS[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return tensors


class Golden:
    """A golden case: `given` and `wanted` by name, `weights` (of the case that has them), and how near is near enough."""

    def __init__(self, case, dtype, prefix=""):
        self.dtype = dtype
        folder = ROOT / "tests" / "golden" / case
        tensors = read(folder / "tensors.safetensors", dtype)
        self.given = {name[3:]: tensor for name, tensor in tensors.items() if name.startswith("in.")}
        self.wanted = {name[4:]: tensor for name, tensor in tensors.items() if name.startswith("out.")}
        self.tolerance = json.loads((folder / "case.json").read_text())["tolerance"]
        for line in (ROOT / "tests" / "golden" / "zoo.tsv").read_text().splitlines():
            columns = line.split("\t")
            if columns[0] == case and len(columns) > 3:
                folder = ROOT / "tests" / "golden" / columns[3]
        file = folder / "weights.safetensors"
        weights = read(file, dtype) if file.exists() else {}
        self.weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}

    def load(self, module):
        module.to(self.dtype).load_state_dict(self.weights)
        return module

    def check(self, **results):
        for name, result in results.items():
            torch.testing.assert_close(result, self.wanted[name].reshape(result.shape), **self.tolerance)


@pytest.mark.parametrize("case", ["dynamic", "mean_scaling", "vit_mul", "vit_diag"])
def test_elliptical(case, dtype):
    golden = Golden(f"attention/elliptical_layer_{case}", dtype)
    layer = golden.load(layers.EllipticalAttention(32, 4, "mean" if "mean" in case else "max"))
    y, v = layer(golden.given["x"], golden.given["v_prev"])
    golden.check(y=y, v=v)


@pytest.mark.parametrize("case, scale", [("scaled", None), ("unscaled", 1.0)])
def test_elliptical_in_a_language_model(case, scale, dtype):
    golden = Golden(f"attention/elliptical_layer_lm_{case}", dtype)
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


@pytest.mark.parametrize("case, rounds", [("dynamic", 2), ("n0_full", 0), ("n1_full", 1), ("n2_causal", 2), ("n4_full", 4)])
def test_rpc(case, rounds, dtype):
    golden = Golden(f"attention/rpc_layer_{case}", dtype)
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
def test_bn(case, dtype):
    golden = Golden(f"attention/primal_{case}", dtype)
    layer = golden.load(layers.BatchNormAttention(32, 4, **BN[case]))
    golden.check(y=layer(golden.given["x"]))


def test_sh(dtype):
    golden = Golden("attention/primal_sh", dtype)
    layer = golden.load(layers.ScaledHeadAttention(32, 4, (1, 1, 2, 4)))
    golden.check(y=layer(golden.given["x"]))


@pytest.mark.parametrize("case", ["fare", "sparse_fare"])
def test_fare(case, dtype):
    golden = Golden(f"attention/{case}", dtype)
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
def test_smoe(case, dtype):
    golden = Golden(f"moe/smoe_{case}", dtype)
    golden.check(y=golden.load(layers.SMoE(16, 32, 8, **SMOE[case]))(golden.given["x"]))


@pytest.mark.parametrize("case", ["momentum_layer", "momentum_layer_loop", "robust_layer", "adam_layer_later"])
def test_momentum(case, dtype):
    golden = Golden(f"moe/{case}", dtype, "mlp.")
    kind = layers.RobustMomentumSMoE if "robust" in case else layers.MomentumSMoE
    y, m = golden.load(kind(16, 32, 8))(golden.given["x"], golden.given["m"])
    golden.check(y=y, m_next=m)


def test_adam(dtype):
    golden = Golden("moe/adam_layer_first", dtype, "mlp.")
    given = golden.given
    module = golden.load(layers.AdamSMoE(16, 32, 8, gamma1=0.8))
    y, (p, v, m) = module(given["x"], (given["p"], given["v"], given["m"]))
    golden.check(y=y, p_next=p, v_next=v, m_next=m)


AC_WEIGHTS = {
    "": {},
    "_empty_official": {},
    "_empty_skip": {"empty": "skip"},
    "_softmoe": {"eps": 0.35, "clip": 5.0, "over": "clipped"},
}


@pytest.mark.parametrize("case", AC_WEIGHTS)
def test_ac_weights(case, dtype):
    golden = Golden(f"moe/ac_weights{case}", dtype)
    weights = layers.ClusterWeights(8, **AC_WEIGHTS[case])
    golden.check(w=weights(golden.given["x"], golden.given["prev_idx"]))


def test_ac_router(dtype):
    golden = Golden("moe/ac_gate", dtype)
    gates, chosen = golden.load(layers.ACRouter(16, 8))(golden.given["x"], golden.given["prev_idx"])
    golden.check(gate=gates, idx=chosen)


def test_ac_in_swin(dtype):
    golden = Golden("moe/swin_ac_mlp", dtype)
    y, chosen = golden.load(layers.SwinACMoE(16, 32, 8))(golden.given["x"], golden.given["prev_idx"])
    golden.check(y=y, idx=chosen)


@pytest.mark.parametrize("case", ["linear", "linear_ties", "domain", "domain_ties"])
def test_camex(case, dtype):
    golden = Golden(f"moe/camex_{case}", dtype, "m.")
    layer = golden.load(layers.CAMExLinear(24, 36, 4, rank=2, curvature="linear" in case, ties="ties" in case))
    x = golden.given["x"]
    golden.check(y=layer(x))
    if "merged" in golden.wanted:
        golden.check(merged=layer.merged(layer.gates(x.mean(-2))))


GELU_TANH = functools.partial(F.gelu, approximate="tanh")
CAMEX = {
    "ffn": lambda: layers.CAMExFFN(24, 36, 4, rank=2, ties=True),
    "segment_ffn": lambda: layers.CAMExFFN(
        24, 36, 4, layers.CAMExSegmentLinear, GELU_TANH, rank=2, ties=True, segment=4
    ),
    "dynamic": lambda: layers.CAMExDynamic(24, 36, 4, depth=3, rank=2),
}


@pytest.mark.parametrize("case", CAMEX)
def test_camex_in_layers(case, dtype):
    golden = Golden(f"moe/camex_{case}", dtype)
    golden.check(y=golden.load(CAMEX[case]())(golden.given["x"]))


class Adapted(torch.nn.Linear):
    """A linear map with an adapter of low rank beside it, twice."""

    def __init__(self, weight, bias, a, u):
        super().__init__(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        self.weight, self.bias, self.a, self.u = map(torch.nn.Parameter, (weight, bias, a, u))

    def forward(self, z):
        return super().forward(z) + 2 * F.linear(F.linear(z, self.a), self.u)


def encoder(golden):
    """The layers of a golden MoLEx, with their adapters."""
    p = {name.removeprefix("params."): tensor for name, tensor in golden.weights.items()}
    names = {"q": "q", "k": "k", "v": "v", "o": "o", "up": "1", "down": "2"}
    made = []
    for at in range(4):
        weights = {}
        for name, short in names.items():
            weights[f"{name}.weight"], weights[f"{name}.bias"] = p[f"w{short}"][at], p[f"b{short}"][at]
        for norm in "12":
            weights[f"norm{norm}.weight"], weights[f"norm{norm}.bias"] = p[f"g{norm}"][at], p[f"c{norm}"][at]
        layer = Encoder(32, 4, 48).to(golden.dtype)
        layer.load_state_dict(weights)
        for name in "qv":
            given = p[f"w{name}"], p[f"b{name}"], p[f"a{name}"], p[f"u{name}"]
            setattr(layer, name, Adapted(*(tensor[at] for tensor in given)))
        made.append(layer)
    return made


def molex(golden, **options):
    module = layers.MoLEx(encoder(golden), 32, **options).to(golden.dtype)
    with torch.no_grad():
        module.alpha.copy_(golden.weights["alpha"])
        for at, gate in enumerate(module.gates):
            gate.weight.copy_(golden.weights["gate_w"][at])
            gate.bias.copy_(golden.weights["gate_b"][at])
    return module


@pytest.mark.parametrize("case", ["batch_dense", "batch_gather", "alpha_one"])
def test_molex(case, dtype):
    golden = Golden(f"moe/molex_{case}", dtype)
    module, z = molex(golden), golden.given["z0"]
    golden.check(z_out=module(z))
    with torch.no_grad():
        golden.check(z_out=torch.export.export(module, (z,)).module()(z))


@pytest.mark.parametrize("case, k", [("sequence_dense", 1), ("token_dense_top2", 2)])
def test_molex_at_other_levels(case, k, dtype):
    golden = Golden(f"moe/molex_{case}", dtype)
    golden.check(z_out=molex(golden, k=k, level=case.split("_")[0])(golden.given["z0"]))


def with_directions(module, given):
    """A distance along what is given."""
    module.to(given["X"].dtype)
    for name in ("theta", "root", "dirs"):
        if name in given:
            setattr(module, name, given[name])
    return module


@pytest.mark.parametrize("p", [1, 2])
def test_sliced_wasserstein(p, dtype):
    golden = Golden(f"sliced_ot/sw_p{p}", dtype)
    given = golden.given
    golden.check(value=with_directions(layers.SlicedWasserstein(4, 16, p), given)(given["X"], given["Y"]))


@pytest.mark.parametrize("case, p", [("uniform_p1", 1), ("uniform_p2", 2), ("logits", 1), ("chain_uniform", 1)])
def test_tswsl(case, p, dtype):
    golden = Golden(f"sliced_ot/tswsl_{case}", dtype)
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
def test_dbtsw(case, dtype):
    golden = Golden(f"sliced_ot/dbtsw_{case}", dtype)
    given = golden.given
    trees, lines, dim = given["theta"].shape
    p, delta = DB[case]
    distance = with_directions(layers.DbTSW(dim, trees, lines, p, delta), given)
    golden.check(value=distance(given["X"], given["Y"], given.get("a"), given.get("b")))


# p and δ.
SPHERES = {"s2_p1": (1, 2), "s9_p2": (2, 10), "clamped": (1, 3), "unequal_weighted": (1, 4)}


@pytest.mark.parametrize("case", SPHERES)
def test_stsw(case, dtype):
    golden = Golden(f"sliced_ot/stsw_{case}", dtype)
    given = golden.given
    trees, lines, dim = given["dirs"].shape
    distance = with_directions(layers.STSW(dim, trees, lines, *SPHERES[case]), given)
    golden.check(value=distance(given["X"], given["Y"], given.get("a"), given.get("b")))
