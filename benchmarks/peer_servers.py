"""Servers that a user would run instead, each over the full tier of a bundle, in float32.

    python benchmarks/peer_servers.py NAME --bundle FOLDER --port N --folder FOLDER

fastapi     an endpoint that calls transformers' pipeline with one text, in FastAPI's threads
litserve    LitServe, batches of up to 32, torch
ray         Ray Serve, one replica, batches of up to 32, torch
tei         POST /predict in the shape of text-embeddings-inference, which is a program in Rust that
            no registry has as a package: the same contract in Python, batches of what waits, up to
            32, ONNX Runtime
"""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peer_models import PEERS, Serve, Shop, exported

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle

BATCH = 32  # requests at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*SERVERS, "export"])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for exported files")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.name == "export":
        exported(shop_of(given.bundle, given.folder))
    else:
        SERVERS[given.name](given)


def shop_of(source: Path, folder: Path) -> Shop:
    """What peers are made of: the bundle's own weights."""
    bundle = AdaptivePipeline.from_config(source).bundle
    return Shop(bundle, folder, [], 1, fresh=False)


def answerer(kind: str, given: argparse.Namespace) -> tuple[Serve, Bundle]:
    """One of `peer_models.PEERS`, warm."""
    shop = shop_of(given.bundle, given.folder)
    serve = PEERS[kind].make(shop)
    serve(["warm", "warm it up"], 2)
    return serve, shop.bundle


def fastapi(given: argparse.Namespace) -> None:
    """One text a call, in the threads that FastAPI gives to plain functions."""
    from fastapi import Body, FastAPI

    serve, bundle = answerer("transformers pipeline", given)
    app = FastAPI()

    @app.post("/predict")
    def predict(inputs: str = Body(embed=True)) -> dict[str, str]:
        return {"label": bundle.labels[int(serve([inputs], 1)[0])]}

    listen(app, given.port)


def tei(given: argparse.Namespace) -> None:
    """Whatever waits goes together, as soon as the batch before it is done."""
    from fastapi import Body, FastAPI

    serve, bundle = answerer("onnxruntime", given)
    app, thread = FastAPI(), ThreadPoolExecutor(1)
    waiting: list[tuple[str, asyncio.Future[str]]] = []
    busy = False

    async def run() -> None:
        nonlocal busy
        busy = True
        while waiting:
            batch = waiting[:BATCH]
            del waiting[:BATCH]
            texts = [text for text, _ in batch]
            work = partial(serve, texts, BATCH)
            numbers = await asyncio.get_running_loop().run_in_executor(thread, work)
            for (_, future), number in zip(batch, numbers, strict=True):
                future.set_result(bundle.labels[int(number)])
        busy = False

    tasks = set[asyncio.Task[None]]()

    @app.post("/predict")
    async def predict(inputs: str = Body(embed=True)) -> list[dict[str, Any]]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting.append((inputs, future))
        if not busy:
            tasks.add(task := asyncio.create_task(run()))
            task.add_done_callback(tasks.discard)
        return [{"label": await future, "score": 1.0}]

    listen(app, given.port)


def litserve(given: argparse.Namespace) -> None:
    """LitServe with one worker and one process for HTTP."""
    from peer_litserve import serve

    serve(given.bundle, given.port, BATCH)


def ray(given: argparse.Namespace) -> None:
    """Ray Serve with one replica and its own process for HTTP."""
    from peer_ray import serve

    serve(given.bundle, given.port, BATCH)


def listen(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


SERVERS = {"fastapi": fastapi, "litserve": litserve, "ray": ray, "tei": tei}

if __name__ == "__main__":
    main()
