"""The documentation names only what is there: files, commands, options, networks, messages."""

import ast
import re
from pathlib import Path

import click
import pytest
import yaml

from tfseg import cli, config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: of this repository: what a page names, with no placeholder in it
NAMED = re.compile(r"\b(?:configs|scripts|tfseg|tests|docs|notebooks|deploy)/[\w./-]+\.\w+\b")
#: a line of code that runs tfseg, or a command within a sentence; \\ at a line's end is joined
COMMAND = re.compile(r"(?:^ {4,}|\$ |exec |`)tfseg ([a-z][\w-]*[^`\n#]*)", re.MULTILINE)


def _text(page):
    return page.read_text(encoding="utf-8")


def _id(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links(page):
    for link in LINK.findall(_text(page)):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        path = (page.parent / target) if target else page
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", _text(path), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, link


def _slug(heading):
    """As Python-Markdown's table of contents makes anchors."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower())


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_files_that_are_named_exist(page):
    missing = [name for name in NAMED.findall(_text(page)) if not (ROOT / name).exists()]
    assert not missing


def _commands(page):
    for words in COMMAND.findall(_text(page).replace("\\\n", " ")):
        yield words.split()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_commands(page):
    for name, *words in _commands(page):
        assert name in cli.main.commands, f"tfseg {name}"
        parameters = cli.main.commands[name].params
        known = {o for p in parameters if isinstance(p, click.Option) for o in p.opts}
        known |= {o for p in parameters for o in p.secondary_opts} | {"-h", "--help"}
        for word in words:
            if word == "--":  # what follows is for another program
                break
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"tfseg {name} {word}"


def test_commands_are_found():
    assert sum(1 for page in PAGES for _ in _commands(page)) > 50


@pytest.mark.parametrize("task", ["semantic", "instance", "keypoints", "panoptic"])
def test_experiments_of_the_tasks_are_valid(task):
    text = _text(ROOT / "docs" / "tasks" / f"{task}.md")
    (block,) = re.findall(r"^    name: .*\n(?:(?:    .*)?\n)*", text, re.MULTILINE)
    tree = yaml.safe_load("\n".join(line[4:] for line in block.splitlines()))
    experiment = config.parse(tree)
    assert experiment.name == "mine"


def _strings():
    """All strings of the package, with \\0 for what is put into them."""
    for file in (ROOT / "tfseg").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_are_those_of_the_code():
    strings = "\n".join(_strings())
    cells = re.findall(r"^\| ([^|]+) \|", _text(ROOT / "docs" / "faults.md"), re.MULTILINE)
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) > 40
    for message in messages:
        for fragment in message.split("..."):
            assert fragment.strip() in strings, message
