"""What users call from Python besides a pipeline, each in one function.

Everything heavy is imported inside, so that `import adaptive` stays quick.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive.errors import BundleError, DataError

if TYPE_CHECKING:
    from adaptive.bundle.contents import Bundle
    from adaptive.certificate.promises import Certificate
    from adaptive.config.recipe import Recipe
    from adaptive.events import Listener
    from adaptive.measure.curves import Curve
    from adaptive.pipeline import AdaptivePipeline
    from adaptive.training.data import Dataset
    from adaptive.types import OutcomeTable, Targets

Ask = Callable[[list[Any]], Sequence[str | None]]


def build(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    workdir: str | Path | None = None,
    *,
    data: Dataset | None = None,
    ask: Ask | None = None,
    until: str | None = None,
    force: str | None = None,
    quiet: bool = True,
    on_event: Listener | None = None,
) -> Path:
    """Build a bundle from a recipe; calling again resumes.

    Args:
        recipe: one, a YAML file of one, or its sections as a mapping.
        workdir: where the steps keep their files; None for runs/NAME.
        data: as `load_data` gives it, in place of the recipe's source.
        ask, until, force, quiet, on_event: see `adaptive.training.build.build`.

    Returns:
        The bundle's folder.

    Raises:
        AdaptiveError: as `adaptive.training.build.build` does.
    """
    from adaptive.config import Recipe, load_recipe
    from adaptive.training.build import build as run

    told = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(workdir) if workdir is not None else Path("runs") / told.name
    how: dict[str, Any] = {"until": until, "force": force, "quiet": quiet, "on_event": on_event}
    return run(told, folder, data=data, ask=ask, **how)


def load_data(
    source: Any,
    *,
    text: str = "text",
    label: str | None = "label",
    pair: str | None = None,
    groups: Sequence[str] = (),
    task: Mapping[str, Any] | str | None = None,
    **more: Any,
) -> Dataset:
    """Labelled texts from a file, a folder, a package, a hub data set or a data frame.

    Args:
        source: a path or name as in a recipe's `data.source`, or a pandas or polars frame or a
            `datasets.Dataset`.
        text, pair, label: columns; `label=None` takes the texts alone.
        groups: columns that divide the rows.
        task: what labels are, as a recipe's `task`; None for one class each.
        more: other fields of a recipe's `data`, such as `where` and `rename`; of files alone.

    Raises:
        DataError: the data are wrong; the message names file and row.
        ConfigError: a field is wrong.
    """
    from adaptive.config import load_source, load_task
    from adaptive.training import data

    cells = load_task(task or "single_label").cells
    if isinstance(source, str | Path):
        fields = {"source": str(source), "text": text, "label": label, "pair": pair, **more}
        return data.load_data(load_source(fields), groups=groups, cells=cells)
    if more:
        raise DataError(f"a frame takes no {', '.join(more)}; choose rows and labels in the frame")
    return data.from_frame(source, text=text, label=label, pair=pair, groups=groups, cells=cells)


def evaluate(
    source: AdaptivePipeline | str | Path,
    data: Dataset,
    *,
    quiet: bool = True,
    on_event: Listener | None = None,
) -> dict[str, Any]:
    """The policy beside the full tier and each tier alone: accuracy, agreement, work and time.

    Args:
        source: a pipeline, or what `AdaptivePipeline.from_config` opens.
        quiet: no progress bar.
        on_event: is told how far it is, see `adaptive.events`.

    Returns:
        Figures as `adaptive evaluate --json` prints them.

    Raises:
        DataError: a label that the bundle does not know; names file and row.
    """
    from adaptive.progress import listening

    pipeline = _opened(source)
    with listening(quiet=quiet, on_event=on_event) as tell:
        return evaluated(pipeline, _known(pipeline, data), tell)


def evaluated(pipeline: AdaptivePipeline, data: Dataset, on_event: Listener) -> dict[str, Any]:
    """What `evaluate` does, of data whose labels are the bundle's."""
    from adaptive.measure.evaluation import evaluate_texts

    return evaluate_texts(
        pipeline.bundle,
        pipeline.policy,
        pipeline.tokenize(data.texts, data.pairs),
        _labels(pipeline, data),
        groups=data.groups,
        batch_size=pipeline.preset.batch_size,
        on_event=on_event,
    )


