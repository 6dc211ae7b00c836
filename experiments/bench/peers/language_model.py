# SPDX-License-Identifier: Apache-2.0
"""klab's language model in plain PyTorch: KDA and NoPE-MLA layers with SwiGLU, as one would write it for a CPU.

Parameters have the names and shapes of klab's checkpoints, so that load() needs no table of names. KDA's chunk form is an
argument: chunk(q, k, v, g, beta, C) -> (o, state), with l2-normalised q and k [B, T, H, K] and log-decays g.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

CHUNK = 32
EPS, LATENT_EPS = 1e-5, 1e-6


def linear(width, out):
    return nn.Linear(width, out, bias=False)


def l2norm(x):
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


class ShortConv(nn.Module):
    def __init__(self, width, taps=4):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, taps))

    def forward(self, x):
        width, taps = self.weight.shape
        y = F.conv1d(F.pad(x.transpose(1, 2), (taps - 1, 0)), self.weight.unsqueeze(1), groups=width)
        return F.silu(y).transpose(1, 2)


class KDA(nn.Module):
    def __init__(self, width, heads, K, chunk):
        super().__init__()
        self.heads, self.K, self.chunk, inner = heads, K, chunk, heads * K
        for name in "qkv":
            setattr(self, f"{name}_proj", linear(width, inner))
            setattr(self, f"{name}_conv", ShortConv(inner))
        for gate in "fg":
            setattr(self, f"{gate}_a_proj", linear(width, K))
            setattr(self, f"{gate}_b_proj", linear(K, inner))
        self.b_proj, self.o_proj = linear(width, heads), linear(inner, width)
        self.A_log, self.dt_bias = nn.Parameter(torch.zeros(heads)), nn.Parameter(torch.zeros(inner))
        self.o_norm = nn.Parameter(torch.ones(K))

    def by_head(self, x):
        return x.unflatten(-1, (self.heads, self.K))

    def forward(self, x):
        q, k, v = (self.by_head(conv(proj(x))) for proj, conv in (
            (self.q_proj, self.q_conv), (self.k_proj, self.k_conv), (self.v_proj, self.v_conv)))
        rate = self.by_head(F.softplus(self.f_b_proj(self.f_a_proj(x)) + self.dt_bias))
        g = -self.A_log.exp()[:, None] * rate
        o, _ = self.chunk(l2norm(q), l2norm(k), v, g, self.b_proj(x).sigmoid(), CHUNK)
        gate = self.by_head(self.g_b_proj(self.g_a_proj(x))).sigmoid()
        return self.o_proj((F.rms_norm(o, (self.K,), self.o_norm, EPS) * gate).flatten(2))


class MLA(nn.Module):
    """Multi-head latent attention without positions."""

    def __init__(self, width, heads, K):
        super().__init__()
        self.heads, self.K, self.shared, self.latent = heads, K, K // 2, 4 * K
        self.q_proj = linear(width, heads * (K + self.shared))
        self.kv_a_proj = linear(width, self.latent + self.shared)
        self.kv_a_norm = nn.RMSNorm(self.latent, eps=LATENT_EPS)
        self.kv_b_proj, self.o_proj = linear(self.latent, heads * 2 * K), linear(heads * K, width)

    def forward(self, x):
        q = self.q_proj(x).unflatten(-1, (self.heads, -1))
        latent, shared = self.kv_a_proj(x).split([self.latent, self.shared], -1)
        k, v = self.kv_b_proj(self.kv_a_norm(latent)).unflatten(-1, (self.heads, -1)).chunk(2, -1)
        k = torch.cat([k, shared.unsqueeze(2).expand(-1, -1, self.heads, -1)], -1)
        v = F.pad(v, (0, self.shared))  # the fused attention needs values as wide as the keys
        o = F.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)), is_causal=True)
        return self.o_proj(o[..., :self.K].transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(width, hidden), linear(width, hidden), linear(hidden, width)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, width, mixer):
        super().__init__()
        self.mixer_norm, self.mlp_norm = nn.RMSNorm(width, eps=EPS), nn.RMSNorm(width, eps=EPS)
        self.mixer, self.mlp = mixer, SwiGLU(width, (8 * width // 3 + 7) // 8 * 8)

    def forward(self, x):
        x = x + self.mixer(self.mixer_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class LanguageModel(nn.Module):
    """`mixers` has "kda" or "mla" for every layer."""

    def __init__(self, mixers, width, heads, K, vocabulary, chunk):
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(vocabulary, width))
        self.layers = len(mixers)
        for i, name in enumerate(mixers):
            mixer = KDA(width, heads, K, chunk) if name == "kda" else MLA(width, heads, K)
            setattr(self, f"layer{i}", Layer(width, mixer))
        self.norm, self.lm_head = nn.RMSNorm(width, eps=EPS), linear(width, vocabulary)

    def forward(self, tokens):
        x = F.embedding(tokens, self.embedding)
        for i in range(self.layers):
            x = getattr(self, f"layer{i}")(x)
        return self.lm_head(self.norm(x))

    def load(self, checkpoint):
        """The parameters of a run's checkpoint/last.safetensors."""
        tensors = load_file(checkpoint)
        self.load_state_dict({name[6:]: x for name, x in tensors.items() if name.startswith("model.")})
        return self
