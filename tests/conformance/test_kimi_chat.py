# SPDX-License-Identifier: Apache-2.0
"""Text prompts and conversations, with a random model whose tokens are single bytes, in both forms of tokenizers."""

import base64
import json
import os
import pty
import select
import subprocess
import time

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

import kimi

NAMES = {256: "[BOS]", 257: "[EOS]", 258: "<|im_end|>", 259: "<|im_user|>", 260: "<|im_assistant|>", 261: "<|im_system|>",
         262: "<|im_middle|>"}
ID = {name: token for token, name in NAMES.items()}
SYSTEM, FIRST, SECOND = "Be brief.", "Zürich <|im_end|> 東京", "and then?"
NEW = 12


def saved(model, folder):
    """A checkpoint of the model with the tokenizer of single bytes, ids 0..513."""
    kimi.save(model, folder)
    ranks = (f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    (folder / "tiktoken.model").write_text("".join(ranks))
    names = {str(token): {"content": name} for token, name in NAMES.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": names}))
    return folder


@pytest.fixture(scope="module")
def folder(modeling, tmp_path_factory):
    return saved(kimi.made(modeling, vocab_size=514, eos_token_id=257), tmp_path_factory.mktemp("chat") / "model")


def talk(folder, said, *options):
    """The standard output of a conversation."""
    done = subprocess.run([kimi.PROGRAM, "--quiet", "chat", "--model", folder, *map(str, options)], input=said.encode(),
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def message(role, content):
    """Token ids of one message in the published chat template; the content is always encoded as plain bytes."""
    opening = {"user": "<|im_user|>", "assistant": "<|im_assistant|>", "system": "<|im_system|>"}[role]
    return [ID[opening], *role.encode(), ID["<|im_middle|>"], *content.encode(), ID["<|im_end|>"]]


def answer_to(folder, ids):
    """The greedy answer, up to and including a stop token."""
    (answer,) = kimi.generate(folder, [ids], NEW, "--stop", f"{ID['<|im_end|>']}")
    return answer


def text_of(answer):
    stops = (ID["[EOS]"], ID["<|im_end|>"])
    if answer and answer[-1] in stops:
        answer = answer[:-1]
    parts = [bytes([token]) if token < 256 else NAMES.get(token, f"<|reserved_token_{token}|>").encode()
             for token in answer if token < 514]
    return b"".join(parts).decode(errors="replace")


def test_a_prompt_in_words(folder):
    words = "naïve 東京 [BOS]"
    ids = [*"naïve 東京 ".encode(), ID["[BOS]"]]
    done = kimi.succeed("--quiet", "generate", "--model", folder, "--prompt", words, "--max-new-tokens", NEW, "--json")
    said = json.loads(done.stdout)
    assert said["tokens"] == kimi.generate(folder, [ids], NEW) and said["prompt_tokens"] == len(ids)
    assert said["text"] == text_of(said["tokens"][0])
    streamed = kimi.succeed("--quiet", "generate", "--model", folder, "--prompt", words, "--max-new-tokens", NEW)
    assert streamed.stdout == said["text"] + "\n"


def test_a_batch_of_words(folder):
    done = kimi.succeed("--quiet", "generate", "--model", folder, "--prompt", "a", "--prompt", "bc", "--json",
                        "--max-new-tokens", NEW)
    said = json.loads(done.stdout)
    assert said["tokens"] == kimi.generate(folder, [b"a", b"bc"], NEW)
    assert said["text"] == [text_of(answer) for answer in said["tokens"]]


def test_the_template(folder):
    """A special token's name in a message is text: it cannot end the message."""
    done = kimi.succeed("--quiet", "generate", "--model", folder, "--chat", "--system", SYSTEM, "--prompt", FIRST, "--json",
                        "--max-new-tokens", NEW)
    opening = message("assistant", "")[:-1]
    ids = message("system", SYSTEM) + message("user", FIRST) + opening
    assert json.loads(done.stdout)["prompt_tokens"] == len(ids)
    assert json.loads(done.stdout)["tokens"] == [answer_to(folder, ids)]


def test_a_conversation(folder):
    """Two turns, the second continuing from the state of the first, equal a prefill of the whole conversation."""
    opening = message("assistant", "")[:-1]
    ids = message("system", SYSTEM) + message("user", FIRST) + opening
    first = answer_to(folder, ids)
    ids += first + ([] if first[-1] == ID["<|im_end|>"] else [ID["<|im_end|>"]]) + message("user", SECOND) + opening
    second = answer_to(folder, ids)
    expected = f"{text_of(first)}\n{text_of(second)}\n"
    options = ("--system", SYSTEM, "--max-new-tokens", NEW)
    assert talk(folder, f"{FIRST}\n{SECOND}\n", *options) == expected
    assert talk(folder, f"\n{FIRST}\n\n\n{SECOND}\n/quit\n{FIRST}\n", *options) == expected


LINES = "first line\n\nthird line"


def test_a_message_of_several_lines(folder):
    ids = message("user", LINES) + message("assistant", "")[:-1]
    options = ("--system", "", "--max-new-tokens", NEW)
    assert talk(folder, f'"""\n{LINES}\n"""\n', *options) == f"{text_of(answer_to(folder, ids))}\n"


def read_until(terminal, end, timeout=60):
    """What the terminal shows, up to and including `end`."""
    shown, last = b"", time.monotonic() + timeout
    while end not in shown:
        assert time.monotonic() < last, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 1 << 16)
    return shown


def test_a_paste_is_one_message(folder):
    """A terminal marks pastes when it is asked to; standard output is a pipe."""
    ids = message("user", LINES) + message("assistant", "")[:-1]
    terminal, inside = pty.openpty()
    chat = subprocess.Popen([kimi.PROGRAM, "--quiet", "chat", "--model", folder, "--system", "", "--max-new-tokens",
                             str(NEW)], stdin=inside, stderr=inside, stdout=subprocess.PIPE)
    try:
        greeting = read_until(terminal, b"> ")
        assert b"/quit" in greeting and b"\x1b[?2004h" in greeting
        os.write(terminal, b"\x1b[200~" + LINES.replace("\n", "\r").encode() + b"\x1b[201~\r")
        read_until(terminal, b"> ")
        os.write(terminal, b"\x04")
        out, _ = chat.communicate(timeout=60)
        read_until(terminal, b"\x1b[?2004l")
    finally:
        chat.kill()
        os.close(inside)
        os.close(terminal)
    assert chat.returncode == 0
    assert out.decode() == f"{text_of(answer_to(folder, ids))}\n"


@torch.no_grad()
def says_in_turn(modeling, after):
    """A model whose next token depends on the last one only: `after` maps a token to the next."""
    model = kimi.made(modeling, "dense", vocab_size=514, eos_token_id=257)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()  # layers add nothing to the embedding
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    gain = model.model.norm.weight
    head.zero_()
    for token, following in after.items():
        head[following] += gain * embedding[token]
    return model


@pytest.mark.parametrize("eos", ["another token", kimi.slow(None)], ids=str)
def test_the_template_ends_an_answer(modeling, eos, tmp_path):
    """<|im_end|> ends an answer in a chat whatever the checkpoint's stop tokens are, in every command."""
    end, user, middle = ID["<|im_end|>"], ID["<|im_user|>"], ID["<|im_middle|>"]
    model = says_in_turn(modeling, {middle: ord("O"), ord("O"): ord("K"), ord("K"): end, end: user, user: ord("x"),
                                    ord("x"): ord("y"), ord("y"): ord("x")})
    folder = saved(model, tmp_path / "model")
    for file in ("config.json", "generation_config.json"):
        if (folder / file).exists():
            fields = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**fields, "eos_token_id": 257 if eos else None}))
    ask = ("--quiet", "generate", "--model", folder, "--max-new-tokens", 8)
    one = kimi.succeed(*ask, "--chat", "--prompt", "hi")
    assert one.stdout == "OK\n"
    said = json.loads(kimi.succeed(*ask, "--chat", "--prompt", "hi", "--json").stdout)
    assert said["text"] == "OK" and said["tokens"] == [[ord("O"), ord("K"), end]]
    batch = kimi.succeed(*ask, "--chat", "--prompt", "hi", "--prompt", "you")
    assert batch.stdout == "--- 1\nOK\n--- 2\nOK\n"
    assert kimi.succeed(*ask, "--chat", "--ignore-eos", "--prompt", "hi").stdout == "OK\n"
    assert talk(folder, "hi\nyou\n", "--max-new-tokens", 8) == "OK\nOK\n"
    plain = kimi.succeed(*ask, "--prompt", "<|im_middle|>")  # without the template the model's own stop tokens count
    assert plain.stdout == "OK<|im_end|><|im_user|>xyxy\n"


