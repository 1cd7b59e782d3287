"""`adaptive certify --unlabelled --ask`: a certificate for few labels, asked for in turns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from adaptive.cli.certify import facts_of, show_certificate
from adaptive.cli.labelled import own_data
from adaptive.cli.outputs import check_output
from adaptive.cli.session import Session
from adaptive.cli.todo import State, check_todo, ids_of, pool_hash, read_labels, write_todo
from adaptive.config.targets import show_target
from adaptive.errors import BundleError, ConfigError
from adaptive.types import Target

if TYPE_CHECKING:
    from adaptive.certifying.unlabelled import Plan
    from adaptive.pipeline import AdaptivePipeline
    from adaptive.training.data import Dataset

_NAMES_SHOWN = 10  # labels


@dataclass(frozen=True, slots=True)
class Files:
    """Where texts to label go, where labels come from, and what is kept between."""

    todo: Path
    labels: Path | None
    state: Path


def choose_files(
    todo: Path | None,
    labels: Path | None,
    state: Path | None,
    *,
    unlabelled: bool,
    finish: bool,
    sample: str | None,
) -> Files | None:
    """The files that a command line names; None where the data have labels of their own.

    Raises:
        ConfigError: options that need each other stand alone.
    """
    if unlabelled and todo is None:
        raise ConfigError(
            "--unlabelled: name a file for the texts to label, such as --ask todo.csv"
        )
    if unlabelled and todo is not None:
        return Files(todo, labels, state or todo.with_suffix(".state"))
    given: dict[str, Path | str | bool | None] = {
        "--ask": todo,
        "--labels": labels,
        "--state": state,
        "--sample": sample,
        "--finish": finish,
    }
    for name, value in given.items():
        if value:
            raise ConfigError(f"{name}: belongs to --unlabelled")
    return None


def check_files(files: Files, inputs: Sequence[str | Path]) -> None:
    """Refuse files that could not be written, or in whose place something lies.

    Raises:
        ConfigError: naming the option.
    """
    check_output(files.todo, inputs, "--ask")
    if files.labels is not None and not files.labels.is_file():
        raise ConfigError(f"--labels {files.labels}: no such file")


def load_sample(
    sample: str | None, text: str | None, pair: str | None, bundle: str, labels: Sequence[str]
) -> Dataset | None:
    """The labelled sample, read as the texts are.

    Raises:
        DataError: it is wrong, or has a label that the bundle does not know.
    """
    if sample is None:
        return None
    from adaptive.cli.labelled import choose_source, load_labelled

    source = choose_source(
        sample,
        text=text,
        pair=pair,
        label=None,
        where=(),
        rename=(),
        limit=None,
        on_bad_row=None,
        own=own_data(bundle),
    )
    return load_labelled(source, bundle, labels)


def ask(
    pipeline: AdaptivePipeline,
    data: Dataset,
    targets: Sequence[Target],
    levels: Sequence[float],
    files: Files,
    session: Session,
    *,
    sample: Dataset | None = None,
    batch: int,
    finish: bool,
    looks: int = 1,
    count_repeats: bool = False,
    rename: Mapping[str, str],
) -> dict[str, Any]:
    """Take the labels that came, and ask for the next ones or write the certificate.

    Args:
        data: unlabelled texts.
        sample: labelled texts that the full tier's accuracy is bounded by, in place of the
            bundle's search rows.
        batch: texts to ask for at once.
        finish: whether to certify what the labels so far prove, be tests open or not.
        looks, count_repeats: as `adaptive.cli.certify.certify` takes them.
        rename: what raw labels are called in the bundle.

    Raises:
        ConfigError: files that do not belong together, or would be written over.
        DataError: labels that cannot be taken, see `adaptive.cli.todo.read_labels`.
        BundleError, TargetError: the bundle or its promise cannot be certified so.
    """
    from adaptive.certifying.concluding import finish as concluded
    from adaptive.certifying.unlabelled import next_rows, outlook, standings
    from adaptive.training.splits import distinct_rows

    folder = Path(pipeline.preset.bundle).expanduser()
    if not folder.is_dir():
        raise BundleError(f"{folder}: only a local folder can be certified; download it first")
    ids = given = ids_of(data)
    if not count_repeats:
        rows_of_texts = distinct_rows(data)
        data, ids = data.take(rows_of_texts), [given[row] for row in rows_of_texts.tolist()]
    state = State.read(files.state)
    check_todo(files.todo, files.labels, {} if state is None else state.labels)
    design = {"levels": list(levels), "looks": looks, "count_repeats": count_repeats}
    made, state = _plan(pipeline, data, ids, targets, design, sample, state, files, session)
    place = {ids[row]: number for number, row in enumerate(made.rows.tolist())}
    if files.labels is not None:
        came = read_labels(files.labels, ids, pipeline.bundle.labels, rename)
        if came and not state.labels:
            concluded(made, made.table.labels)  # counts the look: from here on labels are seen
        _take(state, came)
        state.write()
    labels = _labels(state, place, pipeline.bundle.labels, len(made))
    rows = next_rows(made, labels, batch)
    if finish or not len(rows):
        return _finished(made, labels, folder, len(given))
    write_todo(files.todo, data, ids, made.rows[rows].tolist())
    number, here = next(
        (i, each) for i, each in enumerate(standings(made, labels)) if each.end == "asking"
    )
    return {
        "result": None,
        "todo": str(files.todo),
        "asked": len(rows),
        "names": list(pipeline.bundle.labels),
        "labels": int((labels >= 0).sum()),
        "n": len(made),
        "known": made.used,
        "repeated": len(given) - (made.used or 0) - len(made),
        "certified": here.passed,
        "front": len(made.fronts[number]),
        "promise": show_target(made.targets[number]),
        "next": [asdict(each) for each in outlook(made, labels)],
    }


def show(facts: dict[str, Any], console: Console) -> None:
    """What `ask` did, for a terminal."""
    if facts["result"] is not None:
        show_certificate(facts, console)
        return
    some = facts["names"][:_NAMES_SHOWN]
    more = f" and {len(facts['names']) - len(some)} more" * (len(some) < len(facts["names"]))
    lines = [
        f"{facts['asked']:,} text{'s' * (facts['asked'] != 1)} to label: {facts['todo']}. Fill in "
        f"`label`, with {', '.join(some)}{more}, and run the same command with --labels "
        f"{facts['todo']}",
        f"{facts['promise']}: {facts['certified']} of {facts['front']} policies are proved so far, "
        f"with {facts['labels']:,} labels of {facts['n']:,} rows",
        *_steps(facts["next"]),
        "--finish certifies what is proved so far, without further labels",
    ]
    for text in lines:
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _steps(found: Sequence[dict[str, Any]]) -> list[str]:
    """What the next steps are expected to take, as they add up."""
    told, labels = [], 0
    for step in found:
        labels += step["labels"]
        gain = f"{step['saves']:.1%} less cost" if step["passes"] else "the end of the sequence"
        told.append(f"about {labels:,} more label{'s' * (labels != 1)}: {gain}")
    return told


def _plan(
    pipeline: AdaptivePipeline,
    data: Dataset,
    ids: Sequence[str],
    targets: Sequence[Target],
    design: Mapping[str, Any],
    sample: Dataset | None,
    state: State | None,
    files: Files,
    session: Session,
) -> tuple[Plan, State]:
    """The plan, from what was kept where there is something, and what is kept of it."""
    from adaptive.certifying.unlabelled import Accuracy, plan, sampled
    from adaptive.measure.timing import costs_here

    bundle, size = pipeline.bundle, pipeline.preset.batch_size
    tokens = pipeline.tokenize(data.texts, data.pairs)
    facts: dict[str, Any] = {
        "bundle": _bundle_hash(Path(pipeline.preset.bundle).expanduser()),
        "pool": pool_hash(ids),
        "promise": [show_target(each) for each in targets],
        "confidence": targets[0].confidence,
        **design,
        "dtype": bundle.dtype,
        "device": bundle.device.type,
    }
    recorded = accuracy = None
    if sample is not None:
        facts["sample"] = pool_hash(ids_of(sample))
    if state is not None:
        state.check({"sample": None, **facts})
        table, costs = state.kept(bundle.stages)
        recorded = costs or costs_here(bundle, size), table
        accuracy = Accuracy(*state.facts["accuracy"])
    elif sample is not None:
        rows = pipeline.tokenize(sample.texts, sample.pairs)
        known = sample.labels_or_unknown(len(bundle.labels))
        with session.listening() as tell:
            accuracy = sampled(bundle, rows, known, tokens, size, tell)
    with session.listening() as tell:
        made = plan(
            bundle,
            tokens,
            targets,
            **design,
            batch_size=size,
            pairs=data.pairs is not None,
            on_event=tell,
            accuracy=accuracy,
            recorded=recorded,
        )
    fixed = made.accuracy
    facts |= {"accuracy": [fixed.right, fixed.rows, fixed.source], "tests": _tests_hash(made)}
    if state is not None:
        state.check(facts)
        return made, state
    state = State(files.state, facts)
    own = bundle.costs is None or made.costs is bundle.costs
    state.keep(made.table, None if own else made.costs)
    state.write()
    return made, state


def _take(state: State, labels: dict[str, str]) -> None:
    """Add labels to those that are kept."""
    changed = [key for key, name in labels.items() if state.labels.get(key, name) != name]
    if changed:
        raise ConfigError(
            f"row {changed[0]}{f' and {len(changed) - 1} more' * (len(changed) > 1)}: was given "
            "another label before. Labels that change after tests were told prove nothing: take "
            "the first ones, or begin anew with other texts"
        )
    state.labels |= labels


def _labels(
    state: State, place: dict[str, int], names: Sequence[str], rows: int
) -> NDArray[np.int32]:
    """Labels of the plan's rows, -1 where unknown; those of repeated rows are left out."""
    labels = np.full(rows, -1, dtype=np.int32)
    for key, name in state.labels.items():
        if key in place:
            labels[place[key]] = names.index(name)
    return labels


def _finished(made: Plan, labels: NDArray[np.int32], folder: Path, given: int) -> dict[str, Any]:
    from adaptive.bundle.card import render_card
    from adaptive.bundle.store import recertify_bundle
    from adaptive.certifying.concluding import finish

    bundle = finish(made, labels)
    written = recertify_bundle(bundle, folder, card=render_card(bundle))
    facts = facts_of(bundle.certificate)
    repeated = given - (made.used or 0) - facts["n"]
    told = {"known": made.used, "repeated": repeated, "without_rows": []}
    return {"result": str(written), **facts, **told}


def _bundle_hash(folder: Path) -> str:
    from adaptive.bundle.layout import LAYOUT

    return hashlib.sha256((folder / LAYOUT.manifest).read_bytes()).hexdigest()


def _tests_hash(made: Plan) -> str:
    """Of the policies in the order of their tests, with their margins."""
    from adaptive.bundle.policies import policy_to_json

    told = [
        [line.margin, line.error, [policy_to_json(policy) for policy in front]]
        for line, front in zip(made.lines, made.fronts, strict=True)
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
