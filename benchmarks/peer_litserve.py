"""The full tier of a bundle in LitServe, whose workers are spawned and import this file."""

from __future__ import annotations

from pathlib import Path

import litserve as ls
import torch
from peer_models import PEERS, Shop

from adaptive import AdaptivePipeline

WAIT_S = 0.005  # for a batch to fill


class Api(ls.LitAPI):  # type: ignore[misc]
    """One text a request, batches of what comes within `WAIT_S`."""

    def __init__(self, source: Path, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=WAIT_S)
        self.source = source

    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.bundle = AdaptivePipeline.from_config(self.source).bundle
        self.serve = PEERS["torch eager"].make(Shop(self.bundle, Path(), [], 1, fresh=False))

    def decode_request(self, request):  # type: ignore[no-untyped-def] # a type would be a query
        return str(request["inputs"])

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, texts: list[str]) -> list[str]:
        return [self.bundle.labels[int(each)] for each in self.serve(texts, self.max_batch_size)]

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"label": output}


def serve(source: Path, port: int, batch: int) -> None:
    """Listen until it is stopped."""
    server = ls.LitServer(Api(source, batch), accelerator="cpu", devices=1, timeout=300)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
