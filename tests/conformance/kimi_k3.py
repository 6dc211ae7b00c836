# SPDX-License-Identifier: Apache-2.0
"""A small Kimi K3 text model in PyTorch: attention layers and norms of transformers' Kimi Linear, and what transformers does
not have, written here from the model's equations: attention residuals, latent experts, SiTU, the output gates, the bounded
decay. Tensors have the published names. kimi.py runs the klab program on its checkpoints."""

import json
import math

import torch
import torch.nn as nn
from safetensors.torch import load_file, save_file

import kimi

# All widths are different, so that confusing two of them fails a test. Layers are counted from 1.
PLAIN = dict(vocab_size=101, hidden_size=36, intermediate_size=52, num_hidden_layers=5, rms_norm_eps=1e-5,
             num_attention_heads=3, q_lora_rank=22, kv_lora_rank=26, qk_nope_head_dim=14, qk_rope_head_dim=6,
             v_head_dim=18, mla_use_nope=True, mla_use_output_gate=True, moe_intermediate_size=16, num_experts=6,
             num_experts_per_token=2, num_shared_experts=2, first_k_dense_replace=1, moe_renormalize=True,
             routed_scaling_factor=1.3, routed_expert_hidden_size=20, latent_moe_use_norm=True, hidden_act="situ",
             activation_situ_beta=4.0, activation_situ_linear_beta=25.0, attn_res_block_size=2, bos_token_id=1,
             eos_token_id=2, pad_token_id=0, num_expert_group=1, topk_group=1, tie_word_embeddings=False)
LINEAR = dict(head_dim=12, num_heads=4, short_conv_kernel_size=4, use_full_rank_gate=True, gate_lower_bound=-5.0,
              kda_layers=[1, 2, 3, 5], full_attn_layers=[4])

# (changes to PLAIN, changes to LINEAR) by name.
SHAPES = {
    "plain": ({}, {}),
    "one_block": (dict(attn_res_block_size=12), {}),
    "block_of_one": (dict(attn_res_block_size=1, activation_situ_beta=1.5, activation_situ_linear_beta=2.0), {}),
    "no_residuals": (dict(attn_res_block_size=None, latent_moe_use_norm=False), {}),
    "no_latent": (dict(routed_expert_hidden_size=None, latent_moe_use_norm=False, num_shared_experts=1), {}),
    "groups": (dict(num_experts=12, num_expert_group=3, topk_group=2, moe_renormalize=False), {}),
    "swiglu": (dict(hidden_act="silu", num_experts_per_token=6), {}),
    "dense": (dict(first_k_dense_replace=5), dict(short_conv_kernel_size=3)),
    "softplus": (dict(q_lora_rank=None), dict(gate_lower_bound=None)),
    "low_rank": ({}, dict(use_full_rank_gate=False, num_heads=14)),
    "ungated": (dict(mla_use_output_gate=False), dict(kda_layers=[2, 4], full_attn_layers=[1, 3, 5])),
}


def fields_of(shape="plain", **more):
    """The fields of a config.json."""
    changes, linear = SHAPES[shape]
    return {"architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "dtype": "float32", **PLAIN,
            **changes, **more, "linear_attn_config": {**LINEAR, **linear}}


def activated(fields, gate, up):
    if fields["hidden_act"] == "silu":
        return nn.functional.silu(gate) * up
    beta, linear_beta = fields["activation_situ_beta"], fields["activation_situ_linear_beta"]
    bounded = linear_beta * torch.tanh(up / linear_beta)
    return beta * torch.tanh(gate / beta) * torch.sigmoid(gate) * bounded


def linear(width_in, width_out):
    return nn.Linear(width_in, width_out, bias=False)


class Mlp(nn.Module):
    def __init__(self, fields, width, hidden, names=("gate_proj", "up_proj", "down_proj")):
        super().__init__()
        self.fields, self.names = fields, names
        for name, shape in zip(names, ((width, hidden), (width, hidden), (hidden, width))):
            setattr(self, name, linear(*shape))

    def forward(self, x):
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(activated(self.fields, gate(x), up(x)))


