"""Captions as tokens: a tokeniser by name or path, or a WordPiece trained here from the training captions.

B captions, L tokens (the longest of the batch).

Everything goes through the `tokenizers` library: one small JSON file that every worker reads, no import
of transformers in the loader, and the word each token belongs to, which whole-word masking needs.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import (
    Encoding,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from mac_ray.config import ConfigError, TextTower
from mac_ray.files import replaced

FEWEST_CHARACTERS = 128  # that a trained vocabulary has room for, however small it is asked for
CAPTIONS_KEPT = 16_384  # of which the tokens are remembered, about 10 MB
SPECIAL_TOKENS = PAD, UNKNOWN, CLASS, SEPARATOR, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"


@dataclass(frozen=True)
class Tokens:
    ids: NDArray[np.int64]  # (B, L)
    words: NDArray[np.int64]  # (B, L): word number of each token, -1 for special tokens and padding
    attended: NDArray[np.bool_]  # (B, L): false on padding
    truncated: NDArray[np.bool_]  # (B,): whether the end of a caption was cut off


class _Encoded(NamedTuple):
    """One caption's tokens, without padding."""

    ids: NDArray[np.int32]  # (L,)
    words: NDArray[np.int32]  # (L,)
    is_truncated: bool

    @classmethod
    def of(cls, encoding: Encoding) -> "_Encoded":
        # numbered anew, for a word of characters that the tokeniser drops has a number and no token
        numbers: dict[int, int] = {}
        words = [-1 if word is None else numbers.setdefault(word, len(numbers)) for word in encoding.word_ids]
        return cls(np.array(encoding.ids, np.int32), np.array(words, np.int32), bool(encoding.overflowing))


Texts = Callable[[Sequence[str]], Sequence[str]]  # what the captions of a sample become


def each_caption(captions: Sequence[str]) -> Sequence[str]:
    return captions


def paragraph(captions: Sequence[str]) -> Sequence[str]:
    """All in their order as one text, as on ActivityNet and DiDeMo."""
    return (" ".join(captions),)


class CaptionTokenizer:
    """Encodes captions, truncated at `max_tokens` and padded to the longest of the batch.

    What it has encoded it remembers, up to CAPTIONS_KEPT and those of one call, because a small set's captions come
    every epoch, and encoding one takes as long as a tenth of decoding a small clip.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        self._kept: dict[str, _Encoded] = {}
        self._tokenizer = _read(path)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()  # which its file may ask for
        if self._tokenizer.encode("").ids != [self._special(CLASS), self._special(SEPARATOR)]:
            raise ConfigError(
                f"the tokeniser does not put captions between {CLASS} and {SEPARATOR}; "
                "give model.text.tokenizer a BERT-type tokeniser"
            )
        self.mask_token = self._special(MASK)
        self.pad_token = self._special(PAD)
        self.unknown_token = self._special(UNKNOWN)
        self.vocabulary_size = self._tokenizer.get_vocab_size()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}  # each loader process remembers its own

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ConfigError(
                f"the tokeniser has no {token} token, which the text tower, masking or padding needs; "
                "give model.text.tokenizer a BERT-type tokeniser"
            )
        return int(number)

    def __call__(self, captions: Sequence[str]) -> Tokens:
        encoded = self._encoded(captions)
        lengths = np.array([len(caption.ids) for caption in encoded], dtype=np.int64)
        shape = len(encoded), max(lengths, default=0)
        ids = np.full(shape, self.pad_token, dtype=np.int64)
        words = np.full(shape, -1, dtype=np.int64)
        for row, caption in enumerate(encoded):
            ids[row, : len(caption.ids)] = caption.ids
            words[row, : len(caption.ids)] = caption.words
        return Tokens(
            ids=ids,
            words=words,
            attended=np.arange(shape[1]) < lengths[:, None],
            truncated=np.array([caption.is_truncated for caption in encoded], dtype=bool),
        )

    def _encoded(self, captions: Sequence[str]) -> list["_Encoded"]:
        kept = self._kept
        new = list(dict.fromkeys(caption for caption in captions if caption not in kept))
        if len(kept) + len(new) > CAPTIONS_KEPT:
            # another one, not emptied, because another thread may be reading this one
            kept = self._kept = {}
            new = list(dict.fromkeys(captions))
        kept.update(zip(new, map(_Encoded.of, self._tokenizer.encode_batch(new)), strict=True))
        return [kept[caption] for caption in captions]

    def text_of(self, ids: Sequence[int]) -> str:
        """What tokens read, [MASK] included and without those around them."""
        around = {self._special(token) for token in (CLASS, SEPARATOR, PAD)}
        read: str = self._tokenizer.decode(
            [token for token in ids if token not in around], skip_special_tokens=False
        )
        return read

    def spelled(self, ids: Sequence[int], words: Sequence[int]) -> list[str]:
        """The words of one caption in order, from the tokens (L) and the number of the word of each."""
        pieces: dict[int, str] = {}
        for token, word in zip(ids, words, strict=True):
            if word >= 0:
                piece: str = self._tokenizer.id_to_token(token) or ""  # its types allow for unknown ids
                # of WordPiece what goes on, of SentencePiece and of bytes what begins
                pieces[word] = pieces.get(word, "") + piece.removeprefix("##").lstrip("▁Ġ")
        return list(pieces.values())


def save_tokenizer(section: TextTower, captions: Iterable[str], path: Path) -> None:
    """Write the tokeniser that `section` asks for to `path` (tokenizer.json).

    Raises ConfigError when a name or path cannot be loaded.
    """
    source = section.tokenizer or section.pretrained
    tokenizer = (
        train_wordpiece(captions, section.vocabulary_size) if source is None else load_tokenizer(source)
    )
    with replaced(path) as temporary:
        tokenizer.save(str(temporary))


def _alphabet(words: Counter[str], most: int) -> set[str]:
    """The most frequent characters: each takes two places of the vocabulary, and of a thousand rare ones (emoji, other
    scripts) none would be left for words. What has others is unknown."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    return set(sorted(counts, key=lambda character: (-counts[character], character))[:most])


