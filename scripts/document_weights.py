"""Writes the table of docs/weights.md anew: python scripts/document_weights.py."""

from pathlib import Path

from tfseg import models, registry
from tfseg.registry import Preprocessing
from tfseg.weights.released import RELEASES, Release

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "weights.md"
BEGIN = "<!-- written by scripts/document_weights.py -->"
END = "<!-- end -->"
HEAD = ("| file | network | gives | published score | input |", "|---|---|---|---|---|")


def _formula(preprocessing: Preprocessing) -> str:
    mean, std = (
        ", ".join(f"{value:.8g}" for value in values)
        for values in (preprocessing.mean, preprocessing.std)
    )
    scaled = "" if set(preprocessing.std) == {1.0} else f" / ({std})"
    return f"{preprocessing.channels} - ({mean}){scaled}"


def _row(release: Release) -> str:
    if release.part == "backbone":
        network, inputs = f"trunk of `{release.model}`", ""
    else:
        entry = registry.entry(release.model)
        options = "".join(f" {key}={value}" for key, value in release.options.items())
        network = f"`{release.model}`{options}"
        inputs = _formula(entry.preprocess({**entry.options(), **release.options}))
    cells = (f"[{release.file}]({release.page})", network, release.gives, release.score, inputs)
    return f"| {' | '.join(cells)} |"


def document(text: str) -> str:
    """The document with its table replaced by the manifest's."""
    models.register_all()
    table = "\n".join([*HEAD, *(_row(release) for release in RELEASES)])
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
