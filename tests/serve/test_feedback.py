"""Labels from users: kept apart within bounds, tested against the promise, never in logs."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_server import TEXTS, Served, certified_cascade, run

from adaptive.bundle.contents import Bundle
from adaptive.serve.feedback import FILE
from adaptive.serve.keys import hash_of

KEY, OTHER = "ak_feedback", "ak_predict"
KEYS = (
    {"name": "desk", "sha256": hash_of(KEY), "scopes": ("feedback",)},
    {"name": "app", "sha256": hash_of(OTHER), "scopes": ("predict",)},
)
SECRET = "word1 canary"


@pytest.fixture(scope="module")
def certified(tiny_cascade: Bundle) -> Bundle:
    return certified_cascade(tiny_cascade, "accuracy_drop")


def labelled(bundle: Bundle, texts: list[str]) -> list[dict[str, Any]]:
    return [{"text": text, "label": bundle.labels[0]} for text in texts]


def test_feedback_is_kept_for_its_owner_alone_and_told_nowhere_else(
    certified: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "kept" / "apart"

    async def work(server: Served) -> None:
        items = [*labelled(certified, [SECRET, *TEXTS[:3]]), {"text": "a", "label": "unheard of"}]
        assert (await server.post("/v1/feedback", {"items": items})).status_code == 401
        wrong = await server.post("/v1/feedback", {"items": items}, headers={"X-API-Key": OTHER})
        assert wrong.status_code == 403 and not folder.exists()
        server.client.headers["X-API-Key"] = KEY
        got = await server.post("/v1/feedback", {"items": items})
        assert got.status_code == 200
        assert (got.json()["kept"], got.json()["tested"]) == (4, 4)
        assert got.json()["errors"] == [{"index": 4, "error": "the label is none of the model's"}]
        found = server.service.audit.condition()["accuracy_drop=0.4"]
        assert found["labelled_rows"] == 4  # type: ignore[index]
        none = await server.post("/v1/feedback", {"items": [{"text": "a"}, "b"]})
        assert none.status_code == 400 and len(none.json()["errors"]) == 2

    run(certified, work, keys=KEYS, feedback={"folder": str(folder)})
    file = folder / FILE
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [row["text"] for row in rows] == [SECRET, *TEXTS[:3]]
    assert {row["key"] for row in rows} == {"desk"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "canary" not in caplog.text and "unheard" not in caplog.text


def test_beyond_the_limit_nothing_is_kept_and_all_is_tested(
    certified: Bundle, tmp_path: Path
) -> None:
    async def work(server: Served) -> None:
        server.client.headers["X-API-Key"] = KEY
        first = await server.post("/v1/feedback", {"items": labelled(certified, TEXTS[:1])})
        assert first.json()["kept"] == 1
        size = (tmp_path / FILE).stat().st_size
        more = await server.post("/v1/feedback", {"items": labelled(certified, TEXTS)})
        assert more.status_code == 507
        assert (more.json()["kept"], more.json()["tested"]) == (0, len(TEXTS))
        assert (tmp_path / FILE).stat().st_size == size

    run(certified, work, keys=KEYS, feedback={"folder": str(tmp_path), "bytes": 300})


def test_without_a_folder_nothing_is_kept(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        server.client.headers["X-API-Key"] = KEY
        got = await server.post("/v1/feedback", {"items": labelled(certified, TEXTS)})
        assert (got.json()["kept"], got.json()["tested"]) == (0, len(TEXTS))
        assert server.service.quarantine.file is None

    run(certified, work, keys=KEYS)


def test_labels_that_show_a_broken_promise_make_the_level_step_back(certified: Bundle) -> None:
    name = "accuracy_drop=0.4"

    async def work(server: Served) -> None:
        audit, levels = server.service.audit, server.service.deployment.levels
        level, ones = levels[name], np.ones(40)
        answered = np.ones(40, np.bool_)
        for _ in range(20):  # what the promise allows: four of ten right answers are lost
            audit.learn(level, np.repeat([0.0, 1.0], (16, 24)), ones, answered)
        assert levels[name] == level
        audit.learn(level, ones * 0.0, ones, answered)
        audit.learn(level, ones * 0.0, ones, ~answered)  # no answer loses anything
        assert levels[name] == level
        for _ in range(5):
            audit.learn(levels[name], ones * 0.0, ones, answered)
        place = level.certified.index(level.policy)
        assert place > 0 and level.certified.index(levels[name].policy) < place
        assert audit.steps[name] >= 1

    run(certified, work)
