"""The greatest memory of each way to answer, in a process of its own that loads and serves.

Ours under its policy loads the bundle; every other way loads a bundle of the full tier alone, made
before, and peers that serve an exported file load no weights of torch's (ctranslate2 does, for its
head). What is exported or quantised once is there already; what a runtime does at each start is
counted. Batches are served in ascending order, so that a place's peak is also that of smaller ones.

    python benchmarks/peer_memory.py JOB.json

is one such process: it prints bytes by batch size.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_models import FULL, PEERS, POLICY, SINGLE, SMALL, Serve, Shop, serve_pipeline, texts_of

from adaptive import AdaptivePipeline
from adaptive.bundle.contents import Bundle
from adaptive.bundle.header import read_header
from adaptive.bundle.manifest import verify
from adaptive.bundle.parts import read_tokenizer
from adaptive.bundle.store import save_bundle
from adaptive.exits.reliability import Reliability
from adaptive.policy.lookup import tier_alone
from adaptive.tiers.store import reference_of
from adaptive.types import Policy

ROOT = Path(__file__).resolve().parent.parent


def measure_peaks(
    names: Sequence[str],
    bundle: Path,
    folder: Path,
    texts: Sequence[str],
    batches: Sequence[int],
    threads: int,
) -> dict[str, dict[int, int]]:
    """Bytes of each way by batch size; a way that fails in its process has none.

    Args:
        folder: that the exported files of the peers lie in.
    """
    given = AdaptivePipeline.from_config(bundle).bundle
    save_bundle(full_alone(given), folder / "full_alone", card="", recipe="")
    job = {"folder": str(folder), "texts": list(texts), "batches": sorted(batches)}
    found = {}
    for name in names:
        if name in (SMALL, SINGLE):
            continue  # tiers of the bundle, which are measured for speed alone
        source = bundle if name == POLICY else folder / "full_alone"
        file = folder / "job.json"
        file.write_text(json.dumps(job | {"way": name, "bundle": str(source), "threads": threads}))
        done = subprocess.run(
            [sys.executable, __file__, str(file)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        last = done.stdout.strip().rpartition("\n")[2]  # some runtimes are talkative
        peaks = json.loads(last) if done.returncode == 0 else {}
        found[name] = {int(batch): peak for batch, peak in peaks.items()}
    return found


def serve_job(job: Mapping[str, Any]) -> dict[int, int]:
    """Greatest memory so far after each batch size, in bytes."""
    torch.set_num_threads(job["threads"])
    serve, peaks = open_way(job), {}
    for batch in job["batches"]:
        serve(texts_of(job["texts"], batch), batch)
        peaks[batch] = peak_bytes()
    return peaks


def open_way(job: Mapping[str, Any]) -> Serve:
    """Load one way to answer, and no more than it needs."""
    folder = Path(job["bundle"])
    if job["way"] in (POLICY, FULL):
        return serve_pipeline(AdaptivePipeline.from_config(folder))
    peer = PEERS[job["way"]]
    bundle = weightless(folder) if peer.exported else AdaptivePipeline.from_config(folder).bundle
    return peer.make(Shop(bundle, Path(job["folder"]), [], job["threads"], fresh=False))


def full_alone(bundle: Bundle) -> Bundle:
    """A bundle of the last tier and nothing else, in float32."""
    alone = replace(
        bundle,
        tiers=(reference_of(bundle.tiers[-1]),),
        reliability=Reliability(len(bundle.tiers[-1].depths)),
        router=None,
        ladder=(),
        costs=None,
        outcomes={},
        info={},
        certificate=None,
    )
    return replace(alone, policy=tier_alone(alone.stages, 0))


def weightless(folder: Path) -> Bundle:
    """What peers that serve a file read of a bundle: tokenizer and length."""
    header = read_header(folder)
    return Bundle(
        name=header.name,
        labels=header.labels,
        tokenizer=read_tokenizer(folder, verify(folder).keys()),
        tiers=(),
        reliability=Reliability(0),
        router=None,
        log_frequency=np.zeros(0, dtype=np.float32),
        policy=Policy((), ()),
        targets=header.targets,
        max_length=header.max_length,
    )


def peak_bytes() -> int:
    """Greatest memory that this process has held at any time.

    Linux counts a parent's into `ru_maxrss` of the process that it starts, and not into VmHWM.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(serve_job(json.loads(Path(sys.argv[1]).read_text()))))