def certify(
    source: AdaptivePipeline | str | Path,
    data: Dataset | Sequence[Any],
    target: Targets | None = None,
    *,
    levels: Sequence[float] = (),
    ask: Ask | None = None,
    looks: int = 1,
    count_repeats: bool = False,
    choose_runners: bool = False,
    quiet: bool = True,
    on_event: Listener | None = None,
) -> Certificate:
    """Test the bundle's policies on new rows, and put the certificate into the bundle's folder.

    Args:
        source: a pipeline that was opened from a local folder, or that folder. An open pipeline
            goes on as it is: open it again to serve the new certificate's policy.
        data: labelled rows that served for nothing else; with `ask`, texts without labels.
        target: what is to hold, one or several; None for what the bundle promises now.
        levels: further levels of the first target, each a promise of its own.
        ask: is given a list of texts and returns the label of each, or None where it is not known.
            Only texts that decide are asked about; for one `accuracy_drop` over all texts.
        looks: designs that are planned to be tested on these rows, each at delta over so many.
        count_repeats: whether rows of the same text are separate requests, and count each.
        choose_runners: serve each tier by what is quickest on this machine, tried on up to 256 of
            the labelled rows, which then do not count.
        quiet: no progress bar.
        on_event: is told how far it is, see `adaptive.events`.

    Raises:
        BundleError: the bundle does not lie in a folder, or cannot be certified.
        DataError: a label that the bundle does not know.
        TargetError: the rows lack what the target needs, or the build has used them.
    """
    from adaptive.progress import listening
    from adaptive.training.data import Dataset

    pipeline = _opened(source)
    if ask is None and isinstance(data, Dataset):
        data = _known(pipeline, data)
    how: dict[str, Any] = {
        "looks": looks,
        "count_repeats": count_repeats,
        "choose_runners": choose_runners,
    }
    with listening(quiet=quiet, on_event=on_event) as tell:
        bundle = certified(pipeline, data, target, levels=levels, ask=ask, on_event=tell, **how)
    assert bundle.certificate is not None
    return bundle.certificate


def certified(
    pipeline: AdaptivePipeline,
    data: Dataset | Sequence[Any],
    target: Targets | None,
    *,
    on_event: Listener,
    ask: Ask | None = None,
    choose_runners: bool = False,
    **how: Any,
) -> Bundle:
    """What `certify` does, of rows whose labels are the bundle's.

    Returns:
        The bundle with its certificate, as its folder holds it now.
    """
    from adaptive.bundle.card import render_card
    from adaptive.bundle.store import recertify_bundle
    from adaptive.certifying.labelling import certify as certify_by_asking
    from adaptive.certifying.recertify import recertify
    from adaptive.training.data import Dataset
    from adaptive.training.splits import distinct_rows

    folder = Path(pipeline.preset.bundle).expanduser()
    if not folder.is_dir():
        raise BundleError(f"{folder}: only a local folder can be certified; download it first")
    targets = pipeline.bundle.targets if target is None else target
    how |= {"batch_size": pipeline.preset.batch_size, "on_event": on_event}
    if choose_runners and (ask is not None or not isinstance(data, Dataset)):
        raise DataError("runners are chosen on labelled rows; certify with `ask` afterwards")
    with tempfile.TemporaryDirectory() as scratch:  # for graphs, until they are in the folder
        if ask is not None:
            texts = data.items if isinstance(data, Dataset) else list(data)
            bundle = certify_by_asking(pipeline, texts, ask, target=targets, **how)
        elif not isinstance(data, Dataset):
            raise DataError("texts without labels need `ask`; labelled rows come by `load_data`")
        else:
            served = pipeline.bundle
            rows = data if how.get("count_repeats") else data.take(distinct_rows(data))
            if choose_runners:
                served, rows = _served_here(pipeline, rows, folder, Path(scratch), on_event)
            bundle = recertify(
                served,
                pipeline.tokenize(rows.texts, rows.pairs),
                _labels(pipeline, rows),
                targets,
                groups=rows.groups,
                pairs=rows.pairs is not None,
                **how,
            )
        recertify_bundle(bundle, folder, card=render_card(bundle), runners=choose_runners)
    return bundle


def _served_here(
    pipeline: AdaptivePipeline, rows: Dataset, folder: Path, scratch: Path, on_event: Listener
) -> tuple[Bundle, Dataset]:
    """The bundle in the quickest runners of this machine, and the rows that did not choose them."""
    from adaptive.training.served_here import parted, served_here

    chosen, others = parted(len(rows))
    sample = rows.take(chosen)
    tokens = pipeline.tokenize(sample.texts, sample.pairs)
    batch_size = pipeline.preset.batch_size
    bundle = served_here(pipeline.bundle, folder, tokens, batch_size, scratch, on_event)
    return bundle, rows.take(others)


def curve(
    source: AdaptivePipeline | str | Path, data: Dataset | None = None, *, work: bool = False
) -> Curve:
    """Accuracy against cost: each tier and exit alone, one shared threshold, searched policies.

    Args:
        data: None takes the held-out rows that the bundle keeps: those of the certificate, else
            those that the policy was searched on. No model runs then.
        work: count cost in layers x tokens rather than in measured milliseconds.

    Raises:
        BundleError: there are no rows.
    """
    from adaptive.measure.curves import curve as draw
    from adaptive.measure.recording import outcomes
    from adaptive.measure.work import work_of

    pipeline = _opened(source)
    bundle = pipeline.bundle
    costs = work_of(bundle.tiers, bundle.router) if work else pipeline.costs
    if data is None:
        table = _own_rows(pipeline)
    else:
        data = _known(pipeline, data)
        tokens = pipeline.tokenize(data.texts, data.pairs)
        table = outcomes(bundle, tokens, _labels(pipeline, data), pipeline.preset.batch_size)
    return draw(bundle, pipeline.policy, table, costs)


