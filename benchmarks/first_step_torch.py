"""Run the first step of one model's twin in PyTorch, and print processor seconds as JSON.

    FOLDER/bin/python benchmarks/first_step_torch.py MODEL

FOLDER is a virtual environment with torch and numpy. The step is that of `train_torch.py`, without
`torch.compile`.
"""

from __future__ import annotations

import json
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def main() -> None:
    """Train the model from the command line for two steps."""
    phases = {}
    for name, run in _phases(sys.argv[1]):
        start = time.process_time()
        run()
        phases[name] = time.process_time() - start
        if name == "first":
            cpu, ended = time.process_time(), time.time()
    print(json.dumps({**phases, "cpu": cpu, "ended_at": ended}))


def _phases(model: str) -> list[tuple[str, Callable[[], Any]]]:
    steps: list[Callable[[], Any]] = []
    return [
        ("import_torch", lambda: __import__("torch")),
        ("build", lambda: steps.append(_build(model))),
        ("first", lambda: steps[0]()),
        ("step", lambda: steps[0]()),
    ]


def _build(model: str) -> Callable[[], float]:
    import torch
    from torch_models import TWINS, Twin, encoder
    from train_torch import batches_of, step_of

    torch.manual_seed(1)
    is_deep = model == "encoder6"
    train = step_of(Twin(lambda: encoder(depth=6)) if is_deep else TWINS[model])
    batches = batches_of("encoder" if is_deep else model)
    return lambda: sum(float(train(*batch)) for batch in batches)


if __name__ == "__main__":
    main()
