# SPDX-License-Identifier: Apache-2.0
"""The implementations that peers.py compares: klab's operators and the alternatives on a CPU."""

import importlib.util
import pathlib
import sys

import torch
import torch.nn.functional as F

import klab

HEADS, WIDTH = 16, 128
CHUNK = 16  # the chunk that the operation count below assumes


def flops(T, heads=HEADS, K=WIDTH, C=CHUNK):
    """FLOPs of a forward pass: equation 13 of arXiv 2510.26692 for every head."""
    return heads * (6 * T * K * K + 3 * T * C * K + T * C * C)


def inputs(T, heads=HEADS, K=WIDTH):
    """Inputs with mild gates: the plain PyTorch chunk form overflows for strong ones."""
    torch.manual_seed(0)
    q, k = (F.normalize(torch.randn(1, T, heads, K), dim=-1) for _ in range(2))
    return {"q": q, "k": k, "v": torch.randn(1, T, heads, K), "g": -0.1 * torch.rand(1, T, heads, K),
            "beta": torch.rand(1, T, heads)}


def dplr_inputs(named):
    """KDA as DPLR: a = e^g k on the undecayed state, b = -beta k, and the key beta k."""
    written = named["beta"].unsqueeze(-1) * named["k"]
    return {"q": named["q"], "k": written, "v": named["v"], "a": named["g"].exp() * named["k"], "b": -written,
            "gk": named["g"]}


def gdn_inputs(named):
    return {**named, "g": named["g"][..., 0].contiguous()}


def bfloat16_inputs(named):
    return {name: x.bfloat16() if name in ("q", "k", "v") else x for name, x in named.items()}


def forward(function, named):
    """function(**named) -> (o, ...), without gradients."""
    def call():
        with torch.no_grad():
            return function(**named)[0]
    return call


def forward_backward(function, named):
    """The forward pass and the gradients of all inputs for the loss sum(o w)."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in named.items()}
    weight = torch.randn_like(named["v"])

    def call():
        return torch.autograd.grad((function(**leaves)[0] * weight).sum(), list(leaves.values()))
    return call


def module_at(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def naive_kda():
    """fla-core's naive implementations, loaded without importing its package, which needs a GPU."""
    package = pathlib.Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    return module_at(package / "ops" / "kda" / "naive.py", "fla_naive_kda")


def modeling():
    """transformers' Kimi Linear with its own PyTorch functions: with fla installed it would use GPU kernels."""
    sys.modules["fla"] = None
    try:
        from transformers.models.kimi_linear import modeling_kimi_linear
        return modeling_kimi_linear
    finally:
        del sys.modules["fla"]


def tiny_model(modeling):
    """Four layers, three of KDA with four heads of 128."""
    config = modeling.KimiLinearConfig(
        vocab_size=1024, hidden_size=256, intermediate_size=688, moe_intermediate_size=128, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=128, qk_rope_head_dim=32, v_head_dim=64,
        qk_nope_head_dim=64, num_local_experts=8, num_experts_per_tok=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        linear_head_dim=128, linear_num_heads=4,
        layer_types=["linear_attention"] * 3 + ["full_attention"])
    torch.manual_seed(0)
    return modeling.KimiLinearForCausalLM(config).eval()


class TrainingStep:
    """Training steps of the peers' two-layer model; `operators`: with klab's operators in its KDA layers."""

    def __init__(self, peer, width, heads, head_dim, length, batch, vocabulary, operators):
        torch.manual_seed(0)
        plain, peer.KDA = peer.KDA, _layer_on_klab(peer.KDA) if operators else peer.KDA
        blocks = [peer.Block(width, heads, head_dim) for _ in range(2)]
        peer.KDA = plain
        self.model = torch.nn.Sequential(torch.nn.Embedding(vocabulary, width), *blocks, torch.nn.RMSNorm(width),
                                         torch.nn.Linear(width, vocabulary, bias=False))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-3, foreach=True)
        self.tokens = torch.randint(0, vocabulary, (batch, length))

    def loss(self):
        return F.cross_entropy(self.model(self.tokens).flatten(0, 1), self.tokens.roll(1, 1).flatten())

    def __call__(self):
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def _layer_on_klab(plain):
    class KDA(plain):
        def forward(self, x):
            B, T, _ = x.shape
            heads = (B, T, self.H, self.K)
            q, k, v = (klab.causal_conv1d(linear(x), conv.weight.squeeze(1), conv.bias, "silu")[0].view(heads)
                       for linear, conv in zip((self.q, self.k, self.v), self.conv))
            o, _ = klab.chunk_kda(q, k, v, self.fb(self.fa(x)).view(heads), self.b(x), use_qk_l2norm_in_kernel=True,
                                  use_gate_in_kernel=True, use_beta_sigmoid_in_kernel=True, A_log=self.A_log,
                                  dt_bias=self.dt)
            gate = self.gb(self.ga(x)).view(heads)
            o = torch.ops.klab.gated_rms_norm(o, self.norm, gate, "sigmoid", 1e-5)
            return self.o(o.reshape(B, T, -1))
    return KDA
