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
    phases: dict[str, float] = {}
    _timed(phases, "import_torch", lambda: __import__("torch"))
    step = _timed(phases, "build", lambda: _build(sys.argv[1]))
    _timed(phases, "first", step)
    cpu, ended = time.process_time(), time.time()
    _timed(phases, "step", step)
    print(json.dumps({**phases, "cpu": cpu, "ended_at": ended}))


def _timed(phases: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    start = time.process_time()
    result = run()
    phases[name] = time.process_time() - start
    return result


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
