"""Prepared data sets: samples as TFRecords in shards, written once and read at random."""
