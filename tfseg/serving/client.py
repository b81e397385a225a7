"""What both ways to a server have in common: a model's address, its versions, its answers."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

#: an answer's outputs by name; strings are object arrays of bytes
Answer = Mapping[str, np.ndarray]

_URL = re.compile(
    r"(https?://[^/\s?#@]+)/v1/models/([^/:\s?#]+)(?:/versions/([1-9]\d*))?/?", re.ASCII
)


class ServingError(ValueError):
    """A server that is not there, not ready or refuses; the message says which, and why."""


class Address(NamedTuple):
    """A model of a server.

    Attributes:
        server: "http://HOST:PORT".
        model: its name.
        version: to be asked; None: the highest that is loaded.
    """

    server: str
    model: str
    version: int | None


class Version(NamedTuple):
    """A version of a model on the server.

    Attributes:
        number: its number.
        state: "START", "LOADING", "AVAILABLE", "UNLOADING" or "END".
        error: why it is not available; "" if nothing went wrong.
    """

    number: int
    state: str
    error: str

    def __str__(self) -> str:
        text = f"version {self.number} is {self.state}"
        return f"{text} ({self.error})" if self.error else text


def parse_url(url: str) -> Address:
    """The parts of ``http://HOST:PORT/v1/models/NAME`` or ``.../NAME/versions/N``.

    Raises:
        ValueError: for any other URL.
    """
    found = _URL.fullmatch(url)
    if not found:
        raise ValueError(
            f"{url!r} is no model's URL; TensorFlow Serving has http://HOST:PORT/v1/models/NAME "
            "or http://HOST:PORT/v1/models/NAME/versions/N"
        )
    return Address(found[1], found[2], int(found[3]) if found[3] else None)


class ServedModel(ABC):
    """A model on a server, in one of the two ways to ask it.

    Attributes:
        server: what error messages call the server.
        model: the model's name.
        version: to be asked; None: the highest that is loaded.
        timeout: seconds that a request may take.
    """

    def __init__(self, server: str, model: str, version: int | None, timeout: float):
        self.server = server
        self.model = model
        self.version = version
        self.timeout = timeout

    @abstractmethod
    def versions(self) -> list[Version]:
        """The model's versions and their states.

        Raises:
            ServingError: no server, or one without this model.
        """

    @abstractmethod
    def predict(self, signature: str, files: Sequence[bytes]) -> Answer:
        """What a signature of encoded images answers to some.

        Args:
            signature: its name.
            files: the content of image files.

        Returns:
            Of each output an array (B, ...).

        Raises:
            ServingError: no server, or one that refuses.
        """

    def ready(self) -> Version:
        """The version that will answer.

        Raises:
            ServingError: if there is none yet, or no server.
        """
        versions = self.versions()
        loaded = [v for v in versions if v.state == "AVAILABLE"]
        if not loaded:
            states = ", ".join(map(str, versions)) or "there are no versions"
            raise ServingError(f"{self.server}: model {self.model!r} is not loaded: {states}")
        return max(loaded)
