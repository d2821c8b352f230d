"""Train the PyTorch twin of one model, and print its step times as JSON on the last line.

    FOLDER/bin/python benchmarks/train_torch.py MODEL [--compile] [--bfloat16] [--blocks N]

FOLDER is a virtual environment with torch and numpy. Images have their channels last, optimizers
are fused where PyTorch has a fused one, and a training step is what the documentation of PyTorch
shows. With --compile `torch.compile` compiles model and loss, with --bfloat16 they run under
autocast.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import torch
from models import MODELS
from step_clock import add_clock_option, clock_of
from torch_models import TWINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def main() -> None:
    """Train the model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=TWINS)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--batch-factor", type=int, default=1, help="factor of the batch size")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--bfloat16", action="store_true", help="use autocast to bfloat16")
    add_clock_option(parser)
    options = parser.parse_args()
    print(json.dumps(_train(options)))


def _train(options: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(1)
    model, clock = MODELS[options.model], clock_of(options)
    started = time.perf_counter()
    step = _step_of(options)
    batches = _batches(options)

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        times, loss = [], 0.0
        for _ in range(blocks):
            began = clock()
            for _ in range(steps):
                for inputs, labels in batches:
                    last = step(inputs, labels)
            loss = float(last)
            times.append(clock() - began)
        return times, loss

    run(1, 1)
    first = time.perf_counter() - started
    run(model.warm_up, 1)
    times, loss = run(model.steps, options.blocks)
    return {
        "steps": [t / model.steps * 1000 for t in times],
        "first": first * 1000,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": loss,
    }


def _step_of(options: argparse.Namespace) -> Callable[[Any, Any], Any]:
    twin = TWINS[options.model]
    module = twin.build().train()
    if twin.is_image:
        module = module.to(memory_format=torch.channels_last)
    optimizer = twin.optimizer([p for p in module.parameters() if p.requires_grad])

    def loss_of(inputs: Any, labels: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            return twin.loss(module(inputs), labels)

    if options.compile:
        loss_of = torch.compile(loss_of)

    def step(inputs: Any, labels: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(inputs, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _batches(options: argparse.Namespace) -> list[tuple[Any, Any]]:
    """Return the batches of one step: one, or two halves where a step is a short `fit`."""
    model, twin = MODELS[options.model], TWINS[options.model]
    inputs, labels = (_tensors(part, options.batch_factor) for part in model.batch())
    if twin.is_image:
        inputs = inputs.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        if labels.dim() == 4:
            labels = labels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    if model.is_short:
        half = len(inputs) // 2
        return [(inputs[:half], labels[:half]), (inputs[half:], labels[half:])]
    return [(inputs, labels)]


def _tensors(part: Any, factor: int) -> Any:
    if isinstance(part, tuple):
        return tuple(_tensors(each, factor) for each in part)
    repeated = torch.from_numpy(part).repeat(factor, *[1] * (part.ndim - 1))
    # Ids and labels are int64 in PyTorch.
    return repeated if repeated.is_floating_point() else repeated.long()


if __name__ == "__main__":
    main()
