"""Train the PyTorch twin of one model, and print its step times as JSON on the last line.

    FOLDER/bin/python benchmarks/train_torch.py MODEL [--compile] [--bfloat16] [--blocks N]

FOLDER is a virtual environment with torch and numpy. Images have their channels last, optimizers
are fused where PyTorch has a fused one, and a training step is what the documentation of PyTorch
shows. With --compile `torch.compile` compiles model and loss, with --bfloat16 they run under
autocast.
"""

from __future__ import annotations

import torch
from models import MODELS
from timed_training import clock_of, parser_of, print_times, timed_steps
from torch_models import TWINS

__all__ = ["batches_of", "step_of"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from timed_training import Run
    from torch_models import Twin


def main() -> None:
    """Train the model from the command line."""
    parser = parser_of(__doc__.splitlines()[0], TWINS)
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--bfloat16", action="store_true", help="use autocast to bfloat16")
    options = parser.parse_args()
    torch.manual_seed(1)
    print_times(MODELS[options.model], options.blocks, lambda: _start(options))


def _start(options: argparse.Namespace) -> Run:
    train = step_of(TWINS[options.model], is_compiled=options.compile, is_bfloat16=options.bfloat16)
    batches = batches_of(options.model, options.batch_factor)

    def step() -> Any:
        for inputs, labels in batches:
            loss = train(inputs, labels)
        return loss

    return timed_steps(step, clock_of(options))


def step_of(
    twin: Twin, *, is_compiled: bool = False, is_bfloat16: bool = False
) -> Callable[[Any, Any], Any]:
    """Return a function that trains a twin on one batch, and returns its loss.

    Args:
        twin: The model.
        is_compiled: Whether `torch.compile` compiles model and loss.
        is_bfloat16: Whether they run under autocast to bfloat16.
    """
    module = twin.build().train()
    if twin.is_image:
        module = module.to(memory_format=torch.channels_last)
    optimizer = twin.optimizer([p for p in module.parameters() if p.requires_grad])

    def loss_of(inputs: Any, labels: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            return twin.loss(module(inputs), labels)

    if is_compiled:
        loss_of = torch.compile(loss_of)

    def step(inputs: Any, labels: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(inputs, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def batches_of(name: str, factor: int = 1) -> list[tuple[Any, Any]]:
    """Return the batches of one step: one, or two halves where a step is a short `fit`.

    Args:
        name: The name of the model.
        factor: The factor of the batch size.
    """
    model, twin = MODELS[name], TWINS[name]
    inputs, labels = (_tensors(part, factor) for part in model.batch())
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
