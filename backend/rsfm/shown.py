"""What a run writes down for its report while it has its pixels at hand: parts, each a file NAME.json in `shown`.

A part that fails holds a sentence that says so under "problem": the run goes on.
"""

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rsfm.errors import Cancelled, Stopped
from rsfm.runs import write_json

log = logging.getLogger(__name__)


def keep_part(folder: Path, name: str, make: Callable[[], dict[str, Any]]) -> None:
    """Write a part, or a sentence that says why there is none.

    Args:
        folder: `shown` of a run.
        make: returns the part; its pictures go into the folder.

    Raises:
        Stopped, Cancelled: by the user, where `make` asks.
    """
    try:
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{name}.json", make())
    except (Stopped, Cancelled):
        raise
    except Exception as error:
        log.warning("The report's part '%s' failed.\n%s", name, traceback.format_exc())
        problem = f"This part could not be made ({type(error).__name__}: {error}). The log has the details."
        with suppress(OSError):  # the disk may be full
            write_json(folder / f"{name}.json", {"problem": problem})
