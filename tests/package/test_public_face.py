"""What users call by `adaptive.NAME`, on a finished bundle and from texts to a certificate."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_pool import pool, searched

import adaptive
from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import load_bundle, save_bundle


@pytest.fixture(scope="module")
def pristine(tiny_cascade: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = searched(tiny_cascade)
    folder = tmp_path_factory.mktemp("face") / "bundle"
    return save_bundle(bundle, folder, card=render_card(bundle), recipe="name: x\n")


@pytest.fixture(scope="module")
def known(tiny_cascade: Bundle) -> tuple[list[str], dict[str, str]]:
    return pool(searched(tiny_cascade), 250)


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def rows(known: tuple[list[str], dict[str, str]], tmp_path: Path) -> Path:
    texts, labels = known
    lines = ["body,queue", *(f"{text},{labels[text]}" for text in texts)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "rows.csv"


def test_evaluate_compares_the_policy_with_the_full_tier(pristine: Path, rows: Path) -> None:
    data = adaptive.load_data(rows, text="body", label="queue")
    found = adaptive.evaluate(pristine, data)
    assert found["texts"] == len(data)
    assert {"policy", "full alone"} <= {row["name"] for row in found["rows"]}


def test_certify_writes_the_certificate_into_the_folder(folder: Path, rows: Path) -> None:
    data = adaptive.load_data(rows, text="body", label="queue")
    target = adaptive.Target("agreement", 0.9)
    certificate = adaptive.certify(folder, data, target)
    assert certificate.targets == (target,)
    written = load_bundle(folder).certificate
    assert written is not None
    assert replace(written, hashes=certificate.hashes) == certificate


def test_certify_asks_a_function_for_few_labels(
    folder: Path, known: tuple[list[str], dict[str, str]]
) -> None:
    texts, labels = known
    asked: list[str] = []

    def ask(some: list[Any]) -> list[str]:
        asked.extend(some)
        return [labels[text] for text in some]

    target = adaptive.Target("accuracy_drop", 0.3)
    certificate = adaptive.certify(folder, texts, target, ask=ask)
    assert certificate.asked is not None
    assert 0 < len(asked) == certificate.asked.labels < len(texts)
    with pytest.raises(adaptive.DataError, match="need `ask`"):
        adaptive.certify(folder, texts, target)


def test_a_curve_of_the_rows_that_the_bundle_keeps(pristine: Path) -> None:
    found = adaptive.curve(pristine, work=True)
    frame = found.to_frame()
    assert set(frame["kind"]) >= {"tier", "exit", "family", "chosen"}
    full = max(found.of("tier"), key=lambda each: each.cost)
    kept = found.at(0.9)
    assert kept.quality >= 0.9 * full.quality
    cheaper = [each for each in found.points if each.cost < kept.cost and not each.abstained]
    assert all(each.quality < 0.9 * full.quality for each in cheaper)
    with pytest.raises(ValueError, match="no policy keeps"):
        found.at(2.0)


def test_data_come_from_a_frame_as_from_a_file(rows: Path) -> None:
    import pandas

    file = adaptive.load_data(rows, text="body", label="queue")
    frame = adaptive.load_data(pandas.read_csv(rows), text="body", label="queue")
    assert file.texts == frame.texts and file.label_names == frame.label_names
    with pytest.raises(adaptive.DataError, match="where"):
        adaptive.load_data(pandas.read_csv(rows), text="body", label="queue", where={})


def test_build_takes_a_mapping_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(adaptive.ConfigError, match="model"):
        adaptive.build({"name": "x", "output": str(tmp_path / "out")}, tmp_path / "run")
