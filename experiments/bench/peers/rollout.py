# SPDX-License-Identifier: Apache-2.0
"""Times how fast klab and transformers sample answers for reinforcement learning.

    python experiments/bench/peers/rollout.py [--quick] [--threads N] [--rounds N] [--patterns ...] [--out FILE]

4 layers of width 128 with 4 heads of 32 and SwiGLU, 20 tokens in the vocabulary, float32: three KDA layers and one of MLA,
beside transformers' Kimi Linear with dense layers; and MLA with rotary positions in all layers, beside transformers'
DeepSeek-V3 with dense layers. Both are the same function with the same weights: the peers load those of a run of klab and
must give its greedy answers to prompts of different lengths, else nothing is timed. 8 prompts of 12 to 20 tokens, 8 answers
of 64 tokens to each, temperature 1, no end token. klab (`klab bench --rollout`, a process per round) and transformers
(`generate`, prompts padded on the left, num_return_sequences=8, cache in use) take turns; numbers are medians over rounds.
Prints a table and writes CSV. Takes about three minutes on two cores, --quick (a tiny model, one round) under one. Needs the
packages of tests/conformance/requirements.txt and the built program.

ratio is klab's tokens per second over the peer's; tokens are those of answers, and times include reading the prompts.
peer_first_token is the share of the peer's time for the prompts and the first token. update_tokens_per_second, rollout,
reward and update are klab's: the speed of an update on these answers, and shares of an iteration's time. The other columns
are shares of the time of klab's rollouts: see experiments/bench/rollout.h.
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers
from provenance import header, write_rows
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("KLAB_PROGRAM", str(ROOT / "build" / "bin" / "klab"))
ROTARY = "mla_rope"
PATTERNS = ["kda*3,mla", ROTARY]
HEAD, VOCABULARY = 32, 20
COLUMNS = ["pattern", "width", "klab_tokens_per_second", "peer", "peer_tokens_per_second", "ratio", "peer_first_token"]
COMPARED = 24  # tokens of greedy answers


def klab(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


class Workload:
    def __init__(self, pattern, width, layers, prompts, samples, new_tokens):
        self.pattern, self.width, self.layers = pattern, width, layers
        self.samples, self.new_tokens = samples, new_tokens
        self.heads = max(1, width // HEAD)
        generator = torch.Generator().manual_seed(0)
        self.prompts = [torch.randint(VOCABULARY, (12 + 5 * i % 9,), generator=generator) for i in range(prompts)]

    def make_weights(self, folder):
        """Trains one step of supervised learning, and writes the run to folder/run, and to folder/public if that layout has
        the mixers."""
        model = {"pattern": self.pattern, "layers": self.layers, "width": self.width, "heads": self.heads,
                 "head_dim": HEAD, "vocab": VOCABULARY}
        klab("--quiet", "--out", folder / "run", "train", "--task.name", "question", "--train.steps", 1, "--train.batch", 1,
             "--train.eval_examples", 1, "--test.examples", 1,
             *(word for key, value in model.items() for word in (f"--model.{key}", value)))
        if self.pattern != ROTARY:
            klab("--quiet", "export", folder / "run", "--out", folder / "public")

    def klab_answers(self, folder):
        """Greedy answers, one to each prompt."""
        rows = ";".join(",".join(map(str, prompt.tolist())) for prompt in self.prompts)
        return json.loads(klab("--quiet", "generate", "--json", "--model", folder / "run", "--tokens", rows,
                               "--max-new-tokens", COMPARED, "--ignore-eos"))["tokens"]

    def klab_speed(self, folder, threads, seconds):
        """The row of `klab bench --rollout`, by column."""
        out = folder / "speed.csv"
        klab("bench", "--rollout", self.pattern, "--layers", self.layers, "--head-dim", HEAD, "--widths", self.width,
             "--prompts", len(self.prompts), "--samples", self.samples, "--prompt-tokens", 16, "--new-tokens",
             self.new_tokens, "--seconds", seconds / 10, "--threads", threads, "--out", out)
        rows = csv.DictReader(line for line in out.read_text().splitlines() if not line.startswith("#"))
        return {name: float(cell.rstrip("%")) / (100 if cell.endswith("%") else 1) for name, cell in next(rows).items()}


def padded(prompts):
    """(tokens, mask), padded on the left."""
    longest = max(map(len, prompts))
    tokens = [torch.nn.functional.pad(prompt, (longest - len(prompt), 0)) for prompt in prompts]
    masks = [torch.arange(longest) >= longest - len(prompt) for prompt in prompts]
    return torch.stack(tokens), torch.stack(masks).long()


class Peer:
    """A model of transformers."""

    def __init__(self, name, model, workload):
        self.name, self.model, self.workload = name, model.eval(), workload

    @torch.inference_mode()
    def answers(self, new_tokens, **options):
        """[answers, new_tokens]"""
        tokens, mask = padded(self.workload.prompts)
        out = self.model.generate(tokens, attention_mask=mask, max_new_tokens=new_tokens, eos_token_id=None,
                                  pad_token_id=0, **options)
        return out[:, tokens.shape[1]:]

    def sample(self, new_tokens):
        return self.answers(new_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                            num_return_sequences=self.workload.samples)

    def speed(self):
        """(tokens per second, share of the time for the prompts and the first token)"""
        start = time.perf_counter()
        self.sample(1)
        first = time.perf_counter()
        out = self.sample(self.workload.new_tokens)
        seconds = time.perf_counter() - first
        return out.numel() / seconds, (first - start) / seconds


OF_LAYER = {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "mixer.kv_a_proj":
            "self_attn.kv_a_proj_with_mqa", "mixer.kv_a_norm": "self_attn.kv_a_layernorm"}


def deepseek_name(name):
    """The name in transformers' DeepSeek-V3 of a parameter of klab."""
    if name == "embedding":
        return "model.embed_tokens.weight"
    if not name.startswith("layer"):
        return name if name.startswith("lm_head") else f"model.{name}"
    layer, _, rest = name.removeprefix("layer").partition(".")
    rest, _, weight = rest.rpartition(".")
    return f"model.layers.{layer}.{OF_LAYER.get(rest, rest.replace('mixer', 'self_attn'))}.{weight}"


