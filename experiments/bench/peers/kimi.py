# SPDX-License-Identifier: Apache-2.0
"""Times a Kimi-shaped model of 0.8 B parameters in bfloat16 with klab and transformers, and the memory bandwidth.

    python experiments/bench/peers/kimi.py [--threads N] [--rounds N] [--keep DIR] [--out FILE]

Creates a checkpoint with random weights in the public layout (8 layers of width 1024: 6 KDA, 2 MLA; 64 experts of 512, 8
routed and one shared expert per token). klab and transformers alternately prefill a prompt of 2,048 tokens and decode 64;
reports medians. Prints a table and writes CSV. Takes about five minutes on two cores and 6 GB of memory. Needs the packages
of tests/conformance/requirements.txt and the built program (./klab build).

ratio is the peer's time over klab's: above 1 klab is faster. Active weights are the weights that one token uses. The reading
stream is the bandwidth of sums over 2 GB of memory, measured between the runs: the median, and because it varies by a factor
of two within seconds on a shared machine, also the slowest and the fastest. share_of_stream is the time for reading the
active weights at the median bandwidth, divided by the time per decoded token.
"""

import argparse
import csv
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.modules["fla"] = None  # on a CPU, transformers would call its Triton kernels and fail

import torch  # noqa: E402
import transformers  # noqa: E402
from provenance import header  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
PROMPT, ANSWER = 2048, 64
SHAPE = dict(
    vocab_size=32768, hidden_size=1024, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8,
    kv_lora_rank=512, q_lora_rank=None, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    intermediate_size=4096, moe_intermediate_size=512, num_experts=64, num_experts_per_token=8, num_shared_experts=1,
    first_k_dense_replace=1, routed_scaling_factor=2.446, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=None,
    pad_token_id=0, model_max_length=1 << 20,
    linear_attn_config=dict(head_dim=128, num_heads=8, short_conv_kernel_size=4, full_attn_layers=[4, 8],
                            kda_layers=[1, 2, 3, 5, 6, 7]))
COLUMNS = ["what", "klab", "transformers", "ratio", "unit"]


def make_model(folder):
    torch.manual_seed(0)
    config = transformers.KimiLinearConfig(**SHAPE)
    with torch.device("cpu"):
        model = transformers.KimiLinearForCausalLM(config).to(torch.bfloat16).eval()
    for name, parameter in model.named_parameters():  # float32, as in the published checkpoint
        if name.endswith(("A_log", "dt_bias")):
            parameter.data = parameter.data.float()
    model.save_pretrained(folder)
    return model


def run_transformers(model, prompt):
    """(seconds of the prefill, seconds per decoded token)."""
    with torch.no_grad():
        start = time.perf_counter()
        out = model(prompt, use_cache=True, logits_to_keep=1)
        prefill = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(ANSWER - 1):
            token = out.logits[:, -1:].argmax(-1)
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
        return prefill, (time.perf_counter() - start) / (ANSWER - 1)


def run_klab(folder, prompt, threads, *flags):
    tokens = ",".join(map(str, prompt[0].tolist()))
    command = [str(ROOT / "klab"), "generate", "--model", folder, "--tokens", tokens, "--json",
               "--max-new-tokens", str(ANSWER), "--ignore-eos", "--quiet", "--threads", str(threads), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    answer = json.loads(done.stdout)
    return answer["prefill_seconds"], 1 / answer["decode_tokens_per_second"]


def active_bytes(folder):
    done = subprocess.run([str(ROOT / "build" / "bin" / "klab"), "model", folder, "--json", "--dtype", "bfloat16"],
                          capture_output=True, text=True, check=True)
    model = json.loads(done.stdout)
    embedding = SHAPE["vocab_size"] * SHAPE["hidden_size"]  # a token reads only one row of it
    return 2 * (model["activated_parameters"] - embedding)


def stream(memory):
    start = time.perf_counter()
    memory.sum()
    return memory.nbytes / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", help="folder for the checkpoint, which is then not deleted")
    parser.add_argument("--out", default=str(ROOT / "out" / "bench" / "kimi_model.csv"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.keep or tempfile.mkdtemp(prefix="klab-kimi-")
    try:
        measure(folder, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


def measure(folder, options):
    model = make_model(folder)
    prompt = torch.randint(2, SHAPE["vocab_size"], (1, PROMPT))
    memory = torch.ones(1 << 29)  # 2 GB
    times = {"transformers": [], "klab": [], "klab int8": []}
    speeds = []
    run_transformers(model, prompt[:, :64])
    for _ in range(options.rounds):
        times["klab"].append(run_klab(folder, prompt, options.threads))
        times["klab int8"].append(run_klab(folder, prompt, options.threads, "--dtype", "int8"))
        speeds += [stream(memory) for _ in range(3)]
        times["transformers"].append(run_transformers(model, prompt))
        speeds += [stream(memory) for _ in range(3)]
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in times.items()}
    write(report(medians, active_bytes(folder), speeds), options)


def report(medians, active, speeds):
    speed = statistics.median(speeds)
    ours, int8, theirs = medians["klab"], medians["klab int8"], medians["transformers"]
    rows = []
    for name, mine in (("bfloat16", ours), ("int8", int8)):
        rows.append([f"{name}: prefill of {PROMPT}", PROMPT / mine[0], PROMPT / theirs[0], theirs[0] / mine[0],
                     "tokens/s"])
        rows.append([f"{name}: decode after it", 1 / mine[1], 1 / theirs[1], theirs[1] / mine[1], "tokens/s"])
    rows.append(["active weights, bfloat16", active / 1e9, "", "", "GB"])
    rows.append(["reading stream: median", speed / 1e9, "", "", "GB/s"])
    rows.append(["reading stream: slowest", min(speeds) / 1e9, "", "", "GB/s"])
    rows.append(["reading stream: fastest", max(speeds) / 1e9, "", "", "GB/s"])
    rows.append(["bfloat16: share_of_stream", active / speed / ours[1], "", "", "1"])
    return rows


def write(rows, options):
    def cell(value):
        return f"{value:.4g}" if isinstance(value, float) else value

    path = pathlib.Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        file.writelines(f"{line}\n" for line in header("experiments/bench/peers/kimi.py", options.threads,
                                                       [torch, transformers]))
        csv.writer(file).writerows([COLUMNS, *[[cell(value) for value in row] for row in rows]])
    for row in [COLUMNS, *rows]:
        print("{:32} {:>10} {:>12} {:>8}  {}".format(*[cell(value) for value in row]))


if __name__ == "__main__":
    main()
