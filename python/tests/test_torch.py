"""The backend of torch.compile, where PyTorch and onnxscript are: results, new sizes, new weights, and what is left alone."""

import collections
import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import egraft.torch
from torch.nn.attention.flex_attention import flex_attention


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)
        self.norm = torch.nn.BatchNorm1d(16)

    def forward(self, x):
        return torch.softmax(self.b(self.norm(torch.relu(self.a(x)))), -1)


class Experts(torch.nn.Module):
    """Every expert computes every token, under weights of which most are zero."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.router = torch.nn.Linear(8, 4, bias=False)
        self.up = torch.nn.Parameter(torch.randn(4, 8, 16) / 3)
        self.down = torch.nn.Parameter(torch.randn(4, 16, 8) / 4)

    def forward(self, x):
        gates, chosen = torch.topk(torch.softmax(self.router(x), -1), 2)
        weights = torch.zeros(x.shape[0], 4).scatter(1, chosen, gates)
        hidden = torch.nn.functional.silu(torch.einsum("td,edh->eth", x, self.up))
        return torch.einsum("eth,ehd,te->td", hidden, self.down, weights)


@pytest.fixture(autouse=True)
def anew():
    torch._dynamo.reset()
    egraft.torch._SAID.clear()


def near(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def count(monkeypatch):
    """How many models are compiled from now on."""
    compiled, real = [], egraft.compile
    monkeypatch.setattr(egraft, "compile", lambda *given, **options: compiled.append(1) or real(*given, **options))
    return compiled


@pytest.mark.parametrize("network", [Network, Experts])
def test_results_and_new_sizes(network, monkeypatch):
    module = network().eval()
    compiled = count(monkeypatch)
    fast = torch.compile(module, backend="egraft")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (3, 5, 7, 9):
            x = torch.randn(rows, 8)
            near(fast(x), module(x))
    assert len(compiled) == 2, "once for the first size, once for all others"


def test_options(monkeypatch):
    given, real = [], egraft.compile
    monkeypatch.setattr(egraft, "compile", lambda model, **options: given.append(options) or real(model, **options))
    module, x = Network().eval(), torch.randn(3, 8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        near(torch.compile(module, backend="egraft", options={"threads": 1, "fp": "strict"})(x), module(x))
        torch._dynamo.reset()
        near(torch.compile(module, backend="egraft", mode="reduce-overhead")(x), module(x))
    assert given == [{"threads": 1, "fp": "strict"}, {}]


def test_new_weights_are_seen(monkeypatch):
    module = Network().eval()
    compiled = count(monkeypatch)
    fast = torch.compile(module, backend=egraft.torch.backend)
    x = torch.randn(3, 8)
    with torch.no_grad():
        near(fast(x), module(x))
        module.a.weight.mul_(2)
        near(fast(x), module(x))
        module.norm.running_mean.add_(1)
        near(fast(x), module(x))
        near(fast(x), module(x))
    assert len(compiled) == 3


def test_what_is_left_to_pytorch():
    module = Network()
    fast = torch.compile(module, backend="egraft")
    x = torch.randn(3, 8)
    with pytest.warns(UserWarning, match="gradients are asked for"):
        fast(x).sum().backward()
    assert module.a.weight.grad is not None


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(4, 3))

    def forward(self, x, at):
        self.rows[at] += x
        return self.rows.sum(0)


def writes(x):
    x.add_(1)
    return x * 2


def hands_out(x):
    return x[1:], x + 1, x, x.shape[0], x.t() @ x


def both(x):
    y = x.mul_(2)
    return y, y.view(-1)[1:], y.sum()


@pytest.mark.parametrize("function", [writes, hands_out, both])
def test_what_belongs_to_the_caller(function, monkeypatch):
    compiled = count(monkeypatch)
    fast = torch.compile(function, backend="egraft")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (3, 4):
            ours, theirs = torch.ones(rows, 2), torch.ones(rows, 2)
            results = fast(ours)
            torch.testing.assert_close(results, function(theirs))
            torch.testing.assert_close(ours, theirs)
    assert len(compiled) == 2
    if function is not writes:
        shared = [result for result in results if isinstance(result, torch.Tensor) and result.data_ptr() == ours.data_ptr()]
        assert shared, "a result that is an input is not a copy of it"


def test_buffers_that_a_run_changes(monkeypatch):
    ours, theirs = Counter(), Counter()
    compiled = count(monkeypatch)
    fast = torch.compile(ours, backend="egraft")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in (1, 2, 1):
            x = torch.randn(3)
            near(fast(x, torch.tensor(at)), theirs(x, torch.tensor(at)))
    near(ours.rows, theirs.rows)
    assert len(compiled) == 1
    with pytest.raises(NotImplementedError, match="buffer `rows`"):
        egraft.torch.compile(ours, (torch.randn(3), torch.tensor(1)))


def test_numbers_that_no_shape_shows():
    def function(x, count, scale):
        return torch.arange(count).float() * scale + x.sum()

    fast = torch.compile(function, backend="egraft")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, scale in ((3, 0.5), (4, 0.25), (5, 2.0)):
            x = torch.randn(2)
            near(fast(x, number, scale), function(x, number, scale))


def test_modules():
    module = Experts().eval()
    rows = torch.export.Dim("rows")
    fast = egraft.torch.compile(module, (torch.randn(4, 8),), ({0: rows},), threads=1)
    assert fast.model.inputs[0].shape[0] == "rows"
    with torch.no_grad():
        for count in (2, 6):
            x = torch.randn(count, 8)
            near(fast(x), module(x))


@torch.library.custom_op("egraft_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


twice.register_fake(torch.empty_like)


def test_the_op_that_cannot_be_exported_is_named():
    fast = torch.compile(lambda x: twice(x) + 1, backend="egraft")
    x = torch.randn(3)
    with torch.no_grad(), pytest.warns(UserWarning, match="egraft_tests.twice"):
        torch.testing.assert_close(fast(x), x * 2 + 1)


def test_bf16_by_dlpack():
    import egraft.ort

    class Half(torch.nn.Module):
        def forward(self, x):
            return x * 0.5

    x = torch.randn(3, 4).bfloat16()
    session = egraft.ort.InferenceSession(egraft.torch.export(Half(), (x,)).model_proto.SerializeToString())
    (value,) = session.run_with_ort_values(None, {"x": egraft.ort.OrtValue.ortvalue_from_numpy(as_array(x))})
    assert torch.equal(torch.from_dlpack(value), x * 0.5)


def as_array(x):
    """The array of bf16 with the elements of a tensor."""
    import ml_dtypes

    return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


class Calls(torch.nn.Module):
    """A module of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