def train_wordpiece(captions: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A lower-casing BERT-type WordPiece of the given captions; the same captions give the same one."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for caption in captions:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(caption)))
    characters = _alphabet(words, max(FEWEST_CHARACTERS, vocabulary_size // 4))
    words = Counter({word: count for word, count in words.items() if characters.issuperset(word)})
    # The trainer numbers the characters inside words in the order of a hash map and breaks ties by number, so
    # two trainings would differ. Given as special tokens, they are numbered in the order given.
    inside = [f"##{character}" for character in sorted(characters)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[*SPECIAL_TOKENS, *inside],
        initial_alphabet=sorted(characters),
        show_progress=False,
    )
    trained = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator((f"{word} " * count for word, count in sorted(words.items())), trainer)

    tokenizer = Tokenizer(models.WordPiece(trained.get_vocab(), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLASS} $A {SEPARATOR}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (CLASS, SEPARATOR)],
    )
    return tokenizer


def _read(file: Path) -> Tokenizer:
    """Raises ConfigError for a file that was cut short, or is none of a tokeniser."""
    try:
        content = file.read_text(encoding="utf-8")
        json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"the tokeniser {file} is not valid JSON ({error}); fetch it again") from error
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # the library has no type of its own for it
        raise ConfigError(
            f"{file} is no tokeniser ({error}); give the tokenizer.json of a checkpoint, or its folder"
        ) from error


def load_tokenizer(source: str) -> Tokenizer:
    """From a file or folder, or by hub name. Raises ConfigError when there is none."""
    file = Path(source) / "tokenizer.json" if Path(source).is_dir() else Path(source)
    if file.is_file():
        return _read(file)
    from transformers import AutoTokenizer  # seconds to import, and only a hub name needs it

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, use_fast=True, local_files_only=Path(source).exists()
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no tokeniser at {source!r}: neither a folder with tokenizer.json, nor a reachable hub name ({error})"
        ) from error
    backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(
            f"the tokeniser at {source!r} is a {type(tokenizer).__name__}, which is not of the library tokenizers; "
            "give a folder with a tokenizer.json"
        )
    return backend
