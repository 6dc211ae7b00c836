# SPDX-License-Identifier: Apache-2.0
"""The tokenizer against the tiktoken package, with a rank file trained here."""

import base64
import json
import os
import pathlib
import random
import subprocess
import unicodedata

import pytest
import tiktoken

from conftest import ROOT

PROGRAM = pathlib.Path(os.environ.get("KLAB_RUN_TOKENIZER", ROOT / "build" / "tests" / "support" / "run_tokenizer"))

# The pattern published with the models, in tiktoken's regular expression syntax.
WORD = [r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"]
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join([r"[\p{Han}]+", rf"[^\r\n\p{{L}}\p{{N}}]?{WORD[0]}*{WORD[1]}+{ENDING}",
                    rf"[^\r\n\p{{L}}\p{{N}}]?{WORD[0]}+{WORD[1]}*{ENDING}", r"\p{N}{1,3}",
                    r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
SENTENCES = ("It's a long-term memory, isn't it? We'll SEE what they've done: 12345 tokens\r\n\r\n  indented\tby tabs. "
             "Die Größe des Gedächtnisses; l'état caché; память и внимание; 線形注意は状態を持つ。 記憶、注意力和状态。 "
             "ÀÉÎ naïve ʼn ǅ 한국어 العربية हिन्दी ไทย 🙂🙃👩‍👩‍👧 x²+y³≤½ \u00a0\u3000\u2028 <|im_end|> [EOS] if (a[i] != b) { return; }\n")


def trained_ranks():
    """Byte-pair merges trained on the text above, up to 900 ranks, which gives tokens of many lengths."""
    ranks = {bytes([b]): b for b in range(256)}
    words = [piece.encode() for piece in SENTENCES.replace(" ", "\0 ").split("\0")] * 2
    words = [[bytes([b]) for b in word] for word in words + [b"a" * 64, b" " * 40, b"\n" * 9]]
    while len(ranks) < 900:
        pairs = {}
        for word in words:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        ranks.setdefault(best[0] + best[1], len(ranks))
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i:i + 2] = [best[0] + best[1]]
                i += 1
    return ranks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in trained_ranks().items())
    (folder / "tiktoken.model").write_text("".join(lines))
    names = {str(len(trained_ranks()) + i): {"content": name} for i, name in enumerate(["[BOS]", "[EOS]", "<|im_end|>"])}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": names}))
    return folder


@pytest.fixture(scope="module")
def public():
    ranks = trained_ranks()
    first = len(ranks)
    names = {0: "[BOS]", 1: "[EOS]", 2: "<|im_end|>"}
    special = {names.get(i, f"<|reserved_token_{first + i}|>"): first + i for i in range(258)}
    return tiktoken.Encoding("public", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


def ours(folder, texts, mode="plain"):
    (folder / "texts").write_bytes(b"".join(b"%d\n%s" % (len(text), text) for text in texts))
    done = subprocess.run([PROGRAM, folder, folder / "texts", mode], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == len(texts) and all(row[-1] == 1 for row in rows), "decoding the ids did not give the text back"
    return [row[:-1] for row in rows]


def compare(folder, public, texts):
    for text, ids in zip(texts, ours(folder, texts)):
        expected = public.encode_ordinary(text.decode("utf-8", "replace"))
        assert ids == expected, text[:200]


def assigned(random_):
    """A random character that is assigned in Unicode 14: the two libraries classify later ones differently."""
    while True:
        c = chr(random_.choice([random_.randrange(0x80), random_.randrange(0x3000), random_.randrange(0x110000)]))
        if unicodedata.category(c) not in ("Cn", "Cs", "Co"):
            return c


def test_sentences(folder, public):
    compare(folder, public, [SENTENCES.encode(), b"", b" ", b"\n", b"a", SENTENCES.upper().encode()])


def test_random_unicode(folder, public):
    random_ = random.Random(1)
    texts = ["".join(assigned(random_) for _ in range(random_.randrange(1, 60))) for _ in range(2000)]
    kinds = ["a", "B", "é", "\u0301", "ǅ", "ʰ", "漢", "々", "〇", "ア", "1", "½", "٣", "'", "'S", "'ll", "ſ", " ", "  ", "\t",
             "\n", "\r\n", "\u0085", "\u00a0", "\u180e", "\u200b", "\u2028", "\u3000", "!", "_", "🙂", "\u200d", "\x1c", "\0"]
    texts += ["".join(random_.choice(kinds) for _ in range(random_.randrange(1, 20))) for _ in range(6000)]
    compare(folder, public, [text.encode() for text in texts])


def test_bytes_that_are_no_text(folder, public):
    random_ = random.Random(2)
    texts = [bytes(random_.choice([random_.randrange(256), random_.choice(b"\xc3\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0a ")])
                   for _ in range(random_.randrange(1, 30))) for _ in range(4000)]
    compare(folder, public, texts)


def test_long_texts(folder, public):
    random_ = random.Random(3)
    words = SENTENCES.split(" ")
    long = " ".join(random_.choice(words) for _ in range(40_000)).encode()
    compare(folder, public, [long[:390_000].decode("utf-8", "ignore").encode(), b"a" * 25_000, b" " * 25_000, "漢".encode() * 9_000])
    # Longer runs are split before tiktoken's algorithm, as in the published tokenizer.
    megabyte, expected = b"a" * 1_000_000, public.encode_ordinary("a" * 25_000) * 40
    assert ours(folder, [megabyte])[0] == expected


def test_special_tokens(folder, public):
    text = "[BOS]system<|im_end|>x<|reserved_token_5|>[EOS][EOT]<|im_end|"
    assert ours(folder, [text.encode()], "special")[0] == public.encode(text, allowed_special="all")
    assert ours(folder, [text.encode()])[0] == public.encode_ordinary(text)


def test_a_wrong_rank_is_seen(folder, public):
    ranks = trained_ranks()
    used = {public.decode_single_token_bytes(token) for token in public.encode_ordinary(SENTENCES)}
    a, b = [token for token in ranks if len(token) > 1 and token in used][:2]
    ranks[a], ranks[b] = ranks[b], ranks[a]
    other = tiktoken.Encoding("other", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(AssertionError):
        compare(folder, other, [SENTENCES.encode()])
