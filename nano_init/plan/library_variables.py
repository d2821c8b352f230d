"""The environment variables that steer TensorFlow and the libraries under it. Pure and lean."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LIBRARY_PREFIXES", "STEERING_PREFIXES", "onednn_setting", "steers_training"]

# oneDNN by both its names, MKL, and the OpenMP runtimes; nothing private is in them.
LIBRARY_PREFIXES = ("DNNL_", "GOMP_", "KMP_", "MKL_", "OMP_", "ONEDNN_")

# TensorFlow, XLA and Keras as well.
STEERING_PREFIXES = (*LIBRARY_PREFIXES, "KERAS_", "TF_", "XLA_")

# What TensorFlow writes into its log changes nothing that it computes.
_LOGGING = "TF_CPP_"


def steers_training(name: str) -> bool:
    """Say whether a variable can change how a training runs, or how fast.

    Args:
        name: the variable's name.
    """
    is_known = name.startswith(STEERING_PREFIXES) or name == "LD_PRELOAD"
    return is_known and not name.startswith(_LOGGING)


def onednn_setting(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the variable that oneDNN takes a setting from, and its value; "" twice without one.

    It knows each by two names, and looks for the older one only where the newer one is unset or
    empty (oneDNN, src/common/utils.cpp, getenv_string_user and getenv_int_user).

    Args:
        environ: the environment.
        name: the setting, such as "MAX_CPU_ISA".
    """
    for variable in (f"ONEDNN_{name}", f"DNNL_{name}"):
        if environ.get(variable):
            return variable, environ[variable]
    return "", ""
