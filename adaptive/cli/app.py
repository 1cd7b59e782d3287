"""The commands: their arguments, and which module does the work.

Everything heavy is imported inside the commands, so that `--help` and usage errors are quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import adaptive
from adaptive.cli import options, outcomes
from adaptive.cli import report as reports
from adaptive.cli.session import REFUSED_ROWS, Json, Quiet, Session, guarded
from adaptive.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
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
    json: Json = False,
    quiet: Quiet = False,
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
    recipe: options.RecipeOrNone = None,
    overrides: options.Set = None,
    model: Annotated[
        str | None, typer.Option(help="Without a recipe: the checkpoint, a hub id or a folder.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Without a recipe: labelled text, such as tickets.csv.")
    ] = None,
    text: Annotated[str, typer.Option(help="Without a recipe: the text's column.")] = "text",
    label: Annotated[str, typer.Option(help="Without a recipe: the label's column.")] = "label",
    keep: Annotated[
        float,
        typer.Option(help="Without a recipe: the share of the full model's accuracy to keep."),
    ] = 0.99,
    workdir: options.Workdir = None,
    force_step: Annotated[
        str | None, typer.Option(metavar="NAME", help="A step to do again although it is done.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look for faults: no step runs.")
    ] = False,
    ask: Annotated[
        Path | None,
        typer.Option(help="CSV or JSONL file for the texts of data.pool to label next."),
    ] = None,
    labels: options.Labels = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Go on without the labels that are missing.")
    ] = False,
    threads: options.Threads = None,
) -> None:
    """Build a bundle from a recipe. Finished steps are skipped, interrupted ones resumed.

    Without a recipe, one is written for --model and --data, and built.
    """
    from adaptive.cli import build as builds
    from adaptive.cli.starting import recipe_file

    recipe = recipe_file(
        recipe, context.obj, model=model, data=data, text=text, label=label, keep=keep
    )
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
        ask=ask,
        labels=labels,
        finish=finish,
    )


@app.command()
@guarded
def recipe(
    context: typer.Context,
    file: options.RecipeFile,
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="Only what the file says, without the defaults."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="stdout")
    ] = None,
) -> None:
    """Show a recipe with its tiers as a list, as recipes are written now."""
    from adaptive.cli.recipes import show

    show(file, context.obj, upgrade=upgrade, output=output)


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
    file: Annotated[
        str, typer.Argument(help="CSV, JSONL, JSON (.gz, too) or Parquet; - is stdin.")
    ] = "-",
    text: options.Text = None,
    pair: options.Pair = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN[=KEY]",
            help="Pass a column through into the answers, under another key if one is given; "
            "repeatable.",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Give so many labels, best first, as `top_k` of each answer."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Rows that layers run at once.", show_default="the preset's"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="JSONL file; with --ray a folder of Parquet.", show_default="stdout"),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Answer on a Ray cluster (extra `ray`); an interrupted run goes on where it was.",
        ),
    ] = False,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
) -> None:
    """Answer every row: CSV, JSONL, JSON or Parquet in, JSONL out, in order.

    A row that cannot be answered gives {"error", "row"} in its place, and exit code 1.
    """
    from adaptive.cli.labelled import local_folder, own_data
    from adaptive.cli.outputs import check_output
    from adaptive.cli.predict import predict, read_keep

    own = own_data(bundle)
    chosen = {"top_k": top_k, "batch_size": batch_size}
    if ray:
        from adaptive.cli.serve import need_extra

        need_extra(on_ray=True)
        from adaptive.cli.predict_ray import predict_on_ray

        refused = predict_on_ray(
            context.obj,
            bundle=bundle,
            folder=local_folder(bundle),
            output=output,
            file=file,
            text=text or own.text,
            pair=own.pair if pair is None else pair or None,
            keep=read_keep(keep or ()),
            opening={"device": device, "uncertified": uncertified},
            options={name: value for name, value in chosen.items() if value is not None},
        )
        if refused:
            raise typer.Exit(REFUSED_ROWS)
        return
    check_output(output, [file, bundle, local_folder(bundle)])
    refused = predict(
        lambda: _pipeline(bundle, device, uncertified),
        context.obj,
        file=file,
        output=output,
        text=text or own.text,
        pair=own.pair if pair is None else pair or None,
        keep=read_keep(keep or ()),
        options={name: value for name, value in chosen.items() if value is not None},
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
    on_bad_row: options.BadRow = None,
    group: options.Group = None,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
) -> None:
    """Compare the policy with the full tier and each tier alone, on labelled text."""
    from adaptive.cli.evaluate import show_report
    from adaptive.cli.labelled import choose_source, load_labelled, own_data
    from adaptive.public import evaluated

    source = choose_source(
        data,
        text=text,
        pair=pair,
        label=label,
        where=where or (),
        rename=rename or (),
        limit=limit,
        on_bad_row=on_bad_row,
        own=own_data(bundle),
    )
    pipeline = _pipeline(bundle, device, uncertified)
    rows = load_labelled(
        source, bundle, pipeline.bundle.labels, group or (), pipeline.bundle.task.cells
    )
    with context.obj.listening() as tell:
        report = evaluated(pipeline, rows, tell)
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
    on_bad_row: options.BadRow = None,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
) -> None:
    """Draw accuracy against cost: each tier alone, the policies, the chosen one."""
    from adaptive.cli.curve import check_picture, draw
    from adaptive.cli.labelled import choose_source, load_labelled, local_folder, own_data
    from adaptive.cli.outputs import check_output

    check_picture(output)
    check_output(output, [data, bundle, local_folder(bundle)])
    source = choose_source(
        data,
        text=text,
        pair=pair,
        label=label,
        where=where or (),
        rename=rename or (),
        limit=limit,
        on_bad_row=on_bad_row,
        own=own_data(bundle),
    )
    pipeline = _pipeline(bundle, device, uncertified)
    rows = load_labelled(source, bundle, pipeline.bundle.labels, cells=pipeline.bundle.task.cells)
    found = draw(pipeline, rows, output, work=work, session=context.obj)
    context.obj.emit(
        found,
        lambda console: console.print(str(output), markup=False, highlight=False, soft_wrap=True),
    )


app.command()(guarded(reports.report))


@app.command()
@guarded
def certify(
    context: typer.Context,
    bundle: options.BundleOrOutcomes,
    data: options.DataOrNone = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LEVEL[@COLUMN]",
            help="agreement, accuracy_drop, accuracy or abstention, and its level; milliseconds or "
            "work, and a mean cost; text_cost=LEVEL:BOUND, the share of texts above BOUND "
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
    on_bad_row: options.BadRow = None,
    device: options.Device = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16 or bfloat16.", show_default="the preset's"),
    ] = None,
    threads: options.Threads = None,
    unlabelled: options.Unlabelled = False,
    ask: options.Ask = None,
    labels: options.Labels = None,
    state: options.State = None,
    sample: options.Sample = None,
    batch: options.Batch = 50,
    finish: options.Finish = False,
    looks: Annotated[
        int,
        typer.Option(
            min=1,
            help="Designs planned to be tested on these data: each at delta over their number.",
        ),
    ] = 1,
    count_repeats: Annotated[
        bool,
        typer.Option(
            "--count-repeats",
            help="Rows of the same text are separate requests: each counts, not the first alone.",
        ),
    ] = False,
    choose_runners: Annotated[
        bool,
        typer.Option(
            "--choose-runners",
            help="Serve each tier by what is quickest on this machine, tried on up to 256 of the "
            "rows, which then do not count.",
        ),
    ] = False,
    tiers: outcomes.Tiers = None,
    unit: outcomes.Unit = None,
    prices: outcomes.PriceFile = None,
    out: outcomes.Out = None,
    form: outcomes.Form = None,
    column: outcomes.Columns = None,
    scale: outcomes.Scale = None,
    scorer: outcomes.ScorerName = None,
    prompts: outcomes.PromptFile = None,
    again: outcomes.Again = None,
    seed: outcomes.Seed = None,
) -> None:
    """Certify a bundle anew, or recorded outcomes of models.

    adaptive certify BUNDLE DATA: on new data, for another target, device or dtype. Trains nothing.
    adaptive certify OUTCOMES: which requests cheaper models may answer, from a file of recorded
    outcomes alone (docs/outcomes.md).

    The data must have served for nothing else: rows that the build trained, fitted or searched on
    are left out. The bundle is rewritten as a whole or not at all. With --unlabelled, texts need
    no labels: those that can decide are asked for.
    """
    outcomes.check_options(context, bundle=data is not None)
    if data is None:
        told = outcomes.certify(
            outcomes.source_of(
                outcomes.checked(bundle, form),
                form=form,
                columns=column or (),
                scale=scale,
                scorer=scorer,
                prompts=prompts,
            ),
            targets=target or (),
            levels=level or (),
            confidence=confidence,
            tiers=tiers,
            unit=unit,
            prices=prices,
            scorer=scorer,
            again=again,
            seed=seed,
            looks=looks,
            count_repeats=count_repeats,
            out=out,
            session=context.obj,
        )
        context.obj.emit(told, lambda console: outcomes.show(told, console))
        return
    from adaptive.bundle.store import check_writable
    from adaptive.cli import asking
    from adaptive.cli.certify import certify, choose_levels, choose_targets, show_certificate
    from adaptive.cli.labelled import choose_source, load_labelled, local_folder, own_data
    from adaptive.cli.threads import set_threads

    files = asking.choose_files(
        ask, labels, state, unlabelled=unlabelled, finish=finish, sample=sample
    )
    if files is not None:
        asking.check_files(files, [data, bundle, local_folder(bundle), sample or data])
        label = ""
    source = choose_source(
        data,
        text=text,
        pair=pair,
        label=label,
        where=where or (),
        rename=rename or (),
        limit=limit,
        on_bad_row=on_bad_row,
        own=own_data(bundle),
    )
    set_threads(threads, context.obj)
    pipeline = _pipeline(bundle, device, True, dtype)
    folder = Path(pipeline.preset.bundle).expanduser()
    check_writable(folder)
    check_writable(folder.parent)  # the new bundle is made beside the old one
    wanted = choose_targets(target or (), confidence, pipeline.bundle.targets)
    columns = [each.group for each in wanted if each.group is not None]
    rows = load_labelled(
        source, bundle, pipeline.bundle.labels, columns, pipeline.bundle.task.cells
    )
    levels = choose_levels(level, wanted, pipeline)
    if files is not None:
        labelled = asking.load_sample(sample, text, pair, bundle, pipeline.bundle.labels)
        told = asking.ask(
            pipeline,
            rows,
            wanted,
            levels,
            files,
            context.obj,
            sample=labelled,
            batch=batch,
            finish=finish,
            looks=looks,
            count_repeats=count_repeats,
            rename=(source and source.rename) or own_data(bundle).rename,
        )
        context.obj.emit(told, lambda console: asking.show(told, console))
        return
    facts = certify(
        pipeline,
        rows,
        wanted,
        levels,
        context.obj,
        looks=looks,
        count_repeats=count_repeats,
        choose_runners=choose_runners,
    )
    context.obj.emit(facts, lambda console: show_certificate(facts, console))


@app.command()
@guarded
def refit(
    context: typer.Context,
    bundle: options.Bundle,
    feedback: Annotated[
        Path, typer.Argument(help="Labelled texts: the folder of a server's feedback, or a file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The canary's folder.", show_default="BUNDLE-canary")
    ] = None,
    level: Annotated[
        list[float] | None,
        typer.Option(help="A further level of the first target; repeatable.", show_default="its"),
    ] = None,
    device: options.Device = None,
    threads: options.Threads = None,
    looks: Annotated[
        int,
        typer.Option(min=1, help="Designs planned to be tested: each at delta over their number."),
    ] = 1,
) -> None:
    """Fit a bundle's reliabilities and router on users' labels, and certify it on others of them.

    Tiers and heads stay as they are. The result is a bundle of its own, which `adaptive serve` can
    try on a share of the traffic (docs/serving.md). Every look at the labels is counted.
    """
    from adaptive.bundle.store import check_writable
    from adaptive.cli.certify import choose_levels, show_certificate
    from adaptive.cli.refit import refit as fit
    from adaptive.cli.threads import set_threads

    set_threads(threads, context.obj)
    pipeline = _pipeline(bundle, device, True)
    folder = Path(pipeline.preset.bundle).expanduser()
    goal = folder.with_name(f"{folder.name}-canary") if out is None else out
    check_writable(goal.parent)
    levels = choose_levels(level, pipeline.bundle.targets, pipeline)
    facts = fit(pipeline, feedback, goal, levels, context.obj, looks=looks)
    context.obj.emit(facts, lambda console: show_certificate(facts, console))


@app.command()
@guarded
def info(context: typer.Context, bundle: options.Bundle) -> None:
    """Check a bundle and tell what it is."""
    from adaptive.cli.info import describe, show
    from adaptive.cli.labelled import local_folder

    facts = describe(local_folder(bundle))
    context.obj.emit(facts, lambda console: show(facts, console))


@app.command()
@guarded
def tune(
    context: typer.Context,
    bundle: options.Bundle,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Try so many; may be repeated.", show_default="1 and all cores"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that come together.")] = 32,
) -> None:
    """Measure runners, threads and batch sizes on this machine's CPU; nothing is changed."""
    from adaptive.cli.tune import tune

    tune(context.obj, bundle, threads, batch_size)


