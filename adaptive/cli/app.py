"""The commands: their arguments, and which module does the work.

Everything heavy is imported inside the commands, so that `--help` and usage errors are quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import adaptive
from adaptive.cli import options
from adaptive.cli.session import REFUSED_ROWS, Session, guarded

_GLOBAL = ("--json", "--quiet")


class _Group(TyperGroup):
    """Takes the global switches behind a command's name, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Moves them to the front."""
        end = args.index("--") if "--" in args else len(args)
        found = [each for each in args[:end] if each in _GLOBAL]
        rest = [each for each in args[:end] if each not in _GLOBAL]
        return super().parse_args(ctx, [*found, *rest, *args[end:]])


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 some rows were refused; 2 wrong usage, configuration or data; "
    "3 the bundle was refused; 130 interrupted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(adaptive.__version__)
        raise typer.Exit


@app.callback()
def switches(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Results and errors as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and leave.")
    ] = False,
) -> None:
    """Adaptive inference for text classifiers: each text costs what it needs and no more."""
    context.obj = Session(json, quiet)


@app.command()
@guarded
def build(
    context: typer.Context,
    recipe: options.RecipeFile,
    overrides: options.Set = None,
    workdir: options.Workdir = None,
    force_step: Annotated[
        str | None, typer.Option(metavar="NAME", help="A step to do again although it is done.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look for faults: no step runs.")
    ] = False,
    threads: options.Threads = None,
) -> None:
    """Build a bundle from a recipe. Finished steps are skipped, interrupted ones resumed."""
    from adaptive.cli import build as builds

    if check:
        builds.check(recipe, context.obj, overrides=overrides or (), workdir=workdir)
        return
    builds.build(
        recipe,
        context.obj,
        overrides=overrides or (),
        workdir=workdir,
        force=force_step,
        threads=threads,
    )


@app.command()
@guarded
def step(
    context: typer.Context,
    recipe: options.RecipeFile,
    name: Annotated[str, typer.Argument(help="A step of the build.", show_default=False)],
    overrides: options.Set = None,
    workdir: options.Workdir = None,
    force: Annotated[bool, typer.Option("--force", help="Do it even if it is done.")] = False,
    threads: options.Threads = None,
) -> None:
    """Run a build up to one step."""
    from adaptive.cli.build import build

    build(
        recipe,
        context.obj,
        overrides=overrides or (),
        workdir=workdir,
        force=name if force else None,
        until=name,
        threads=threads,
    )


@app.command()
@guarded
def predict(
    context: typer.Context,
    bundle: options.Bundle,
    file: Annotated[str, typer.Argument(help="CSV or JSONL; - is stdin.")] = "-",
    text: Annotated[str, typer.Option(help="Column or key of the text.")] = "text",
    pair: options.Pair = None,
    output: Annotated[Path | None, typer.Option(help="JSONL file.", show_default="stdout")] = None,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
) -> None:
    """Answer every row: CSV or JSONL in, JSONL out, in order.

    A row that cannot be answered gives {"error", "row"} in its place, and exit code 1.
    """
    from adaptive.cli.predict import predict

    refused = predict(
        _pipeline(bundle, device, uncertified),
        context.obj,
        file=file,
        output=output,
        text=text,
        pair=pair,
    )
    if refused:
        raise typer.Exit(REFUSED_ROWS)


@app.command()
@guarded
def evaluate(
    context: typer.Context,
    bundle: options.Bundle,
    data: options.Data,
    text: options.Text = None,
    pair: options.Pair = None,
    label: options.Label = None,
    where: options.Where = None,
    rename: options.Rename = None,
    limit: options.Limit = None,
    group: options.Group = None,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
) -> None:
    """Compare the policy with the full tier and each tier alone, on labelled text."""
    from adaptive.cli.evaluate import evaluate, show_report
    from adaptive.cli.labelled import choose_source, load_labelled

    source = choose_source(
        data,
        text=text,
        pair=pair,
        label=label,
        where=where or (),
        rename=rename or (),
        limit=limit,
    )
    pipeline = _pipeline(bundle, device, uncertified)
    rows = load_labelled(source, bundle, pipeline.bundle.labels, group or ())
    report = evaluate(pipeline, rows, context.obj)
    context.obj.emit(report, lambda console: show_report(report, console))