def deepseek(workload, run):
    """transformers' DeepSeek-V3 with dense layers and the weights of a run of pattern mla_rope."""
    config = transformers.DeepseekV3Config(
        vocab_size=VOCABULARY, hidden_size=workload.width, intermediate_size=(8 * workload.width // 3 + 7) // 8 * 8,
        num_hidden_layers=workload.layers, first_k_dense_replace=workload.layers, num_attention_heads=workload.heads,
        num_key_value_heads=workload.heads, kv_lora_rank=4 * HEAD, q_lora_rank=None, qk_nope_head_dim=HEAD,
        qk_rope_head_dim=HEAD // 2, v_head_dim=HEAD, rope_interleave=False, rms_norm_eps=1e-5, bos_token_id=None,
        eos_token_id=None, pad_token_id=0)
    model = transformers.DeepseekV3ForCausalLM(config)
    weights = load_file(run / "checkpoint" / "last.safetensors")
    model.load_state_dict({deepseek_name(name[6:]): x for name, x in weights.items() if name.startswith("model.")})
    return model


def peer_of(workload, folder):
    if workload.pattern == ROTARY:
        return Peer("transformers DeepSeek-V3", deepseek(workload, folder / "run"), workload)
    return Peer("transformers Kimi Linear", transformers.KimiLinearForCausalLM.from_pretrained(folder / "public"), workload)


def check(peer, expected):
    """Exits unless the peer gives klab's greedy answers."""
    answers = peer.answers(COMPARED, do_sample=False).tolist()
    for i, (theirs, ours) in enumerate(zip(answers, expected)):
        if theirs != ours:
            sys.exit(f"{peer.name}: the greedy answer to prompt {i} is {theirs}, klab's is {ours}; nothing was timed")


def race(workload, options, seconds):
    """(klab's medians by column, the peer's name, its medians)."""
    with tempfile.TemporaryDirectory(prefix="klab-bench-") as name:
        folder = pathlib.Path(name)
        workload.make_weights(folder)
        peer = peer_of(workload, folder)
        check(peer, workload.klab_answers(folder))
        peer.sample(2)  # a warm-up
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(workload.klab_speed(folder, options.threads, seconds))
            theirs.append(peer.speed())
    return ({name: statistics.median(row[name] for row in ours) for name in ours[0]}, peer.name,
            [statistics.median(column) for column in zip(*theirs)])


def row_of(pattern, klab_medians, peer, peer_medians):
    rest = dict(klab_medians)
    width, ours, update = (rest.pop(name) for name in ("width", "rollout tokens/s", "update tokens/s"))
    rest.pop("ms per iteration")
    return {"pattern": pattern, "width": round(width), "klab_tokens_per_second": ours, "peer": peer,
            "peer_tokens_per_second": peer_medians[0], "ratio": ours / peer_medians[0],
            "peer_first_token": peer_medians[1], "update_tokens_per_second": update,
            "ms_per_token_step": rest.pop("ms per token step"), **rest}


def write(rows, options):
    comments = header("experiments/bench/peers/rollout.py", options.threads, [torch, transformers])
    write_rows(options.out, comments, rows, digits=5)
    for row in rows:
        print("{pattern}, width {width}: klab {klab_tokens_per_second:.0f} tokens/s, {peer} {peer_tokens_per_second:.0f}, "
              "ratio {ratio:.2f}; klab's update {update_tokens_per_second:.0f} tokens/s".format(**row))
        shares = ", ".join(f"{name} {row[name]:.1%}" for name in list(row)[len(COLUMNS) + 2:])
        print(f"klab's iteration and rollout: {shares}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models, one round: tests the script")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=PATTERNS)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "bench" / "rollout.csv")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.modules["fla"] = None  # on a CPU, transformers would call its Triton kernels and fail
    if options.quick:
        options.rounds = 1
    transformers.utils.logging.set_verbosity_error()
    rows = []
    for pattern in options.patterns:
        workload = Workload(pattern, 64, 4, 3, 2, 8) if options.quick else Workload(pattern, 128, 4, 8, 8, 64)
        rows.append(row_of(pattern, *race(workload, options, seconds=0.5 if options.quick else 2)))
    write(rows, options)


if __name__ == "__main__":
    main()
