# SPDX-License-Identifier: Apache-2.0
"""torch.ops.klab.* in PyTorch: registration, opcheck, torch.compile, gradcheck, strides, second derivatives."""

import klab
import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F

from compare import assert_close

OPS = torch.ops.klab
NAMES = ("q", "k", "v", "g", "beta", "a", "b", "initial_state", "cu_seqlens", "A_log", "dt_bias")


def recurrence_arguments(decay="channel", update="delta", B=2, T=70, H=2, HV=4, K=36, V=40, dtype=torch.float32, cuts=None,
                         state=True, raw=False, lower=None, writes=1, implementation="automatic", keep=True):
    """Random arguments of klab::recurrence, in the order of its schema."""
    N = B if cuts is None else len(cuts) - 1
    unit = [F.normalize(torch.randn(B, rows, H, K), dim=-1).to(dtype) for rows in (T, T * writes)]
    shape = {"none": None, "scalar": (B, T, HV), "channel": (B, T, HV, K)}[decay]
    g = None if shape is None else torch.randn(shape) if raw else F.logsigmoid(torch.randn(shape))
    beta = torch.rand(B, T * writes, HV, dtype=dtype) if update == "delta" else None
    a = F.normalize(torch.randn(B, T * writes, HV, K), dim=-1).to(dtype) if update == "dplr" else None
    A_log = torch.randn(HV) if raw and lower is None else None
    dt_bias = torch.randn(HV * (K if decay == "channel" else 1)) if raw else None
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = [*unit, torch.randn(B, T * writes, HV, V).to(dtype), g if g is None else g.to(wide), beta, a,
               None if a is None else -a, torch.randn(N, HV, K, V, dtype=wide) if state else None,
               None if cuts is None else torch.tensor(cuts), A_log, dt_bias]
    return [*tensors, None, raw, raw, lower, raw and update == "delta", False, writes, implementation, keep]


def differentiable(arguments):
    return [x.requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in arguments]


FORMS = {
    "kda": {}, "kda-not-kept": {"keep": False}, "kda-raw": {"raw": True}, "kda-bounded": {"raw": True, "lower": -5.0},
    "kda-packed": {"B": 1, "cuts": [0, 1, 66, 70]}, "kda-no-state": {"state": False},
    "kda-bfloat16": {"dtype": torch.bfloat16}, "kda-float16": {"dtype": torch.float16},
    "kda-float64": {"dtype": torch.float64, "T": 20}, "kda-one-token": {"T": 1, "keep": False}, "kda-one-token-kept": {"T": 1},
    "kda-chunk": {"implementation": "chunk", "T": 20}, "kda-reference": {"implementation": "reference", "T": 4},
    "kda-chunk-packed": {"implementation": "chunk", "B": 1, "cuts": [0, 1, 18, 20], "T": 20},
    "kda-cpu": {"implementation": "cpu"}, "gdn": {"decay": "scalar"}, "gdn-raw": {"decay": "scalar", "raw": True},
    "delta": {"decay": "none"}, "gla": {"update": "accumulate"}, "simple-gla": {"decay": "scalar", "update": "accumulate"},
    "linear": {"decay": "none", "update": "accumulate"}, "dplr": {"update": "dplr"},
    "dplr-packed": {"update": "dplr", "B": 1, "cuts": [0, 64, 70]}, "product": {"writes": 2},
    "product-raw-packed": {"writes": 3, "raw": True, "decay": "scalar", "B": 1, "cuts": [0, 1, 66, 70]},
}


@pytest.mark.parametrize("form", FORMS)
def test_opcheck_recurrence(form):
    torch.library.opcheck(OPS.recurrence.default, differentiable(recurrence_arguments(**FORMS[form])))


@pytest.mark.parametrize("form", [form for form in FORMS if "one-token" not in form])
def test_opcheck_recurrence_backward(form):
    arguments = recurrence_arguments(**FORMS[form])
    o, final_state, corrections, states = OPS.recurrence(*arguments)
    d = [torch.randn_like(o), torch.randn_like(final_state), corrections, states]
    torch.library.opcheck(OPS.recurrence_backward.default, [*d, *arguments[:-1]])


