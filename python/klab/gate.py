"""From a raw projection to the log-decay of KDA."""

import torch
import torch.nn.functional as F

from klab.errors import require


def fused_kda_gate(g, A_log=None, dt_bias=None, lower_bound=None, output_dtype=torch.float32):
    """g = -exp(A_log) softplus(g + dt_bias); with a lower bound, g = lower_bound sigmoid(exp(A_log) (g + dt_bias)).

    Section 4 of arXiv 2510.26692. Composed of PyTorch operators; chunk_kda(use_gate_in_kernel=True) computes the same
    without the intermediate tensor.

    Args:
        g: raw gate [..., H, K], any float dtype.
        A_log: H numbers in any shape; may be None with a lower bound, then exp(A_log) is 1.
        dt_bias: H * K numbers in any shape, or None.
        lower_bound: in [-5, 0), or None.
        output_dtype: dtype of the result; the computation is in float32 (float64 for float64).
    Returns:
        The log-decay [..., H, K], <= 0.
    Raises:
        ArgumentError: neither A_log nor a lower bound; a lower bound outside [-5, 0).
    """
    require(A_log is not None or lower_bound is not None, "A_log may be None only with a lower_bound")
    require(lower_bound is None or -5 <= lower_bound < 0, f"lower_bound = {lower_bound} does not lie in [-5, 0)")
    H, K = g.shape[-2:]
    wide = torch.float64 if g.dtype == torch.float64 else torch.float32
    x = g.to(wide)
    if dt_bias is not None:
        x = x + dt_bias.to(wide).reshape(H, K)
    rate = 1.0 if A_log is None else A_log.to(wide).reshape(H, 1).exp()
    if lower_bound is None:
        return (-rate * F.softplus(x)).to(output_dtype)
    # The sigmoid by way of its logarithm: the derivative y (1 - y) loses its digits where y is close to 1.
    return (lower_bound * F.logsigmoid(rate * x).exp()).to(output_dtype)
