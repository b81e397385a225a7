"""`tfseg serve-check`."""

from pathlib import Path
from typing import Any

import click

from tfseg.cli_parts import FILE, FOLDER, says_what_is_wrong


@click.command()
@click.argument("url")
@click.argument("images", nargs=-1, required=True, type=FILE)
@click.option("--grpc", metavar="HOST:PORT", help="Ask over gRPC too, and compare the answers.")
@click.option("--info", type=FILE, help="The export's model_info.json: names and colours.")
@click.option("--out", type=FOLDER, default="serve-check", show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds that a request may take.",
)
@says_what_is_wrong
def serve_check(url: str, images: tuple[Path, ...], **options: Any) -> None:
    """Send IMAGES to a model of TensorFlow Serving, and draw its answers as OUT/NAME.png.

    URL is http://HOST:PORT/v1/models/NAME, or with /versions/N behind it. IMAGES are JPEG or PNG.
    """
    from tfseg.serving import check

    check(url, images, echo=click.echo, **options)
