"""The backend of torch.compile, where PyTorch and onnxscript are: results, new sizes, new weights, and what is left alone."""

import collections
import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import egraft.torch


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

    def changes(x):
        x.add_(1)
        return x * 2

    def hands_out(x):
        return x[1:], x + 1

    with torch.no_grad():
        for function, why in ((changes, "changes its inputs"), (hands_out, "a view of one")):
            fast = torch.compile(function, backend="egraft")
            ours, theirs = torch.ones(3), torch.ones(3)
            with pytest.warns(UserWarning, match=why):
                results = fast(ours)
            torch.testing.assert_close(results, function(theirs))
            torch.testing.assert_close(ours, theirs)


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