F = torch.nn.functional
SEES = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 1]]).bool()
TRANSLATED = {
    "attention": lambda x: [
        F.scaled_dot_product_attention(x, x, x, attn_mask=SEES, scale=-0.3),
        F.scaled_dot_product_attention(x, x, x, attn_mask=torch.where(SEES, 0.5, -float("inf"))),
        F.scaled_dot_product_attention(x[:, :2], x, x, is_causal=True, scale=0.3),
        F.scaled_dot_product_attention(x[None].repeat(1, 2, 1, 1), x[None], x[None], enable_gqa=True),
    ],
    "flex_attention": lambda x: flex_attention(
        x[None], x[None], x[None], score_mod=lambda score, b, h, i, j: score * 2 - (i - j).abs() * (h + 1)
    ),
    "adaptive pools": lambda x: [
        F.adaptive_avg_pool2d(x, (2, 5)),
        F.adaptive_avg_pool2d(x, 1),
        F.adaptive_avg_pool1d(x, 3),
        *F.adaptive_max_pool2d(x[None], (3, 2), return_indices=True),
        *F.adaptive_max_pool2d(x, 1, return_indices=True),
    ],
    "antialiasing": lambda x: [
        F.interpolate(x[None], scale_factor=(1.7, 0.6), mode=mode, antialias=True) for mode in ("bilinear", "bicubic")
    ],
    "means of what meets": lambda x: [
        torch.ones(2, 3, 4).scatter_reduce(1, (x.abs() * 2).long().clamp(0, 2), x, "mean", include_self=own)
        for own in (True, False)
    ],
    "order": lambda x: [
        *x.median(-1),
        x.median(),
        *x.kthvalue(3, 1),
        *torch.sort(x.round(), dim=1, descending=True, stable=True),
        torch.searchsorted(torch.arange(-1.0, 1.0), x.round(), right=True),
        torch.searchsorted(x.sort(-1)[0], x, out_int32=True),
        torch.masked_select(x, SEES[:, :1]),
        torch.isin(x.round(), torch.tensor([0.0, 1.0])),
    ],
}


