# SPDX-License-Identifier: Apache-2.0
"""tokenizer.json against the tokenizers package, with byte-level BPE trained here."""

import json
import random
import subprocess
import unicodedata

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from test_tokenizer import PROGRAM, SENTENCES, assigned

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The patterns published with the models.
PATTERNS = {
    "gpt2": None,  # ByteLevel's own
    "llama3": rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}",
    "qwen3": rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}",
    "qwen3_5": rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im", "<|begin_of_text|>"]
PLAIN = ["<think>", "</think>", "<tool_call>"]
MARKS = ["\u0301", "\u0300", "\u0323", "\u0307", "\u05b0", "\u0345", "\u3099", "\u1161", "\u11a8"]


def trained(kind):
    """A tokenizer of one of the patterns; its form differs in what the published ones differ in."""
    made = tokenizers.Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    if PATTERNS[kind] is None:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[kind]), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if kind.startswith("qwen"):
        made.normalizer = normalizers.NFC()
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=[], show_progress=False, min_frequency=1,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([SENTENCES, SENTENCES.lower(), "a" * 64, " " * 40, "\n" * 9, "12345678" * 4], trainer)
    made.add_special_tokens([tokenizers.AddedToken(name, normalized=kind == "gpt2") for name in SPECIAL])
    made.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in PLAIN])
    start = made.token_to_id("<|begin_of_text|>")
    made.post_processor = processors.ByteLevel() if kind != "llama3" else processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", start)])
    return made


def save(made, folder, change=None):
    """Writes tokenizer.json, its content changed by a function."""
    content = json.loads(made.to_str())
    if change is not None:
        change(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module", params=list(PATTERNS))
def public(request, tmp_path_factory):
    made = trained(request.param)
    return made, save(made, tmp_path_factory.mktemp("tokenizer") / request.param)


def run(folder, texts, mode="plain"):
    (folder / "texts").write_bytes(b"".join(b"%d\n%s" % (len(text), text) for text in texts))
    return subprocess.run([PROGRAM, folder, folder / "texts", mode], capture_output=True, text=True, timeout=120)


def ours(folder, texts, mode):
    done = run(folder, texts, mode)
    assert done.returncode == 0, done.stderr
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == len(texts)
    return [row[:-1] for row in rows], [row[-1] == 1 for row in rows]


def compare(made, folder, texts, mode="special"):
    """Ids as the package has them; decoding gives the normalised text, unless a space was put before it."""
    made.encode_special_tokens = mode == "plain"
    ids, back = ours(folder, [text if isinstance(text, bytes) else text.encode() for text in texts], mode)
    for i, text in enumerate(texts):
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        assert ids[i] == made.encode(text, add_special_tokens=False).ids, text[:200]
        assert made.normalizer is not None or back[i], text[:200]


def unicode_texts(seed, count):
    random_ = random.Random(seed)
    kinds = ["a", "B", "é", "e\u0301", "ǅ", "ʰ", "漢", "々", "〇", "ア", "한", "1", "23", "½", "٣", "'", "'S", "'ll", "'ſ", "ſ",
             " ", "  ", "\t", "\n", "\r\n", "\u0085", "\u00a0", "\u180e", "\u200b", "\u2028", "\u3000", "!", "_", "🙂", "👩‍👩‍👧",
             "\u200d", "\x1c", "\0", "Å", "\u212b", "\ufb01", *MARKS]
    pieces = [lambda: assigned(random_), lambda: random_.choice(kinds), lambda: random_.choice(MARKS),
              lambda: random_.choice(SENTENCES)]
    return ["".join(random_.choice(pieces)() for _ in range(random_.randrange(1, 40))) for _ in range(count)]


def test_sentences(public):
    compare(*public, [SENTENCES, "", " ", "\n", "a", SENTENCES.upper(), unicodedata.normalize("NFD", SENTENCES)])


def test_random_unicode(public):
    compare(*public, unicode_texts(1, 4000))


def test_special_tokens_inside_text(public):
    random_ = random.Random(2)
    names = SPECIAL + PLAIN + ["<|", "|>", "<", ">", "<|im_", "end|>", " ", "\n", "word", "e\u0301"]
    texts = ["".join(random_.choice(names) for _ in range(random_.randrange(1, 12))) for _ in range(2000)]
    compare(*public, texts, "special")
    compare(*public, texts, "plain")


def test_bytes_that_are_no_text(public):
    random_ = random.Random(3)
    texts = [bytes(random_.choice([random_.randrange(256), random_.choice(b"\xc3\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0a ")])
                   for _ in range(random_.randrange(1, 30))) for _ in range(1000)]
    compare(*public, texts)


def test_long_texts(public):
    random_ = random.Random(4)
    words = SENTENCES.split(" ")
    compare(*public, [" ".join(random_.choice(words) for _ in range(20_000)), "a" * 100_000, " " * 100_000 + "x", "漢" * 30_000,
                      "e" + "\u0301\u0323" * 2_000])


@pytest.mark.parametrize("use_regex", [False, True])
def test_a_space_before_texts(tmp_path, use_regex):
    made = trained("gpt2")
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=use_regex)
    compare_prefixed(made, save(made, tmp_path))


