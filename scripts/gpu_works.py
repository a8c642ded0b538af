"""What `scripts/gpu_check` measures: models of egraft, the same work in PyTorch, and what is to be reached on an H200.

A rival is a function that makes its tensors and gives what is timed. What PyTorch lacks, or refuses, raises, and is told.
"""

import dataclasses
import math
import typing

# What a goal is a share of.
COPIES, PYTORCH = "the rate of copies", "PyTorch's rate"


@dataclasses.dataclass(frozen=True)
class Work:
    name: str
    dtype: str
    # A built-in model, a file, or text of a graph.
    model: str
    # More words for egraft: settings and sizes.
    words: tuple = ()
    # What it is called, and a function of `Torch` that gives what is timed.
    rivals: dict[str, typing.Callable] = dataclasses.field(default_factory=dict)
    # A share, and of what.
    goal: tuple[float, str] | None = None
    # Whether PyTorch's rate at this is taken for the rate of products of the type.
    is_library: bool = False


class Torch:
    """PyTorch on a device, with what rivals need of it."""

    def __init__(self, torch, device, compiles):
        self.torch, self.device, self.compiles = torch, device, compiles
        self.F = torch.nn.functional

    def tensor(self, *shape, dtype="f32"):
        names = {"f32": self.torch.float32, "bf16": self.torch.bfloat16, "f16": self.torch.float16}
        return self.torch.rand(*shape, device=self.device, dtype=self.torch.float32).sub(0.5).to(names[dtype])

    def round_products(self, rounds):
        """Whether products of 32-bit floats may round their operands to TF32."""
        self.torch.backends.cuda.matmul.allow_tf32 = rounds

    def compiled(self, function):
        if not self.compiles:
            raise RuntimeError("nothing is compiled in a small run")
        return self.torch.compile(function, dynamic=False)

    def heads(self, x, heads):
        batch, tokens, width = x.shape
        return x.view(batch, tokens, heads, width // heads).transpose(1, 2)

    def joined(self, x):
        batch, heads, tokens, width = x.shape
        return x.transpose(1, 2).reshape(batch, tokens, heads * width)


def both(make):
    """A rival by itself, and compiled by inductor; `make` gives a function and its tensors."""

    def eager(pt):
        function, tensors = make(pt)
        return lambda: function(*tensors)

    def compiled(pt):
        function, tensors = make(pt)
        fast = pt.compiled(function)
        return lambda: fast(*tensors)

    return {"eager": eager, "torch.compile": compiled}


def elementwise(count):
    text = (
        f"graph @m(%x: f32[{count}]) -> f32[{count}] {{\n  %0 = exp %x : f32[{count}]\n"
        f"  %1 = add %x, %0 : f32[{count}]\n  return %1\n}}\n"
    )
    rivals = both(lambda pt: (lambda x: x + pt.torch.exp(x), [pt.tensor(count)]))
    return Work(f"x + exp(x) of {count} numbers", "f32", text, rivals=rivals, goal=(0.85, COPIES))


def softmax(rows, columns):
    ty = f"f32[{rows}, {columns}]"
    text = f"graph @m(%x: {ty}) -> {ty} {{\n  %0 = softmax %x {{axis=1}} : {ty}\n  return %0\n}}\n"
    rivals = both(lambda pt: (lambda x: pt.torch.softmax(x, 1), [pt.tensor(rows, columns)]))
    return Work(f"softmax of {rows} rows of {columns}", "f32", text, rivals=rivals, goal=(0.85, COPIES))


def layer_norm(rows, columns):
    ty, row = f"f32[{rows}, {columns}]", f"f32[{columns}]"
    text = (
        f"graph @m(%x: {ty}, %scale: {row}, %bias: {row}) -> {ty} {{\n"
        f"  %0 = layer_norm %x {{axes=[1], epsilon=1e-5}} : {ty}\n"
        f"  %1 = mul %0, %scale : {ty}\n  %2 = add %1, %bias : {ty}\n  return %2\n}}\n"
    )

    def make(pt):
        tensors = [pt.tensor(rows, columns), pt.tensor(columns), pt.tensor(columns)]
        return lambda x, scale, bias: pt.F.layer_norm(x, (columns,), scale, bias), tensors

    return Work(f"layer norm of {rows} rows of {columns}", "f32", text, rivals=both(make), goal=(0.85, COPIES))


def product(dtype, rows, inner, columns, goal=None, is_library=False):
    element = "f32" if dtype == "tf32" else dtype
    left, right, result = (f"{element}[{a}, {b}]" for a, b in [(rows, inner), (inner, columns), (rows, columns)])
    text = f"graph @m(%a: {left}, %b: {right}) -> {result} {{\n  %0 = matmul %a, %b : {result}\n  return %0\n}}\n"

    def library(pt):
        a, b = pt.tensor(rows, inner, dtype=element), pt.tensor(inner, columns, dtype=element)
        return lambda: a @ b

    words = ("--fp", "fast") if dtype == "tf32" else ()
    goal = goal and (goal, PYTORCH)
    name = f"product, {rows} × {inner} × {columns}"
    return Work(name, dtype, text, words, {"matmul": library}, goal, is_library)


def attention(dtype, batch, heads, tokens, causal):
    """Textbook attention; of 16-bit floats, whose sums are f32 as in PyTorch."""
    name = f"attention{', causal' if causal else ''}, {batch} × {heads} heads, {tokens} tokens"
    shape = f"[{batch}, {heads}, {tokens}, 64]"
    if dtype == "f32":
        settings = ("form=core", f"heads={heads}", "head_width=64", f"causal={str(causal).lower()}")
        model, words = "zoo:transformer", with_settings(settings, B=batch, N=tokens)
    else:
        ports = ", ".join(f"%{name}: {dtype}{shape}" for name in "qkv")
        casts = "".join(f"  %{i} = cast %{name} {{to=f32}} : f32{shape}\n" for i, name in enumerate("qkv"))
        model, words = (
            f"graph @m({ports}) -> {dtype}{shape} {{\n{casts}"
            f"  %3 = attention %0, %1, %2 {{score=(%s: f32) -> %s * 0.125}} : f32{shape}\n"
            f"  %4 = cast %3 {{to={dtype}}} : {dtype}{shape}\n  return %4\n}}\n"
        ), ()

    def sdpa(pt):
        q, k, v = (pt.tensor(batch, heads, tokens, 64, dtype=dtype) for _ in range(3))
        return lambda: pt.F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return Work(name, dtype, model, words, {"SDPA": sdpa}, (0.70, PYTORCH))


def with_settings(settings, **dims):
    sizes = [word for name, size in dims.items() for word in ("--dim", f"{name}={size}")]
    return tuple(word for setting in settings for word in ("--set", setting)) + tuple(sizes)


def elliptical(batch, heads, tokens):
    def make(pt):
        def function(q, k, v, before):
            moved = (v - before).abs().mean(-2, keepdim=True)
            scaled = q * (moved / moved.amax(-1, keepdim=True))
            return pt.F.scaled_dot_product_attention(scaled, k, v)

        return function, [pt.tensor(batch, heads, tokens, 64) for _ in range(4)]

    words = with_settings(("form=core", f"heads={heads}", "head_width=64"), B=batch, N=tokens)
    name = f"elliptical attention, {batch} × {heads} heads, {tokens} tokens"
    return Work(name, "f32", "zoo:elliptical", words, both(make), (1.0, PYTORCH))


def rpc(batch, heads, tokens, rounds=4):
    def make(pt):
        def shrink(x, by):
            return x.sign() * (x.abs() - by).relu()

        def function(k, v):
            mu = k.abs().sum((-2, -1), keepdim=True) / 4
            low, multiplier = k, pt.torch.zeros_like(k)
            noise = shrink(k, 4 * mu)
            for _ in range(rounds):
                clean = k - noise - multiplier / mu
                low = pt.F.scaled_dot_product_attention(clean, clean, v)
                multiplier = multiplier + mu * (k - low - noise)
                noise = shrink(k - low + multiplier / mu, 4 * mu)
            return low

        return function, [pt.tensor(batch, heads, tokens, 64) for _ in range(2)]

    words = with_settings(("form=core", f"dim={64 * heads}", f"heads={heads}", f"rounds={rounds}"), B=batch, N=tokens)
    name = f"RPC attention, {rounds} rounds, {batch} × {heads} heads, {tokens} tokens"
    return Work(name, "f32", "zoo:rpc-attention", words, both(make), (1.0, PYTORCH))


def kerple(batch, heads, tokens):
    width = 64 * heads

    def weights(pt):
        shapes = [(batch, tokens, width), (3 * width, width), (3 * width,), (width, width), (width,)]
        return [pt.tensor(*shape) for shape in shapes] + [pt.tensor(heads).abs() + 0.1 for _ in range(2)]

    def layer(pt, attend):
        def function(x, qkv, qkv_bias, proj, proj_bias, a, p):
            q, k, v = (pt.heads(part, heads) for part in pt.F.linear(x, qkv, qkv_bias).chunk(3, -1))
            return pt.F.linear(pt.joined(attend(q, k, v, a, p)), proj, proj_bias)

        return function

    def make(pt):
        def attend(q, k, v, a, p):
            place = pt.torch.arange(tokens, device=q.device)
            distance = (place[:, None] - place[None, :]).clamp(min=0)
            bias = -a[:, None, None] * pt.torch.log(1 + p[:, None, None] * distance)
            bias = bias.masked_fill(place[:, None] < place[None, :], -math.inf)
            return pt.F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])

        return layer(pt, attend), weights(pt)

    def flex(pt):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        attend_fast = pt.compiled(flex_attention)
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, tokens, tokens, device=pt.device)

        def attend(q, k, v, a, p):
            def score(s, b, h, i, j):
                return s - a[h] * pt.torch.log(1 + p[h] * (i - j).clamp(min=0))

            return attend_fast(q, k, v, score_mod=score, block_mask=mask)

        function, tensors = layer(pt, attend), weights(pt)
        return lambda: function(*tensors)

    words = with_settings((f"dim={width}", f"heads={heads}"), B=batch, N=tokens)
    name = f"KERPLE layer, {batch} × {heads} heads, {tokens} tokens"
    return Work(name, "f32", "zoo:kerple", words, {**both(make), "FlexAttention": flex}, (1.0, PYTORCH))


