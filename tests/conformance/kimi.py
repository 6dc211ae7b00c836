# SPDX-License-Identifier: Apache-2.0
"""Creates small Kimi Linear checkpoints with transformers and runs the klab program on them."""

import contextlib
import json
import os
import pathlib
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import MODELING, ROOT

BESIDE = pathlib.Path(os.environ.get("KLAB_RUN_MODULE", ROOT / "build" / "tests" / "support" / "run_module"))
PROGRAM = pathlib.Path(os.environ.get("KLAB_PROGRAM", BESIDE.parents[2] / "bin" / "klab"))
LINEAR, FULL = "linear_attention", "full_attention"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# All widths are different, so that confusing two of them fails a test.
PLAIN = dict(vocab_size=101, hidden_size=72, intermediate_size=88, moe_intermediate_size=28, num_hidden_layers=4,
             num_attention_heads=5, num_key_value_heads=5, linear_num_heads=3, linear_head_dim=20, qk_nope_head_dim=14,
             qk_rope_head_dim=6, v_head_dim=18, kv_lora_rank=26, linear_conv_kernel_dim=4, num_local_experts=8,
             num_experts_per_tok=2, n_shared_experts=1, routed_scaling_factor=1.7, rms_norm_eps=1e-5,
             max_position_embeddings=1000, pad_token_id=0, bos_token_id=1, eos_token_id=2,
             layer_types=[LINEAR, LINEAR, FULL, LINEAR])

# Changes to PLAIN by name; `dense` is the number of leading layers without experts.
SHAPES = {
    "plain": {},
    "q_lora_rank": dict(q_lora_rank=22, num_experts_per_tok=3),
    "groups": dict(num_local_experts=12, n_group=4, topk_group=2, num_experts_per_tok=3, vocab_size=97),
    "shared": dict(n_shared_experts=2, norm_topk_prob=False, routed_scaling_factor=0.9),
    "dense": dict(dense=4, linear_head_dim=34),
    "sparse": dict(dense=0, num_local_experts=5, num_experts_per_tok=5),
    "linear": dict(layer_types=[LINEAR] * 3, num_hidden_layers=3, dense=2, linear_num_heads=7, linear_head_dim=16),
    "full": dict(layer_types=[FULL] * 3, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2,
                 qk_nope_head_dim=33, qk_rope_head_dim=1, v_head_dim=9, kv_lora_rank=12),
    "conv3": dict(linear_conv_kernel_dim=3, layer_types=[FULL, LINEAR, LINEAR, FULL], linear_num_heads=1,
                  linear_head_dim=48),
    "eps": dict(rms_norm_eps=1e-3, q_lora_rank=16, layer_types=[LINEAR, FULL, FULL, LINEAR]),
}


def config_of(modeling, **changes):
    """transformers' config for PLAIN with `changes`."""
    fields = {**PLAIN, **changes}
    dense = fields.pop("dense", 1)
    sparse = fields["num_hidden_layers"] - dense
    return modeling.KimiLinearConfig(**fields, mlp_layer_types=["dense"] * dense + ["sparse"] * sparse)


