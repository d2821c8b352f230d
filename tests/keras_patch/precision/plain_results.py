"""What the patterns give in plain Keras, recorded for one version of each Keras.

    python tests/keras_patch/precision/plain_results.py

records the numbers and errors of all patterns with the installed versions, which takes half an
hour on two cores. Runs on one machine give the same numbers; the tests allow 5 % for bfloat16 and
for the rounding of other machines. With other versions, or once a pattern has changed,
`plain_results` returns nothing and the tests run plain Keras themselves.
"""

from __future__ import annotations

import ast
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

PATTERNS = Path(__file__).resolve().parent / "patterns"
RECORDED = Path(__file__).resolve().parent / "plain_results.json"
KEPT = ("number", "error", "message", "words")


def plain_results(library):
    """Return the recorded result of each pattern by its name; None if they do not apply here.

    Args:
        library: `keras` or `tf_keras`.
    """
    recorded = json.loads(RECORDED.read_text())[library]
    return recorded["results"] if recorded["made_with"] == made_with(library) else None


def made_with(library):
    """Return what the results depend on."""
    return {
        "tensorflow": version("tensorflow"),
        library: version(library),
        "patterns": digest_of_patterns(),
    }


def digest_of_patterns():
    """Return a digest of the patterns' code, without comments and layout."""
    trees = (ast.dump(ast.parse(path.read_text())) for path in sorted(PATTERNS.glob("*.py")))
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()


def record(results):
    """Write the results of both libraries.

    Args:
        results: The results of all patterns by the library's name.
    """
    recorded = {
        library: {
            "made_with": made_with(library),
            "results": {name: _kept(line) for name, line in sorted(found.items())},
        }
        for library, found in results.items()
    }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


def _kept(line):
    return {key: line[key] for key in KEPT if key in line}


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from pattern_runs import plain_keras, plain_tf_keras

    record({"keras": plain_keras(), "tf_keras": plain_tf_keras()})
