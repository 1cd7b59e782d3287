"""What people watch a server by: the dashboard's metrics, and `adaptive top`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from rich.console import Console
from tiny_server import TEXTS, Served, certified_cascade, run
from typer.testing import CliRunner

from adaptive.bundle.contents import Bundle
from adaptive.cli import app
from adaptive.cli.top import page

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "deploy" / "grafana.json"


def test_every_metric_of_the_dashboard_is_one_of_the_servers(tiny_cascade: Bundle) -> None:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [each["query"] for each in board["templating"]["list"]]
    wanted = set(re.findall(r"\badaptive_\w+", " ".join(asked)))
    assert len(wanted) >= 15

    async def work(server: Served) -> None:
        told = (await server.client.get("/metrics")).text
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", told, re.M))
        known = set(kinds)
        for name, kind in kinds.items():
            if kind == "histogram":
                known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
        assert not wanted - known
        # and none of the server's own is left out of it
        seen = {re.sub("_(bucket|sum|count)$", "", name) for name in wanted}
        assert {name for name in kinds if not name.endswith("_created")} == seen

    run(tiny_cascade, work)


def test_top_shows_shares_cost_and_promises(tiny_cascade: Bundle) -> None:
    found: list[dict[str, Any]] = []

    async def work(server: Served) -> None:
        await server.post("/", {"inputs": TEXTS})
        found.append((await server.client.get("/stats")).json())
        await server.post("/", {"inputs": TEXTS})
        found.append((await server.client.get("/stats")).json())

    run(certified_cascade(tiny_cascade), work)
    console = Console(width=120, record=True, file=None, quiet=True)
    console.quiet = False
    with console.capture() as shown:
        console.print(page(found[1], found[0], 2.0))
    told = shown.get()
    assert "ready" in told and "agreement=0.4" in told and "of the full tier's" in told
    shares = [float(each) for each in re.findall(r"([\d.]+)% ", told.split("answered by")[1])]
    assert sum(shares[: len(found[1]["answers"])]) == pytest.approx(100.0, abs=0.3)
    before = sum(found[0]["answers"].values())
    assert sum(found[1]["answers"].values()) == 2 * before == 2 * len(TEXTS)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1:9"])
def test_top_says_where_no_server_answers(url: str) -> None:
    result = CliRunner().invoke(app, ["top", url, "--once"])
    assert result.exit_code == 2