@torch.no_grad()
def drawn_weights(model, seed):
    """Random weights, in place, in ranges where every tensor affects the logits: norm weights around one, correction
    biases large enough to change the choice of experts, decays from near 0 to near 1."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(x, low, high):
        x.copy_(torch.empty(x.shape).uniform_(low, high, generator=generator))

    for name, x in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        if name.endswith("e_score_correction_bias"):
            uniform(x, -0.3, 0.3)
        elif name.endswith("A_log"):
            uniform(x, -3, 2.5)
        elif name.endswith("dt_bias"):
            uniform(x, -6, 2)
        elif x.dim() == 1:
            uniform(x, 0.4, 1.8)
        else:
            columns = x[0].numel() if "conv1d" in name else x.shape[-1]
            scale = 1 if "embed_tokens" in name else 1.4 / max(1, columns) ** 0.5
            x.copy_(torch.randn(x.shape, generator=generator) * scale)
    return model


def made(modeling, shape="plain", seed=3, dtype=torch.float32, **changes):
    """A model of this shape with random weights, rounded to `dtype` but held in float32."""
    model = modeling.KimiLinearForCausalLM(config_of(modeling, **{**SHAPES[shape], **changes}))
    model.set_experts_implementation("eager")  # others need widths in multiples of 8 in bfloat16
    return drawn_weights(model, seed).to(dtype).float().eval()


def save(model, folder, dtype=torch.float32, **options):
    """Saves a float32 model with transformers in `dtype`; returns the folder."""
    model.to(dtype).save_pretrained(folder, **options)
    model.float()
    return folder


def random_tokens(model, *shape, seed=11):
    return torch.randint(3, model.config.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


@contextlib.contextmanager
def by_token():
    """Makes transformers use its token-by-token recurrence for prompts too. Its chunked form takes differences of log
    decays summed over 64 tokens, which loses precision where the decay is strong."""
    modeling = sys.modules[MODELING]
    chunked = modeling.chunk_kimi_delta_attention
    modeling.chunk_kimi_delta_attention = modeling.recurrent_kimi_delta_attention
    try:
        yield
    finally:
        modeling.chunk_kimi_delta_attention = chunked


@torch.no_grad()
def expected_logits(model, tokens, chunked=False):
    with contextlib.nullcontext() if chunked else by_token():
        return model(tokens, use_cache=False).logits.float()


def slow(*values):
    """A case that runs with --slow only."""
    return pytest.param(*values, marks=pytest.mark.slow)


def some(cases, step):
    """Every `step`-th case by default, all of them with --slow."""
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case) if i % step == 0 else slow(*case) for i, case in enumerate(values)]


# --- The program ------------------------------------------------------------------------------------------------------


def klab(*arguments, timeout=120):
    """Runs the program; asserts that no signal killed it and that its message contains no stack trace."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)
    assert done.returncode >= 0, f"died of signal {-done.returncode}: {arguments}\n{done.stderr}"
    for sign in ("frame #", "terminate called", "Exception raised from"):
        assert sign not in done.stderr, done.stderr
    return done


def succeed(*arguments):
    done = klab(*arguments)
    assert done.returncode == 0, f"{arguments}\n{done.stderr}"
    return done


def with_option(options, key, value):
    """The options "--KEY", VALUE, .. with another value of one key."""
    at = options.index(f"--{key}") if f"--{key}" in options else len(options)
    return [*options[:at], f"--{key}", value, *options[at + 2:]]


def rows_of(tokens):
    return ";".join(",".join(str(int(token)) for token in row) for row in tokens)


def logits(folder, tokens, *options):
    """Logits [B, T, vocabulary] and the program's stderr."""
    out = pathlib.Path(folder).with_suffix(".logits")
    done = succeed("logits", "--model", folder, "--tokens", rows_of(tokens), "--out", out, *options)
    result = load_file(out)
    out.unlink()
    assert list(result) == ["logits"] and result["logits"].dtype == torch.float32
    return result["logits"], done.stderr


def generate(folder, tokens, new, *options):
    """The answers' token ids."""
    done = succeed("--quiet", "generate", "--json", "--model", folder, "--tokens", rows_of(tokens),
                   "--max-new-tokens", new, *options)
    return json.loads(done.stdout)["tokens"]


def worst_error(expected, actual):
    """Maximum over positions of (largest absolute error) / (RMS of the position's expected logits)."""
    assert expected.shape == actual.shape and bool(torch.isfinite(actual).all())
    size = expected.double().square().mean(-1).sqrt()
    return ((expected.double() - actual.double()).abs().amax(-1) / size).max().item()


# --- Files ------------------------------------------------------------------------------------------------------------


def rewritten(source, folder, change):
    """A copy of a single-file checkpoint, with `change` applied to the dictionary of its tensors; `change` may modify the
    dictionary in place or return a new one."""
    folder.mkdir()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    tensors = load_file(source / WHOLE)
    save_file(change(tensors) or tensors, folder / WHOLE)
    return folder


def header_of(data):
    """(header as parsed JSON, tensor data) of a safetensors file's bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length]), data[8 + length:]


def with_header(header, data):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data
