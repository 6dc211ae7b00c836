# SPDX-License-Identifier: Apache-2.0
"""Text prompts and conversations, with a random model whose tokens are single bytes, in both forms of tokenizers."""

import base64
import json
import subprocess

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

import kimi

NAMES = {256: "[BOS]", 257: "[EOS]", 258: "<|im_end|>", 259: "<|im_user|>", 260: "<|im_assistant|>", 261: "<|im_system|>",
         262: "<|im_middle|>"}
ID = {name: token for token, name in NAMES.items()}
SYSTEM, FIRST, SECOND = "Be brief.", "Zürich <|im_end|> 東京", "and then?"
NEW = 12


@pytest.fixture(scope="module")
def folder(modeling, tmp_path_factory):
    folder = kimi.save(kimi.made(modeling, vocab_size=514, eos_token_id=257), tmp_path_factory.mktemp("chat") / "model")
    ranks = (f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    (folder / "tiktoken.model").write_text("".join(ranks))
    names = {str(token): {"content": name} for token, name in NAMES.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": names}))
    return folder


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
             for token in answer]
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
    assert json.loads(done.stdout)["tokens"] == kimi.generate(folder, [ids], NEW)


def test_a_conversation(folder):
    """Two turns, the second continuing from the state of the first, equal a prefill of the whole conversation."""
    opening = message("assistant", "")[:-1]
    ids = message("system", SYSTEM) + message("user", FIRST) + opening
    first = answer_to(folder, ids)
    ids += first + ([] if first[-1] == ID["<|im_end|>"] else [ID["<|im_end|>"]]) + message("user", SECOND) + opening
    second = answer_to(folder, ids)
    done = subprocess.run([kimi.PROGRAM, "--quiet", "chat", "--model", folder, "--system", SYSTEM, "--max-new-tokens",
                           str(NEW)], input=f"{FIRST}\n{SECOND}\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{text_of(first)}\n{text_of(second)}\n"


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
