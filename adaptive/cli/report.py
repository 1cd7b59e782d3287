"""`adaptive report`: one page that opens offline, of a bundle or of recorded outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import adaptive
from adaptive.cli import options, outcomes
from adaptive.errors import ConfigError

_OUTCOMES_ALONE = ("target", "confidence")


def report(
    context: typer.Context,
    bundle: options.BundleOrOutcomes,
    data: options.DataOrNone = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page: a name that ends in .html.")
    ] = Path("report.html"),
    work: Annotated[
        bool, typer.Option("--work", help="Cost in layers x tokens, not in milliseconds.")
    ] = False,
    texts: Annotated[
        bool,
        typer.Option(
            "--texts", help="Put texts into the page that are answered unlike by the full tier."
        ),
    ] = False,
    text: options.Text = None,
    pair: options.Pair = None,
    label: options.Label = None,
    where: options.Where = None,
    rename: options.Rename = None,
    limit: options.Limit = None,
    on_bad_row: options.BadRow = None,
    group: options.Group = None,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LEVEL",
            help="What to promise, such as accuracy_drop=0.02; repeatable.",
            rich_help_panel=outcomes.PANEL,
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="1 - delta.", show_default="0.95", rich_help_panel=outcomes.PANEL),
    ] = None,
    tiers: outcomes.Tiers = None,
    unit: outcomes.Unit = None,
    prices: outcomes.PriceFile = None,
    form: outcomes.Form = None,
    column: outcomes.Columns = None,
    scale: outcomes.Scale = None,
    scorer: outcomes.ScorerName = None,
    prompts: outcomes.PromptFile = None,
    seed: outcomes.Seed = None,
) -> None:
    """Write a page that shows what the policy does: curve, flow of texts, certificate, tables.

    adaptive report BUNDLE DATA: on labelled text. adaptive report BUNDLE: on the held-out rows that
    the bundle keeps. adaptive report OUTCOMES --target ...: of recorded outcomes, as
    `adaptive certify OUTCOMES` certifies them.

    The page is one file and loads nothing. It holds class names and figures; texts only with
    --texts.
    """
    from adaptive.cli.outputs import check_output

    if output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--output {output}: expected a name that ends in .html")
    if data is None and (form is not None or _is_outcomes(bundle)):
        outcomes.check_options(context, bundle=False)
        check_output(output, [bundle])
        source = outcomes.source_of(
            bundle, form=form, columns=column or (), scale=scale, scorer=scorer, prompts=prompts
        )
        found = outcomes.certified(
            source,
            targets=target or (),
            levels=(),
            confidence=confidence,
            tiers=tiers,
            unit=unit,
            prices=prices,
            scorer=scorer,
            again=None,
            seed=seed,
            looks=1,
            count_repeats=False,
            session=context.obj,
        )
        figures = _of_outcomes(found, Path(bundle).name, output)
    else:
        outcomes.check_options(context, bundle=True)
        if given := [name for name in _OUTCOMES_ALONE if context.params.get(name)]:
            raise ConfigError(f"--{given[0]}: for recorded outcomes; a bundle has its own")
        pipeline, rows = _opened(
            bundle,
            data,
            output,
            device=device,
            uncertified=uncertified,
            group=group,
            chosen={
                "text": text,
                "pair": pair,
                "label": label,
                "where": where or (),
                "rename": rename or (),
                "limit": limit,
                "on_bad_row": on_bad_row,
            },
        )
        quiet = not context.obj.bars
        figures = adaptive.report(pipeline, rows, output, work=work, texts=texts, quiet=quiet)
    facts = {"file": str(output), **figures}
    context.obj.emit(facts, lambda console: _show(facts, console))


def _opened(
    bundle: str,
    data: str | None,
    output: Path,
    *,
    device: str | None,
    uncertified: bool,
    group: list[str] | None,
    chosen: dict[str, Any],
) -> tuple[Any, Any]:
    """The pipeline, and its labelled rows; None where the bundle's own are to be shown."""
    from adaptive.cli.labelled import choose_source, load_labelled, local_folder, own_data
    from adaptive.cli.outputs import check_output
    from adaptive.pipeline import AdaptivePipeline

    check_output(output, [bundle, local_folder(bundle), *([] if data is None else [data])])
    source = None
    if data is not None:
        source = choose_source(data, **chosen, own=own_data(bundle))
    elif any(chosen.values()) or group:
        raise ConfigError("options that choose data need DATA")
    pipeline = AdaptivePipeline.from_config(bundle, device=device, uncertified=uncertified)
    if data is None:
        return pipeline, None
    served = pipeline.bundle
    return pipeline, load_labelled(source, bundle, served.labels, group or (), served.task.cells)


def _is_outcomes(name: str) -> bool:
    from adaptive.recorded.files import form_of

    return Path(name).is_file() and form_of(Path(name)) is not None


def _of_outcomes(found: Any, name: str, output: Path) -> dict[str, Any]:
    from adaptive.outputs import replacing
    from adaptive.recorded.reporting import of_outcomes
    from adaptive.reporting.collect import figures_of
    from adaptive.reporting.page import render

    figures = figures_of(of_outcomes(found, name))
    with replacing(output) as part:
        part.write_text(render(figures), encoding="utf-8")
    return figures


def _show(facts: dict[str, Any], console: Console) -> None:
    served = facts["line"][facts["chosen"]]
    times = facts["full"]["cost"] / served["cost"] if served["cost"] else float("inf")
    told = f"{served['kept']:.2%} of the full tier's {facts['quality']}" if served["kept"] else ""
    for line in (f"the served policy: {times:.1f} times less cost, {told}", facts["file"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
