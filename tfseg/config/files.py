"""Experiment files: read, checked, overridden, written."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from tfseg.config.scaling import scaled
from tfseg.config.sections import Experiment, Stage
from tfseg.registry import suggest

#: of an experiment file in bytes, and of what it holds in characters and entries
_MAX_SIZE = 2**17
_MAX_DEPTH = 50


class ConfigError(ValueError):
    """A config that cannot be used; the message names the key and what would be right."""


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    section: Any = Experiment
    for part in location[:-1]:
        section = section.model_fields[str(part)].annotation
        # `Split | None`: the section is the one member that is a model.
        members = [m for m in getattr(section, "__args__", ()) if isinstance(m, type)]
        section = next((m for m in members if issubclass(m, BaseModel)), section)
    return list(section.model_fields)


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for e in error.errors():
        key = ".".join(str(part) for part in e["loc"]) or "the file"
        if e["type"] == "extra_forbidden":
            what = f"unknown key; {suggest(str(e['loc'][-1]), _keys_at(e['loc']))}"
        elif e["type"] == "missing":
            what = "missing"
        else:
            what = f"{e['msg']}, got {e['input']!r}" if e["type"] != "value_error" else e["msg"]
        lines.append(f"  {key}: {what}")
    return f"{origin} is not a valid experiment:\n" + "\n".join(lines)


def override(tree: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """The tree with ``key.sub=value`` assignments applied; values are read as YAML.

    Raises:
        ConfigError: for an assignment without "=" or through a key that is no mapping.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {assignment!r}: expected key=value, as in train.steps=100")
        values[key] = _loaded(value, f"--set {assignment!r}: the value")
    return _assigned(tree, values, "--set")


def _assigned(tree: dict[str, Any], values: dict[str, Any], origin: str) -> dict[str, Any]:
    """A copy of the tree with the values at dotted keys."""
    tree = yaml.safe_load(yaml.safe_dump(tree))  # a deep copy
    for key, value in values.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{origin} {key}={value!r}: {parent!r} is no section")
        node[last] = value
    return tree


def load(path: str | Path, assignments: list[str] | None = None) -> Experiment:
    """Reads and checks an experiment file without stages.

    Args:
        path: a YAML file.
        assignments: ``key.sub=value`` strings that override it.

    Raises:
        ConfigError: unreadable file, unknown key (the nearest is named), wrong type or value.
    """
    return parse(override(_read(path), assignments or []), str(path))


def load_stages(path: str | Path, assignments: list[str] | None = None) -> list[Experiment]:
    """Reads and checks an experiment file whose training may have stages.

    A file with ``stages``, a list of `Stage`, describes one experiment for each, called
    NAME/STAGE: the file with the stage's values set. See `tfseg.experiment.train_stages`.

    Args:
        path: a YAML file.
        assignments: ``key.sub=value`` strings that override it in all stages.

    Raises:
        ConfigError: as `load`; also stages of the same name.
    """
    tree = _read(path)
    if "stages" not in tree:
        return [load(path, assignments)]
    stages = _parse_stages(tree.pop("stages"), str(path))
    experiments = []
    for stage in stages:
        own = override(_assigned(tree, stage.set, f"stage {stage.name!r}"), assignments or [])
        own["name"] = f"{own.get('name')}/{stage.name}"
        experiments.append(parse(own, f"{path}, stage {stage.name!r},"))
    return experiments


def _parse_stages(stages: Any, origin: str) -> list[Stage]:
    try:
        parsed = TypeAdapter(list[Stage]).validate_python(stages)
    except ValidationError as e:
        lines = [f"  stages.{'.'.join(map(str, x['loc']))}: {x['msg']}" for x in e.errors()]
        raise ConfigError(f"{origin} is not a valid experiment:\n" + "\n".join(lines)) from None
    names = [stage.name for stage in parsed]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"{origin}: stages are two or more of different names, not {names}")
    return parsed


def _read(path: str | Path) -> dict[str, Any]:
    """An experiment file's mapping, unchecked."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as e:
        raise ConfigError(f"cannot read the config {path}: {e.strerror}") from e
    tree = _loaded(data, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must be a mapping of sections, is {type(tree).__name__}")
    return tree


def _loaded(text: str | bytes, what: str) -> Any:
    """What a YAML text holds, if it is no larger or deeper than `_MAX_SIZE` and `_MAX_DEPTH`."""
    if len(text) > _MAX_SIZE:
        raise ConfigError(f"{what} is larger than {_MAX_SIZE} bytes")
    try:
        tree = yaml.safe_load(text)
    # PyYAML raises errors of many types on odd numbers, dates, tags and depths, and documents one.
    except Exception as e:
        raise ConfigError(f"{what} is no YAML: {e}") from e
    # Aliases make small files stand for huge trees, and for trees without end.
    size, nodes = 0, [(tree, 0)]
    while nodes:
        node, depth = nodes.pop()
        size += 1 + (len(node) if isinstance(node, str) else 0)
        if size > _MAX_SIZE or depth > _MAX_DEPTH:
            raise ConfigError(
                f"{what} is too large, with its aliases written out, or too deep: the limits are "
                f"{_MAX_SIZE} characters and entries, and {_MAX_DEPTH} levels"
            )
        if isinstance(node, dict):
            nodes += [(value, depth + 1) for item in node.items() for value in item]
        elif isinstance(node, list | tuple):
            nodes += [(value, depth + 1) for value in node]
    return tree


def parse(tree: dict[str, Any], origin: str = "the config") -> Experiment:
    """Checks a config given as a mapping, and scales it to its batch; see `load` and `scaled`."""
    try:
        return scaled(Experiment.model_validate(tree))
    except ValidationError as e:
        raise ConfigError(_explain(e, origin)) from None


def dump(experiment: Experiment) -> str:
    """The resolved experiment as YAML that `load` reads back to an equal one."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
