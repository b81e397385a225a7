"""Readers of labelled image sets, by name: each a sequence of samples with class names."""

from tfseg.data.readers import camvid, folder, isbi, shapes, voc
from tfseg.data.readers.base import BaseReader, list_readers, open_reader, register_reader

__all__ = [
    "BaseReader",
    "camvid",
    "folder",
    "isbi",
    "list_readers",
    "open_reader",
    "register_reader",
    "shapes",
    "voc",
]
