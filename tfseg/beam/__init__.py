"""Prepared data sets and predictions on clusters: Apache Beam's pipelines.

Both have one element for each shard of their results. A worker writes a shard whole or not at
all, so that a bundle that a runner repeats, or a pipeline that is run again, does no work twice.
"""

try:
    import apache_beam  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"Apache Beam cannot be imported ({error}): pip install 'tfseg[beam]'"
    ) from error
