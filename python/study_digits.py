"""A small vision transformer with experts on handwritten digits: plain, with momentum, and with an adaptive-clustering router.

Do the papers' changes of a mixture of experts help here? Three models of the same size and training, ten seeds each, on the digits of
scikit-learn (see `train_digits.py` for the data and the split), tested on clean images and under Gaussian noise.

    plain      x' = LN(x + f)                                            the residual form of V-MoE with a norm behind it
    momentum   m' = mu m + f; x' = LN(x - m')                            MomentumSMoE, equations M3 and M14, mu = 0.7, gamma = 1
    ac         plain, but blocks 2 and 3 route (W[label] * y) E^T        ACMoE, equations A3 to A6, empty clusters left out of means

with f = SMoE(y), y = LN(x + MHA(LN(x))). A token is one of 16 patches of 2x2 pixels; 3 blocks, 8 experts, 2 of them for each token.

Writes, below `models/zoo/digits_moe/`:
    plain.onnx, momentum.onnx, ac.onnx           the model of the first seed, experts dense under one-hot weights
    plain-loop.onnx, momentum-loop.onnx, ac-loop.onnx   the same, experts in a loop over tokens that chose them
    results.json                                 accuracy of each seed, in percent
    README.md                                    the table

onnxruntime runs each file on the test set; the script fails unless it agrees with torch.

    python -m venv .venv
    .venv/bin/pip install numpy==2.4.6 scikit-learn==1.9.1 torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
    .venv/bin/python python/study_digits.py

Made with these versions on Python 3.11, one thread, in some minutes. A second run on the same machine writes the same bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import train_digits
from torch import nn

OUT = train_digits.REPOSITORY / "models" / "zoo" / "digits_moe"
KINDS = ("plain", "momentum", "ac")
SEEDS = range(10)
NOISE = (0.0, 0.1, 0.2, 0.3)
WIDTH, HIDDEN, HEADS, BLOCKS, EXPERTS, CHOSEN = 32, 24, 4, 3, 8, 2
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, BALANCE = 40, 64, 2e-3, 1e-2, 1e-2
MU = 0.7


class Experts(nn.Module):
    """FFN_e(x) = W2_e relu(W1_e x + b1_e) + b2_e, for all experts or one."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH) * WIDTH**-0.5)
        self.b1 = nn.Parameter(torch.zeros(EXPERTS, HIDDEN))
        self.w2 = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN) * HIDDEN**-0.5)
        self.b2 = nn.Parameter(torch.zeros(EXPERTS, WIDTH))

    def dense(self, x: torch.Tensor, ids: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        weights = torch.zeros(x.shape[0], EXPERTS, dtype=x.dtype).scatter(1, ids, gates)
        hidden = torch.relu(torch.einsum("nd,ehd->neh", x, self.w1) + self.b1)
        return torch.einsum("ne,ned->nd", weights, torch.einsum("neh,edh->ned", hidden, self.w2) + self.b2)

    def loop(self, x: torch.Tensor, ids: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        y = torch.zeros_like(x)
        for e in range(EXPERTS):
            row, slot = torch.nonzero(ids == e, as_tuple=True)
            hidden = torch.relu(x.index_select(0, row) @ self.w1[e].T + self.b1[e])
            part = (hidden @ self.w2[e].T + self.b2[e]) * gates[row, slot].unsqueeze(-1)
            y = y.index_add(0, row, part)
        return y


def cluster_weights(y: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """A3 to A5: for each token, the weights of its cluster; clusters without tokens count in no mean."""
    member = nn.functional.one_hot(label, EXPERTS).to(y.dtype)
    count = member.sum(0).unsqueeze(1)
    centre = member.T @ y / count.clamp(min=1)
    spread = member.T @ (y - centre[label]).abs() / count.clamp(min=1)
    live = (count > 0).to(y.dtype)
    weights = 1 / (spread + 1e-4)
    mean = (weights * live).sum() / (live.sum() * WIDTH)
    weights = torch.minimum(weights, 10 * mean)
    return (weights / ((weights * live).sum(0) / live.sum()))[label]


class Block(nn.Module):
    def __init__(self, kind: str, number: int) -> None:
        super().__init__()
        self.kind, self.clusters, self.spelling = kind, kind == "ac" and number > 0, "dense"
        self.before, self.middle, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.mixed = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = Experts()

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (t.view(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        weights = torch.softmax(q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5, dim=-1)
        return self.mixed((weights @ v).transpose(1, 2).reshape(batch, tokens, WIDTH))

    def forward(self, x, momentum, label):
        x = x + self.attention(self.before(x))
        flat = self.middle(x).reshape(-1, WIDTH)
        routed = flat
        matrix = self.router.weight
        if self.clusters:
            routed = flat * cluster_weights(flat, label).detach()
            matrix = matrix / matrix.norm(dim=1, keepdim=True).clamp(min=1e-4)
        scores = routed @ matrix.T
        values, ids = torch.topk(scores, CHOSEN, dim=-1)
        gates = torch.softmax(values, dim=-1)
        apply = self.experts.dense if self.spelling == "dense" else self.experts.loop
        f = apply(flat, ids, gates).view_as(x)
        if self.kind == "momentum":
            momentum = f if momentum is None else MU * momentum + f
            x = self.after(x - momentum)
        else:
            x = self.after(x + f)
        return x, momentum, ids[:, 0], (scores, ids)


class DigitsMoE(nn.Module):
    """Logits while training, class probabilities afterwards."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.patches = nn.Linear(4, WIDTH)
        self.position = nn.Parameter(torch.randn(16, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block(kind, number) for number in range(BLOCKS))
        self.classes = nn.Linear(WIDTH, 10)
        self.balance = torch.zeros(())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        batch = image.shape[0]
        x = image.reshape(batch, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(batch, 16, 4)
        x, momentum, label = self.patches(x) + self.position, None, None
        loads = []
        for block in self.blocks:
            x, momentum, label, load = block(x, momentum, label)
            loads.append(load)
        logits = self.classes(x.mean(dim=1))
        if self.training:
            self.balance = sum(balance(*load) for load in loads)
            return logits
        return torch.softmax(logits, dim=1)


def balance(scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """G5: E * sum_e f_e P_e."""
    share = nn.functional.one_hot(ids, EXPERTS).to(scores.dtype).sum(1).mean(0) / CHOSEN
    return EXPERTS * (share * torch.softmax(scores, dim=-1).mean(0)).sum()


def train(kind: str, seed: int, images: torch.Tensor, labels: torch.Tensor) -> DigitsMoE:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = DigitsMoE(kind).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch]) + BALANCE * model.balance
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def accuracy(model: DigitsMoE, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """In percent, for each strength of noise; the noise is the same for all models."""
    generator = torch.Generator().manual_seed(1)
    found = []
    with torch.no_grad():
        for strength in NOISE:
            noisy = (images + strength * torch.randn(images.shape, generator=generator)).clamp(0, 1)
            hits = (model(noisy).argmax(dim=1) == labels).float().mean().item()
            found.append(round(100 * hits, 2))
    return found


def export(model: DigitsMoE, spelling: str, path: Path, images: torch.Tensor) -> None:
    for block in model.blocks:
        block.spelling = spelling
    program = torch.onnx.export(
        model,
        (torch.rand(3, 1, 8, 8),),
        dynamo=True,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1, max=4096)}},
        opset_version=train_digits.OPSET,
        verbose=False,
    )
    proto = program.model_proto
    # Where each node comes from in Python takes more room than the weights.
    for node in proto.graph.node:
        del node.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(exported, model(images).numpy(), rtol=1e-3, atol=1e-5)


def table(results: dict[str, list[list[float]]]) -> str:
    names = ["clean"] + [f"noise {strength}" for strength in NOISE[1:]]
    lines = [f"| model | {' | '.join(names)} |", f"|---{'|---' * len(names)}|"]
    for kind, rows in results.items():
        values = np.array(rows)
        cells = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in zip(values.mean(0), values.std(0, ddof=1))]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    plain = np.array(results["plain"])
    for kind in KINDS[1:]:
        apart = np.array(results[kind]) - plain
        error = apart.std(0, ddof=1) / len(plain) ** 0.5
        cells = [f"{mean:+.2f} ± {one:.2f}" for mean, one in zip(apart.mean(0), error)]
        lines.append(f"| {kind} − plain | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=OUT, help="default: models/zoo/digits_moe")
    out = arguments.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_images, test_images, train_labels, test_labels = train_digits.load_split()
    results: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for seed in SEEDS:
        for kind in KINDS:
            model = train(kind, seed, train_images, train_labels)
            results[kind].append(accuracy(model, test_images, test_labels))
            print(f"{kind}, seed {seed}: {results[kind][-1]}", flush=True)
            if seed == SEEDS[0]:
                export(model, "dense", out / f"{kind}.onnx", test_images)
                export(model, "loop", out / f"{kind}-loop.onnx", test_images)
    count = sum(parameter.numel() for parameter in DigitsMoE("plain").parameters())
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(README.format(table=table(results), count=count, seeds=len(SEEDS)), encoding="utf-8")
    print(table(results))


README = """\
# Experts on handwritten digits

A vision transformer of 3 blocks with 8 experts each ({count} parameters), trained on 1,437 images of 8x8 pixels, with {seeds} seeds for each
model; accuracy on the other 360 in percent, mean and standard deviation over seeds, on clean images and under Gaussian noise of
that standard deviation. Below, the difference to the plain model of the same seed, with its standard error.

{table}

`python python/study_digits.py` repeats it, and says at its top what the models are. `plain.onnx`, `momentum.onnx` and `ac.onnx` are those of the
first seed, with experts under one-hot weights as exporters write them; `…-loop.onnx` the same with a loop over experts. The data are
those of `models/zoo/digits`.
"""


if __name__ == "__main__":
    main()
