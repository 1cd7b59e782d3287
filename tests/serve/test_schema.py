"""Whatever the OpenAPI page allows, and whatever it does not, is never an internal error."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from tiny_server import TEXTS

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.config import Preset
from adaptive.serve.app import create_app
from adaptive.serve.deployment import Deployment
from adaptive.serve.run import Server, listen
from adaptive.serve.settings import Settings


@contextmanager
def listening(bundle: Bundle) -> Iterator[str]:
    """A real server in a thread of this process, and its address."""
    own = Settings(port=0, audit={"share": 0.0})  # type: ignore[arg-type]
    pipeline = AdaptivePipeline(bundle, Preset(bundle=bundle.name))
    app = create_app(own, lambda deliver: Deployment(pipeline, own, deliver))
    server, socket = Server(app, own), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    try:
        while not app.state.service.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the tool itself
def test_no_request_that_the_schema_can_think_of_is_an_internal_error(
    tiny_cascade: Bundle,
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    import requests

    @schemathesis.serializer("application/x-ndjson")  # type: ignore[untyped-decorator]
    def lines(context: Any, value: Any) -> bytes:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        return text.encode("utf-8", "surrogatepass")

    with listening(tiny_cascade) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        tried = 0
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in schemathesis.GenerationMode:
                asked: list[int] = []
                with suppress(Unsatisfiable):  # nothing about a plain GET can be wrong
                    _try(operation.as_strategy(generation_mode=mode), asked)
                tried += len(asked)
        assert tried > 150
        got = requests.post(f"{address}/", json={"inputs": TEXTS}, timeout=30)
        assert len(got.json()) == len(TEXTS)


def _try(strategy: Any, asked: list[int]) -> None:
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def check(case: Any) -> None:
        response = case.call()
        asked.append(response.status_code)
        # 503 is the server's state, 504 a deadline of the request
        assert response.status_code not in (500, 502), case.as_curl_command()

    check()
