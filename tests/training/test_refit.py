"""A canary from users' labels: same tiers, new reliabilities, certified on rows kept apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_cascade import tiny_texts
from typer.testing import CliRunner

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import load_bundle, save_bundle
from adaptive.cli import app
from adaptive.measure.recording import outcomes
from adaptive.text import tokens as token_rows
from adaptive.text.row_hashes import hash_rows, hashes_of
from adaptive.training.refit import LEAST, divide
from adaptive.types import Target

TEXTS = list(dict.fromkeys(tiny_texts(1400, 11)))[:1200]
TARGET = Target("accuracy_drop", 0.4)


def labelled(bundle: Bundle, texts: list[str]) -> list[str]:
    """What the full tier answers, but for one text in ten."""
    rows = token_rows.tokenize(bundle.tokenizer, texts, max_length=bundle.max_length)
    said = outcomes(bundle, rows, np.full(len(texts), -1, np.int32), 64).predictions[:, -1]
    other = (said + (np.arange(len(texts)) % 10 == 0)) % len(bundle.labels)
    return [bundle.labels[label] for label in other.tolist()]


def feedback(folder: Path, texts: list[str], labels: list[str]) -> Path:
    folder.mkdir()
    rows = zip(texts, labels, strict=True)
    lines = [json.dumps({"text": t, "label": label, "key": "desk"}) for t, label in rows]
    (folder / "feedback.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def test_a_canary_has_the_same_tiers_and_a_certificate_of_rows_kept_apart(
    tiny_cascade: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTIVE_LOOKS", str(tmp_path / "looks.jsonl"))
    rows = token_rows.tokenize(tiny_cascade.tokenizer, TEXTS, max_length=tiny_cascade.max_length)
    used = token_rows.select(rows, np.arange(40))
    bundle = replace(tiny_cascade, targets=(TARGET,), seen=hashes_of([used]))
    source = save_bundle(bundle, tmp_path / "b", card=render_card(bundle), recipe="name: x\n")
    given = feedback(tmp_path / "kept", TEXTS, labelled(bundle, TEXTS))
    command = ["--quiet", "refit", str(source), str(given), "--out", str(tmp_path / "canary")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    canary, before = load_bundle(tmp_path / "canary"), load_bundle(source)
    certificate = canary.certificate
    assert certificate is not None and certificate.looks == 1
    parts = divide(token_rows.select(rows, np.arange(40, len(TEXTS))))
    fresh = hash_rows(rows)[40:]
    assert certificate.n == len(np.unique(fresh[parts.certify]))
    assert canary.seen is not None
    assert not np.isin(fresh[parts.certify], canary.seen).any()
    for part in (parts.fit, parts.search):
        assert np.isin(fresh[part], canary.seen).all()
    assert (canary.router is None) == (before.router is None)
    tensors = (each.reliability.to_tensors() for each in (canary, before))
    new, old = ({name: value.numpy() for name, value in each.items()} for each in tensors)
    assert any(not np.array_equal(new[name], old[name]) for name in new)
    for file in (source / "tiers").rglob("*"):
        if file.is_file():
            other = tmp_path / "canary" / file.relative_to(source)
            assert other.read_bytes() == file.read_bytes()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    found = load_bundle(tmp_path / "canary").certificate
    assert found is not None and found.looks == 1  # the same design on the same rows
    command[-1] = str(source)
    assert CliRunner().invoke(app, command).exit_code == 2  # never in the bundle's own place


def test_a_row_serves_for_the_same_however_many_there_are(tiny_cascade: Bundle) -> None:
    rows = token_rows.tokenize(tiny_cascade.tokenizer, TEXTS, max_length=32)
    few = divide(token_rows.select(rows, np.arange(300)))
    for part, more in zip(few, divide(rows), strict=True):
        assert part.tolist() == [row for row in more.tolist() if row < 300]


def test_too_few_labels_are_refused_with_what_is_missing(
    tiny_cascade: Bundle, tmp_path: Path
) -> None:
    bundle = replace(tiny_cascade, targets=(TARGET,))
    source = save_bundle(bundle, tmp_path / "b", card="card\n", recipe="name: x\n")
    given = feedback(tmp_path / "kept", TEXTS[:50], [bundle.labels[0]] * 50)
    result = CliRunner().invoke(app, ["refit", str(source), str(given)])
    assert result.exit_code == 2 and f"expected {LEAST} of each" in result.output
    assert not (tmp_path / "b-canary").exists()