@pytest.mark.parametrize("name", TRANSLATED)
def test_what_the_exporter_does_not_know_or_gets_wrong(name):
    torch.manual_seed(0)
    module, x = Calls(TRANSLATED[name]), torch.randn(2, 3, 4) if name == "means of what meets" else torch.randn(4, 3, 8)
    near(egraft.torch.compile(module, (x,))(x), module(x))
    fast = torch.compile(module, backend="egraft")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        near(fast(x), module(x))


def test_parts_of_free_sizes():
    module = Calls(lambda x: F.adaptive_avg_pool2d(x, (3, 2)))
    free = torch.export.Dim.DYNAMIC
    fast = egraft.torch.compile(module, (torch.randn(2, 3, 8, 9),), (({0: free, 2: free, 3: free},),))
    for sizes in ((2, 3, 8, 9), (3, 3, 12, 14), (2, 3, 5, 5)):
        x = torch.randn(sizes)
        near(fast(x), module(x))


class Halves(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.batch = torch.nn.Conv1d(4, 8, 3), torch.nn.BatchNorm1d(8)
        self.norm, self.out = torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)

    def forward(self, x):
        x = self.batch(self.conv(x)).transpose(1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            return self.out(self.norm(F.gelu(x)))


def test_weights_that_are_wider_than_what_they_meet():
    module = Halves().eval()
    module.conv.bfloat16(), module.batch.bfloat16()
    x = torch.randn(2, 4, 9).bfloat16()
    fast = torch.compile(module, backend="egraft")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, theirs = fast(x), module(x)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.02)


def test_an_encoder_of_pytorch():
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    module = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x, last = torch.randn(2, 5, 16), torch.arange(5).expand(2, 5) == 4
    fast = torch.compile(module, backend="egraft")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        near(fast(x), module(x))
        near(fast(x, src_key_padding_mask=last), module(x, src_key_padding_mask=last))
        near(egraft.torch.compile(module, (x,))(x), module(x))


class Structures(torch.nn.Module):
    def forward(self, given, *, scale=None, negates=False):
        y = given["x"] if scale is None else given["x"] * scale
        return {"y": -y if negates else y, "parts": [y.sum(), (given["more"][0] + 1,)]}


def test_structures_of_arguments_and_results():
    module, scale = Structures(), torch.tensor(2.0)
    given = {"x": torch.randn(3), "more": [torch.randn(2)]}
    fast = egraft.torch.compile(module, (given,))
    ours, theirs = fast(given), module(given)
    near(ours, theirs)
    assert ours.keys() == theirs.keys() and isinstance(ours["parts"][1], tuple)
    fast = egraft.torch.compile(module, (given,), kwargs={"scale": scale, "negates": True})
    near(fast(given, negates=True, scale=scale), module(given, scale=scale, negates=True))
    with pytest.raises(ValueError, match="compiled for True"):
        fast(given, scale=scale, negates=False)
    with pytest.raises(TypeError, match="keyword arguments"):
        fast(given)
    with pytest.raises(TypeError, match="other arguments"):
        fast(given["x"], scale=scale, negates=True)


class Histogram(torch.nn.Module):
    def __init__(self, *bins):
        super().__init__()
        self.bins = bins

    def forward(self, x):
        return torch.histc(x, *self.bins)


@pytest.mark.parametrize("bins", [(8, 0, 7), (3, 0, 2), (5, -1.0, 2.5), (60, 0, 59)])
def test_histograms(bins):
    torch.manual_seed(0)
    x = torch.cat([torch.arange(-3.0, 70.0), torch.tensor([float("nan"), float("inf")]), 2 * torch.randn(50)])
    module = Histogram(*bins)
    assert torch.equal(egraft.torch.compile(module, (x,))(x), module(x))


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(input_ids=ids).logits


def test_a_mixture_of_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        use_cache=False,
    )
    module = Logits(transformers.Qwen3MoeForCausalLM(config)).eval()
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    fast = egraft.torch.compile(module, (torch.randint(0, 64, (2, 7)),), (free,))
    kinds = collections.Counter(kernel["kind"] for kernel in fast.model.kernels())
    # Each token meets the experts that it chooses, and no other.
    assert (kinds["route"], kinds["grouped_matmul"], kinds["combine"]) == (2, 4, 2), kinds
    ids = torch.randint(0, 64, (3, 5))
    with torch.no_grad():
        near(fast(ids), module(ids))