def mgk(batch, heads, tokens):
    width, scale, prior = 64 * heads, 1 / 16, math.log(0.5)

    def weights(pt):
        shapes = [(batch, tokens, width), (4 * width, width), (4 * width,), (width, width), (width,)]
        return [pt.tensor(*shape) for shape in shapes]

    def layer(pt, attend):
        def function(x, qkv, qkv_bias, proj, proj_bias):
            q, k, other, v = (pt.heads(part, heads) for part in pt.F.linear(x, qkv, qkv_bias).chunk(4, -1))
            keys, values = pt.torch.cat([k, other], -2), pt.torch.cat([v, v], -2)
            return pt.F.linear(pt.joined(attend(q, keys, values)), proj, proj_bias)

        return function

    def make(pt):
        def attend(q, keys, values):
            squares = q.square().sum(-1, keepdim=True) + keys.square().sum(-1).unsqueeze(-2)
            scores = (squares - 2 * q @ keys.transpose(-2, -1)) * -scale + prior
            return pt.torch.softmax(scores, -1) @ values

        return layer(pt, attend), weights(pt)

    def flex(pt):
        from torch.nn.attention.flex_attention import flex_attention

        attend_fast = pt.compiled(flex_attention)

        def attend(q, keys, values):
            of_q, of_keys = q.square().sum(-1), keys.square().sum(-1)

            def score(s, b, h, i, j):
                return (of_q[b, h, i] - 2 * s + of_keys[b, h, j]) * -scale + prior

            return attend_fast(q, keys, values, score_mod=score, scale=1.0)

        function, tensors = layer(pt, attend), weights(pt)
        return lambda: function(*tensors)

    words = with_settings((f"dim={width}", f"heads={heads}"), B=batch, N=tokens)
    name = f"layer of a mixture of keys (MGK), {batch} × {heads} heads, {tokens} tokens"
    return Work(name, "f32", "zoo:transformer-mgk", words, {**both(make), "FlexAttention": flex}, (1.0, PYTORCH))


