"""What the served pipeline does between its networks, to be imported here: `words` (of the model
crop) and `letters` (of the model decode)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "text_repository/crop/1"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "text_repository/decode/1"))
import letters
import words

__all__ = ["REPOSITORY", "letters", "words"]

REPOSITORY = Path(__file__).resolve().parent.parent / "text_repository"
