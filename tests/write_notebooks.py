"""`make notebooks`: runs notebooks on a tiny bundle and writes them with small outputs.

All of them, or those that are named: `python tests/write_notebooks.py own_model`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from tiny_cascade import make_cascade
from tiny_notebooks import EVERYWHERE, NAMES, NOTEBOOKS, execute, write_inputs

WIDGET = "application/vnd.jupyter.widget-view+json"
INSTEAD = "*(buttons or a slider: run the notebook to use them)*"


def small(notebook: Any) -> Any:
    """The notebook without what a page cannot show, progress bars, and times of execution."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                continue
            if WIDGET in output.get("data", {}):
                output = nbformat.v4.new_output("display_data", {"text/markdown": INSTEAD})
            kept.append(output)
        cell.outputs = kept
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("language_info", None)  # tells the version of Python
    return notebook


def main(names: list[str]) -> None:
    """Write the named ones of `notebooks/`."""
    os.environ.update(EVERYWHERE | NAMES)
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        first.mkdir()
        write_inputs(first, make_cascade())
        for script in (NOTEBOOKS / f"{name}.py" for name in names):
            own = Path(folder) / script.stem  # one notebook certifies its bundle anew
            shutil.copytree(first, own)
            written = small(execute(script.stem, own, seconds=600))
            nbformat.write(written, script.with_suffix(".ipynb"))
            size = script.with_suffix(".ipynb").stat().st_size
            sys.stdout.write(f"{script.stem}: {size / 1000:.0f} kB\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(each.stem for each in NOTEBOOKS.glob("*.py")))
