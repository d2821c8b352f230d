"""All parts of the patch. Pure."""

from __future__ import annotations

from nano_init.protocol.faster_paths import PATH_RECORDS
from nano_init.protocol.keras_repairs import OPTION_RECORDS, REPAIR_RECORDS
from nano_init.protocol.precision_guards import GUARD_RECORDS
from nano_init.protocol.worker_parts import WORKER_RECORDS

__all__ = ["ALL_RECORDS"]

ALL_RECORDS = (
    *PATH_RECORDS,
    *GUARD_RECORDS,
    *REPAIR_RECORDS,
    *OPTION_RECORDS,
    *WORKER_RECORDS,
)