CONVOLUTIONS = {"plain": (None, "", None, None), "silu": (None, "silu", None, None), "bias": (True, "silu", None, None),
                "state": (True, "silu", True, None), "packed": (True, "silu", True, [0, 1, 3, 9])}


def convolution_arguments(bias, activation, state, cuts, dtype=torch.float32, width=4, D=24):
    B, T = (1, cuts[-1]) if cuts else (2, 7)
    N = len(cuts) - 1 if cuts else B
    return [torch.randn(B, T, D, dtype=dtype), torch.randn(D, width, dtype=dtype),
            torch.randn(D, dtype=dtype) if bias else None, activation,
            torch.randn(N, width - 1, D, dtype=dtype) if state else None, torch.tensor(cuts) if cuts else None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_opcheck_short_conv(form, dtype):
    torch.library.opcheck(OPS.short_conv.default, differentiable(convolution_arguments(*CONVOLUTIONS[form], dtype)))


@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_opcheck_short_conv_backward(form):
    arguments = convolution_arguments(*CONVOLUTIONS[form])
    d = [torch.randn_like(x) for x in OPS.short_conv(*arguments)]
    torch.library.opcheck(OPS.short_conv_backward.default, [*d, *arguments])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("activation", ["sigmoid", "swish", "none"])
def test_opcheck_gated_rms_norm(activation, dtype):
    x, gate = (torch.randn(3, 5, 24, dtype=dtype) for _ in range(2))
    weight = torch.rand(24, dtype=dtype)
    torch.library.opcheck(OPS.gated_rms_norm.default, differentiable([x, weight, gate, activation, 1e-5]))
    torch.library.opcheck(OPS.gated_rms_norm_backward.default, [torch.randn_like(x), x.detach(), weight.detach(),
                                                                gate.detach(), activation, 1e-5])


def gate_arguments(per_channel=True, lower=None, dtype=torch.float32):
    raw = torch.randn(2, 5, 3, 8) if per_channel else torch.randn(2, 5, 3)
    A_log, dt_bias = (None if lower else torch.randn(3)), torch.randn(24 if per_channel else 3)
    return [raw.to(dtype), A_log, dt_bias, lower]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("per_channel, lower", [(True, None), (True, -5.0), (False, None)])
def test_opcheck_kda_gate(per_channel, lower, dtype):
    arguments = gate_arguments(per_channel, lower, dtype)
    torch.library.opcheck(OPS.kda_gate_backward.default, [torch.randn_like(OPS.kda_gate(*arguments)), *arguments])
    torch.library.opcheck(OPS.kda_gate.default, differentiable(arguments))


@pytest.mark.parametrize("form", ["kda", "kda-raw", "gdn", "delta", "kda-bfloat16", "kda-float64"])
def test_opcheck_all_states(form):
    torch.library.opcheck(OPS.recurrence_all_states.default, recurrence_arguments(**{**FORMS[form], "T": 3})[:-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck_latent_attention(dtype):
    torch.library.opcheck(OPS.latent_attention.default,
                          [torch.randn(2, 3, 4, 20, dtype=dtype), torch.randn(2, 9, 20, dtype=dtype), 16, 0.2])


def test_schemas():
    """Names and order of the operators' arguments are a public interface."""
    tensors = ("Tensor q, Tensor k, Tensor v, Tensor? g, Tensor? beta, Tensor? a, Tensor? b, Tensor? initial_state, "
               "Tensor? cu_seqlens, Tensor? A_log, Tensor? dt_bias")
    options = ("float? scale, bool qk_l2norm, bool gate, float? lower_bound, bool beta_sigmoid, bool allow_neg_eigval, "
               'int writes=1, str implementation="automatic"')
    assert str(OPS.recurrence.default._schema) == (
        f"klab::recurrence({tensors}, {options}, bool? keep=None) -> "
        "(Tensor o, Tensor final_state, Tensor corrections, Tensor states)")
    assert str(OPS.recurrence_backward.default._schema) == (
        "klab::recurrence_backward(Tensor? d_o, Tensor? d_final_state, Tensor corrections, Tensor states, "
        f"{tensors}, {options}) -> Tensor[]")


@pytest.mark.parametrize("name", ["recurrence", "recurrence_backward", "recurrence_all_states", "short_conv",
                                  "short_conv_backward", "gated_rms_norm", "gated_rms_norm_backward", "kda_gate",
                                  "kda_gate_backward", "latent_attention"])
def test_every_operator_is_registered_for_every_device(name):
    for key in ("CPU", "CUDA", "Meta", "Autograd"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"klab::{name}", key), key


# --- Gradients of the operators themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["kda", "kda-raw", "kda-packed", "gdn", "delta", "gla", "simple-gla", "linear", "dplr",
                                  "product", "product-raw-packed"])
def test_gradcheck(form):
    """All gradients of all outputs against finite differences, in float64."""
    chosen = {**FORMS[form], "T": 4, "K": 2, "V": 3, "B": 1, "H": 1, "HV": 2, "dtype": torch.float64}
    arguments = recurrence_arguments(**{**chosen, "cuts": [0, 1, 4] if "cuts" in chosen else None})
    arguments[9:11] = [None if x is None else x.double() for x in arguments[9:11]]

    def outputs(*tensors):
        return OPS.recurrence(*tensors, *arguments[len(NAMES):])[:2]

    torch.autograd.gradcheck(outputs, differentiable(arguments)[:len(NAMES)])


@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_gradcheck_short_conv(form):
    arguments = convolution_arguments(*CONVOLUTIONS[form], torch.float64, D=3)
    torch.autograd.gradcheck(lambda *args: OPS.short_conv(*args), differentiable(arguments))


def test_gradcheck_gated_rms_norm():
    arguments = [torch.randn(2, 3, 5, dtype=torch.float64), torch.rand(5, dtype=torch.float64),
                 torch.randn(2, 3, 5, dtype=torch.float64)]
    for activation in ("sigmoid", "swish", "none"):
        torch.autograd.gradcheck(lambda *args: OPS.gated_rms_norm(*args, activation, 1e-5), differentiable(arguments))


@pytest.mark.parametrize("per_channel, lower", [(True, None), (True, -5.0), (False, None)])
def test_gradcheck_kda_gate(per_channel, lower):
    raw, A_log, dt_bias, lower = gate_arguments(per_channel, lower, torch.float64)
    tensors = [raw, None if A_log is None else A_log.double(), dt_bias.double()]
    torch.autograd.gradcheck(lambda *tensors: OPS.kda_gate(*tensors, lower), differentiable(tensors))


def gradients_through_autograd(operator, arguments):
    """(gradients of all tensor arguments, the random gradients of the outputs that they were computed from)."""
    leaves = [x for x in differentiable(arguments) if isinstance(x, torch.Tensor) and x.requires_grad]
    outputs = operator(*arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    d_outputs = [torch.randn_like(y) for y in outputs]
    return torch.autograd.grad(outputs, leaves, d_outputs), d_outputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("operator", ["short_conv", "gated_rms_norm"])
def test_the_backward_pass_is_the_kernel_s(operator, dtype):
    """Autograd uses the CPU kernel's backward pass: the same bits, which differ from the composed form's."""
    if operator == "short_conv":
        arguments, composed = convolution_arguments(True, "silu", True, None, dtype, D=40), "composed"
    else:
        x, gate = torch.randn(2, 3, 500, 40).to(dtype)
        arguments, composed = [x, torch.rand(40).to(dtype), gate, "swish", 1e-5, True], "reference"
    actual, d = gradients_through_autograd(getattr(OPS, operator), arguments)
    plain = [x.detach() if isinstance(x, torch.Tensor) else x for x in arguments]
    backward = getattr(OPS, f"{operator}_backward")
    for a, b in zip(actual, backward(*d, *plain, "cpu"), strict=True):
        assert torch.equal(a, b)
    others = backward(*d, *plain, composed)
    assert not all(torch.equal(a, b) for a, b in zip(actual, others, strict=True))


def test_gradients_do_not_depend_on_what_was_kept():
    gradients = []
    for keep in (True, False):
        torch.manual_seed(1)
        arguments = differentiable(recurrence_arguments(raw=True, keep=keep))
        o, final_state, *_ = OPS.recurrence(*arguments)
        leaves = [x for x in arguments if isinstance(x, torch.Tensor)]
        gradients.append(torch.autograd.grad(o.square().sum() + final_state.sum(), leaves))
    for kept, again in zip(*gradients):
        assert_close("gradient", again, kept, 1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_one_output_is_enough(which):
    """The gradient of an unused output is zero."""
    arguments = differentiable(recurrence_arguments())
    leaves = [x for x in arguments if isinstance(x, torch.Tensor)]
    outputs = OPS.recurrence(*arguments)[:2]
    expected = torch.autograd.grad(outputs[which].sum() + 0 * outputs[1 - which].sum(), leaves, retain_graph=True)
    for a, b in zip(expected, torch.autograd.grad(outputs[which].sum(), leaves)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("which", [0, 1])
def test_one_output_of_the_convolution_is_enough(which):
    arguments = differentiable(convolution_arguments(True, "silu", True, None))
    leaves = [x for x in arguments if isinstance(x, torch.Tensor)]
    outputs = OPS.short_conv(*arguments)
    expected = torch.autograd.grad(outputs[which].sum() + 0 * outputs[1 - which].sum(), leaves, retain_graph=True)
    for a, b in zip(expected, torch.autograd.grad(outputs[which].sum(), leaves, materialize_grads=True)):
        assert torch.equal(a, b)


def test_second_derivatives_are_refused():
    q, k, v, g, beta = (x.requires_grad_() for x in recurrence_arguments()[:5])
    x = torch.randn(1, 8, 4, requires_grad=True)
    for y in (klab.chunk_kda(q, k, v, g, beta)[0], klab.causal_conv1d(x, torch.randn(4, 4))[0],
              OPS.gated_rms_norm(x, torch.rand(4), x, "sigmoid", 1e-5), klab.fused_kda_gate(x, lower_bound=-5.0)):
        leaf = x if y.ndim == 3 else v
        gradient, = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
        with pytest.raises(NotImplementedError, match="differentiable once"):
            gradient.sum().backward()


def test_forward_mode_is_refused():
    q, k, v, g, beta = recurrence_arguments()[:5]
    x = torch.randn(1, 8, 4)
    for function, at in ((lambda v: klab.chunk_kda(q, k, v, g, beta)[0], v),
                         (lambda x: klab.causal_conv1d(x, torch.randn(4, 4))[0], x)):
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            torch.func.jvp(function, (at,), (at,))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(at, at)
            with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
                function(dual)


def test_nothing_is_kept_without_gradients():
    tensors = recurrence_arguments()[:5]
    outputs = []
    with Recorder(outputs):
        klab.chunk_kda(*tensors)
        with torch.no_grad():
            klab.chunk_kda(*(x.requires_grad_() for x in tensors))
        klab.chunk_kda(*(x.requires_grad_() for x in tensors))
    assert [states.numel() > 0 for *_, states in outputs] == [False, False, True]


class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
    """Appends the outputs of every call of klab::recurrence to a list."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is OPS.recurrence.default:
            self.outputs.append(result)
        return result


# --- Strides ----------------------------------------------------------------------------------------------------------


def strided(x, how):
    """The same values with other strides."""
    if how == "transposed":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if how == "sliced":
        return torch.stack([x, torch.full_like(x, torch.nan)], 2)[:, :, 0]
    return torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0]  # gaps inside a row


@pytest.mark.parametrize("how", ["transposed", "sliced", "gaps"])
@pytest.mark.parametrize("T", [1, 70])
def test_strides_do_not_matter(how, T):
    names = ("q", "k", "v", "g", "beta")
    plain = dict(zip(names, recurrence_arguments(T=T)[:5]))
    other = {name: strided(x, how).requires_grad_() for name, x in plain.items()}
    plain = {name: x.requires_grad_() for name, x in plain.items()}
    expected, actual = klab.chunk_kda(**plain)[0], klab.chunk_kda(**other)[0]
    assert torch.equal(expected, actual) and actual.is_contiguous()
    d_o = strided(torch.randn_like(expected), how)
    for name, a, b in zip(names, torch.autograd.grad(expected, list(plain.values()), d_o.contiguous()),
                          torch.autograd.grad(actual, list(other.values()), d_o)):
        assert torch.equal(a, b), name


# --- torch.compile ----------------------------------------------------------------------------------------------------


def kda_layer(x, weight, gate, q, k, v, g, beta, h0):
    """Calls convolution, recurrence and gated norm as in a layer."""
    v = v + klab.causal_conv1d(x, weight, activation="silu")[0].view(v.shape)
    o, state = klab.chunk_kda(q, k, v, g, beta, initial_state=h0, output_final_state=True, use_qk_l2norm_in_kernel=True)
    return torch.ops.klab.gated_rms_norm(o, weight[:v.shape[-1], 0], gate, "sigmoid", 1e-5), state


def layer_inputs(T):
    q, k, v, g, beta, _, _, h0 = recurrence_arguments(T=T)[:8]
    B, _, HV, V = v.shape
    inputs = [torch.randn(B, T, HV * V), torch.randn(HV * V, 4), torch.randn(B, T, HV, V), q, k, v, g, beta, h0]
    return [x.requires_grad_() for x in inputs]


def test_compile_a_layer():
    """One graph, forward and backward, for any length; the same results as in eager mode."""
    compiled = torch.compile(kda_layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for T in (70, 33, 130):
        inputs = layer_inputs(T)
        expected, actual = kda_layer(*inputs), compiled(*inputs)
        d = [torch.randn_like(x) for x in expected]
        for a, b in zip([*expected, *torch.autograd.grad(expected, inputs, d)],
                        [*actual, *torch.autograd.grad(actual, inputs, d)]):
            assert_close("compiled", a, b, 1e-6)


def count_graphs(function, calls):
    """Number of graphs that torch.compile(dynamic=True) creates for these argument lists; compares with eager mode."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, backend=counter, fullgraph=True, dynamic=True)
    for arguments in calls:
        for a, b in zip(function(*arguments), compiled(*arguments), strict=True):
            assert_close("compiled", a, b, 1e-6)
    return counter.frame_count


def packed_arguments(lengths):
    cuts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    q, k, v, g, beta, _, _, h0, cu_seqlens = recurrence_arguments(B=1, T=cuts[-1], cuts=cuts)[:9]
    return q, k, v, g, beta, h0, cu_seqlens


def test_one_graph_for_all_batch_sizes():
    def layer(q, k, v, g, beta, h0):
        return klab.chunk_kda(q, k, v, g, beta, initial_state=h0, output_final_state=True, use_qk_l2norm_in_kernel=True)

    calls = [[x for x in recurrence_arguments(B=B, T=T)[:8] if x is not None] for B, T in
             ((2, 70), (3, 70), (5, 33), (7, 130))]
    assert count_graphs(layer, calls) <= 2
    for arguments in calls:
        for x in arguments:
            x.requires_grad_()
    assert count_graphs(layer, calls) <= 2


def test_one_graph_for_any_number_of_sequences():
    def layer(q, k, v, g, beta, h0, cu_seqlens):
        v = v + klab.causal_conv1d(v.flatten(2), torch.ones(160, 4), cu_seqlens=cu_seqlens)[0].view(v.shape)
        return klab.chunk_kda(q, k, v, g, beta, initial_state=h0, output_final_state=True, cu_seqlens=cu_seqlens)

    assert count_graphs(layer, [packed_arguments(lengths) for lengths in ([3, 20], [5, 6, 7], [1, 2, 30, 4, 9])]) <= 2


def test_one_graph_for_any_length_of_cache():
    def attend(q, cache):
        return (klab.latent_attention(q, cache, 16, 0.2),)

    assert count_graphs(attend, [(torch.randn(2, 1, 4, 20), torch.randn(2, S, 20)) for S in (30, 31, 64, 200)]) <= 2


def test_one_graph_for_all_batch_sizes_of_a_convolution_with_a_state():
    def convolve(x, weight, state):
        return klab.causal_conv1d(x, weight, activation="silu", initial_state=state, output_final_state=True)

    calls = [(torch.randn(B, T, 12), torch.randn(12, 4), torch.randn(B, 12, 4)) for B, T in ((2, 9), (3, 9), (5, 30), (8, 17))]
    assert count_graphs(convolve, calls) <= 2


def test_one_graph_for_any_length_of_a_gate():
    def gate(g, A_log, dt_bias):
        return (klab.fused_kda_gate(g, A_log, dt_bias),)

    assert count_graphs(gate, [(torch.randn(B, T, 3, 8), torch.randn(3), torch.randn(24)) for B, T in
                               ((2, 7), (3, 9), (5, 100))]) <= 2


FUNCTIONS = {
    "chunk_kda": "q k v g beta", "fused_recurrent_kda": "q k v g beta", "chunk_gated_delta_rule": "q k v s beta",
    "fused_recurrent_gated_delta_rule": "q k v s beta", "chunk_delta_rule": "q k v beta",
    "fused_recurrent_delta_rule": "q k v", "chunk_gla": "q k v g", "fused_recurrent_gla": "q k v g",
    "chunk_simple_gla": "q k v s", "fused_recurrent_simple_gla": "q k v s", "chunk_dplr_delta_rule": "q k v a b g",
    "fused_recurrent_dplr_delta_rule": "q k v a b g",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compile(name):
    """Packed sequences with state_v_first in one graph, forward and backward."""
    every = dict(zip(NAMES, recurrence_arguments(B=1, cuts=[0, 3, 20], T=20)))
    every |= {"s": every["g"].mean(-1), "a": F.normalize(torch.randn(1, 20, 4, 36), dim=-1)}
    every["b"] = -every["a"]
    inputs = [every[key].clone().requires_grad_() for key in FUNCTIONS[name].split()]
    h0 = every["initial_state"].transpose(-1, -2).contiguous().requires_grad_()

    def call(h0, *inputs):
        o, state = getattr(klab, name)(*inputs, initial_state=h0, output_final_state=True, state_v_first=True,
                                       cu_seqlens=every["cu_seqlens"])
        return o * 2, state

    torch._dynamo.reset()  # 12 compilations of one function exceed dynamo's limit
    expected, actual = call(h0, *inputs), torch.compile(call, fullgraph=True, backend="aot_eager")(h0, *inputs)
    for a, b in zip([*expected, *torch.autograd.grad([x.sum() for x in expected], [h0, *inputs])],
                    [*actual, *torch.autograd.grad([x.sum() for x in actual], [h0, *inputs])]):
        assert_close("compiled", a, b, 1e-6)


def test_output_all_states_are_the_states_after_each_token():
    generator = torch.Generator().manual_seed(3)
    q, k, v, g = (torch.randn(2, 5, 2, 16, generator=generator) for _ in range(4))
    q, k, g, beta = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True), -g.abs(), torch.rand(2, 5, 2)
    o, states = klab.fused_recurrent_kda(q, k, v, g, beta, output_all_states=True)
    assert states.shape == (2, 5, 2, 16, 16)
    for T in range(1, 6):
        prefix, state = klab.fused_recurrent_kda(q[:, :T], k[:, :T], v[:, :T], g[:, :T], beta[:, :T],
                                                 output_final_state=True)
        torch.testing.assert_close(states[:, T - 1], state, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(o[:, :T], prefix, rtol=1e-5, atol=1e-6)
    _, v_first = klab.fused_recurrent_gated_delta_rule(q, k, v, g[..., 0], beta, output_all_states=True, state_v_first=True)
    assert v_first.shape == (2, 5, 2, 16, 16)
    with pytest.raises(klab.ArgumentError, match="output_all_states excludes gradients"):
        klab.fused_recurrent_kda(q.requires_grad_(), k, v, g, beta, output_all_states=True)
