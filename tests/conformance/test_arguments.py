# SPDX-License-Identifier: Apache-2.0
"""Invalid arguments raise an exception that names the argument; signatures of the public functions."""

import inspect
import os
import pathlib
import subprocess
import sys

import klab
import pytest
import torch

B, T, H, HV, K, V = 2, 6, 2, 4, 8, 12


def kda(**changed):
    named = {"q": torch.randn(B, T, H, K), "k": torch.randn(B, T, H, K), "v": torch.randn(B, T, HV, V),
             "g": -torch.rand(B, T, HV, K), "beta": torch.rand(B, T, HV)}
    return {**named, **changed}


def packed(**changed):
    return {name: x[:1] if isinstance(x, torch.Tensor) else x for name, x in kda().items()} | changed


WRONG = {
    "k": (kda(k=torch.randn(B, T, H, K + 1)), "k has shape"),
    "three dimensions": (kda(q=torch.randn(B, T, K)), "q must have four dimensions"),
    "v length": (kda(v=torch.randn(B, T + 1, HV, V)), "v has shape"),
    "heads": (kda(v=torch.randn(B, T, 3, V)), "multiple"),
    "too wide": (kda(v=torch.randn(B, T, HV, 257)), "at most 256"),
    "g of gdn": (kda(g=-torch.rand(B, T, HV)), "g has shape"),
    "g of the keys' heads": (kda(g=-torch.rand(B, T, H, K)), "g has shape"),
    "beta": (kda(beta=torch.rand(B, T, H)), "beta has shape"),
    "beta per value": (kda(beta=torch.rand(B, T, HV, V)), "beta has shape"),
    "state shape": (kda(initial_state=torch.randn(B, HV, V, K)), "initial_state has shape"),
    "state count": (kda(initial_state=torch.randn(B + 1, HV, K, V)), "initial_state holds 3 states"),
    "state dtype": (kda(initial_state=torch.randn(B, HV, K, V).bfloat16()), "initial_state has dtype"),
    "state of float64": (kda(initial_state=torch.randn(B, HV, K, V).double()), "initial_state has dtype"),
    "state v first": (kda(initial_state=torch.randn(B, HV, K, V), state_v_first=True), "initial_state has shape"),
    "packed batch": (kda(cu_seqlens=torch.tensor([0, T])), "batch of 1"),
    "packed states": (packed(cu_seqlens=torch.tensor([0, 2, T]), initial_state=torch.randn(1, HV, K, V)), "1 states"),
    "chunk size": (kda(chunk_size=48), "chunk_size"),
    "negative eigenvalues": (kda(allow_neg_eigval=True), "allow_neg_eigval"),
    "no A_log": (kda(use_gate_in_kernel=True), "A_log"),
    "safe gate": (kda(use_gate_in_kernel=True, A_log=torch.rand(HV), safe_gate=True), "lower_bound"),
    "lower bound": (kda(use_gate_in_kernel=True, lower_bound=-6.0), "lower_bound"),
    "lower bound above": (kda(use_gate_in_kernel=True, lower_bound=0.5), "lower_bound"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case):
    """flash-linear-attention raises ValueError or AssertionError, depending on the argument; ArgumentError is both."""
    arguments, message = WRONG[case]
    with pytest.raises(klab.ArgumentError, match=message):
        klab.chunk_kda(**arguments)
    assert issubclass(klab.ArgumentError, ValueError) and issubclass(klab.ArgumentError, AssertionError)
    if "chunk_size" not in arguments:
        with pytest.raises(ValueError, match=message):
            klab.fused_recurrent_kda(**arguments)


@pytest.mark.parametrize("offsets, message", [([0, 3], "T = 6"), ([1, 6], "run from 0"), ([0, 4, 4, 6], "rise"),
                                              ([0, 5, 3, 6], "rise")])
def test_wrong_offsets(offsets, message):
    with pytest.raises(ValueError, match=message):
        klab.chunk_kda(**packed(cu_seqlens=torch.tensor(offsets)))


@pytest.mark.parametrize("offsets, error, message", [
    ([0, 2, T], TypeError, r"must be a tensor of N \+ 1 integers, such as .*, but is \[0, 2, 6\]"),
    (torch.tensor(T), klab.ArgumentError, r"has shape \[\]"), (torch.tensor([0]), klab.ArgumentError, r"has shape \[1\]"),
    (torch.tensor([[0, T]]), klab.ArgumentError, r"has shape \[1, 2\]"),
    (torch.tensor([0.0, T]), ValueError, "integer offsets")])
def test_offsets_are_a_tensor_of_integers(offsets, error, message):
    for call in (lambda: klab.chunk_kda(**packed(cu_seqlens=offsets)),
                 lambda: klab.causal_conv1d(torch.randn(1, T, V), torch.randn(V, 4), cu_seqlens=offsets)):
        with pytest.raises(error, match="cu_seqlens.*" + message):
            call()


def test_what_is_no_tensor_is_named():
    q, cache = torch.ones(1, 1, 2, 8), torch.ones(1, 3, 8)
    wrong = [("q", lambda: klab.chunk_kda(**kda(q=[1.0] * 1000))), ("v", lambda: klab.chunk_kda(**kda(v=None))),
             ("initial_state", lambda: klab.chunk_kda(**kda(initial_state=0.0))),
             ("x", lambda: klab.causal_conv1d([1.0], torch.randn(V, 4))),
             ("weight", lambda: klab.causal_conv1d(torch.randn(1, T, V), None)),
             ("q", lambda: klab.latent_attention(None, cache, 4, 1.0)),
             ("cache", lambda: klab.latent_attention(q, [1.0], 4, 1.0)), ("g", lambda: klab.fused_kda_gate(1.0))]
    for name, call in wrong:
        with pytest.raises(TypeError, match=f": {name} must be a tensor") as raised:
            call()
        assert len(str(raised.value)) < 200
    with pytest.raises(klab.ArgumentError, match=r"initial_state must have four dimensions, but has shape \[\]"):
        klab.chunk_kda(**kda(initial_state=torch.tensor(0.0)))
    with pytest.raises(klab.ArgumentError, match=r"cache must be .*, but has shape \[8\]"):
        klab.latent_attention(q, torch.ones(8), 4, 1.0)


@pytest.mark.parametrize("changed", [{"A_log": torch.rand(H)}, {"A_log": torch.rand(HV), "dt_bias": torch.rand(HV)}])
def test_wrong_gate_parameters(changed):
    with pytest.raises(ValueError, match="A_log has shape|dt_bias has shape"):
        klab.chunk_kda(**kda(use_gate_in_kernel=True, **changed))


def test_integers_are_refused():
    with pytest.raises(ValueError, match="dtype"):
        klab.chunk_kda(**kda(v=torch.ones(B, T, HV, V, dtype=torch.int64)))
    with pytest.raises(TypeError, match="beta must be a tensor"):
        klab.chunk_kda(**kda(beta=0.5))
    with pytest.raises(TypeError, match="beta must be a tensor"):
        klab.chunk_kda(**kda(beta=None))


def test_other_keywords():
    expected = klab.chunk_kda(**kda())[0].shape
    same = klab.chunk_kda(**kda(), cu_seqlens_cpu=None, safe_gate=True, disable_recompute=True, cp_context=None,
                          return_intermediate_states=False)[0]
    assert same.shape == expected
    for refused in ({"cp_context": object()}, {"return_intermediate_states": True}, {"use_graph": True}):
        with pytest.raises(NotImplementedError, match=next(iter(refused))):
            klab.chunk_kda(**kda(), **refused)
    with pytest.raises(TypeError, match="outpt_final_state"):
        klab.chunk_kda(**kda(), outpt_final_state=True)


def test_legacy_keywords():
    q, k, v = (torch.randn(1, T, H, K) for _ in range(3))
    for call in (lambda: klab.chunk_kda(**kda(), head_first=True), lambda: klab.chunk_simple_gla(q, k, v, head_first=False)):
        with pytest.raises(DeprecationWarning, match="head_first"):
            call()
    with pytest.warns(DeprecationWarning, match="state_v_first"):
        state = klab.fused_recurrent_kda(**kda(), output_final_state=True, transpose_state_layout=True)[1]
    assert state.shape == (B, HV, V, K)
    with pytest.raises(ValueError, match="old name"):
        klab.chunk_kda(**kda(), state_v_first=True, transpose_state_layout=True)


def test_what_the_others_refuse():
    q, k, v = (torch.randn(1, T, H, K) for _ in range(3))
    g, per_head, beta = -torch.rand(1, T, H, K), -torch.rand(1, T, H), torch.rand(1, T, H)
    wrong = [
        (ValueError, "g has shape", lambda: klab.chunk_gated_delta_rule(q, k, v, g, beta)),
        (ValueError, "g and beta", lambda: klab.chunk_gated_delta_rule(q, k, v, None, beta)),
        (ValueError, "chunk_size", lambda: klab.chunk_gated_delta_rule(q, k, v, per_head, beta, chunk_size=128)),
        (ValueError, "A_log", lambda: klab.chunk_gated_delta_rule(q, k, v, per_head, beta, use_gate_in_kernel=True)),
        (NotImplementedError, "gv", lambda: klab.fused_recurrent_gated_delta_rule(q, k, v, per_head, beta, gv=g)),
        (ValueError, "scale", lambda: klab.fused_recurrent_delta_rule(q, k, v, scale=-1.0)),
        (ValueError, "g has shape", lambda: klab.chunk_gla(q, k, v, per_head)),
        (ValueError, "g is needed", lambda: klab.chunk_gla(q, k, v, None)),
        (NotImplementedError, "gv", lambda: klab.fused_recurrent_gla(q, k, v, g, gv=g)),
        (NotImplementedError, "reverse", lambda: klab.fused_recurrent_gla(q, k, v, g, reverse=True)),
        (ValueError, "exclude", lambda: klab.chunk_simple_gla(q, k, v, per_head, torch.rand(H))),
        (ValueError, "g_gamma has shape", lambda: klab.chunk_simple_gla(q, k, v, g_gamma=torch.rand(H + 1))),
        (ValueError, "power of 2", lambda: klab.chunk_simple_gla(q, k, v, per_head, chunk_size=48)),
        (ValueError, "a has shape", lambda: klab.chunk_dplr_delta_rule(q, k, v, per_head, g, g)),
        (ValueError, "lower_bound", lambda: klab.chunk_dplr_delta_rule(q, k, v, g, g, g, lower_bound=1.0)),
        (ValueError, "activation", lambda: klab.causal_conv1d(q.flatten(2), torch.rand(H * K, 4), activation="gelu")),
        (ValueError, "x has shape", lambda: klab.causal_conv1d(q.flatten(2), torch.rand(H * K + 1, 4))),
        (ValueError, "initial_state has shape",
         lambda: klab.causal_conv1d(q.flatten(2), torch.rand(H * K, 4), initial_state=torch.rand(1, H * K, 3))),
        (ValueError, "lower_bound", lambda: klab.fused_kda_gate(g)),
        (ValueError, "lower_bound", lambda: klab.fused_kda_gate(g, lower_bound=-7)),
    ]
    for kind, message, call in wrong:
        with pytest.raises(kind, match=message):
            call()


# --- Signatures -------------------------------------------------------------------------------------------------------

KDA = {"scale": None, "initial_state": None, "output_final_state": False, "use_qk_l2norm_in_kernel": False,
       "use_gate_in_kernel": False, "use_beta_sigmoid_in_kernel": False, "allow_neg_eigval": False, "A_log": None,
       "dt_bias": None, "lower_bound": None, "state_v_first": False, "cu_seqlens": None}
PROMISED = {
    "chunk_kda": ("q k v g beta", {**KDA, "chunk_size": None}), "fused_recurrent_kda": ("q k v g beta", KDA),
    "chunk_gated_delta_rule": ("q k v g beta", KDA), "fused_recurrent_gated_delta_rule": ("q k v g beta", KDA),
    "chunk_delta_rule": ("q k v beta", {}), "chunk_gla": ("q k v g", {}), "chunk_simple_gla": ("q k v g", {}),
    "chunk_dplr_delta_rule": ("q k v a b gk", {}),
    "causal_conv1d": ("x weight bias activation initial_state cu_seqlens", {"bias": None, "activation": None,
                                                                            "initial_state": None, "cu_seqlens": None}),
}
EVERYWHERE = {"scale": None, "initial_state": None, "output_final_state": False, "cu_seqlens": None}


@pytest.mark.parametrize("name", PROMISED)
def test_signatures(name):
    first, defaults = PROMISED[name]
    parameters = inspect.signature(getattr(klab, name)).parameters
    assert list(parameters)[:len(first.split())] == first.split()
    for argument, default in (defaults or EVERYWHERE).items():
        assert parameters[argument].default is default


FLA = {"kda": "chunk_kda", "gated_delta_rule": "chunk_gated_delta_rule", "delta_rule": "chunk_delta_rule",
       "gla": "chunk_gla", "simple_gla": "chunk_simple_gla", "generalized_delta_rule/dplr": "chunk_dplr_delta_rule"}


@pytest.mark.parametrize("form", ["chunk", "fused_recurrent"])
@pytest.mark.parametrize("folder", FLA)
def test_every_argument_of_fla_is_known(folder, form):
    """Every argument in fla-core's source is supported, accepted without effect, or rejected by name."""
    import ast
    import importlib.util

    from klab import _arguments

    package = pathlib.Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    name = FLA[folder].replace("chunk", form)
    tree = ast.parse((package / "ops" / folder / f"{form}.py").read_text())
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    known = {*inspect.signature(getattr(klab, name)).parameters, *_arguments._WITHOUT_EFFECT, *_arguments._REFUSED}
    assert {argument.arg for argument in function.args.args} <= known


# --- The library ------------------------------------------------------------------------------------------------------


def test_a_missing_library_says_what_to_do(tmp_path):
    package = str(pathlib.Path(klab.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": package, "KLAB_LIBRARY": str(tmp_path / "nowhere.so")}
    done = subprocess.run([sys.executable, "-c", "import klab"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError" in done.stderr and "nowhere.so" in done.stderr and "./klab build" in done.stderr


def test_where_the_library_is_looked_for(monkeypatch):
    from klab import _library

    monkeypatch.delenv("KLAB_LIBRARY", raising=False)
    inside, built = _library.candidates()
    assert inside.parent.name == "klab" and built.parts[-3:] == ("build", "lib", "libklab_kernels.so")
