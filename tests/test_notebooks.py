"""The notebooks run from top to bottom, each in a process of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("semantic", "instance", "keypoints", "panoptic")


def test_each_task_has_one_and_no_outputs_are_kept():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)
    for path in FOLDER.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        assert all(not c.outputs and c.execution_count is None for c in cells if "outputs" in c)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebook(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    texts = [o.text for c in notebook.cells if "outputs" in c for o in c.outputs if "text" in o]
    pictures = [
        o
        for c in notebook.cells
        if "outputs" in c
        for o in c.outputs
        if "image/png" in o.get("data", {})
    ]
    assert pictures
    assert any("differ by" in text for text in texts)  # the export, read back
