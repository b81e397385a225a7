"""TensorFlow Serving over REST: JSON in columns, images in base64. Needs no TensorFlow."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from tfseg.serving.client import Answer, ServedModel, ServingError, Version, parse_url

_DTYPES = {"DT_INT32": np.int32, "DT_FLOAT": np.float32, "DT_UINT8": np.uint8}


class RestModel(ServedModel):
    """A model asked over REST."""

    def __init__(self, url: str, timeout: float = 60.0):
        """Takes the model's URL; nothing is sent yet.

        Raises:
            ValueError: as `parse_url`.
        """
        address = parse_url(url)
        super().__init__(address.server, address.model, address.version, timeout)
        self.url = f"{address.server}/v1/models/{address.model}"
        if address.version is not None:
            self.url += f"/versions/{address.version}"
        self._signatures: dict[str, Any] | None = None

    def versions(self) -> list[Version]:
        """See `ServedModel.versions`."""
        found = []
        for row in self._ask("")["model_version_status"]:
            status = row.get("status") or {}
            failed = status.get("error_code", "OK") != "OK"
            error = f"{status['error_code']}: {status.get('error_message')}" if failed else ""
            found.append(Version(int(row["version"]), row["state"], error))
        return found

    def signatures(self) -> Mapping[str, Any]:
        """The signatures by name, as the server's metadata tell their inputs and outputs.

        Raises:
            ServingError: as `versions`.
        """
        if self._signatures is None:
            metadata = self._ask("/metadata")["metadata"]
            self._signatures = metadata["signature_def"]["signature_def"]
        return self._signatures

    def predict(self, signature: str, files: Sequence[bytes]) -> Answer:
        """See `ServedModel.predict`."""
        images = [{"b64": base64.b64encode(file).decode("ascii")} for file in files]
        request = {"signature_name": signature, "inputs": {"image_bytes": images}}
        found = self._ask(":predict", request)["outputs"]
        outputs = self.signatures()[signature]["outputs"]
        if len(outputs) == 1:  # the server leaves out its name
            found = {next(iter(outputs)): found}
        return {name: _array(value, outputs[name]["dtype"]) for name, value in found.items()}

    def _ask(self, what: str, request: Any = None) -> Any:
        """The JSON that the server answers to a GET, or to a POST of a request."""
        body = None if request is None else json.dumps(request).encode("ascii")
        call = urllib.request.Request(self.url + what, data=body)
        try:
            with urllib.request.urlopen(call, timeout=self.timeout) as response:
                data = response.read()
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from error
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                reason = f"no answer within {self.timeout:g} s"
            raise ServingError(f"{self.server} does not answer: {reason}") from error
        try:
            return json.loads(data)
        except ValueError as error:
            raise ServingError(f"{self.url + what} answers no JSON: {data[:80]!r}") from error

    def _refusal(self, error: urllib.error.HTTPError) -> ServingError:
        text = error.read(100_000).decode("utf-8", "replace")
        with suppress(ValueError, KeyError, TypeError):  # a proxy's words, perhaps
            text = str(json.loads(text)["error"])
        return ServingError(f"{self.server} refuses (HTTP {error.code}): {text.strip()[:500]}")


def _array(value: Any, dtype: str) -> np.ndarray:
    if dtype == "DT_STRING":
        return np.array([base64.b64decode(item["b64"]) for item in value], object)
    return np.array(value, _DTYPES[dtype])