def experts(dtype, tokens, experts=64, chosen=6, width=2048, hidden=1408):
    """A layer of experts: router, two products with ReLU between them, the weighted sum."""
    x, y, gate, up, down = (
        f"[{', '.join(map(str, shape))}]"
        for shape in [
            (tokens, width),
            (tokens, chosen, width),
            (width, experts),
            (experts, width, hidden),
            (experts, hidden, width),
        ]
    )
    pairs, inner = f"[{tokens}, {chosen}]", f"[{tokens}, {chosen}, {hidden}]"
    text = (
        "weights @zero : f32[] = splat 0.0\n"
        f"graph @m(%x: {dtype}{x}, %gate: {dtype}{gate}, %up: {dtype}{up}, %down: {dtype}{down}) -> {dtype}{x} {{\n"
        f"  %0 = cast %x {{to=f32}} : f32{x}\n"
        f"  %1 = cast %gate {{to=f32}} : f32{gate}\n"
        f"  %2 = cast %up {{to=f32}} : f32{up}\n"
        f"  %3 = cast %down {{to=f32}} : f32{down}\n"
        f"  %4 = matmul %0, %1 : f32[{tokens}, {experts}]\n"
        f"  %5, %6 = route %4 {{k={chosen}}} : f32{pairs}, i64{pairs}\n"
        f"  %7 = softmax %5 {{axis=1}} : f32{pairs}\n"
        f"  %8 = reshape %0 {{shape=[{tokens}, 1, {width}]}} : f32[{tokens}, 1, {width}]\n"
        f"  %9 = grouped_matmul %8, %2, %6 : f32{inner}\n"
        f"  %10 = max %9, @zero : f32{inner}\n"
        f"  %11 = cast %10 {{to={dtype}}} : {dtype}{inner}\n"
        f"  %12 = cast %11 {{to=f32}} : f32{inner}\n"
        f"  %13 = grouped_matmul %12, %3, %6 : f32{y}\n"
        f"  %14 = combine %13, %7 : f32{x}\n"
        f"  %15 = cast %14 {{to={dtype}}} : {dtype}{x}\n"
        "  return %15\n}\n"
    )

    def tensors(pt):
        shapes = [(tokens, width), (width, experts), (experts, width, hidden), (experts, hidden, width)]
        return [pt.tensor(*shape, dtype=dtype) for shape in shapes]

    def routed(pt, x, gate):
        """Gates, and token and expert of each pair in the order of experts, with the ends of their runs."""
        scores, ids = (x @ gate).float().topk(chosen, -1)
        ids, order = ids.flatten().sort(stable=True)
        ends = pt.torch.bincount(ids, minlength=experts).cumsum(0)
        return pt.torch.softmax(scores, -1).flatten()[order], order // chosen, ends

    def gathered(pt, x, gates, of, y):
        sums = pt.torch.zeros(tokens, width, device=x.device, dtype=pt.torch.float32)
        return sums.index_add_(0, of, y.float() * gates[:, None]).to(x.dtype)

    def loop(pt):
        x, gate, up, down = tensors(pt)

        def function():
            gates, of, ends = routed(pt, x, gate)
            rows, ends = x[of], [0, *ends.tolist()]
            pieces = [
                (rows[a:b] @ up[e]).relu() @ down[e] for e, (a, b) in enumerate(zip(ends, ends[1:])) if a < b
            ]
            return gathered(pt, x, gates, of, pt.torch.cat(pieces))

        return function

    def batched(pt):
        if tokens * chosen > 2 * experts:
            raise RuntimeError("the weights of all pairs do not fit memory")
        x, gate, up, down = tensors(pt)

        def function():
            scores, ids = (x @ gate).float().topk(chosen, -1)
            rows = x.repeat_interleave(chosen, 0)[:, None]
            ids = ids.flatten()
            y = pt.torch.bmm(pt.torch.bmm(rows, up[ids]).relu(), down[ids]).view(tokens, chosen, width)
            return (y.float() * pt.torch.softmax(scores, -1)[..., None]).sum(1).to(x.dtype)

        return function

    def grouped(pt):
        multiply = getattr(pt.F, "grouped_mm", None) or pt.torch._grouped_mm
        x, gate, up, down = tensors(pt)

        def function():
            gates, of, ends = routed(pt, x, gate)
            ends = ends.to(pt.torch.int32)
            y = multiply(multiply(x[of], up, offs=ends).relu(), down, offs=ends)
            return gathered(pt, x, gates, of, y)

        return function

    rivals = {"loop over experts": loop, "bmm": batched, "grouped_mm": grouped}
    name = f"{experts} experts, {chosen} chosen, {width} × {hidden}, {tokens} token{'s' if tokens > 1 else ''}"
    return Work(name, dtype, text, rivals=rivals, goal=(1.0, PYTORCH))


