"""`make demo`: trains, scores, pictures, exports and reloads a small model, on the CPU."""

import json
import shutil
from pathlib import Path

import click

CONFIG = Path(__file__).resolve().parents[1] / "configs/shapes_unet.yaml"
RUN = Path("runs/demo")
EXPORT = Path("saved_models/demo")
#: the largest difference of a probability between the SavedModel and the model
TOLERANCE = 1e-5
#: the score below which something is wrong
MEAN_IOU = 0.85


@click.command(help=__doc__)
def main() -> None:
    from tfseg import cli

    for folder in (RUN, EXPORT):
        shutil.rmtree(folder, ignore_errors=True)
    for command in (
        ["train", str(CONFIG), "--run-dir", str(RUN)],
        ["evaluate", str(RUN)],
        ["export", str(RUN), "--to", str(EXPORT)],
    ):
        cli.main(command, standalone_mode=False)
    scores = json.loads((RUN / "evaluation-validation.json").read_text())
    difference = _check_export()
    click.echo(f"mIoU {scores['mean_iou']:.4f} (at least {MEAN_IOU} is expected)")
    click.echo(f"the reloaded SavedModel differs by {difference:.1e} at most")
    click.echo(f"pictures:   {RUN / 'evaluation-validation.png'}")
    click.echo(f"SavedModel: {EXPORT / '1'}")
    if scores["mean_iou"] < MEAN_IOU or not difference <= TOLERANCE:
        raise SystemExit("the demo failed: the score or the SavedModel is not as expected")


def _check_export() -> float:
    """The largest difference between the SavedModel and the trained model, on validation images."""
    from tfseg import config, experiment, runs
    from tfseg.export import check_export

    settings = config.load(RUN / "config.yaml")
    model = experiment.build_model(settings, runs.weights(RUN))
    reader = experiment.open_split(settings, "validation")
    images = [reader[index]["image"] for index in range(4)]
    return check_export(EXPORT / "1", model, images, preprocessing=model.spec.preprocessing)


if __name__ == "__main__":
    main()
