"""Every command that README, CONTRIBUTING, model cards and YAML files show works as written."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from tiny_builds import sentence, write_model
from tiny_cascade import LABELS
from typer.testing import CliRunner, Result

from adaptive.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = sorted(ROOT.glob("configs/recipes/*.yaml"))
PRESETS = sorted(ROOT.glob("configs/presets/*.yaml"))
BENCHMARKS = sorted(ROOT.glob("benchmarks/recipes/**/*.yaml"))


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a language, "" for none."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for language, content in fences if language == kind]


def head(file: Path) -> str:
    """The command in the first line of a YAML file."""
    return file.read_text().splitlines()[0].removeprefix("# ")


def run(command: str, stdin: str | None = None) -> Result:
    """Runs a command line of `adaptive` in the current folder; `> file` is followed."""
    words = shlex.split(command, comments=True)
    assert words.pop(0) == "adaptive"
    sink = None
    if ">" in words:
        words, (sink,) = words[: words.index(">")], words[words.index(">") + 1 :]
    result = CliRunner().invoke(app, words, input=stdin)
    assert result.exit_code == 0, (command, result.output)
    if sink is not None:
        Path(sink).write_text(result.stdout)
    return result


def write_tickets(file: Path, rows: int, seed: int) -> None:
    draw = random.Random(seed)
    lines = [f"{sentence(draw, n % 2 == 0)},{('good', 'bad')[n % 2]}" for n in range(rows)]
    file.write_text("body,queue\n" + "\n".join(lines) + "\n")


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the README's recipe and commands name."""
    (recipe,) = (block for block in blocks(README, "yaml") if "name: tickets" in block)
    (tmp_path / "tickets.yaml").write_text(recipe)
    write_model(
        tmp_path / yaml.safe_load(recipe)["model"]["id"],
        labels=("bad", "good"),
        hidden_size=128,  # as wide as the recipe's tiny tier
        num_hidden_layers=5,
        max_position_embeddings=128,
    )
    for name, rows in (("tickets", 110), ("new", 24), ("labelled", 60), ("pool", 70)):
        write_tickets(tmp_path / f"{name}.csv", rows, seed=rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def readme_commands() -> list[str]:
    lines = [line for block in blocks(README, "") for line in block.splitlines()]
    return [line for line in lines if line.startswith("adaptive ")]


def check_results(folder: Path) -> None:
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 24 and {answer["label"] for answer in answers} <= {"bad", "good"}
    assert (folder / "curve.svg").is_file() and (folder / "report.html").is_file()


def test_the_commands_of_the_readme_run_on_a_bundle_of_its_recipe(tickets: Path) -> None:
    """All but the builds, whose recipe is made cheaper here."""
    cheaper = ("search.sweeps=1", "search.minimise=work", "cost.repeats=1", "tiers.mid.epochs=1")
    run("adaptive build tickets.yaml " + " ".join(f"--set {each}" for each in cheaper))
    commands = [each for each in readme_commands() if " build " not in each]
    assert [shlex.split(each)[1] for each in commands] == [
        "evaluate",
        "curve",
        "report",
        "predict",
        "certify",
        "certify",
        "info",
    ]
    for command in commands:
        run(command)
    check_results(tickets)


def test_the_first_command_of_the_readme_writes_its_recipe(tickets: Path) -> None:
    shown = (tickets / "tickets.yaml").read_text()
    (tickets / "tickets.yaml").unlink()
    run(readme_commands()[0] + " --check")
    assert yaml.safe_load((tickets / "tickets.yaml").read_text()) == yaml.safe_load(shown)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft's
def test_every_command_of_the_readme_runs_on_its_recipe(tickets: Path) -> None:
    for command in readme_commands():
        run(command)
    check_results(tickets)


def snippet(text: str) -> dict[str, Any]:
    """Names that the Python of a document leaves behind."""
    names: dict[str, Any] = {}
    for block in blocks(text, "python"):
        exec(block, names)
    return names


def test_the_python_of_readme_and_model_card_runs(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_bundle, "bundles/rotten_tomatoes")
    assert snippet(README)["pipeline"].bundle.labels == LABELS
    card = (tiny_bundle / "README.md").read_text()
    (folder,) = re.findall(r'from_config\("(.*?)"\)', card)
    shutil.copytree(tiny_bundle, folder)
    assert snippet(card)["pipeline"].bundle.labels == LABELS


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_command_at_the_head_of_a_recipe_builds_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes: list[Any] = []
    module, header = ModuleType("build"), ModuleType("header")
    vars(module)["build"] = lambda recipe, *given, **options: recipes.append(recipe) or Path("x")
    vars(header)["read_header"] = lambda _: SimpleNamespace(info={})
    monkeypatch.setitem(sys.modules, "adaptive.training.build", module)
    monkeypatch.setitem(sys.modules, "adaptive.bundle.header", header)
    monkeypatch.setattr("adaptive.cli.build.promised", lambda _: None)
    monkeypatch.chdir(ROOT)
    run(head(file))
    (recipe,) = recipes
    assert (recipe.name, recipe.output) == (file.stem, f"bundles/{file.stem}")


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_the_command_at_the_head_of_a_preset_serves_it(
    file: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(
        tiny_bundle, tmp_path / yaml.safe_load(file.read_text())["bundle"].removeprefix("../../")
    )
    monkeypatch.chdir(tmp_path)
    echo, _, command = head(file).partition(" | ")
    assert f"configs/presets/{file.name}" in command
    answer = json.loads(run(command, stdin=shlex.split(echo)[1] + "\n").stdout)
    assert answer["label"] in LABELS


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_command_at_the_head_of_a_benchmarks_recipe_names_what_is_there(file: Path) -> None:
    words = shlex.split(head(file))
    source = (ROOT / words[1]).read_text()
    option, told = "--only", file.stem
    if "--recipe" in words:
        option, told = "--recipe", str(file.relative_to(ROOT))
    assert words[0] == "python" and words[words.index(option) + 1] == told
    assert all(f'"{word}"' in source for word in words if word.startswith("--"))


def test_what_contributing_names_is_there() -> None:
    targets = re.findall(r"\bmake ([a-z]+)", "\n".join(blocks(CONTRIBUTING, "")))
    assert {"test", "lint", "demo", "notebooks"} <= set(targets)
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    for path in re.findall(r"\btests/\w+/test_\w+\.py", CONTRIBUTING):
        assert (ROOT / path).is_file(), path
    for module in re.findall(r"python -m (adaptive[.\w]*\w{2})\b", CONTRIBUTING + makefile):
        assert importlib.util.find_spec(module), module
