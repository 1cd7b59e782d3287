"""A server before whose bundle texts lose personal data: nothing of them is answered by or kept."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("presidio_analyzer", reason="needs the extra `redact`")

from tiny_server import TEXTS, Served, run

from adaptive.bundle.contents import Bundle
from adaptive.serve.feedback import FILE
from adaptive.serve.keys import hash_of

NUMBER = "13800138000"
KEY = "ak_desk"
DESK = {"name": "desk", "sha256": hash_of(KEY), "scopes": ("predict", "routing", "feedback")}


def test_a_server_answers_raw_and_redacted_texts_alike_and_keeps_and_logs_no_number(
    tiny_cascade: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raw, clean = ([f"{each} {told}" for each in TEXTS] for told in (NUMBER, "<PHONE>"))

    async def work(server: Served) -> None:
        server.client.headers["X-API-Key"] = KEY
        for path, field in (("/", "inputs"), ("/v1/classify", "input")):
            for items in ((raw, clean), (raw[0], clean[0])):
                found = [(await server.post(path, {field: each})).json() for each in items]
                assert len({str(_answers(each)) for each in found}) == 1
        labelled = [{"text": each, "label": tiny_cascade.labels[0]} for each in raw]
        got = await server.post("/v1/feedback", {"items": labelled})
        assert got.json()["kept"] == got.json()["tested"] == len(raw)

    bundle = replace(tiny_cascade, redact=("phone",))
    run(bundle, work, keys=(DESK,), feedback={"folder": str(tmp_path)})
    kept = (tmp_path / FILE).read_text()
    assert "<PHONE>" in kept and NUMBER not in kept
    assert NUMBER not in caplog.text


def _answers(found: object) -> object:
    """Without what numbers each request."""
    return found["data"] if isinstance(found, dict) else found
