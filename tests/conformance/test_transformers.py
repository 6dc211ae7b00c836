# SPDX-License-Identifier: Apache-2.0
"""transformers' Kimi Linear with and without klab.integrations.transformers: single functions and a tiny model."""

import sys

import klab
import pytest
import torch
import torch.nn.functional as F

from compare import assert_close
from klab.integrations import transformers as integration

NAMES = ("chunk_kimi_delta_attention", "recurrent_kimi_delta_attention", "causal_conv1d_fn", "causal_conv1d_update")


@pytest.fixture(autouse=True)
def left_as_found():
    yield
    integration.disable()


def tiny(modeling, dtype=torch.float32):
    """A model with three KDA layers, one attention layer and a mixture of experts; weights are large enough to affect the
    logits."""
    config = modeling.KimiLinearConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32, qk_rope_head_dim=8, v_head_dim=16,
        qk_nope_head_dim=16, num_local_experts=8, num_experts_per_tok=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        linear_head_dim=16, linear_num_heads=4, initializer_range=0.1,
        layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"])
    torch.manual_seed(7)
    return modeling.KimiLinearForCausalLM(config).eval().to(dtype)


@pytest.fixture
def model(modeling):
    return tiny(modeling)


def tokens(B, T):
    return torch.randint(3, 97, (B, T))


def left_padded(B, T, padding):
    mask = torch.ones(B, T, dtype=torch.long)
    mask[0, :padding] = 0
    return mask


# --- The functions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("T, state", [(1, True), (17, False), (64, True), (130, True)])
def test_delta_attention(modeling, T, state, dtype):
    """chunk_kda against transformers' chunked and recurrent forms, called as in its layer; in float32 a tenth of fla's
    tolerance."""
    q, k, v = (torch.randn(2, T, 3, 32, dtype=dtype) for _ in range(3))
    g, beta = F.logsigmoid(torch.randn(2, T, 3, 32)), torch.rand(2, T, 3, dtype=dtype)
    named = dict(g=g, beta=beta, initial_state=torch.randn(2, 3, 32, 32) if state else None, output_final_state=True,
                 use_qk_l2norm_in_kernel=True)
    ours = klab.chunk_kda(q, k, v, **named)
    for theirs in (modeling.chunk_kimi_delta_attention, modeling.recurrent_kimi_delta_attention):
        for name, expected, actual in zip(("o", "ht"), theirs(q, k, v, **named), ours):
            assert expected.dtype == actual.dtype
            assert_close(name, expected, actual, 5e-4 if dtype == torch.float32 or name == "ht" else 5e-3)


