# SPDX-License-Identifier: Apache-2.0
"""Latent attention (one key head shared by all query heads) against torch's attention in float64."""

import pytest
import torch
import torch.nn.functional as F

import klab
from compare import assert_close

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}


def expected(q, cache, value_dim, scale):
    """Causal attention of the last T of S positions, in float64: q [B, T, H, R + P], cache [B, S, R + P]."""
    T, S = q.shape[1], cache.shape[1]
    q, keys = q.double().transpose(1, 2), cache.double().unsqueeze(1)
    seen = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    y = F.scaled_dot_product_attention(q, keys.expand(-1, q.shape[1], -1, -1),
                                       keys[..., :value_dim].expand(-1, q.shape[1], -1, -1), seen, scale=scale)
    return y.transpose(1, 2)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("B, T, H, S, R, P", [(1, 1, 32, 700, 512, 64), (2, 3, 5, 40, 21, 6), (1, 17, 4, 17, 32, 0),
                                             (3, 1, 1, 2000, 64, 16)])
def test_latent_attention(B, T, H, S, R, P, dtype):
    q, cache = torch.randn(B, T, H, R + P).to(dtype), torch.randn(B, S, R + P).to(dtype)
    y = klab.latent_attention(q, cache, R, 0.1)
    assert y.dtype == dtype
    assert_close("o", expected(q, cache, R, 0.1), y.double(), TOLERANCE[dtype])


def test_a_cache_may_be_part_of_a_larger_one():
    q, cache = torch.randn(1, 1, 4, 20), torch.full((1, 64, 20), torch.nan)
    cache[:, :30] = torch.randn(1, 30, 20)
    assert_close("o", expected(q, cache[:, :30], 16, 0.2), klab.latent_attention(q, cache[:, :30], 16, 0.2).double(), 2e-6)


def test_compiles():
    q, cache = torch.randn(1, 2, 4, 20), torch.randn(1, 30, 20)
    compiled = torch.compile(lambda q, cache: klab.latent_attention(q, cache, 16, 0.2) * 2, fullgraph=True,
                             backend="aot_eager")
    assert torch.equal(compiled(q, cache), klab.latent_attention(q, cache, 16, 0.2) * 2)


@pytest.mark.parametrize("change, words", [
    (dict(q=torch.ones(1, 4, 20)), "q must be"), (dict(cache=torch.ones(1, 30, 19)), "cache"),
    (dict(cache=torch.ones(1, 1, 20)), "2 queries"), (dict(value_dim=21), "value_dim = 21"),
    (dict(q=torch.ones(1, 2, 4, 20, requires_grad=True)), "no gradients")])
def test_wrong_arguments_are_named(change, words):
    given = {"q": torch.ones(1, 2, 4, 20), "cache": torch.ones(1, 30, 20), "value_dim": 16, "scale": 0.2, **change}
    with pytest.raises(klab.ArgumentError, match=words):
        klab.latent_attention(**given)
