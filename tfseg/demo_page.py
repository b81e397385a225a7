"""`tfseg demo`: a web page on which an image is dropped and a model's answer appears."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import click
import numpy as np
from PIL import Image

from tfseg.data.sample import DataError
from tfseg.demo_model import DemoModel, Found, Row

try:
    from nicegui import app, events, ui
except ImportError as missing:
    raise ImportError("tfseg demo needs pip install 'tfseg[demo]'") from missing

#: of an image file
MAX_BYTES = 100 * 2**20
#: of a picture's longer side; larger ones are shrunk for the page
MAX_SIDE = 2048

_HEADERS = {"name": "class", "share": "pixels", "score": "score"}
_STYLE = """
body { background: #f1f3f6; }
.demo-answer { display: grid; grid-template-columns: 1fr 1fr 19rem; gap: 1rem; width: 100%; }
.demo-answer > * { min-width: 0; align-self: start; }
.demo-picture { max-height: 75vh; }
.demo-picture img { object-fit: contain !important; }
.demo-drop { width: 100%; border: 2px dashed #9aa5b1; border-radius: 8px; }
.demo-drop .q-uploader__header { background: transparent; color: inherit; }
.demo-drop .q-uploader__list { display: none; }
"""
_DROP = """
<div class="row items-center justify-center q-pa-md" style="gap: 0.5rem">
  <span>Drop an image here, or</span>
  <q-btn outline dense no-caps color="primary" class="q-px-sm" label="choose a file">
    <q-uploader-add-trigger></q-uploader-add-trigger>
  </q-btn>
</div>
"""
_SWATCH = """
<q-td :props="props">
  <div :style="{ background: props.value }"
    style="width: 1.6rem; height: 1rem; border: 1px solid #0005"></div>
</q-td>
"""


def serve(model: DemoModel, host: str, port: int, browser: bool) -> None:
    """Shows the page of a model until the process is interrupted.

    Args:
        model: what looks at the images.
        host: to listen at.
        port: likewise.
        browser: whether a browser is opened at the page.

    Raises:
        ValueError: if nothing can listen there.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"cannot listen at {host}, port {port}: {error.strerror}") from error
    shown = f"[{host}]" if ":" in host else host
    app.on_startup(lambda: click.echo(f"{model.name}: http://{shown}:{port} (Ctrl-C ends it)"))
    with suppress(KeyboardInterrupt):  # raised again when all is closed
        ui.run(
            lambda: _Page(model),
            host=host,
            port=port,
            title=f"tfseg: {model.name}",
            favicon="🔍",
            show=browser,
            reload=False,
            reconnect_timeout=60,  # a busy machine answers late
            show_welcome_message=False,
        )


def table(rows: list[Row]) -> tuple[list[dict[str, str]], list[dict[str, str | int]]]:
    """The columns that have values, and the lines of a table, as `ui.table` takes them."""
    lines: list[dict[str, str | int]] = [
        {
            "number": number,
            "color": "#" + bytes(row.color.tolist()).hex(),
            "name": row.name,
            "share": "" if row.share is None else f"{row.share:.1%}",
            "score": "" if row.score is None else f"{row.score:.3f}",
        }
        for number, row in enumerate(rows)
    ]
    names = [name for name in _HEADERS if any(line[name] for line in lines)]
    columns = [{"name": "color", "label": "", "field": "color", "align": "left"}]
    for name in names:
        align = "left" if name == "name" else "right"
        columns.append({"name": name, "label": _HEADERS[name], "field": name, "align": align})
    return columns, lines


def picture(image: np.ndarray) -> Image.Image:
    """An image uint8 (H, W, 3) or (H, W, 1) for the page: whole, or shrunk to `MAX_SIDE`."""
    shown = Image.fromarray(np.squeeze(image, -1) if image.shape[-1] == 1 else image)
    shown.thumbnail((MAX_SIDE, MAX_SIDE))
    return shown


class _Page:
    """What one visitor sees."""

    def __init__(self, model: DemoModel):
        self._model = model
        self._found: Found | None = None
        self._threshold = model.threshold or 0.0
        ui.add_css(_STYLE)
        with ui.column().classes("w-full").style("max-width: 1600px; margin: 0 auto"):
            with ui.column().style("gap: 0"):
                ui.label(model.name).classes("text-h5")
                ui.label(" · ".join(model.facts)).classes("text-grey-8")
            with ui.card().classes("w-full"):
                self._build_input()
            self._answer = ui.element("div").classes("demo-answer")
            self._answer.set_visibility(False)
            with self._answer:
                self._build_answer()

    def _build_input(self) -> None:
        self._upload = ui.upload(
            auto_upload=True,
            max_file_size=MAX_BYTES,
            on_upload=self._take,
            on_rejected=lambda: self._fail(f"Files of more than {MAX_BYTES >> 20} MiB are refused"),
        )
        self._upload.classes("demo-drop").props("flat").add_slot("header", _DROP)
        self._busy = ui.linear_progress(show_value=False).props("indeterminate")
        self._busy.set_visibility(False)
        self._status = ui.label().classes("demo-status")

    def _build_answer(self) -> None:
        with _card("Image"):
            self._image = _picture_box()
        with _card("Result"):
            with ui.element("div").classes("relative w-full"):
                self._below = _picture_box()
                self._overlay = _picture_box().classes("demo-overlay absolute top-0 left-0")
            _slider("overlay", 1.0, lambda value: self._overlay.style(f"opacity: {value}"))
            if self._model.threshold is not None:
                _slider("score above", self._model.threshold, self._choose)
        with _card("Classes" if self._model.threshold is None else "Objects"):
            self._table = ui.table(rows=[], row_key="number").classes("w-full")
            self._table.props('flat dense hide-pagination no-data-label="nothing found"')
            self._table.style("max-height: 36rem").add_slot("body-cell-color", _SWATCH)

    async def _take(self, event: events.UploadEventArguments) -> None:
        """Looks at a file that was dropped."""
        name = event.file.name
        self._upload.disable()
        self._busy.set_visibility(True)
        try:
            data = await event.file.read()
            image, found = await asyncio.to_thread(self._model.look, data, name)
            shown = await asyncio.to_thread(picture, image)
            drawn, rows = await self._draw(found)
        except DataError as error:
            self._fail(str(error))
        except Exception:  # the page goes on, whatever a network fails with
            logging.exception("%s", name)
            self._fail(f"The model failed on {name}; the terminal says how")
        else:
            self._found = found
            for box in (self._image, self._below):
                box.set_source(shown)
            self._put(drawn, rows)
            height, width = image.shape[:2]
            self._status.set_text(f"{name}: {width} x {height} pixels")
            self._status.classes(remove="text-negative")
        finally:
            self._busy.set_visibility(False)
            self._upload.enable()
            self._upload.reset()

    def _fail(self, message: str) -> None:
        """Says what is wrong in place of a result."""
        self._found = None
        self._status.set_text(message)
        self._status.classes("text-negative")
        self._answer.set_visibility(False)

    async def _choose(self, threshold: float) -> None:
        """Shows the objects above another score."""
        self._threshold, found = threshold, self._found
        assert found is not None  # without it there is no slider
        drawn, rows = await self._draw(found)
        if found is self._found and threshold == self._threshold:  # nothing newer came meanwhile
            self._put(drawn, rows)

    async def _draw(self, found: Found) -> tuple[Image.Image, list[Row]]:
        drawn, rows = await asyncio.to_thread(found.show, self._threshold)
        return await asyncio.to_thread(picture, drawn), rows

    def _put(self, drawn: Image.Image, rows: list[Row]) -> None:
        self._overlay.set_source(drawn)
        self._table.columns, self._table.rows = table(rows)
        self._answer.set_visibility(True)


def _card(heading: str) -> ui.card:
    with ui.card() as card:
        ui.label(heading).classes("text-subtitle1 text-weight-medium")
    return card


def _picture_box() -> ui.image:
    return ui.image().classes("demo-picture w-full").props("no-transition no-spinner")


def _slider(label: str, value: float, use: Callable[[float], object]) -> None:
    """A slider of 0..1, whose value is used when it is let go."""
    with ui.row().classes("w-full items-center no-wrap"):
        ui.label(label).style("white-space: nowrap; min-width: 5.5rem")
        slider = ui.slider(min=0, max=1, step=0.01, value=value)
        slider.on("change", lambda: use(slider.value))
        ui.label().bind_text_from(slider, "value", lambda shown: f"{shown:.2f}")
