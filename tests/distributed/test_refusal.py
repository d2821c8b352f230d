"""A rejected worker ends even if its program catches the exit."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")

from nano_init.distributed import gradients, refusal

pytestmark = pytest.mark.tensorflow


def test_a_rejected_worker_does_not_train_after_its_program_caught_the_exit(monkeypatch):
    import keras

    monkeypatch.setattr(refusal, "_refused", ["the script creates its own strategy"])
    replacements = gradients.gradient_replacements(compress=False)
    changes = {change.attribute: change for change in replacements}
    optimizer = keras.optimizers.SGD(0.1)
    variable = keras.Variable([1.0])

    with pytest.raises(SystemExit) as ended:
        changes["apply"].value(optimizer, [[1.0]], [variable])

    assert ended.value.code == 2
    assert float(variable[0]) == 1.0
