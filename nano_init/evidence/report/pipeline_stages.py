"""What a tf.data pipeline could have and has not. Pure."""

from __future__ import annotations

__all__ = ["missing_stages"]


def missing_stages(described: list[str]) -> list[str]:
    """Return what a pipeline could have and has not, as the calls that add it. Pure.

    Args:
        described: as `instrumentation.input_source` describes it.
    """
    stages = [stage.removeprefix("_") for stage in described[1:]]
    wanted = [
        ("cache()", not any(stage.startswith("Cache") for stage in stages)),
        ("map() with num_parallel_calls=tf.data.AUTOTUNE", "MapDataset" in stages),
        ("prefetch()", "PrefetchDataset" not in stages),
    ]
    return [call for call, is_missing in wanted if is_missing]
