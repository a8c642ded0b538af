"""A small mixture of experts as transformers exports and runs it: tokens chosen greedily, keys and values kept between steps."""

import json

import torch
from transformers import DynamicCache, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.exporters import OnnxConfig, OnnxExporter

CONFIG = Qwen3MoeConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    num_experts=8,
    num_experts_per_tok=2,
    moe_intermediate_size=24,
    max_position_embeddings=128,
)


def main():
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(CONFIG).eval()
    ids = torch.randint(0, CONFIG.vocab_size, (1, 7))
    sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    runners = OnnxExporter().export_for_generation(model, sample, OnnxConfig(dynamic=True)).runners
    places = torch.arange(ids.shape[1])[None]
    said = runners["prefill"](input_ids=ids, position_ids=places, cache=DynamicCache(config=CONFIG))
    tokens = []
    for step in range(12):
        token = said.logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(token.item())
        place = torch.tensor([[ids.shape[1] + step]])
        said = runners["decode"](input_ids=token, position_ids=place, cache=said.cache)
    print(json.dumps([tokens, [round(value, 3) for value in said.logits.flatten().tolist()]]))


main()
