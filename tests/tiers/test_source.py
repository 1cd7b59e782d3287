"""Backbones to start from: folders, installed packages, hub ids."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_transformers import VOCABULARY, packed, tiny_backbone, tiny_rows
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from adaptive.errors import BuildError, BundleError, FamilyError
from adaptive.tiers.find import digest, find_source
from adaptive.tiers.source import (
    _own_order,
    load_backbone,
    other_task,
    read_config,
)
from adaptive.tiers.vocabulary import vocabulary_of

LABELS = ["bad", "fair", "good"]


def _save(folder: Path, name: str = "bert", labels: list[str] | None = None) -> Path:
    """A checkpoint with a tokenizer, fine-tuned if it has labels."""
    backbone = tiny_backbone(name)
    if labels is not None:
        backbone.config.id2label = dict(enumerate(labels))
        backbone.config.label2id = {label: i for i, label in enumerate(labels)}
    backbone.model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(VOCABULARY - 2)} | {"[UNK]": 58, "<end>": 59}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]")),
        unk_token="[UNK]",
        eos_token="<end>",
        **({} if name == "llama" else {"pad_token": "w0"}),
    )
    tokenizer.save_pretrained(folder)
    return folder


def _logits(folder: Path, labels: list[str]) -> tuple[torch.Tensor, bool]:
    backbone, _ = load_backbone(str(folder), classes=len(labels), labels=labels)
    batch = packed(tiny_rows())
    with torch.no_grad():
        return backbone.classify(backbone.run(backbone.embed(batch), 0, 4)), backbone.fresh_head


def _own(name: str = "bert") -> torch.Tensor:
    backbone = tiny_backbone(name)
    with torch.no_grad():
        return backbone.classify(backbone.run(backbone.embed(packed(tiny_rows())), 0, 4))


def test_a_fine_tuned_model_keeps_its_head(tmp_path: Path) -> None:
    logits, fresh = _logits(_save(tmp_path, labels=LABELS), LABELS)
    assert not fresh
    torch.testing.assert_close(logits, _own())


def test_a_head_in_another_order_is_put_in_order(tmp_path: Path) -> None:
    folder = _save(tmp_path, labels=["Good", "Bad", "Fair"])
    logits, fresh = _logits(folder, LABELS)
    assert not fresh
    torch.testing.assert_close(logits, _own()[:, [1, 2, 0]])


def test_unnamed_classes_are_taken_by_number(tmp_path: Path) -> None:
    logits, fresh = _logits(_save(tmp_path), LABELS)
    assert not fresh
    torch.testing.assert_close(logits, _own())


def _order(own: list[str], labels: list[str], raw: list[str] | None = None) -> list[int] | None:
    config = SimpleNamespace(num_labels=len(own), id2label=dict(enumerate(own)))
    return _own_order(config, labels, raw or ())


def test_classes_called_by_their_number_are_matched_by_name() -> None:
    names = [f"LABEL_{i}" for i in range(12)]
    expected = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert _order(names, sorted(names)) == expected
    assert _order(names, [name.lower() for name in sorted(names)]) == expected


UNNAMED = ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.mark.parametrize(
    ("own", "labels", "raw", "expected"),
    [
        # whole numbers of the data decide which class a renamed label is
        (UNNAMED, ["good", "bad", "fair"], ["2", "0", "1"], [2, 0, 1]),
        (UNNAMED, ["good", "bad", "fair"], ["5", "-1", "3"], [2, 0, 1]),
        (UNNAMED, ["10", "2", "1"], None, [2, 1, 0]),
        (UNNAMED, ["k1", "k10", "k2"], None, [0, 2, 1]),
        (UNNAMED, ["class-1", "class-10", "class-2"], None, [0, 2, 1]),
        (UNNAMED, ["good", "bad", "fair"], ["class_11", "class_2", "class_3"], [2, 0, 1]),
        (UNNAMED, ["a1", "b10", "c2"], None, [0, 1, 2]),  # these are no numbers of one kind
        # so do names that they had before
        (UNNAMED, ["good", "bad", "fair"], ["LABEL_2", "LABEL_0", "LABEL_1"], [2, 0, 1]),
        (["neg", "neu", "pos"], ["good", "bad", "fair"], ["pos", "neg", "neu"], [2, 0, 1]),
        (["0", "1", "2"], ["good", "bad", "fair"], ["2", "0", "1"], [2, 0, 1]),
        # the labels' own names come first
        (["bad", "fair", "good"], ["good", "bad", "fair"], ["0", "1", "2"], [2, 0, 1]),
        (UNNAMED, ["good", "bad", "fair"], None, [0, 1, 2]),
        (["a", "b", "c"], ["good", "bad", "fair"], ["2", "0", "1"], None),
        (UNNAMED, ["good", "bad"], ["1", "0"], None),
    ],
)
def test_what_tells_which_class_a_label_is(
    own: list[str], labels: list[str], raw: list[str] | None, expected: list[int] | None
) -> None:
    assert _order(own, labels, raw) == expected


def test_an_order_that_nothing_tells_is_marked_as_guessed(tmp_path: Path) -> None:
    def guessed(labels: list[str], raw: list[str]) -> bool:
        folder = str(_save(tmp_path))
        return load_backbone(folder, classes=3, labels=labels, raw=raw)[0].guessed_order

    assert guessed(LABELS, [])
    assert not guessed(LABELS, ["2", "0", "1"])
    assert not guessed(["0", "1", "2"], [])
    assert not guessed(UNNAMED, [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architectures": ["ModernBertForTokenClassification"]}, "ModernBertForTokenClassific"),
        ({"problem_type": "multi_label_classification"}, "several labels"),
        ({"problem_type": "regression"}, "regression"),
    ],
)
def test_a_head_of_another_task_is_replaced(
    tmp_path: Path, change: dict[str, object], told: str
) -> None:
    folder = _save(tmp_path, "modernbert", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    assert told in (other_task(read_config(folder)) or "")
    backbone, _ = load_backbone(str(folder), classes=3, labels=LABELS)
    assert backbone.fresh_head
    assert backbone.config.problem_type is None


@pytest.mark.parametrize("labels", [["one", "two", "three"], ["bad", "good"]])
def test_a_head_of_other_labels_is_replaced(labels: list[str], tmp_path: Path) -> None:
    logits, fresh = _logits(_save(tmp_path, labels=LABELS), labels)
    assert fresh
    assert logits.shape == (4, len(labels))
    assert logits.abs().max() < 0.5  # small fresh weights, not the trained ones
    assert _own().abs().max() > 0.5


def test_a_base_model_gets_a_fresh_head(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    backbone, _ = load_backbone(str(folder), classes=5, labels=list("abcde"))
    assert backbone.fresh_head
    assert backbone.config.id2label == dict(enumerate("abcde"))
    torch.testing.assert_close(backbone.embedding_table, tiny_backbone("bert").embedding_table)


def test_weights_of_the_body_may_not_lack(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(BuildError, match=r"lacks weights of the bert body.*layer\.4"):
        load_backbone(str(folder), classes=3, labels=LABELS)


def test_the_digest_is_checked(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    found = digest(folder / "model.safetensors")
    load_backbone(str(folder), classes=3, labels=LABELS, sha256=found.upper())
    with pytest.raises(BundleError, match=rf"model\.safetensors has SHA-256 {found}, expected 00"):
        load_backbone(str(folder), classes=3, labels=LABELS, sha256="00" * 32)


def test_the_dtype_is_as_asked(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    backbone, _ = load_backbone(str(folder), classes=3, labels=LABELS, dtype=torch.bfloat16)
    assert backbone.embedding_table.dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("pad", [None, 59, 1], ids=["none", "end", "other"])
def test_a_decoder_reads_the_token_that_its_config_says(
    tmp_path: Path, family: str, pad: int | None
) -> None:
    """Rows end with the end of text, as tokenizers of some embedding models write them."""
    folder = _save(tmp_path, family)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": pad}))
    backbone, tokenizer = load_backbone(str(folder), classes=3, labels=LABELS)
    assert backbone.config.pad_token_id == pad and tokenizer.pad_token_id is not None
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = [torch.cat([row, torch.tensor([59])]) for row in tiny_rows()]
    batch = packed(rows)
    with torch.no_grad():
        found = backbone.classify(backbone.run(backbone.embed(batch), 0, 4))
        expected = torch.cat([model(input_ids=row.unsqueeze(0)).logits for row in rows])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_added_tokens_without_a_row_are_given_one(tmp_path: Path) -> None:
    """As decoders have whose padding token was added and their table left as it was."""
    folder = _save(tmp_path, "llama", labels=LABELS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    tokenizer.save_pretrained(folder)
    backbone, tokenizer = load_backbone(str(folder), classes=3, labels=LABELS)
    assert tokenizer.pad_token_id == 60 and vocabulary_of(tokenizer) == 61
    table, before = backbone.embedding_table, tiny_backbone("llama").embedding_table
    assert (backbone.added_rows, backbone.config.vocab_size) == (1, 61)
    torch.testing.assert_close(table[:60], before)
    torch.testing.assert_close(table[60], before.mean(0))
    torch.testing.assert_close(_logits(folder, LABELS)[0], _own("llama"))


def test_another_models_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    words = {f"w{i}": i for i in range(80)} | {"[UNK]": 80}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]")), unk_token="[UNK]"
    ).save_pretrained(folder)
    with pytest.raises(BuildError, match=r"table of 60 rows, .* ids up to 80: it is another"):
        load_backbone(str(folder), classes=3, labels=LABELS)


def test_a_padding_token_beyond_the_table_is_refused_by_name(tmp_path: Path) -> None:
    folder = _save(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 60}))
    with pytest.raises(BuildError, match=r"pads with token 60, .* has 60 rows"):
        load_backbone(str(folder), classes=3, labels=LABELS)


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = _save(tmp_path, labels=LABELS)
    capfd.readouterr()
    load_backbone(str(folder), classes=2, labels=["x", "y"])
    assert capfd.readouterr() == ("", "")


def test_a_model_inside_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "carries_a_model"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "config.json").write_text("{}")  # a config without weights is no model
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BuildError, match="'carries_a_model' must carry one model, found none"):
        find_source("package:carries_a_model")
    _save(package / "deep" / "model", labels=LABELS)
    backbone, _ = load_backbone("package:carries_a_model", classes=3, labels=LABELS)
    assert not backbone.fresh_head
    assert "carries_a_model" not in sys.modules
    _save(package / "deep" / "other")
    with pytest.raises(BuildError, match="found deep/model, deep/other"):
        find_source("package:carries_a_model")


@pytest.mark.parametrize("name", ["not_there_at_all", "no-identifier", "json.tool", ""])
def test_packages_that_are_not_there_are_named(name: str) -> None:
    with pytest.raises(BuildError, match=f"package '{name}' is not installed"):
        find_source(f"package:{name}")


def test_folders_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"holds no config\.json"):
        find_source(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BuildError, match=r"holds no model\.safetensors"):
        load_backbone(str(tmp_path), classes=2, labels=["a", "b"])


def test_configs_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    (folder / "config.json").write_text("[]")
    with pytest.raises(BuildError, match=r"config\.json is not a transformers config"):
        load_backbone(str(folder), classes=2, labels=["a", "b"])


def _halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _uneven(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_attention_heads": 5}))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("model.safetensors", _halve, "weights cannot be loaded"),
        ("config.json", _uneven, "weights cannot be loaded as its config.json says"),
        ("config.json", _halve, "config.json is not a transformers config"),
        ("tokenizer.json", _halve, "no tokenizer that can be loaded"),
    ],
)
def test_damaged_files_of_a_model_are_errors_of_the_library(
    tmp_path: Path, name: str, change: Callable[[Path], None], told: str
) -> None:
    folder = _save(tmp_path)
    change(folder / name)
    with pytest.raises(BuildError, match=told):
        load_backbone(str(folder), classes=3, labels=LABELS)


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BuildError, match="has no tokenizer that can be loaded"):
        load_backbone(str(folder), classes=3, labels=LABELS)


def test_unknown_families_are_refused_before_their_code_is_looked_for(tmp_path: Path) -> None:
    folder = _save(tmp_path)
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise RuntimeError('ran')")
    with pytest.raises(FamilyError, match="'mine'"):
        load_backbone(str(folder), classes=2, labels=["a", "b"])


def test_hub_ids_are_downloaded_without_code_or_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _save(tmp_path, labels=LABELS)
    asked = {}

    def snapshot_download(repo: str, **options: object) -> str:
        asked.update(options, repo=repo)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    backbone, _ = load_backbone("some/model", classes=3, labels=LABELS, revision="v1")
    assert not backbone.fresh_head
    assert (asked["repo"], asked["revision"]) == ("some/model", "v1")
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert "*.safetensors" in patterns
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in patterns)


@pytest.mark.parametrize("source", ["some/model-not-there", "no such/name!", "./missing/folder"])
def test_sources_that_cannot_be_reached_are_named(source: str) -> None:
    with pytest.raises(BuildError, match=f"model '{source}' is neither a folder here nor"):
        find_source(source)


def test_classes_and_labels_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 labels for 2 classes"):
        load_backbone(str(tmp_path), classes=2, labels=LABELS)