def works(small):
    """Everything that is measured; in small sizes only to see that it runs."""
    if small:
        return [
            elementwise(1000),
            softmax(8, 100),
            layer_norm(8, 96),
            *(product(dtype, 40, 48, 32, 0.70, True) for dtype in ("f32", "tf32", "bf16", "f16")),
            *(attention(dtype, 1, 2, 24, causal) for dtype, causal in [("f32", True), ("bf16", False)]),
            elliptical(1, 2, 12),
            rpc(1, 2, 12, 1),
            kerple(1, 2, 12),
            mgk(1, 2, 12),
            *(experts(dtype, tokens, 8, 2, 32, 16) for dtype, tokens in [("f32", 1), ("bf16", 5)]),
        ]
    zoo = [(8192, 768, 2304), (8192, 768, 3072), (8192, 3072, 768), (12608, 192, 768)]
    return [
        elementwise(1 << 26),
        softmax(16384, 2048),
        softmax(256, 131072),
        layer_norm(16384, 2048),
        product("f32", 8192, 8192, 8192, None, True),
        product("tf32", 8192, 8192, 8192, None, True),
        *(product(dtype, 8192, 8192, 8192, 0.70, True) for dtype in ("bf16", "f16")),
        *(product(dtype, *shape, 0.85) for dtype in ("bf16", "f16") for shape in zoo),
        *(attention(dtype, 4, 16, 4096, causal) for dtype in ("f32", "bf16") for causal in (False, True)),
        elliptical(4, 12, 2048),
        rpc(4, 12, 2048),
        kerple(4, 12, 2048),
        mgk(4, 12, 2048),
        *(experts(dtype, tokens) for dtype in ("f32", "bf16") for tokens in (1, 128, 4096)),
    ]
