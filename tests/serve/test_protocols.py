"""What clients speak: every protocol gives what the pipeline answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_cascade import LABELS
from tiny_server import TEXTS, Served, certified_cascade, run

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.exits.reliability import Reliability
from adaptive.policy.lookup import tier_alone
from adaptive.tasks.multi_label import MultiLabel


@pytest.fixture(scope="module")
def certified(tiny_cascade: Bundle) -> Bundle:
    return certified_cascade(tiny_cascade)


@pytest.fixture(scope="module")
def expected(certified: Bundle) -> list[Any]:
    return list(AdaptivePipeline(certified)(TEXTS, top_k=None))


def test_hugging_face_lists_labels_and_scores(certified: Bundle, expected: list[Any]) -> None:
    async def work(server: Served) -> None:
        many = (await server.post("/", {"inputs": TEXTS})).json()
        for got, own in zip(many, expected, strict=True):
            assert [each["label"] for each in got] == [each["label"] for each in own]
            assert [each["score"] for each in got] == pytest.approx(
                [each["score"] for each in own], abs=1e-5
            )
            routing = {**own[0]["routing"], "deadline_hit": False, "degraded": False}
            for name in ("tier", "exit", "cost", "covered", "deadline_hit", "degraded"):
                assert got[0]["routing"][name] == routing[name]
        named = {"inputs": TEXTS[0], "parameters": {"top_k": 1, "other": 3}}
        one = (await server.post("/models/tiny-cascade", named)).json()
        assert [each["label"] for each in one] == [expected[0][0]["label"]]
        assert (await server.post("/models/another", named)).status_code == 404
        pair = {"text": TEXTS[0], "text_pair": TEXTS[1]}
        both = (await server.post("/", {"inputs": [pair, pair]})).json()
        own = AdaptivePipeline(certified)([(TEXTS[0], TEXTS[1])])
        assert [each[0]["label"] for each in both] == [own[0]["label"]] * 2
        assert (await server.post("/", {"inputs": []})).json() == []

    run(certified, work)


def test_a_bad_item_fails_alone(certified: Bundle, expected: list[Any]) -> None:
    bad = [TEXTS[0], None, TEXTS[1], {"txt": "x"}, TEXTS[2]]

    async def work(server: Served) -> None:
        got = (await server.post("/", {"inputs": bad})).json()
        assert [isinstance(each, list) for each in got] == [True, False, True, False, True]
        assert got[1] == {"error": "expected text, found None"}
        assert got[2][0]["label"] == expected[1][0]["label"]
        data = (await server.post("/v1/classify", {"input": bad})).json()["data"]
        assert ["error" in each for each in data] == [False, True, False, True, False]
        alone = await server.post("/", {"inputs": 3})
        assert (alone.status_code, alone.json()) == (400, {"error": "expected text, found int"})
        long = {"inputs": ["word1 " * 99, TEXTS[0]], "parameters": {"truncation": False}}
        got = (await server.post("/", long)).json()
        assert "the limit is 32" in got[0]["error"] and got[1][0]["label"] in LABELS

    run(certified, work)


def test_classify_has_the_shape_of_vllm(certified: Bundle, expected: list[Any]) -> None:
    async def work(server: Served) -> None:
        got = (await server.post("/v1/classify", {"model": "x", "input": TEXTS})).json()
        assert got["object"] == "list" and got["model"] == "tiny-cascade"
        assert got["usage"]["prompt_tokens"] == got["usage"]["total_tokens"] > 0
        for index, (each, own) in enumerate(zip(got["data"], expected, strict=True)):
            assert (each["index"], each["num_classes"]) == (index, 3)
            assert each["label"] == own[0]["label"]
            scores = {one["label"]: one["score"] for one in own}
            assert each["probs"] == pytest.approx([scores[label] for label in LABELS], abs=1e-5)
        wrong = await server.post("/v1/classify", {"inputs": TEXTS})
        assert wrong.status_code == 422
        assert wrong.json()["error"]["message"] == "input: missing"

    run(certified, work)


def test_kserve_infers_from_bytes_in_json(certified: Bundle, expected: list[Any]) -> None:
    def tensor(name: str, data: list[Any], **other: Any) -> dict[str, Any]:
        return {"name": name, "datatype": "BYTES", "shape": [len(data)], "data": data, **other}

    async def work(server: Served) -> None:
        at = "/v2/models/tiny-cascade"
        for path in ("/v2", "/v2/health/live", "/v2/health/ready", at, f"{at}/ready"):
            assert (await server.client.get(path)).status_code == 200
        facts = (await server.client.get(at)).json()
        assert facts["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1]}
        body = {"id": "7", "inputs": [tensor("text", TEXTS)]}
        got = (await server.post(f"{at}/infer", body)).json()
        assert (got["id"], got["model_name"]) == ("7", "tiny-cascade")
        outputs = {each["name"]: each for each in got["outputs"]}
        assert outputs["label"]["data"] == [own[0]["label"] for own in expected]
        assert outputs["probabilities"]["shape"] == [len(TEXTS), 3]
        assert json.loads(outputs["routing"]["data"][0])["tier"] in ("tiny", "mid", "full")
        body = {
            "inputs": [tensor("text", TEXTS[:2], shape=[2, 1]), tensor("text_pair", TEXTS[2:4])],
            "outputs": [{"name": "label"}],
        }
        got = (await server.post(f"{at}/versions/1/infer", body)).json()
        assert [each["name"] for each in got["outputs"]] == ["label"]
        for wrong in (
            [tensor("words", TEXTS)],
            [tensor("text", TEXTS, shape=[3])],
            [tensor("text", TEXTS, datatype="FP32")],
            [tensor("text_pair", TEXTS)],
        ):
            assert (await server.post(f"{at}/infer", {"inputs": wrong})).status_code == 400
        wrong = json.dumps({"id": "\ud800", "inputs": [tensor("text", TEXTS)]})
        assert (await server.client.post(f"{at}/infer", content=wrong)).status_code == 422
        assert (await server.client.get("/v2/models/another")).status_code == 404

    run(certified, work)


def test_kserve_reads_tensors_in_binary_form(certified: Bundle, expected: list[Any]) -> None:
    def binary(texts: list[bytes], **other: Any) -> tuple[bytes, dict[str, str]]:
        behind = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        size = {"binary_data_size": len(behind), **other}
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "parameters": size}
        head = json.dumps({"inputs": [tensor]}).encode()
        return head + behind, {"Inference-Header-Content-Length": str(len(head))}

    async def work(server: Served) -> None:
        at = "/v2/models/tiny-cascade/infer"
        content, headers = binary([text.encode() for text in TEXTS] + [b"\xff"])
        got = (await server.client.post(at, content=content, headers=headers)).json()
        outputs = {each["name"]: each["data"] for each in got["outputs"]}
        assert outputs["label"] == [*(own[0]["label"] for own in expected), ""]
        assert outputs["error"][-1] == "expected text, found bytes; decode it first"
        for wrong in (
            (content[:-30], headers),
            (content, {"Inference-Header-Content-Length": "99999"}),
            (content, {}),
            binary([b"word1"], binary_data_size=7),
            binary([b"word1"], binary_data_size="x"),
        ):
            got = await server.client.post(at, content=wrong[0], headers=wrong[1])
            assert got.status_code == 400

    run(certified, work)


def test_a_stream_answers_every_line_in_order(certified: Bundle, expected: list[Any]) -> None:
    lines = [json.dumps(text) for text in TEXTS] * 30
    lines[3], lines[200] = "{no json", "null"

    async def in_pieces() -> AsyncIterator[bytes]:
        body = "\n".join(lines).encode()
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async def work(server: Served) -> None:
        for content in ("\n".join(lines).encode(), in_pieces()):
            got = await server.client.post("/v1/stream", content=content)
            assert got.headers["content-type"] == "application/x-ndjson"
            found = [json.loads(line) for line in got.text.splitlines()]
            assert [each["index"] for each in found] == list(range(len(lines)))
            bad = [each["index"] for each in found if "error" in each]
            assert bad == [3, 200]
            assert "no JSON" in found[3]["error"]
            right = [own[0]["label"] for own in expected] * 30
            assert all(e["label"] == right[e["index"]] for e in found if "error" not in e)
        whole = await server.client.post("/v1/stream?probs=true", content=b'"word1"')
        assert len(whole.json()["probs"]) == 3

    run(certified, work)


def test_a_stream_answers_while_its_items_still_come(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        answered, ended = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b'"word1"\n'
            await answered.wait()  # for ever, if what came were held back
            yield b'"word2"\n'

        sent: list[dict[str, Any]] = []
        stream = body()

        async def receive() -> dict[str, Any]:
            if ended.is_set():
                await asyncio.Event().wait()  # the client stays
            piece = await anext(stream, None)
            if piece is None:
                ended.set()
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if message.get("body"):
                answered.set()

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/stream",
            "query_string": b"",
            "headers": [],
            "http_version": "1.1",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
        }
        await server.app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent)
        assert [json.loads(line)["index"] for line in text.splitlines()] == [0, 1]

    run(certified, work)


def test_a_target_is_chosen_among_the_certified_ones(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        for target in ("agreement=0.4", "agreement=0.6"):
            body = {"inputs": TEXTS, "parameters": {"target": target}}
            got = (await server.post("/", body)).json()
            assert all(each[0]["routing"]["covered"] for each in got)
        own = server.service.deployment.levels
        assert own["agreement=0.4"].policy != own["agreement=0.6"].policy
        for wrong in ("agreement=0.04", "agreement=0.5", "nonsense", "accuracy=x", ""):
            got = await server.post("/v1/classify", {"input": TEXTS, "target": wrong})
            assert got.status_code == 400
            assert "agreement=0.4, agreement=0.6" in got.json()["error"]["message"]
        got = await server.client.post("/v1/stream?target=agreement=0.5", content=b'"a"')
        assert got.status_code == 400

    run(certified, work)


def test_windows_are_joined(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        long = " ".join(TEXTS * 4)
        body = {"inputs": [long, TEXTS[0]], "parameters": {"truncation": "windows"}}
        got = (await server.post("/", body)).json()
        own = AdaptivePipeline(certified)([long], truncation="windows", top_k=None)[0]
        assert got[0][0]["label"] == own[0]["label"]
        assert got[0][0]["routing"]["windows"] == own[0]["routing"]["windows"] > 1

    run(certified, work)


def test_the_page_and_openapi_need_nothing_from_elsewhere(certified: Bundle) -> None:
    async def work(server: Served) -> None:
        page = await server.client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "http://" not in page.text and "https://" not in page.text
        described = await server.client.get("/openapi.json")
        assert "$defs" not in described.text
        paths = described.json()["paths"]
        assert {"/", "/v1/classify", "/v1/stream", "/v2/models/{name}/infer"} <= paths.keys()
        await server.post("/", {"inputs": TEXTS})
        stats = (await server.client.get("/stats")).json()
        assert sum(stats["answers"].values()) == len(TEXTS)
        assert stats["state"] == "ready" and 0 < stats["cost"] <= stats["full_tier_cost"] * 1.05

    run(certified, work)


def test_of_several_labels_the_chosen_ones_are_told(tiny_cascade: Bundle) -> None:
    task, stages = MultiLabel(thresholds=(0.5, 0.5, 0.5)), tiny_cascade.stages
    bundle = replace(
        tiny_cascade,
        task=task,
        reliability=Reliability(len(stages), task.features),
        router=None,
        policy=tier_alone(stages, 2),
        ladder=(),
        outcomes={},
    )
    scores: dict[str, list[float]] = {label: [] for label in LABELS}
    for every in AdaptivePipeline(bundle)(TEXTS, top_k=None):
        for each in every:
            scores[each["label"]].append(each["score"])
    middle = tuple(sorted(scores[label])[len(TEXTS) // 2] for label in LABELS)
    bundle = replace(bundle, task=MultiLabel(thresholds=middle))
    chosen = [each["routing"]["labels"] for each in AdaptivePipeline(bundle)(TEXTS)]
    assert len(set(map(tuple, chosen))) > 1

    async def work(server: Served) -> None:
        data = (await server.post("/v1/classify", {"input": TEXTS})).json()["data"]
        assert [each["labels"] for each in data] == chosen
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "data": TEXTS}
        body = {"inputs": [tensor], "outputs": [{"name": "labels"}]}
        got = (await server.post("/v2/models/tiny-cascade/infer", body)).json()
        assert [json.loads(each) for each in got["outputs"][0]["data"]] == chosen

    run(bundle, work)