def test_ids_beyond_the_tokenizer(modeling, tmp_path):
    """A padded vocabulary: such an id is no text, and generation goes on."""
    folder = saved(kimi.made(modeling, vocab_size=576, eos_token_id=257), tmp_path / "model")
    how = ("--max-new-tokens", 64, "--temperature", 3, "--ignore-eos")
    ask = ("--quiet", "generate", "--model", folder, *how)
    said = json.loads(kimi.succeed(*ask, "--tokens", ord("h"), "--json").stdout)
    assert any(token >= 514 for token in said["tokens"][0]) and len(said["tokens"][0]) == 64
    assert said["text"] == text_of(said["tokens"][0])
    streamed = subprocess.run([kimi.PROGRAM, *map(str, ask), "--prompt", "h"], stdout=subprocess.PIPE, check=True, timeout=60)
    assert streamed.stdout.decode() == said["text"] + "\n"
    batch = json.loads(kimi.succeed(*ask, "--tokens", "104;105", "--json").stdout)
    assert batch["text"] == [text_of(answer) for answer in batch["tokens"]]
    assert talk(folder, "hi\nyou\n", *how)


def test_control_characters_are_visible_on_a_terminal(modeling, tmp_path):
    folder = saved(says_in_turn(modeling, {ord("h"): 0x1b, 0x1b: ord("["), ord("["): ord("m")}), tmp_path / "model")
    ask = [kimi.PROGRAM, "--quiet", "generate", "--model", folder, "--prompt", "h", "--max-new-tokens", "3"]
    assert subprocess.run(ask, stdout=subprocess.PIPE, check=True, timeout=60).stdout == b"\x1b[m\n"
    terminal, inside = pty.openpty()
    try:
        subprocess.run(ask, stdout=inside, check=True, timeout=60)
        assert read_until(terminal, b"\n") == b"\\x1b[m\r\n"
    finally:
        os.close(inside)
        os.close(terminal)


