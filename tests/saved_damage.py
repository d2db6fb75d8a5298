"""Damaging SavedModels where it hurts: protobuf by protobuf, and the bundle with its checksums made right again."""

import random
from pathlib import Path
from typing import Any

from damage import SECONDS  # noqa: F401