def test_a_space_before_pieces(tmp_path):
    """After other splits ByteLevel puts a space before every piece."""
    made = trained("qwen3")
    splits = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in (r"\p{N}{1,3}", r"[一-龥]+", "[^x ]+ ?")]
    made.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=True)])
    compare_prefixed(made, save(made, tmp_path))


def compare_prefixed(made, folder):
    texts = ["", " ", "a", " a", "a<|im_end|>b <think> c", SENTENCES, *unicode_texts(5, 500)]
    ids, _ = ours(folder, [text.encode() for text in texts], "special")
    for text, row in zip(texts, ids):
        assert row == made.encode(text, add_special_tokens=False).ids, text[:200]


def test_both_forms_of_merges(public, tmp_path):
    made, folder = public
    change = lambda content: content["model"].update(merges=[" ".join(pair) for pair in content["model"]["merges"]])
    texts = [text.encode() for text in unicode_texts(6, 300)]
    assert ours(save(made, tmp_path, change), texts, "plain") == ours(folder, texts, "plain")


def test_merges_out_of_the_order_of_ids(public, tmp_path):
    """The order of the list counts, not that of ids or bytes."""
    made, _ = public
    merges = json.loads(made.to_str())["model"]["merges"]
    random.Random(7).shuffle(merges)
    folder = save(made, tmp_path, lambda content: content["model"].update(merges=merges))
    shuffled = tokenizers.Tokenizer.from_str((folder / "tokenizer.json").read_text())
    random_ = random.Random(8)
    texts = ["".join(random_.choice("abdeghinorstvy ") for _ in range(200)) for _ in range(500)]
    compare(shuffled, folder, [SENTENCES, *texts, *unicode_texts(8, 1000)])
    with pytest.raises(AssertionError):
        compare(made, folder, texts)


def test_decoding(public):
    made, folder = public
    texts = [text for text in unicode_texts(9, 500) if unicodedata.is_normalized("NFC", text)]
    ids, back = ours(folder, [text.encode() for text in texts], "special")
    assert all(back)
    for text, row in zip(texts, ids):
        assert made.decode(row, skip_special_tokens=False) == text


@pytest.mark.parametrize("where, value, field", [
    (("model", "type"), "Unigram", "model.type"),
    (("model", "byte_fallback"), True, "model.byte_fallback"),
    (("model", "merges", 0), "a b c", "model.merges[0]"),
    (("added_tokens", 0, "lstrip"), True, "added_tokens[0].lstrip"),
    (("added_tokens", 1, "id"), 5000, "model.vocab and added_tokens: no token has the id 451"),
    (("normalizer",), {"type": "NFKC"}, "normalizer.type"),
    (("pre_tokenizer",), None, "pre_tokenizer"),
    (("post_processor", "type"), "BertProcessing", "post_processor.type"),
    (("decoder",), {"type": "Fuse"}, "decoder"),
])
def test_what_is_refused_by_its_field(tmp_path, where, value, field):
    def change(content):
        for key in where[:-1]:
            content = content[key]
        content[where[-1]] = value

    done = run(save(trained("qwen3"), tmp_path, change), [b"a"])
    assert done.returncode == 1 and f"tokenizer.json, {field}" in done.stderr