@app.command()
@guarded
def serve(
    context: typer.Context,
    bundle: options.BundleOrNone = None,
    config: Annotated[Path | None, typer.Option(help="Settings (serve.yaml).")] = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0: a free one.", show_default="8000")
    ] = None,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make an API key, and serve nothing.")
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Serve by replicas on a Ray cluster (extra `ray`).")
    ] = False,
    device: options.Device = None,
    uncertified: options.Uncertified = False,
    threads: options.Threads = None,
) -> None:
    """Answer over HTTP (docs/serving.md). SIGTERM finishes what is in flight, SIGHUP reloads."""
    from adaptive.cli import serve as serving

    if new_key is not None:
        serving.make_key(new_key, context.obj)
        return
    if bundle is None:
        raise ConfigError("expected a bundle to serve, or --new-key NAME")
    given = {"host": host, "port": port}
    overrides = {name: value for name, value in given.items() if value is not None}
    chosen = {"device": device, "uncertified": uncertified}
    if ray:
        serving.serve_on_ray(bundle, config, overrides, chosen)
        return
    from adaptive.cli.threads import set_threads

    set_threads(threads, context.obj)
    serving.serve(bundle, config, overrides, chosen)


@app.command()
@guarded
def top(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The server's address.")] = "http://127.0.0.1:8000",
    key: Annotated[
        str | None,
        typer.Option(envvar="ADAPTIVE_KEY", help="A key with the scope `metrics`."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and leave.")] = False,
) -> None:
    """Watch a server: shares of tiers and exits, cost, queue, and the promise."""
    from adaptive.cli.top import top as watch

    watch(url, key, seconds, context.obj, once=once)


def _pipeline(
    bundle: str, device: str | None, uncertified: bool, dtype: str | None = None
) -> adaptive.AdaptivePipeline:
    from adaptive.pipeline import AdaptivePipeline

    return AdaptivePipeline.from_config(bundle, device=device, dtype=dtype, uncertified=uncertified)


def main() -> None:
    """The `adaptive` command."""
    app()
