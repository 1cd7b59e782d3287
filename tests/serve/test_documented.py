"""Every curl line and every setting in docs/serving.md is as the server has it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_server import Served, certified_cascade, run

from adaptive.bundle.contents import Bundle
from adaptive.serve.keys import hash_of
from adaptive.serve.settings import SCOPES, Settings

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text("utf-8")
KEY = "ak_documented"
PROMISED = ("agreement=0.02", "agreement=0.4")  # in the documentation, and of the tiny bundle


def requests() -> list[tuple[str, str, dict[str, str], bytes | None]]:
    """Method, address, headers and body of each curl line."""
    found = []
    for line in re.findall(r"^curl .*$", DOCS, re.MULTILINE):
        words = shlex.split(line.replace("$KEY", KEY).replace(*PROMISED))[1:]
        method, url, headers, body = "", "", {}, None
        while words:
            word = words.pop(0)
            if word == "-X":
                method = words.pop(0)
            elif word == "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            elif word in ("-d", "--data-binary"):
                body = words.pop(0).encode()
            elif word == "-T":
                assert words.pop(0) == "texts.jsonl"
                body = b'"hello"\n{"text": "where is my card"}\n'
            else:
                url = word
        found.append((method or ("POST" if body else "GET"), url, headers, body))
    return found


def test_every_documented_request_is_answered(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        server.client.headers["X-API-Key"] = KEY
        asked = requests()
        assert len(asked) >= 11
        for method, url, headers, body in asked:
            parts = urlsplit(url)
            path = f"{parts.path or '/'}?{parts.query}"
            got = await server.client.request(method, path, headers=headers, content=body)
            assert got.status_code == 200, (url, body, got.text)
            for line in got.text.splitlines():
                assert "error" not in json.loads(line)

    keys = ({"name": "all", "sha256": hash_of(KEY), "scopes": SCOPES},)
    labels = ("card_arrival", *tiny_cascade.labels[1:])
    bundle = replace(certified_cascade(tiny_cascade), name="tickets", labels=labels)
    run(bundle, work, keys=keys, trial=bundle, canary={"bundle": "elsewhere"})


def test_documented_settings_are_the_defaults_and_read_as_written() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS, re.S)
    limits, keys, canary = (yaml.safe_load(block) for block in blocks)
    read, own = Settings(**limits), Settings()
    assert read == own
    assert set(limits["limits"]) == set(type(own.limits).model_fields)
    assert Settings(**canary).canary.share == 0.05
    assert Settings(**keys).keys[0].scopes == ("predict", "routing")
    fields: dict[str, Any] = dict(type(own).model_fields)
    told = {*limits, *keys, *re.findall(r"`(\w+): \w+`", DOCS)}
    assert set(fields) - told <= {"name", "warm_up", "log", "page"}
