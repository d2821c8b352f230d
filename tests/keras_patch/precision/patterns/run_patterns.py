"""Run cases in this process; print a line of JSON for each.

    python run_patterns.py [--patch PRECISION] [--bad] [CASE ...]

A line holds `name` and either `number` or `error` (the type) and `message` (its first 200
characters; for a bad case also `words`, whether the message contains the expected words). Without
names, all cases that need no separate process run. `--patch` calls `patch_tensorflow` first, as a
script may. `TF_USE_LEGACY_KERAS=1` runs the cases that apply to Keras 2.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

THEMES = (
    "adversarial",
    "attention",
    "bad_input",
    "callbacks_and_metrics",
    "control_flow",
    "diffusion",
    "dtypes",
    "functional",
    "generative",
    "gradients",
    "graphs",
    "images",
    "layers",
    "linear_algebra",
    "losses",
    "outside_models",
    "recommenders",
    "reinforcement",
    "saving",
    "sequences",
)


def run_one(name, keras, registry):
    """Return the result of one case as a dictionary for JSON."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    bad = registry.BAD_CASES.get(name)
    entry = bad or registry.CASES[name]
    begin = time.perf_counter()
    found = {"name": name}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found["number"] = float(entry.run())
    except BaseException as error:  # noqa: BLE001 (KeyboardInterrupt is a result here)
        message = " ".join(str(error).split()).split("Error encountered: ")[-1]
        found.update(error=type(error).__name__, message=message[:200])
        if bad:
            found["words"] = bad.words in message and type(error) is bad.error
    found["seconds"] = round(time.perf_counter() - begin, 2)
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patch", metavar="PRECISION")
    parser.add_argument("--bad", action="store_true", help="run the cases that raise")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args(arguments)
    if options.patch:
        from nano_init import patch_tensorflow

        patch_tensorflow(options.patch)
    import registry

    for theme in THEMES:
        __import__(theme)
    # Each case collects garbage, among a million objects of TensorFlow's modules.
    gc.freeze()
    legacy = bool(os.environ.get("TF_USE_LEGACY_KERAS"))
    table = registry.BAD_CASES if options.bad else registry.CASES
    names = options.cases or [
        name for name, entry in table.items() if not entry.alone and (entry.legacy or not legacy)
    ]
    for name in names:
        print(json.dumps(run_one(name, registry.keras, registry)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