class Experts(nn.Module):
    """Shared experts on x; routed ones on a projection of x, if there is a latent width."""

    def __init__(self, fields, norm):
        super().__init__()
        self.fields = fields
        width, hidden, latent = (fields[name] for name in ("hidden_size", "moe_intermediate_size",
                                                           "routed_expert_hidden_size"))
        self.gate = linear(width, fields["num_experts"])
        self.gate.e_score_correction_bias = nn.Parameter(torch.zeros(fields["num_experts"]))
        self.experts = nn.ModuleList(Mlp(fields, latent or width, hidden, ("w1", "w3", "w2"))
                                     for _ in range(fields["num_experts"]))
        self.shared_experts = Mlp(fields, width, hidden * fields["num_shared_experts"])
        if latent:
            self.routed_expert_down_proj, self.routed_expert_up_proj = linear(width, latent), linear(latent, width)
            if fields["latent_moe_use_norm"]:
                self.routed_expert_norm = norm(latent, fields["rms_norm_eps"])

    def weights(self, x):
        """The weight of every expert for every token, [n, experts]; 0 for those that are not chosen."""
        f, scores = self.fields, torch.sigmoid(self.gate(x))
        choice = (scores + self.gate.e_score_correction_bias).unflatten(-1, (f["num_expert_group"], -1))
        groups = choice.topk(min(2, choice.shape[-1]), -1).values.sum(-1).topk(f["topk_group"], -1).indices
        open_groups = torch.zeros(choice.shape[:-1], dtype=torch.bool).scatter(-1, groups, True)
        choice = choice.masked_fill(~open_groups[..., None], -math.inf).flatten(-2)
        chosen = torch.zeros_like(scores).scatter(-1, choice.topk(f["num_experts_per_token"], -1).indices, 1.0)
        weights = scores * chosen
        if f["moe_renormalize"]:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights * f["routed_scaling_factor"]

    def forward(self, x):
        weights, latent = self.weights(x), self.fields["routed_expert_hidden_size"]
        rows = self.routed_expert_down_proj(x) if latent else x
        y = sum(weights[..., i, None] * expert(rows) for i, expert in enumerate(self.experts))
        if latent:
            y = self.routed_expert_up_proj(self.routed_expert_norm(y) if self.fields["latent_moe_use_norm"] else y)
        return y + self.shared_experts(x)


class BoundedGate(nn.Module):
    """The log decay lower_bound * sigmoid(exp(A_log) (W x + dt_bias)), from transformers' gate with its parameters."""

    def __init__(self, gate, lower_bound):
        super().__init__()
        for name, part in (*gate.named_children(), *gate.named_parameters(recurse=False)):
            setattr(self, name, part)
        self.head_dim, self.lower_bound = gate.head_dim, lower_bound

    def forward(self, x):
        raw = (self.f_b_proj(self.f_a_proj(x)) + self.dt_bias).unflatten(-1, (-1, self.head_dim))
        return self.lower_bound * torch.sigmoid(torch.exp(self.A_log) * raw)


class GatedOutput(nn.Module):
    """The output projection of latent attention, with a gate from the layer's input `x`."""

    def __init__(self, fields, o_proj):
        super().__init__()
        self.o_proj, self.g_proj = o_proj, linear(fields["hidden_size"], o_proj.in_features)

    def forward(self, y):
        return self.o_proj(y * torch.sigmoid(self.g_proj(self.x)))


class AttentionResidual(nn.Module):
    """A softmax over sources by a projection of their norms."""

    def __init__(self, fields, norm):
        super().__init__()
        self.norm, self.proj = norm(fields["hidden_size"], fields["rms_norm_eps"]), linear(fields["hidden_size"], 1)

    def forward(self, sources):
        stacked = torch.stack(sources)
        return (self.proj(self.norm(stacked)).softmax(0) * stacked).sum(0)


