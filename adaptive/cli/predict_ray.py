"""`adaptive predict --ray`: a large file answered by many processes of a Ray cluster.

This machine reads the file and writes the answers; the cluster's actors hold a pipeline each.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptive.bundle.layout import LAYOUT
from adaptive.bundle.manifest import sha256, verify
from adaptive.cli import parts
from adaptive.cli.predict import progress
from adaptive.cli.rows import chunks, open_items
from adaptive.cli.session import Session
from adaptive.errors import AdaptiveError, BuildError, BundleError, ConfigError


def predict_on_ray(
    session: Session,
    *,
    bundle: str,
    folder: Path,
    output: Path | None,
    file: str,
    text: str,
    pair: str | None,
    keep: Mapping[str, str],
    opening: Mapping[str, Any],
    options: Mapping[str, Any],
) -> int:
    """Answers every row of a file into a folder of Parquet; returns how many rows were refused.

    Args:
        folder: of the bundle.
        opening: of `AdaptivePipeline.from_config`.
        options: of the pipeline's calls.

    Raises:
        BundleError: the bundle is damaged.
        ConfigError: no file or no folder was named, or the folder holds another run's answers.
        BuildError: some parts have no answers in the end.
    """
    if file == "-" or output is None:
        raise ConfigError("--ray: name a file to read and a folder to write: --output FOLDER")
    if output.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"--output {output}: lies in the bundle, which holds its own files alone")
    verify(folder.resolve())  # told here once, and not by each actor
    with open_items(file, text, pair, keep) as items:  # whether it has the columns
        next(items, None)
    reading = {"text": text, "pair": pair, "keep": dict(keep), "part_rows": parts.PART_ROWS}
    known = {name: value for name, value in options.items() if name != "batch_size"}
    job = job_of(file, bundle, folder, {**reading, **opening, **known})
    done = parts.open_folder(output, job)
    if done:
        session.note(f"{len(done)} parts are done")
    source = {"file": str(Path(file).resolve()), **reading, "done": sorted(done)}
    place = str(Path(bundle).resolve()) if Path(bundle).exists() else bundle
    with progress(session) as advance:
        last = _answer(source, {"bundle": place, **opening}, options, output, advance)
    missing = len({*range(last)} - parts.done(output))
    if missing:
        raise BuildError(f"{missing} of {last} parts have no answers; run it once more")
    rows, refused = parts.counted(output)
    session.note(f"{rows} rows, {refused} refused")
    return refused


def job_of(file: str, bundle: str, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the answers depend on: parts of one job alone stand in a folder.

    Args:
        options: of reading, of opening the bundle and of its calls.
    """
    preset = sha256(Path(bundle)) if Path(bundle).is_file() else None
    manifest = sha256(folder / LAYOUT.manifest)
    return {"file": sha256(Path(file)), "bundle": manifest, "preset": preset, **options}


def _answer(
    source: Mapping[str, Any],
    opening: Mapping[str, Any],
    options: Mapping[str, Any],
    output: Path,
    advance: Callable[[int], None],
) -> int:
    """Answer the parts that are left on the cluster; returns how many parts there are in all.

    Args:
        advance: is told how many rows have been answered.

    Raises:
        BundleError: an actor cannot open the bundle.
        ConfigError: the cluster has no CPU or no GPU to give.
        BuildError: Ray failed.
    """
    from adaptive.serve import cluster  # before Ray: it says how Ray is to start

    cluster.start_cluster(log_to_driver=False)
    import ray

    try:
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = 1  # a part a block: one that is read goes on at once
        context.enable_progress_bars = False
        context.issue_detectors_config.detectors = []  # they warn while a bundle is opened
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # of the plan and of each operator
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        on_gpu = str(opening.get("device") or "").startswith("cuda")
        most = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 0))
        if not most:  # actors would wait for one for ever
            raise ConfigError(f"no machine of the cluster has a {'GPU' if on_gpu else 'CPU'}")
        rows = (
            ray.data.from_items([{"source": json.dumps(source)}])
            .map_batches(read, batch_size=1, num_cpus=0.01, label_selector=here)
            .map(
                Answers,
                fn_constructor_args=(dict(opening), dict(options)),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
                num_cpus=0.9,
                num_gpus=1 if on_gpu else 0,
            )
        )
        last = answered = 0
        for row in rows.iter_rows():
            if row["fault"]:
                raise BundleError(row["fault"])
            if row["content"]:
                parts.write(output, row["part"], row["content"])
                answered += row["rows"]
                advance(answered)
            else:
                last = int(row["part"])
        return last
    except ray.exceptions.RayError as error:
        raise BuildError(
            f"the cluster failed, {type(error).__name__}; see Ray's logs. Parts that are written "
            f"stay, so run it once more"
        ) from None
    finally:
        ray.shutdown()


def read(batch: Any) -> Iterator[dict[str, list[Any]]]:
    """The parts that are not done, and behind them an empty one, whose number is their count."""
    source = json.loads(batch["source"][0])
    done, number = set(source["done"]), 0
    with open_items(source["file"], source["text"], source["pair"], source["keep"]) as items:
        for chunk in chunks(items, source["part_rows"]):
            if number not in done:
                yield {"part": [number], "items": [parts.packed(chunk)]}
            number += 1
    yield {"part": [number], "items": [""]}


class Answers:
    """A pipeline in an actor of its own."""

    def __init__(self, opening: dict[str, Any], options: dict[str, Any]) -> None:
        from adaptive.pipeline import AdaptivePipeline

        self._options, self._fault = options, ""
        try:
            self._pipeline = AdaptivePipeline.from_config(opening.pop("bundle"), **opening)
        except AdaptiveError as error:  # raised here, it would come with all of Ray's traces
            self._fault = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A part's answers, as the file that is to be written."""
        if self._fault or not row["items"]:
            return {"part": row["part"], "rows": 0, "content": b"", "fault": self._fault}
        items = parts.unpacked(row["items"])
        return {
            "part": row["part"],
            "rows": len(items),
            "content": parts.answered(self._pipeline, items, self._options),
            "fault": "",
        }
