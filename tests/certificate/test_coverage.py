"""What voids a promise is found, told, and not counted as covered."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import make_cascade, tiny_texts

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.bundle.header import library_versions
from adaptive.certifying import coverage
from adaptive.certifying.coverage import other_versions
from adaptive.certifying.recertify import recertify
from adaptive.config import Preset
from adaptive.device.processor import _from_linux, cpu_name
from adaptive.measure import timing
from adaptive.measure.recording import outcomes
from adaptive.measure.timing import costs_here, measure_costs
from adaptive.text import tokens as token_rows
from adaptive.types import Target, Tokens

ROWS, TEXTS = 120, tiny_texts(6, 5)
UNKNOWN = np.full(ROWS, -1, np.int32)
QUALITY, BUDGET = Target("agreement", 0.4), Target("milliseconds", 1e4)


def rows_of(bundle: Bundle, seed: int) -> Tokens:
    texts = list(dict.fromkeys(tiny_texts(ROWS + 30, seed)))[:ROWS]
    return token_rows.tokenize(bundle.tokenizer, texts, max_length=32)


@pytest.fixture(scope="module")
def certified() -> Bundle:
    """Certified on single texts for an agreement and a budget that nothing breaks."""
    bundle = make_cascade()
    table = measure_costs(
        bundle.tiers, bundle.reliability, bundle.device, batch_size=4, lengths=[4, 8], repeats=1
    )
    search = outcomes(bundle, rows_of(bundle, 2), UNKNOWN, 32)
    bundle = replace(bundle, costs=table, outcomes={"search": search})
    targets = [QUALITY, BUDGET]
    return recertify(bundle, rows_of(bundle, 3), UNKNOWN, targets, batch_size=4, pairs=False)


def changed(bundle: Bundle, **conditions: Any) -> Bundle:
    certificate = bundle.certificate
    assert certificate is not None
    conditions = {"conditions": replace(certificate.conditions, **conditions)}
    return replace(bundle, certificate=replace(certificate, **conditions))


def only(bundle: Bundle, target: Target) -> Bundle:
    """The bundle with one of its promises."""
    assert bundle.certificate is not None
    return replace(bundle, certificate=replace(bundle.certificate, targets=(target,)))


def opened(bundle: Bundle, **preset: Any) -> AdaptivePipeline:
    return AdaptivePipeline(bundle, Preset(bundle="x", **{"batch_size": 4, **preset}))


def marks(answers: list[Mapping[str, Any]]) -> set[tuple[bool, str | None]]:
    return {(a["routing"]["covered"], a["routing"]["promise"]) for a in answers}


YES, NO = {(True, "mean")}, {(False, None)}


@contextmanager
def silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_where_it_was_certified_all_promises_hold_and_nothing_is_told(certified: Bundle) -> None:
    assert certified.certificate is not None
    found = certified.certificate.conditions
    assert (found.processor, found.threads) == (cpu_name(), torch.get_num_threads())
    assert (found.batch_size, found.pairs) == (4, False)
    with silence():
        pipeline = opened(certified)
        assert pipeline.promises == (QUALITY, BUDGET)
        assert marks(pipeline(TEXTS)) == YES
        assert opened(changed(certified, processor="", threads=None, batch_size=None, pairs=None))


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"processor": "another"}, r"processor another \(here .+\)"),
        ({"threads": 77}, r"threads 77 \(here \d+\)"),
        ({"batch_size": 9}, r"batch size 9 \(here 4\)"),
    ],
)
def test_milliseconds_hold_only_where_they_were_measured(
    certified: Bundle, conditions: dict[str, Any], told: str
) -> None:
    bundle = changed(certified, **conditions)
    with pytest.warns(UserWarning, match=rf"\(milliseconds=10000\) are not covered here.*{told}"):
        pipeline = opened(bundle)
    assert pipeline.promises == (QUALITY,)
    with silence():  # told once
        assert marks(pipeline(TEXTS)) == YES
        assert opened(only(bundle, QUALITY)).promises == (QUALITY,)
    with pytest.warns(UserWarning, match="not covered here"):
        assert marks(opened(only(bundle, BUDGET))(TEXTS)) == NO


def test_another_batch_size_of_a_call_is_told_of(certified: Bundle) -> None:
    pipeline = opened(only(certified, BUDGET))
    with pytest.warns(UserWarning, match=r"batch size 4 \(here 2\)"):
        assert marks(pipeline(TEXTS, batch_size=2)) == NO
    assert marks(pipeline(TEXTS)) == YES


def test_pairs_are_not_covered_by_a_certificate_on_single_texts(certified: Bundle) -> None:
    pipeline, pairs = opened(certified), [(text, text) for text in TEXTS]
    with pytest.warns(UserWarning, match="these are pairs of texts.*about single texts"):
        assert marks(pipeline(pairs)) == NO
    assert marks(pipeline(TEXTS)) == YES
    assert marks(list(pipeline(iter(pairs)))) == NO
    other = opened(changed(certified, pairs=True))
    assert marks(other(pairs)) == YES
    with pytest.warns(UserWarning, match="these are single texts.*about pairs of texts"):
        assert marks(list(other(iter(TEXTS)))) == NO
    with silence():
        assert marks(opened(changed(certified, pairs=None))(pairs)) == YES


def test_texts_beside_refused_long_ones_are_another_population(certified: Bundle) -> None:
    cut = changed(certified, cut=0.25)
    with silence():
        assert marks(opened(cut)(TEXTS)) == YES
        assert marks(opened(certified)(TEXTS, truncation="error")) == YES
    for how in ("error", "windows"):
        pipeline = opened(cut)
        with pytest.warns(UserWarning, match=r"25.00% of the certification rows had more than 32"):
            # whether or not a long text is among them
            assert marks(pipeline(TEXTS, truncation=how)) == NO
    with pytest.warns(UserWarning, match="another population"):
        assert opened(cut, overflow="error").promises == ()


def test_texts_that_are_cut_shorter_are_told_of(certified: Bundle) -> None:
    with pytest.warns(UserWarning, match="texts are cut at 16 tokens, and were certified cut at"):
        assert marks(opened(certified)(TEXTS, max_length=16)) == NO


def test_libraries_of_another_minor_version_are_told_of(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert certified.certificate is not None
    conditions, here = certified.certificate.conditions, library_versions()
    assert {"torch", "transformers", "tokenizers"} <= conditions.versions.keys()
    major, minor = here["torch"].split(".")[:2]
    for version, told in ((f"{major}.{minor}.99+x", False), (f"{major}.999.0", True)):
        found = replace(conditions, versions={"torch": version, "numpy": "0.1", "onnxruntime": "9"})
        monkeypatch.setattr(coverage, "library_versions", lambda: {"torch": here["torch"]})
        assert bool(other_versions(found)) == told
    with pytest.warns(UserWarning, match=re.escape(f"torch {major}.999.0 (here {here['torch']})")):
        opened(changed(certified, versions={"torch": f"{major}.999.0"}))


def test_costs_of_another_processor_or_threads_are_measured_anew(
    certified: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = certified.costs
    assert table is not None and costs_here(certified, 4) is table
    monkeypatch.setattr(timing, "measure_costs", lambda *given, **options: table)
    for other in ({"processor": "another"}, {"threads": 77}):
        moved = replace(table, measured={**table.measured, **other})
        bundle = replace(certified, costs=moved, router=None)
        assert costs_here(bundle, 4) is table


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nmodel name\t: Other\n", "Some CPU @ 2"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd40\n", "0x41 0xd40"),
        ("nothing", ""),
    ],
)
def test_a_cpu_is_called_as_the_system_calls_it(tmp_path: Path, told: str, name: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(told)
    found = _from_linux(file)
    assert name in found and bool(found) == bool(name)
    assert _from_linux(tmp_path / "missing") == "" and cpu_name()
