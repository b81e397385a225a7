"""Imports go one way: which part of the package may import which."""

import ast
from pathlib import Path

import tfseg

ROOT = Path(tfseg.__file__).parent

ALLOWED = {
    "version": set(),
    "registry": set(),
    "child": set(),
    "config": {"registry"},
    "ops": {"registry"},
    "layers": {"ops"},
    "backbones": {"layers", "ops"},
    "models": {"backbones", "layers", "ops", "registry"},
    "targets": {"ops"},
    "losses": {"ops", "targets"},
    "data": {"child", "ops", "registry"},
    "metrics": {"ops"},
    "weights": {"models", "backbones", "child", "ops", "registry"},
    "train": {"models", "losses", "data", "ops", "config", "registry", "cluster"},
    "visualize": {"data"},
    "visualize_instances": {"data"},
    "predict": {"models", "data", "ops", "registry", "visualize", "visualize_instances"},
    "serving": {"data", "predict", "visualize"},
    "warmup": set(),
    "saved_model": {"registry", "version", "warmup"},
    "beam": {"data", "exported"},
    "export": {"layers", "predict", "registry", "saved_model"},
    "export_detector": {"export", "predict", "ops", "registry", "saved_model"},
    "export_formats": {"export", "predict", "registry", "saved_model"},
}


def _imports(file):
    """The parts of tfseg that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names if node.module == "tfseg"]
            names = names or [node.module]
        for name in names:
            if name.startswith("tfseg."):
                yield name.split(".")[1]


def test_imports_go_one_way():
    wrong = []
    for file in ROOT.rglob("*.py"):
        part = file.relative_to(ROOT).parts[0].removesuffix(".py")
        for target in _imports(file):
            if part in ALLOWED and target != part and target not in ALLOWED[part]:
                wrong.append(f"{file.relative_to(ROOT)} imports tfseg.{target}")
    assert not wrong


def test_tensorflow_stays_where_it_is_needed():
    free = (
        "ops",
        "layers",
        "backbones",
        "models",
        "targets",
        "losses",
        "metrics",
        "weights",
        "config",
    )
    for file in ROOT.rglob("*.py"):
        part = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if part not in free or file.name == "nms.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(m.split(".")[0] == "tensorflow" for m in modules), file