def report(
    source: AdaptivePipeline | str | Path,
    data: Dataset | None = None,
    output: str | Path | None = None,
    *,
    work: bool = False,
    texts: bool = False,
    rows: str | None = None,
    quiet: bool = True,
    on_event: Listener | None = None,
) -> dict[str, Any]:
    """What the policy does and what else it could do, as figures and as a page that opens offline.

    The page shows each tier, simple rules and the searched policies on the plane of cost and
    accuracy, with a slider over the target; who answers which texts; the certificate in words; how
    classes, lengths and groups are answered; whether reliabilities are right; other ways to enter;
    how many answers changed.

    Args:
        data: None takes the held-out rows that the bundle keeps, as `curve` does.
        output: the page, an HTML file; None writes none.
        work: count cost in layers x tokens rather than in measured milliseconds.
        texts: whether texts that are answered otherwise than by the full tier are in it.
        rows: which rows these are, in words, for the page's head.
        quiet: no progress bar.
        on_event: is told how far it is, see `adaptive.events`.

    Returns:
        The page's figures, see `adaptive.reporting.collect.figures_of`: rows of plain numbers, such
        as `pandas.DataFrame(found["line"])`.

    Raises:
        BundleError: there are no rows.
        DataError: a label that the bundle does not know, or texts are asked for without data.
    """
    from adaptive.progress import listening
    from adaptive.reporting.collect import figures_of
    from adaptive.reporting.page import render
    from adaptive.reporting.subject import of_bundle, outcomes_and_top

    pipeline = _opened(source)
    bundle, top = pipeline.bundle, None
    shown: list[str] | None = None
    if data is None:
        if texts:
            raise DataError("a bundle keeps no texts; give `data` whose texts can be shown")
        split, table = _own_split(pipeline)
        told = f"held-out rows of its build, those that it was {_SERVED[split]} on"
    else:
        data = _known(pipeline, data)
        tokens, size = pipeline.tokenize(data.texts, data.pairs), pipeline.preset.batch_size
        with listening(quiet=quiet, on_event=on_event) as tell:
            table, top = outcomes_and_top(
                bundle, tokens, _labels(pipeline, data), size, tell, data.groups
            )
        told = "texts"
        if texts:
            shown = data.texts
            if data.pairs is not None:
                shown = [f"{a} | {b}" for a, b in zip(data.texts, data.pairs, strict=True)]
    subject = of_bundle(
        bundle, pipeline.policy, table, rows=rows or told, work=work, top=top, texts=shown
    )
    found = figures_of(subject)
    if output is not None:
        _write(Path(output), render(found))
    return found


def _write(output: Path, page: str) -> None:
    from adaptive.outputs import replacing

    with replacing(output) as part:
        part.write_text(page, encoding="utf-8")


_SERVED = {"certify": "certified", "search": "searched"}  # what a split's rows served for


def _own_rows(pipeline: AdaptivePipeline) -> OutcomeTable:
    return _own_split(pipeline)[1]


def _own_split(pipeline: AdaptivePipeline) -> tuple[str, OutcomeTable]:
    for split in ("certify", "search"):
        table = pipeline.bundle.outcomes.get(split)
        if table is not None and len(table):
            return split, table
    raise BundleError("the bundle keeps no outcomes of held-out rows; give labelled `data`")


def _opened(source: AdaptivePipeline | str | Path) -> AdaptivePipeline:
    from adaptive.pipeline import AdaptivePipeline

    if isinstance(source, AdaptivePipeline):
        return source
    return AdaptivePipeline.from_config(source)


def _known(pipeline: AdaptivePipeline, data: Dataset) -> Dataset:
    """The data with labels in the bundle's order; raw ones are renamed as its recipe renames."""
    from adaptive.bundle.hub import resolve
    from adaptive.bundle.layout import LAYOUT
    from adaptive.config import load_recipe
    from adaptive.errors import ConfigError

    try:
        folder = resolve(pipeline.preset.bundle, pipeline.preset.revision)
        rename = load_recipe(folder / LAYOUT.recipe, packed=True).data.rename
    except (BundleError, ConfigError):  # of a bundle in memory, or one that no build has made
        rename = {}
    cells = pipeline.bundle.task.cells
    if data.labels is not None and data.cells != cells:
        raise DataError(
            f"{data.name}: the labels were not read as those of a {pipeline.bundle.task.name} "
            "bundle; give load_data the bundle's `task`"
        )
    return data.with_labels(pipeline.bundle.labels, rename)


def _labels(pipeline: AdaptivePipeline, data: Dataset) -> Any:
    if data.labels is not None:
        return data.labels
    bundle = pipeline.bundle
    return bundle.task.cells.unknown(len(data), len(bundle.labels))
