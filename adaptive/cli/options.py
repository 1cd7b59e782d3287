"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Bundle = Annotated[
    str, typer.Argument(help="A bundle's folder, a hub id, or a preset (YAML).", show_default=False)
]
BundleOrNone = Annotated[
    str | None,
    typer.Argument(help="A bundle's folder, a hub id, or a preset (YAML).", show_default=False),
]
RecipeFile = Annotated[Path, typer.Argument(help="A recipe (YAML).", show_default=False)]
RecipeOrNone = Annotated[
    Path | None,
    typer.Argument(help="A recipe (YAML).", show_default="one for --model and --data"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a value of the recipe; repeatable."),
]
Workdir = Annotated[
    Path | None,
    typer.Option(help="Where the steps leave their files.", show_default="runs/<recipe's name>"),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads to compute with.",
        show_default="OMP_NUM_THREADS, else the cores that affinity and quota allow",
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto.", show_default="the preset's")
]
Uncertified = Annotated[
    bool,
    typer.Option(
        "--uncertified",
        help="Open the bundle whatever its certificate is about; answers are marked.",
    ),
]
Data = Annotated[
    str,
    typer.Argument(
        help="Labelled text: a file, a folder, package:<name> or a hub id, as in a recipe; "
        "or `test`: the test split of the bundle's own recipe.",
        show_default=False,
    ),
]
BundleOrOutcomes = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE|OUTCOMES",
        help="A bundle's folder or a preset (YAML); or, without DATA, a file of recorded outcomes "
        "(.jsonl, .csv, .parquet, ..) or the logs that --from names.",
        show_default=False,
    ),
]
DataOrNone = Annotated[
    str | None,
    typer.Argument(
        help="Labelled text, for a bundle: a file, a folder, package:<name> or a hub id, as in a "
        "recipe; or `test`: the test split of the bundle's own recipe.",
        show_default=False,
    ),
]
_OWN = "the bundle's own"
Text = Annotated[str | None, typer.Option(help="Column of the text.", show_default=_OWN)]
Pair = Annotated[
    str | None,
    typer.Option(help='Column of the second text; "" where there is none.', show_default=_OWN),
]
Label = Annotated[
    str | None,
    typer.Option(help='Column of the label; "" where there is none.', show_default=_OWN),
]
BadRow = Annotated[
    Literal["stop", "skip"] | None,
    typer.Option(
        "--on-bad-row",
        help="What a row does that cannot be read, or has no text or label: stop or skip.",
        show_default="stop",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Take only such rows; repeatable."),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RAW=NAME",
        help="A label's name in the bundle; repeatable.",
        show_default="as its recipe",
    ),
]
Group = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Tell its groups apart; `label`: the classes; repeatable."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take so many rows at random.")]
Unlabelled = Annotated[
    bool,
    typer.Option(
        "--unlabelled",
        help="The texts have no labels; only those are asked for (--ask) that can decide whether "
        "accuracy_drop is kept.",
    ),
]
Ask = Annotated[
    Path | None,
    typer.Option(help="CSV or JSONL file for the texts to label next, with --unlabelled."),
]
Labels = Annotated[
    Path | None, typer.Option(help="The file of --ask with its labels filled in: goes on.")
]
State = Annotated[
    Path | None,
    typer.Option(
        help="Folder that keeps answers and labels between the calls.",
        show_default="<name of --ask>.state",
    ),
]
Sample = Annotated[
    str | None,
    typer.Option(
        help="Labelled texts drawn at random from where the unlabelled ones come from, and not "
        "among them: they bound the full tier's accuracy.",
        show_default="the bundle's search rows",
    ),
]
Batch = Annotated[int, typer.Option(min=1, help="Texts to ask for at once.")]
Finish = Annotated[
    bool,
    typer.Option("--finish", help="Ask no more: certify what the labels so far prove."),
]
