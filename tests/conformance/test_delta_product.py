# SPDX-License-Identifier: Apache-2.0
"""Gated DeltaProduct against fla-core's naive form, and against the recurrence with a token per write."""

import klab
import pytest
import torch
import torch.nn.functional as F

import oracle
from compare import assert_close

NAIVE = oracle.naive("gated_delta_product").naive_recurrent_gated_delta_product


def drawn(B, T, H, HV, K, V, writes, by_channel=False):
    torch.manual_seed(T + writes)
    unit = [F.normalize(torch.randn(B, rows, H, K), dim=-1) for rows in (T, T * writes)]
    g = F.logsigmoid(torch.randn((B, T, HV, K) if by_channel else (B, T, HV)))
    return [x.requires_grad_() for x in (*unit, torch.randn(B, T * writes, HV, V), g, 2 * torch.rand(B, T * writes, HV),
                                         torch.randn(B, HV, K, V))]


def results(function, tensors):
    """o, final state and all gradients."""
    o, state = function(*tensors)
    torch.manual_seed(0)
    loss = (o * torch.randn_like(o)).sum() + (state * torch.randn_like(state)).sum()
    return [o.detach(), state.detach(), *torch.autograd.grad(loss, tensors)]


@pytest.mark.parametrize("B, T, H, HV, K, V, writes", [(2, 63, 2, 2, 24, 24, 2), (1, 130, 1, 1, 64, 40, 3), (2, 5, 3, 3, 16, 8, 4),
                                                       (1, 40, 2, 2, 20, 12, 1)])
def test_naive(B, T, H, HV, K, V, writes):
    tensors = drawn(B, T, H, HV, K, V, writes)

    def ours(q, k, v, g, beta, state):
        return klab.chunk_gated_delta_product(q, k, v, g, beta, writes, initial_state=state, output_final_state=True)

    def theirs(q, k, v, g, beta, state):
        return NAIVE(q, k, v, g, beta, K ** -0.5, initial_state=state, num_householder=writes)

    for name, actual, expected in zip(("o", "state", *"qkvgbs"), results(ours, tensors), results(theirs, tensors)):
        assert_close(name, expected, actual, 1e-5)


@pytest.mark.parametrize("cuts", [None, [0, 1, 17, 50]])
def test_a_token_per_write(cuts):
    """Decay per channel, grouped heads, packed sequences."""
    writes, packed = 3, None if cuts is None else torch.tensor(cuts)
    *tensors, state = drawn(1, 50, 2, 4, 24, 16, writes, by_channel=True)
    if cuts is not None:
        state = torch.randn(len(cuts) - 1, 4, 24, 16).requires_grad_()

    def ours(q, k, v, g, beta, state):
        return klab.chunk_gated_delta_product(q, k, v, g, beta, writes, initial_state=state, output_final_state=True,
                                              cu_seqlens=packed)

    def spread(x, at):
        return F.pad(x.unsqueeze(2), (0, 0, 0, 0, at, writes - 1 - at)).flatten(1, 2)

    def each(q, k, v, g, beta, state):
        o, last = klab.chunk_kda(spread(q, writes - 1), k, v, spread(g, 0), beta, initial_state=state,
                                 output_final_state=True, cu_seqlens=None if packed is None else packed * writes)
        return o[:, writes - 1::writes], last

    for name, actual, expected in zip(("o", "state", *"qkvgbs"), results(ours, [*tensors, state]), results(each, [*tensors, state])):
        assert_close(name, expected, actual, 1e-5)


def test_wrong_arguments():
    q, k, v, g, beta, _ = (x.detach() for x in drawn(1, 6, 2, 2, 8, 8, 2))
    for part, call in (("k has shape", lambda: klab.chunk_gated_delta_product(q, k, v, g, beta, 3)),
                       ("v has shape", lambda: klab.chunk_gated_delta_product(q, k, v[:, :6], g, beta, 2)),
                       ("beta has shape", lambda: klab.chunk_gated_delta_product(q, k, v, g, beta[:, :6], 2)),
                       ("g has shape", lambda: klab.chunk_gated_delta_product(q, k, v, beta, beta, 2)),
                       ("num_householder", lambda: klab.chunk_gated_delta_product(q, k, v, g, beta, 0))):
        with pytest.raises(klab.ArgumentError, match=part):
            call()