@app.command()
@guarded
def curve(
    context: typer.Context,
    bundle: options.Bundle,
    data: options.Data,
    output: Annotated[Path, typer.Option(help="Picture: .png or .svg.")] = Path("curve.png"),
    work: Annotated[
        bool, typer.Option("--work", help="Cost in layers x tokens, not in milliseconds.")
    ] = False,
    text: options.Text = None,
    pair: options.Pair = None,
    label: options.Label = None,
    where: options.Where = None,
    rename: options.Rename = None,
    limit: options.Limit = None,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
) -> None:
    """Draw accuracy against cost: each tier alone, the policies, the chosen one."""
    from adaptive.cli.curve import check_output, draw
    from adaptive.cli.labelled import choose_source, load_labelled

    check_output(output)
    source = choose_source(
        data,
        text=text,
        pair=pair,
        label=label,
        where=where or (),
        rename=rename or (),
        limit=limit,
    )
    pipeline = _pipeline(bundle, device, uncertified)
    rows = load_labelled(source, bundle, pipeline.bundle.labels)
    found = draw(pipeline, rows, output, work=work, session=context.obj)
    context.obj.emit(
        found,
        lambda console: console.print(str(output), markup=False, highlight=False, soft_wrap=True),
    )


@app.command()
@guarded
def certify(
    context: typer.Context,
    bundle: options.Bundle,
    data: options.Data,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LEVEL[@COLUMN]",
            help="agreement, accuracy_drop, accuracy or abstention, and its level; milliseconds or "
            "work, and a mean cost; latency=LEVEL:BOUND, the share of texts above BOUND "
            "milliseconds; with a column, in each of its groups (@label: in each class); "
            "repeatable: all must hold.",
            show_default="the bundle's",
        ),
    ] = None,
    level: Annotated[
        list[float] | None,
        typer.Option(
            help="A further level of the first target, to choose from; repeatable.",
            show_default="those it has",
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="1 - delta.", show_default="the bundle's")
    ] = None,
    text: options.Text = None,
    pair: options.Pair = None,
    label: options.Label = None,
    where: options.Where = None,
    rename: options.Rename = None,
    limit: options.Limit = None,
    device: options.Device = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16 or bfloat16.", show_default="the preset's"),
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Certify a bundle anew: on new data, for another target, device or dtype. Trains nothing.

    The data must have served for nothing else. The bundle is rewritten as a whole or not at all.
    """
    from adaptive.bundle.store import check_writable
    from adaptive.cli.certify import certify, choose_levels, choose_targets, show_certificate
    from adaptive.cli.labelled import choose_source, load_labelled
    from adaptive.cli.threads import set_threads

    source = choose_source(
        data,
        text=text,
        pair=pair,
        label=label,
        where=where or (),
        rename=rename or (),
        limit=limit,
    )
    set_threads(threads, context.obj)
    pipeline = _pipeline(bundle, device, True, dtype)
    folder = Path(pipeline.preset.bundle).expanduser()
    check_writable(folder)
    check_writable(folder.parent)  # the new bundle is made beside the old one
    wanted = choose_targets(target or (), confidence, pipeline.bundle.targets)
    columns = [each.group for each in wanted if each.group is not None]
    rows = load_labelled(source, bundle, pipeline.bundle.labels, columns)
    levels = choose_levels(level, wanted, pipeline)
    facts = certify(pipeline, rows, wanted, levels, context.obj)
    context.obj.emit(facts, lambda console: show_certificate(facts, console))


@app.command()
@guarded
def info(context: typer.Context, bundle: options.Bundle) -> None:
    """Check a bundle and tell what it is."""
    from adaptive.bundle.store import load_bundle
    from adaptive.cli.info import describe, show
    from adaptive.cli.labelled import local_folder

    folder = local_folder(bundle)
    facts = describe(load_bundle(folder, uncertified=True), folder)
    context.obj.emit(facts, lambda console: show(facts, console))


def _pipeline(
    bundle: str, device: str | None, uncertified: bool, dtype: str | None = None
) -> adaptive.AdaptivePipeline:
    from adaptive.pipeline import AdaptivePipeline

    return AdaptivePipeline.from_config(bundle, device=device, dtype=dtype, uncertified=uncertified)


def main() -> None:
    """The `adaptive` command."""
    app()