class Layer(nn.Module):
    def __init__(self, fields, modeling, config, index):
        super().__init__()
        norm, of_linear = modeling.KimiLinearRMSNorm, fields["linear_attn_config"]
        self.fields, self.index, self.is_kda = fields, index, index + 1 in of_linear["kda_layers"]
        self.input_layernorm = norm(fields["hidden_size"], fields["rms_norm_eps"])
        self.post_attention_layernorm = norm(fields["hidden_size"], fields["rms_norm_eps"])
        if self.is_kda:
            self.self_attn = modeling.KimiLinearDeltaAttention(config, index)
            if of_linear["gate_lower_bound"] is not None:
                self.self_attn.forget_gate = BoundedGate(self.self_attn.forget_gate, of_linear["gate_lower_bound"])
            if of_linear["use_full_rank_gate"]:
                self.self_attn.g_a_proj = nn.Identity()
                self.self_attn.g_b_proj = linear(fields["hidden_size"], self.self_attn.qkv_dim)
        else:
            self.self_attn = modeling.KimiLinearAttention(config, index)
            if fields["mla_use_output_gate"]:
                self.self_attn.o_proj = GatedOutput(fields, self.self_attn.o_proj)
        if index < fields["first_k_dense_replace"]:
            self.mlp = Mlp(fields, fields["hidden_size"], fields["intermediate_size"])
        else:
            self.block_sparse_moe = Experts(fields, norm)
        if fields["attn_res_block_size"]:
            self.self_attention_res = AttentionResidual(fields, norm)  # unused in the first layer
            self.mlp_res = AttentionResidual(fields, norm)

    def mixed(self, x):
        if self.is_kda:
            return self.self_attn(x)
        if self.fields["mla_use_output_gate"]:
            self.self_attn.o_proj.x = x
        mask = torch.full((x.shape[1],) * 2, -math.inf).triu(1)[None, None]
        return self.self_attn(x, mask)[0]

    def forward(self, x, blocks):
        """The running sum and the finished blocks after this layer."""
        feed_forward = self.mlp if hasattr(self, "mlp") else self.block_sparse_moe
        size = self.fields["attn_res_block_size"]
        if not size:
            x = x + self.mixed(self.input_layernorm(x))
            return x + feed_forward(self.post_attention_layernorm(x)), blocks
        read = self.self_attention_res([*blocks, x]) if blocks else x
        ends = self.index % size == 0
        if ends:
            blocks = [*blocks, x]
        y = self.mixed(self.input_layernorm(read))
        x = y if ends else x + y
        return x + feed_forward(self.post_attention_layernorm(self.mlp_res([*blocks, x]))), blocks


