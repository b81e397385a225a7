"""Writes the tables of docs/papers anew: python scripts/document_papers.py."""

import fnmatch
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from tfseg import models, registry

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "papers"
#: <!-- options of NETWORK ...: written by scripts/document_papers.py -->, a table, <!-- end -->,
#: and so with "experiments of CONFIG ..."; names may be shell patterns
BLOCK = re.compile(
    r"(<!-- (options|experiments) of ([^:]+): written by scripts/document_papers.py -->\n)"
    r".*?(<!-- end -->)",
    re.DOTALL,
)


def explained(builder: object) -> dict[str, str]:
    """What a builder's docstring says of each argument, in one line each."""
    _, _, rest = (inspect.getdoc(builder) or "").partition("\nArgs:\n")
    section = rest.partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def networks(patterns: Iterable[str]) -> list[registry.Entry]:
    """The registered networks whose names fit one of the patterns.

    Raises:
        ValueError: for a pattern that none fits.
    """
    models.register_all()
    found: dict[str, registry.Entry] = {}
    for pattern in patterns:
        fitting = {e.name: e for e in registry.entries() if fnmatch.fnmatchcase(e.name, pattern)}
        if not fitting:
            raise ValueError(f"no network fits {pattern!r}")
        found |= fitting
    return [found[name] for name in sorted(found)]


def _default(option: str, entries: list[registry.Entry], patterns: list[str]) -> str:
    """The default; where they differ, or some networks lack the option, whose."""
    owners: dict[str, set[str]] = {}
    for entry in entries:
        if option in entry.options():
            owners.setdefault(f"`{entry.options()[option]!r}`", set()).add(entry.name)
    lacking = {entry.name for entry in entries if option not in entry.options()}

    def of(names: set[str]) -> str:
        shown = []
        for pattern in patterns:
            fitting = {e.name for e in entries if fnmatch.fnmatchcase(e.name, pattern)}
            if fitting <= names:
                shown.append(pattern)
                names = names - fitting
        return "of " + ", ".join(f"`{name}`" for name in [*shown, *sorted(names)])

    common = max(owners, key=lambda value: len(owners[value]))
    if 2 * len(lacking) > len(entries):
        common = ""
    parts = [f"{value} {of(names)}" for value, names in owners.items() if value != common]
    if common:
        parts.insert(0, common)
        parts += [f"not {of(lacking)}"] if lacking else []
    return "; ".join(parts)


def options(patterns: Iterable[str]) -> str:
    """The options of some networks, with what the builders' docstrings say of them.

    Raises:
        ValueError: for an option without a word.
    """
    patterns = list(patterns)
    entries = networks(patterns)
    rows: dict[str, str] = {}
    for entry in entries:
        said = explained(entry.builder)
        for option in entry.options():
            if option not in said:
                raise ValueError(f"the docstring of {entry.name!r} says nothing of {option!r}")
            what = said[option].replace("|", "\\|")
            rows.setdefault(
                option, f"| `{option}` | {_default(option, entries, patterns)} | {what} |"
            )
    return "\n".join(["| option | default | what |", "|---|---|---|", *rows.values()])


def expected(head: str) -> str:
    """The sentence of an experiment file's head that says what score is expected.

    Raises:
        ValueError: if there is none.
    """
    text = " ".join(line.removeprefix("#").strip() for line in head.splitlines())
    found = re.search(r"Expected[,:]? (.+?)\.( |$)", text)
    if found is None:
        raise ValueError(f"this head does not say what is expected: {text}")
    return found[1]


def experiments(patterns: Iterable[str]) -> str:
    """Experiment files and the scores that their heads state.

    Raises:
        ValueError: for a pattern that no file fits, or a head without a score.
    """
    rows = []
    for pattern in patterns:
        files = sorted((ROOT / "configs").glob(f"{pattern}.yaml"))
        if not files:
            raise ValueError(f"no experiment file fits {pattern!r}")
        for file in files:
            lines = file.read_text(encoding="utf-8").splitlines()
            head = "\n".join(line for line in lines if line.startswith("#"))
            rows.append(f"| `configs/{file.name}` | {expected(head)} |")
    return "\n".join(["| experiment | expected |", "|---|---|", *rows])


def document(text: str) -> str:
    """A page with its tables replaced."""
    tables = {"options": options, "experiments": experiments}
    return BLOCK.sub(lambda m: f"{m[1]}\n{tables[m[2]](m[3].split())}\n\n{m[4]}", text)


if __name__ == "__main__":
    for page in sorted(FOLDER.glob("*.md")):
        page.write_text(document(page.read_text(encoding="utf-8")), encoding="utf-8")
