"""The folders, the package list, and the form in which they are installed."""

from __future__ import annotations

import configparser
import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ("configs", "exits", "routers", "training")  # import as adaptive.<name>


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def _folders() -> set[str]:
    """Import names of all folders that hold Python modules."""
    found = set()
    for top in ("adaptive", *BESIDE):
        for module in (ROOT / top).rglob("*.py"):
            name = ".".join(module.parent.relative_to(ROOT).parts)
            found.add(name if top == "adaptive" else f"adaptive.{name}")
    return found


def _imports(code: str, *path: Path) -> str:
    """What `code` prints in a new interpreter that has only `path` beside the libraries."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    # -S leaves out site-packages, where an editable installation may lurk; they come back as
    # a plain path, which does not run their .pth files.
    libraries = [entry for entry in sys.path if entry.endswith("site-packages")]
    code = f"import sys; sys.path += {libraries!r}; {code}"
    run = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=environment,
        cwd=path[0].anchor,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_package_list_equals_the_folders() -> None:
    listed = _setup()["options"]["packages"].split()
    assert sorted(listed) == sorted(_folders())


def test_every_package_has_an_init_file() -> None:
    mapped = dict(line.split(" = ") for line in _setup()["options"]["package_dir"].split("\n")[1:])
    for package in _folders():
        # as setuptools does it: a package lies in its nearest mapped parent
        parents = [each for each in mapped if f"{package}.".startswith(f"{each}.")]
        parent = max(parents, key=len)
        path = mapped[parent] + package.removeprefix(parent).replace(".", "/")
        assert (ROOT / path / "__init__.py").is_file(), package


def test_checkout_works_without_installation(tmp_path: Path) -> None:
    where = _imports(
        "import adaptive.exits, adaptive.routers, adaptive.training, adaptive.configs as c;"
        "print(adaptive.__file__, adaptive.exits.__file__, c.__file__, sep='\\n')",
        ROOT,
    )
    expected = [ROOT / "adaptive", ROOT / "exits", ROOT / "configs"]
    assert where.splitlines() == [str(folder / "__init__.py") for folder in expected]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy, so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "adaptive", *BESIDE):
        # Links and not copies: nothing is written beneath them.
        (copy / name).symlink_to(ROOT / name)
    target = tmp_path_factory.mktemp("wheel")
    build = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(target)], cwd=copy, check=True, capture_output=True
    )
    (built,) = target.glob("*.whl")
    return built


def test_wheel_holds_the_folders_under_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        str(path.relative_to(ROOT))
        for top in ("adaptive", *BESIDE)
        for path in (ROOT / top).rglob("*.py")
    }
    expected = {
        name if name.startswith("adaptive/") else f"adaptive/{name}"
        for name in modules
        | {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
        | {str(path.relative_to(ROOT)) for path in (ROOT / "configs" / "outcomes").iterdir()}
        | {f"adaptive/reporting/page.{kind}" for kind in ("css", "html", "js")}
        | {f"exits/graphs/{kind}.onnx" for kind in ("logits", "linear", "hidden")}
        | {f"exits/graphs/first_{kind}.onnx" for kind in ("logits", "linear", "hidden")}
        | {"adaptive/py.typed", "adaptive/recorded/outcomes.schema.json"}
        | {"adaptive/serve/page.html"}
    }
    info = {name for name in names if ".dist-info/" in name}
    assert names - info == expected
    assert any(name.endswith("/licenses/LICENSE") for name in info)


def test_installed_form_works(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    packages = ", ".join(_setup()["options"]["packages"].split())
    where = _imports(
        f"import {packages}; print(adaptive.__path__, adaptive.exits.__file__)", tmp_path
    )
    assert where == f"{[str(tmp_path / 'adaptive')]} {tmp_path / 'adaptive/exits/__init__.py'}"


def test_console_script_points_at_a_function() -> None:
    script = _setup()["options.entry_points"]["console_scripts"].strip()
    name, _, target = script.partition(" = ")
    module, _, function = target.partition(":")
    assert name == "adaptive"
    assert callable(getattr(importlib.import_module(module), function))
