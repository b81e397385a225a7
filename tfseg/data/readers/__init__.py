"""Readers of labelled image sets, by name: each a sequence of samples with class names."""

from tfseg.data.readers import (
    ade20k,
    camvid,
    cell_tracking,
    cityscapes,
    coco,
    cocostuff,
    folder,
    isbi,
    object_masks,
    sbd,
    shapes,
    tfrecord,
    voc,
    voc_objects,
)
from tfseg.data.readers.base import BaseReader, list_readers, open_reader, register_reader

__all__ = [
    "BaseReader",
    "ade20k",
    "camvid",
    "cell_tracking",
    "cityscapes",
    "coco",
    "cocostuff",
    "folder",
    "isbi",
    "list_readers",
    "object_masks",
    "open_reader",
    "register_reader",
    "sbd",
    "shapes",
    "tfrecord",
    "voc",
    "voc_objects",
]