def test_delta_attention_gradients(modeling):
    inputs = [torch.randn(2, 70, 3, 32) for _ in range(3)] + [F.logsigmoid(torch.randn(2, 70, 3, 32)), torch.rand(2, 70, 3)]
    d_o, gradients = torch.randn(2, 70, 3, 32), []
    for function in (modeling.chunk_kimi_delta_attention, klab.chunk_kda):
        leaves = [x.clone().requires_grad_() for x in inputs]
        o = function(*leaves[:3], g=leaves[3], beta=leaves[4], use_qk_l2norm_in_kernel=True)[0]
        gradients.append(torch.autograd.grad(o, leaves, d_o))
    for name, expected, actual in zip(("dq", "dk", "dv", "dg", "dbeta"), *gradients):
        assert_close(name, expected, actual, 1e-3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_convolution(modeling, activation, bias):
    x, weight, bias = torch.randn(2, 24, 19), torch.randn(24, 4), torch.randn(24) if bias else None
    expected = modeling.causal_conv1d_fn(x, weight=weight, bias=bias, activation=activation)
    with integration.enable():
        actual = modeling.causal_conv1d_fn(x, weight=weight, bias=bias, activation=activation)
    assert_close("y", expected, actual, 1e-6)


@pytest.mark.parametrize("length", [3, 4, 6])
@pytest.mark.parametrize("new", [1, 2, 7])
def test_convolution_update(modeling, new, length):
    """The state [B, D, length], newest input last, is updated in place, for any length."""
    x, weight, state = torch.randn(2, 24, new), torch.randn(24, 4), torch.randn(2, 24, length)
    theirs, ours = state.clone(), state.clone()
    expected = modeling.causal_conv1d_update(x, theirs, weight=weight, activation="silu")
    with integration.enable():
        actual = modeling.causal_conv1d_update(x, ours, weight=weight, activation="silu")
    assert_close("y", expected, actual, 1e-6)
    assert torch.equal(theirs, ours)


def test_convolution_update_gradients(modeling):
    """The in-place update of the state must not break the backward pass of the call that read it."""
    inputs, state = [torch.randn(2, 24, 1), torch.randn(24, 4)], torch.randn(2, 24, 4)

    def gradients():
        x, weight = (x.clone().requires_grad_() for x in inputs)
        y = modeling.causal_conv1d_update(x, state.clone(), weight=weight, activation="silu")
        return torch.autograd.grad(y.square().sum(), (x, weight))

    expected = gradients()
    with integration.enable():
        for a, b in zip(expected, gradients()):
            assert_close("gradient", a, b, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gated_norm(modeling, dtype):
    norm = modeling.KimiLinearRMSNormGated(32, eps=1e-5).to(dtype)
    torch.nn.init.uniform_(norm.weight)
    x, gate = torch.randn(2, 5, 3, 32, dtype=dtype), torch.randn(2, 5, 3, 32, dtype=dtype)
    expected = norm(x, gate)
    with integration.enable():
        actual = norm(x, gate)
    assert expected.dtype == actual.dtype
    assert_close("y", expected, actual, 1e-6 if dtype == torch.float32 else 1e-3)


# --- Whole models -----------------------------------------------------------------------------------------------------


def both(call):
    """(result without klab's operators, result with them)."""
    expected = call()
    with integration.enable():
        return expected, call()


@torch.no_grad()
@pytest.mark.parametrize("T", [1, 9, 64, 150])
def test_logits(model, T):
    x = tokens(2, T)
    expected, actual = both(lambda: model(x).logits)
    assert_close("logits", expected, actual, 5e-4)


@torch.no_grad()
def test_logits_with_left_padding(model):
    x, mask = tokens(2, 40), left_padded(2, 40, 13)
    expected, actual = both(lambda: model(x, attention_mask=mask).logits)
    assert_close("logits", expected[mask.bool()], actual[mask.bool()], 5e-4)
    alone = model(x[:1, 13:]).logits
    assert_close("unpadded", alone, actual[:1, 13:], 5e-4)


@torch.no_grad()
def test_logits_in_bfloat16(modeling):
    model, x = tiny(modeling, torch.bfloat16), tokens(2, 70)
    reference = tiny(modeling).to(torch.bfloat16).float()
    exact = reference(x).logits
    expected, actual = both(lambda: model(x).logits)
    assert actual.dtype == torch.bfloat16
    theirs = (expected.float() - exact).square().mean().sqrt()
    ours = (actual.float() - exact).square().mean().sqrt()
    assert ours < 1.2 * theirs  # about the same error as transformers


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[0, 1, 30], [0, 2, 3, 30], [0, 20, 29, 30], [0, 10, 20, 30]], ids=str)
def test_continuation(model, cuts):
    """Prefill in parts with the cache; parts of one token, of fewer tokens than the convolution has taps, and of many."""
    x = tokens(2, cuts[-1])

    def parts():
        cache, logits = None, []
        for start, end in zip(cuts, cuts[1:]):
            out = model(x[:, start:end], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits.append(out.logits)
        return torch.cat(logits, 1)

    expected, actual = both(parts)
    assert_close("logits", expected, actual, 5e-4)
    assert_close("whole", model(x).logits, actual, 5e-4)


@pytest.mark.parametrize("padding", [0, 5])
def test_generation(model, padding):
    x, mask = tokens(2, 12), left_padded(2, 12, padding)
    expected, actual = both(lambda: model.generate(x, attention_mask=mask, max_new_tokens=24, do_sample=False,
                                                   eos_token_id=None, output_logits=True, return_dict_in_generate=True))
    assert torch.equal(expected.sequences, actual.sequences)
    assert_close("logits", torch.stack(expected.logits), torch.stack(actual.logits), 5e-4)


def test_gradients(model):
    x, mask = tokens(2, 70), left_padded(2, 70, 9)

    def gradients():
        model.zero_grad()
        model(x, attention_mask=mask, labels=x).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected, actual = both(gradients)
    assert expected.keys() == actual.keys()
    for name, gradient in expected.items():
        assert_close(f"d{name}", gradient, actual[name], 1e-3)


@torch.no_grad()
def test_packed_sequences(model, modeling):
    """transformers' functions reject packed sequences; klab's support them, with cu_seqlens, seq_idx or both."""
    layer, x = model.model.layers[0].self_attn, torch.randn(1, 30, 64)
    alone = torch.cat([layer(x[:, :11]), layer(x[:, 11:])], 1)
    cu_seqlens, seq_idx = torch.tensor([0, 11, 30]), torch.tensor([[0] * 11 + [1] * 19], dtype=torch.int32)
    with pytest.raises(ValueError, match="packed"):
        layer(x, cu_seqlens=cu_seqlens, seq_idx=seq_idx)
    with integration.enable():
        for marks in ({"cu_seqlens": cu_seqlens}, {"seq_idx": seq_idx}, {"cu_seqlens": cu_seqlens, "seq_idx": seq_idx}):
            assert_close("layer", alone, layer(x, **marks), 5e-4)


# --- Switching --------------------------------------------------------------------------------------------------------


def test_ours_are_called(modeling, model, monkeypatch):
    """Models built before and after enable() use klab's operators everywhere; after disable() none does."""
    calls = []

    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.namespace == "klab":
                calls.append(function._opname)
            return function(*args, **(kwargs or {}))

    def run(model):
        calls.clear()
        with Counting(), torch.no_grad():
            out = model(tokens(1, 5), use_cache=True)
            model(tokens(1, 1), past_key_values=out.past_key_values)
        return {name: calls.count(name) for name in set(calls)}

    each = {"recurrence": 6, "short_conv": 6, "gated_rms_norm": 6}  # three layers, two passes
    assert run(model) == {}
    integration.enable()
    assert run(model) == each and run(tiny(modeling)) == each
    integration.disable()
    assert run(model) == {}


def test_switching_twice(modeling):
    before = [getattr(modeling, name) for name in NAMES] + [modeling.KimiLinearRMSNormGated.forward]

    def now():
        return [getattr(modeling, name) for name in NAMES] + [modeling.KimiLinearRMSNormGated.forward]

    with integration.enable():
        once = now()
        with integration.enable():
            assert now() == once
        assert now() == once, "an inner enable() must not undo the outer one"
    assert now() == before
    integration.disable()
    assert now() == before
    assert not set(once) & set(before)


def test_an_unknown_release_is_refused(monkeypatch):
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "6.0.0")
    with pytest.raises(ImportError, match="5.23.*6.0.0"):
        integration.enable()


def test_other_activations_go_to_transformers(modeling):
    x, weight = torch.randn(1, 8, 5), torch.randn(8, 4)
    expected, actual = both(lambda: modeling.causal_conv1d_fn(x, weight=weight, activation="gelu"))
    assert torch.equal(expected, actual)