class KimiK3(nn.Module):
    def __init__(self, modeling, fields):
        super().__init__()
        of_linear, f = fields["linear_attn_config"], fields
        kinds = [kimi.LINEAR if i + 1 in of_linear["kda_layers"] else kimi.FULL for i in range(f["num_hidden_layers"])]
        config = modeling.KimiLinearConfig(
            hidden_size=f["hidden_size"], num_hidden_layers=f["num_hidden_layers"], layer_types=kinds,
            num_attention_heads=f["num_attention_heads"], num_key_value_heads=f["num_attention_heads"],
            q_lora_rank=f["q_lora_rank"], kv_lora_rank=f["kv_lora_rank"], qk_nope_head_dim=f["qk_nope_head_dim"],
            qk_rope_head_dim=f["qk_rope_head_dim"], v_head_dim=f["v_head_dim"], rms_norm_eps=f["rms_norm_eps"],
            linear_num_heads=of_linear["num_heads"], linear_head_dim=of_linear["head_dim"],
            linear_conv_kernel_dim=of_linear["short_conv_kernel_size"])
        config._attn_implementation = "eager"
        self.fields, norm = fields, modeling.KimiLinearRMSNorm
        self.embed_tokens = nn.Embedding(f["vocab_size"], f["hidden_size"])
        self.layers = nn.ModuleList(Layer(fields, modeling, config, i) for i in range(f["num_hidden_layers"]))
        self.norm = norm(f["hidden_size"], f["rms_norm_eps"])
        if f["attn_res_block_size"]:
            self.output_attn_res = AttentionResidual(fields, norm)
        self.lm_head = linear(f["hidden_size"], f["vocab_size"])

    @torch.no_grad()
    def forward(self, tokens):
        x, blocks = self.embed_tokens(tokens), []
        with kimi.by_token():
            for layer in self.layers:
                x, blocks = layer(x, blocks)
        if self.fields["attn_res_block_size"]:
            x = self.output_attn_res([*blocks, x])
        return self.lm_head(self.norm(x))

    def published(self):
        """Every tensor by its published name, with the parameter it belongs to."""
        tensors, renamed = {}, ((".forget_gate.", "."), ("_res.norm.", "_res_norm."), ("_res.proj.", "_res_proj."),
                                (".o_proj.o_proj.", ".o_proj."), (".o_proj.g_proj.", ".g_proj."))
        if self.fields["linear_attn_config"]["use_full_rank_gate"]:
            renamed += ((".g_b_proj.", ".g_proj."),)
        for name, x in self.named_parameters():
            for ours, theirs in renamed:
                name = name.replace(ours, theirs)
            name = name if name.startswith("lm_head") else "model." + name
            if name.endswith("conv1d.weight"):
                parts = dict(zip("qkv", x.data.chunk(3)))
                tensors |= {name.replace("conv1d", f"{part}_conv1d"): rows for part, rows in parts.items()}
            else:
                tensors[name] = x.data.view(-1) if name.endswith("A_log") else x.data
        return tensors

    def save(self, folder, prefix=""):
        """Writes config.json and the weights, with A_log padded to the width of a head."""
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(self.fields))
        width, tensors = self.fields["linear_attn_config"]["head_dim"], {}
        for name, x in self.published().items():
            padding = max(0, width - len(x)) if name.endswith("A_log") else 0
            tensors[prefix + name] = nn.functional.pad(x, (0, padding)).clone() if padding else x.clone()
        save_file(tensors, folder / kimi.WHOLE)
        return folder

    @torch.no_grad()
    def load(self, folder):
        """Reads the weights of a folder in the same layout; asserts that it has exactly these tensors."""
        stored, own = load_file(folder / kimi.WHOLE), self.published()
        assert stored.keys() == own.keys(), stored.keys() ^ own.keys()
        for name, x in own.items():  # views of the parameters
            x.copy_(stored[name][:len(x)].view_as(x) if name.endswith("A_log") else stored[name].view_as(x))
        return self


def opened(modeling, folder):
    """The model of a folder that klab has written."""
    return KimiK3(modeling, json.loads((folder / "config.json").read_text())).load(folder).eval()


@torch.no_grad()
def made(modeling, shape="plain", seed=3, **more):
    """A model of this shape with random weights, in ranges where every tensor affects the logits."""
    model, generator = KimiK3(modeling, fields_of(shape, **more)), torch.Generator().manual_seed(seed)
    for name, x in model.published().items():
        if name.endswith("correction_bias"):
            low, high = -0.3, 0.3
        elif name.endswith("A_log"):
            low, high = -3, 2
        elif name.endswith("dt_bias"):
            low, high = -6, 2
        elif x.dim() == 1:
            low, high = 0.4, 1.8
        else:
            scale = 1 if "embed_tokens" in name else GAIN
            x.copy_(torch.randn(x.shape, generator=generator) * scale)
            continue
        x.copy_(torch.empty(x.shape).uniform_(low, high, generator=generator))
    return model.eval()


def random_tokens(model, *shape, seed=11):
    return torch.randint(3, model.fields["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def greedy(model, prompt, new):
    """The model's answer, and the smallest gap between the two largest logits over its tokens."""
    tokens, gap = prompt.clone(), float("inf")
    for _ in range(new):
        best = model(tokens[None])[0, -1].topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        tokens = torch.cat([tokens, best.indices[:1]])
    return tokens[len(prompt):].tolist(), gap