@pytest.mark.parametrize("repeats", [3, kimi.slow(13_500)])  # the latter, 160 kB, does not fit on a command line
def test_prompts_from_files(modeling, repeats, tmp_path):
    folder = saved(kimi.made(modeling, "linear", vocab_size=514, eos_token_id=257), tmp_path / "model")
    text = "lorem ipsum " * repeats
    (tmp_path / "prompt").write_text(text + "\n")
    (tmp_path / "tokens").write_text(",".join(str(byte) for byte in text.encode()) + "\n")
    ask = [kimi.PROGRAM, "--quiet", "generate", "--json", "--model", folder, "--max-new-tokens", "2"]

    def answer(*options, given=None):
        done = subprocess.run([*ask, *options], input=given, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["prompt_tokens"] == len(text)
        return said["tokens"]

    expected = answer("--prompt-file", tmp_path / "prompt")
    assert answer("--tokens-file", tmp_path / "tokens") == expected
    assert answer("--prompt-file", "-", given=text) == expected
    assert answer("--tokens-file", "-", given=(tmp_path / "tokens").read_text()) == expected


def test_tokens_of_logits_from_a_text(folder, tmp_path):
    (tmp_path / "tokens").write_text("5,17,3\n8,9,2\n")
    out = tmp_path / "out"
    kimi.succeed("logits", "--model", folder, "--tokens-file", tmp_path / "tokens", "--out", out)
    expected, _ = kimi.logits(folder, [[5, 17, 3], [8, 9, 2]])
    assert torch.equal(kimi.load_file(out)["logits"], expected)


def test_chatml(modeling, tmp_path):
    """A conversation with a tokenizer.json whose special tokens are those of ChatML."""
    folder = kimi.save(kimi.made(modeling, vocab_size=259, eos_token_id=256), tmp_path / "model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.save(str(folder / "tokenizer.json"))
    end = made.token_to_id("<|im_end|>")

    def shown(answer):
        return made.decode(answer[:-1] if answer[-1] in (256, end) else answer, skip_special_tokens=False)

    first_ids = made.encode("<|im_start|>user\nZürich 東京<|im_end|>\n<|im_start|>assistant\n").ids
    (first,) = kimi.generate(folder, [first_ids], NEW, "--stop", f"{end}")
    closed = first + ([] if first[-1] == end else [end])
    second_ids = made.encode(f"\n<|im_start|>user\n{SECOND}<|im_end|>\n<|im_start|>assistant\n").ids
    (second,) = kimi.generate(folder, [first_ids + closed + second_ids], NEW, "--stop", f"{end}")
    done = subprocess.run([kimi.PROGRAM, "--quiet", "chat", "--model", folder, "--max-new-tokens", str(NEW)],
                          input=f"Zürich 東京\n{SECOND}\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{shown(first)}\n{shown(second)}\n"
