"""Captions as tokens, by a tokeniser trained here and by one in the format of Hugging Face."""

import hashlib
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import DistilBertTokenizerFast

from mac_ray.config import ConfigError, TextTower
from mac_ray.data import text
from mac_ray.data.text import CaptionTokenizer, paragraph, save_tokenizer, train_wordpiece

CAPTIONS = ["a red square moves left", "a blue circle stands still, above", "two triangles"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    save_tokenizer(TextTower(vocabulary_size=60), CAPTIONS, tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def pieces(path: Path, ids: np.ndarray) -> list[str]:
    tokenizer = Tokenizer.from_file(str(path))
    return [tokenizer.id_to_token(int(number)) for number in ids]


def test_tokens_stand_between_class_and_separator_and_spell_the_caption(trained: Path) -> None:
    tokens = CaptionTokenizer(trained, 64)(CAPTIONS)
    assert tokens.ids.dtype == tokens.words.dtype == np.int64
    assert tokens.attended.dtype == np.bool_
    for row, caption in enumerate(CAPTIONS):
        own = pieces(trained, tokens.ids[row][tokens.attended[row]])
        assert (own[0], own[-1]) == ("[CLS]", "[SEP]")
        assert "".join(piece.removeprefix("##") for piece in own[1:-1]) == caption.replace(" ", "")


def test_captions_above_the_limit_are_cut_and_marked(trained: Path) -> None:
    whole = CaptionTokenizer(trained, 64)(CAPTIONS)
    lengths = whole.attended.sum(axis=1)
    assert not whole.truncated.any()
    for limit in range(4, 20):
        tokens = CaptionTokenizer(trained, limit)(CAPTIONS)
        assert tokens.truncated.tolist() == (lengths > limit).tolist()
        assert tokens.attended.sum(axis=1).tolist() == np.minimum(lengths, limit).tolist()


def test_paragraph_is_all_captions_in_their_order_as_one() -> None:
    assert list(paragraph(CAPTIONS)) == [f"{CAPTIONS[0]} {CAPTIONS[1]} {CAPTIONS[2]}"]
    assert list(paragraph(["alone"])) == ["alone"]


def test_words_number_the_words_of_a_caption_and_are_minus_one_elsewhere(trained: Path) -> None:
    tokens = CaptionTokenizer(trained, 64)(["two triangles", "a red square, above"])
    for row, words in enumerate([["two", "triangles"], ["a", "red", "square", ",", "above"]]):
        own = pieces(trained, tokens.ids[row])
        spelled: dict[int, str] = {}
        for piece, word in zip(own, tokens.words[row].tolist(), strict=True):
            assert (word == -1) == (piece in ("[CLS]", "[SEP]", "[PAD]"))
            if word >= 0:
                spelled[word] = spelled.get(word, "") + piece.removeprefix("##")
        assert spelled == dict(enumerate(words))


def test_padding_reaches_the_longest_of_the_batch_and_is_not_attended(trained: Path) -> None:
    tokenizer = CaptionTokenizer(trained, 64)
    alone = tokenizer(["two triangles"])
    tokens = tokenizer(["two triangles", CAPTIONS[1]])
    length = alone.ids.shape[1]
    assert tokens.ids.shape[1] == tokenizer([CAPTIONS[1]]).ids.shape[1] > length
    assert np.array_equal(tokens.ids[0, :length], alone.ids[0])
    assert (tokens.ids[0, length:] == tokenizer.pad_token).all()
    assert tokens.attended.sum(axis=1).tolist() == [length, tokens.ids.shape[1]]


@pytest.mark.parametrize("max_tokens", [4, 5, 9])
def test_truncated_caption_keeps_its_start_and_the_separator(trained: Path, max_tokens: int) -> None:
    whole = CaptionTokenizer(trained, 64)([CAPTIONS[0]]).ids[0]
    cut = CaptionTokenizer(trained, max_tokens)([CAPTIONS[0]]).ids[0]
    assert len(whole) > max_tokens == len(cut)
    assert cut.tolist() == [*whole[: max_tokens - 1], whole[-1]]


@pytest.mark.parametrize("caption", ["", " ", "\u200b", "\n\t"])
def test_caption_of_nothing_is_class_and_separator(trained: Path, caption: str) -> None:
    tokens = CaptionTokenizer(trained, 64)([caption])
    assert pieces(trained, tokens.ids[0]) == ["[CLS]", "[SEP]"]
    assert tokens.words.tolist() == [[-1, -1]]


def test_unseen_characters_are_unknown_words(trained: Path) -> None:
    tokens = CaptionTokenizer(trained, 64)(["a 猫 square"])
    assert pieces(trained, tokens.ids[0])[2] == "[UNK]"
    assert tokens.words[0, :4].tolist() == [-1, 0, 1, 2]


def test_special_tokens_in_a_caption_can_not_be_told_from_real_ones_but_do_no_harm(trained: Path) -> None:
    tokens = CaptionTokenizer(trained, 64)(["a [MASK] square"])
    assert tokens.ids.shape == tokens.words.shape == tokens.attended.shape


def test_tokenizer_pickled_gives_the_same_tokens(trained: Path) -> None:
    tokenizer = CaptionTokenizer(trained, 6)
    other = pickle.loads(pickle.dumps(tokenizer))
    for one, two in zip(vars(tokenizer(CAPTIONS)).values(), vars(other(CAPTIONS)).values(), strict=True):
        assert np.array_equal(one, two)
    assert (tokenizer.mask_token, tokenizer.pad_token) == (other.mask_token, other.pad_token)


def test_what_is_remembered_is_encoded_the_same_bounded_and_not_pickled(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "CAPTIONS_KEPT", 4)
    tokenizer = CaptionTokenizer(trained, 8)
    bare = len(pickle.dumps(tokenizer))
    captions = [
        *CAPTIONS,
        "a red circle",
        "two squares",
        CAPTIONS[0],
        "a blue square moves left and left again",
    ]
    for chosen in (captions, captions[2:5], captions[::-1], captions):
        again, anew = tokenizer(chosen), CaptionTokenizer(trained, 8)(chosen)
        for name in ("ids", "words", "attended", "truncated"):
            np.testing.assert_array_equal(getattr(again, name), getattr(anew, name))
        assert len(tokenizer._kept) <= max(4, len(set(chosen)))
    assert len(pickle.dumps(tokenizer)) == bare


def test_training_in_another_process_and_order_gives_the_same_file() -> None:
    # words of equal frequency, so that ties have to be broken, and pieces that share characters
    script = (
        "import hashlib, random; from mac_ray.data.text import train_wordpiece; "
        "r = random.Random(0); "
        "words = [''.join(r.choices('abcdefghijklmnop', k=r.randint(2, 8))) for _ in range(300)]; "
        "captions = [' '.join(r.choices(words, k=6)) for _ in range(300)]; "
        "random.shuffle(captions); "
        "print(hashlib.sha256(train_wordpiece(captions, 400).to_str().encode()).hexdigest())"
    )
    hashes = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert len(hashes) == 1


def test_training_gives_frequent_words_a_token_of_their_own() -> None:
    generator = random.Random(0)
    rare = ["".join(generator.choices("xyzw", k=7)) for _ in range(40)]
    captions = [f"the square {word}" for word in rare] * 2
    vocabulary = train_wordpiece(captions, 60).get_vocab()
    assert len(vocabulary) == 60
    assert {"the", "square"} <= vocabulary.keys()
    assert [vocabulary[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 1, 2, 3, 4]


def test_rare_characters_do_not_crowd_words_out() -> None:
    """Each takes two places, in whatever it is seen: 600 emoji would leave none of a thousand."""
    rare = [chr(0x1F300 + number) for number in range(600)]
    tokenizer = train_wordpiece(["a man riding a bicycle", *(f"a man {letter}" for letter in rare)] * 2, 1000)
    assert len(tokenizer.get_vocab()) <= 1000
    assert tokenizer.encode("a man riding a bicycle").tokens[1:-1] == ["a", "man", "riding", "a", "bicycle"]


@pytest.fixture
def hugging_face(tmp_path: Path) -> Path:
    """A DistilBERT tokeniser as `save_pretrained` leaves it."""
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "square", "##s", ","]
    folder = tmp_path / "distilbert"
    folder.mkdir()
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    DistilBertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    assert (folder / "tokenizer.json").is_file()
    return folder


def test_tokenizer_of_hugging_face_is_read_from_its_folder(hugging_face: Path, tmp_path: Path) -> None:
    save_tokenizer(TextTower(tokenizer=str(hugging_face)), (), tmp_path / "tokenizer.json")
    tokenizer = CaptionTokenizer(tmp_path / "tokenizer.json", 16)
    reference = DistilBertTokenizerFast.from_pretrained(hugging_face)
    captions = ["A red square, red SQUARES", "a"]
    expected = reference(captions, padding=True)
    tokens = tokenizer(captions)
    assert tokens.ids.tolist() == expected["input_ids"]
    assert tokens.attended.tolist() == [[bool(there) for there in row] for row in expected["attention_mask"]]
    assert tokens.words.tolist() == [
        [-1 if word is None else word for word in expected.word_ids(row)] for row in range(2)
    ]
    assert tokens.words[0].tolist() == [-1, 0, 1, 2, 3, 4, 5, 5, -1]
    assert (tokenizer.pad_token, tokenizer.mask_token) == (reference.pad_token_id, reference.mask_token_id)
    assert tokenizer.vocabulary_size == len(reference)


def test_tokenizer_that_pads_and_cuts_by_itself_is_told_otherwise(hugging_face: Path) -> None:
    file = hugging_face / "tokenizer.json"
    stored = Tokenizer.from_file(str(file))
    stored.enable_padding(length=12, direction="left")
    stored.enable_truncation(3, direction="left")
    stored.save(str(file))
    tokens = CaptionTokenizer(file, 6)(["a red square, a red square", "a"])
    assert pieces(file, tokens.ids[0]) == ["[CLS]", "a", "red", "square", ",", "[SEP]"]
    assert tokens.attended[1].tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize("missing", ["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
def test_tokenizer_without_a_special_token_is_refused(hugging_face: Path, missing: str) -> None:
    file = hugging_face / "tokenizer.json"
    file.write_text(file.read_text().replace(json.dumps(missing), json.dumps("[other]")))
    with pytest.raises(ConfigError, match=r"BERT-type tokeniser") as caught:
        CaptionTokenizer(file, 16)
    assert missing in str(caught.value)


def test_tokenizer_without_a_template_is_refused(hugging_face: Path) -> None:
    file = hugging_face / "tokenizer.json"
    stored = Tokenizer.from_file(str(file))
    stored.post_processor = processors.Sequence([])
    stored.save(str(file))
    with pytest.raises(ConfigError, match=r"between \[CLS\] and \[SEP\]"):
        CaptionTokenizer(file, 16)


def test_tokenizer_of_another_family_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "bpe.json"))
    with pytest.raises(ConfigError, match="BERT-type"):
        CaptionTokenizer(tmp_path / "bpe.json", 16)


def test_words_of_which_no_token_is_left_are_none(tmp_path: Path) -> None:
    """Or a caption has more words than places, and hiding some of them ends the training."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    silent = Tokenizer(models.BPE())  # which has no token for characters that it does not know
    silent.pre_tokenizer = pre_tokenizers.Whitespace()
    silent.train_from_iterator(
        ["a red cat"], trainers.BpeTrainer(special_tokens=specials, show_progress=False)
    )
    silent.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    silent.save(str(tmp_path / "bpe.json"))
    tokens = CaptionTokenizer(tmp_path / "bpe.json", 16)(["x " * 30 + "a x red cat"])
    words = tokens.words[0]
    assert words[words >= 0].tolist() == sorted(words[words >= 0])
    assert set(words.tolist()) == {-1, 0, 1, 2}


def test_tokenizer_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokeniser at .*nowhere"):
        save_tokenizer(TextTower(tokenizer=str(tmp_path / "nowhere")), (), tmp_path / "tokenizer.json")
    assert not list(tmp_path.iterdir())


def test_tokenizer_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is not valid JSON"):
        save_tokenizer(TextTower(tokenizer=str(tmp_path)), (), tmp_path / "out.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b'{"model_type": "distilbert"}', "is no tokeniser"), (b"\x0a\xff\xfe", "is not valid JSON")],
)
def test_file_that_is_no_tokenizer_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"other\.json {said}"):
        save_tokenizer(TextTower(tokenizer=str(tmp_path / "other.json")), (), tmp_path / "out.json")


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        save_tokenizer(TextTower(vocabulary_size=60), iter(CAPTIONS), tmp_path / name)
    first, second = (hashlib.sha256((tmp_path / name).read_bytes()) for name in ("one.json", "two.json"))
    assert first.digest() == second.digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "two.json"]
