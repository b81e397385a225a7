"""Readers that add something to another reader's samples."""

from typing import Any

from tfseg.data.sample import ObjectReader, Sample


class ExtendedReader:
    """A reader whose samples have one key more; all else is the other reader's.

    Subclasses make the key in `extend`.
    """

    #: the key
    added: str

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> Sample:
        """The other reader's sample, with the key.

        Raises:
            IndexError: past the end.
            DataError: what is wrong with the sample's files.
        """
        # A copy: a reader may keep its samples.
        return self.extend(self._reader[index].copy(), index)

    def extend(self, sample: Sample, index: int) -> Sample:
        """The sample of this index, with the key."""
        raise NotImplementedError

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        return (*(key for key in self._reader.keys() if key != self.added), self.added)  # noqa: SIM118
