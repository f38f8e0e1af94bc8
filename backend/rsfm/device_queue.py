"""One run at a time on a device: whoever comes later waits, in order of arrival, and says behind what.

Each run has a ticket, a file in RSFM_DATA/queue, locked while its process lives: a ticket that can be locked by another
is that of a dead process, and is removed. So servers, shells and users of one machine need nobody between them.
Tickets are numbered, read and written behind a door, a lock that is held for moments only.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rsfm import runs
from rsfm.devices import list_devices
from rsfm.errors import UserError
from rsfm.locks import FileLock
from rsfm.runs import Run

LOOK_EVERY_SECONDS = 0.2
SAY_EVERY_SECONDS = 5
DOOR_PATIENCE_SECONDS = 10
TICKET_BYTES = 4096
"""A ticket is written over without growing, so that a full disk cannot spoil it."""


class Place(NamedTuple):
    """What a run asks for: `many` of these devices at once, by their ids; the first are liked best."""

    devices: tuple[str, ...]
    many: int = 1


class Ticket(NamedTuple):
    """A run in the queue.

    Attributes:
        devices: those it holds, or, before its turn, those it would take.
    """

    number: int
    run: Path
    devices: tuple[str, ...]
    holds: bool


def folder() -> Path:
    """Return where the queue is: in RSFM_DATA, or in the folder of the user's own."""
    return Path(os.environ.get("RSFM_DATA") or Path.home() / "rsfm") / "queue"


def place_for(wanted: str, waits_on_cpu: bool) -> Place | None:
    """Return the place that a run on this device needs; None where it needs none.

    Several processes of torchrun are one run, which takes a GPU for each.
    """
    ids = {device["name"]: device["id"] for device in list_devices()}
    gpus = [name for name in ids if name != "cpu"]
    processes = min(len(gpus), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if wanted == "auto" and gpus:
        chosen = gpus if processes == 1 else sorted(gpus)[:processes]
        return Place(tuple(ids[name] for name in chosen), processes)
    if wanted in {"auto", "cpu"}:
        return Place(("cpu",)) if waits_on_cpu else None
    name = "cuda:0" if wanted == "cuda" else wanted
    return Place((ids.get(name, name),))


def tickets() -> list[Ticket]:
    """Return who holds a device or waits for one, in order of arrival; nobody where there is no queue."""
    try:
        return Queue(folder()).all() if folder().is_dir() else []
    except OSError:
        return []


@contextmanager
def turn(run: Run, place: Place, wait: bool = True) -> Iterator[tuple[str, ...]]:
    """Hold devices for a run; waits until they are free, and says so.

    Yields:
        The ids of the devices that are this run's now.

    Raises:
        Stopped, Cancelled: by the user, while it waits.
        UserError: a device is taken and the run is not to wait.
    """
    queue = Queue(folder())
    try:
        mine = queue.enter(run.folder, place)
    except OSError as error:
        queue.leave()
        run.warning(f"Runs cannot wait for each other: '{folder()}' cannot be used ({error.strerror}).")
        yield place.devices[: place.many]
        return
    try:
        if wait:
            devices = _wait(queue, mine, run, place)
        elif (found := queue.advance(mine, place)) is None:
            text = "The device is taken, and this run was not to wait. Start it without --no-wait to let it wait."
            raise UserError(f"{text} {_sentence(queue.ahead(mine))}", "device")
        else:
            devices = found
        yield devices
    finally:
        queue.leave()


class Queue:
    """The queue as one run sees it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._door = FileLock(folder / "door")
        self._mine: FileLock | None = None

    def enter(self, run: Path, place: Place) -> int:
        """Stand in line, and return the number of the ticket.

        Raises:
            OSError: the queue's folder cannot be used.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._inside():
            number = 1 + max((ticket.number for ticket in self._tickets()), default=0)
            self._mine = FileLock(self._folder / f"{number:09d}-{secrets.token_hex(4)}.ticket")
            self._mine.take()
            self._write(Ticket(number, run, place.devices, holds=False))
        return number

    def advance(self, number: int, place: Place) -> tuple[str, ...] | None:
        """Take the devices if it is this ticket's turn; None if it is not."""
        with self._inside():
            tickets = self._tickets()
            mine = next(ticket for ticket in tickets if ticket.number == number)
            taken = {name for ticket in tickets if ticket.number < number for name in ticket.devices}
            free = tuple(name for name in place.devices if name not in taken)[: place.many]
            if len(free) < place.many:
                return None
            self._write(mine._replace(devices=free, holds=True))
            return free

    def all(self) -> list[Ticket]:
        """Return all tickets, in order."""
        with self._inside():
            return self._tickets()

    def ahead(self, number: int) -> list[Ticket]:
        """Return the tickets before this one that want or hold one of its devices, those that hold one first."""
        tickets = self.all()
        mine = next(ticket for ticket in tickets if ticket.number == number)
        before = [each for each in tickets if each.number < number and set(each.devices) & set(mine.devices)]
        return sorted(before, key=lambda ticket: (not ticket.holds, ticket.number))

    def leave(self) -> None:
        """Go; the next one sees it within a moment."""
        if self._mine is not None:
            self._mine.release()
            self._mine.path.unlink(missing_ok=True)
            self._mine = None

    @contextmanager
    def _inside(self) -> Iterator[None]:
        deadline = time.monotonic() + DOOR_PATIENCE_SECONDS
        while not self._door.take():
            if time.monotonic() > deadline:
                raise OSError(0, "another program holds its door")
            time.sleep(0.005)
        try:
            yield
        finally:
            self._door.release()

    def _tickets(self) -> list[Ticket]:
        """Read the tickets of living processes, in order; those of dead ones are removed."""
        found = []
        for path in sorted(self._folder.glob("*.ticket")):
            if self._mine is None or path != self._mine.path:
                lock = FileLock(path)
                try:
                    is_dead = lock.take(make=False)
                except FileNotFoundError:  # its run has just left
                    continue
                lock.release()
                if is_dead:
                    path.unlink(missing_ok=True)
                    continue
            said = json.loads(path.read_text(encoding="utf-8"))
            found.append(Ticket(int(path.name[:9]), Path(said["run"]), tuple(said["devices"]), said["holds"]))
        return found

    def _write(self, ticket: Ticket) -> None:
        """Write the ticket in place, because the lock goes with the file."""
        if self._mine is not None and self._mine.file is not None:
            said = {"run": str(ticket.run), "devices": ticket.devices, "holds": ticket.holds}
            self._mine.file.seek(0)
            self._mine.file.write(json.dumps(said).encode().ljust(TICKET_BYTES))


def _wait(queue: Queue, mine: int, run: Run, place: Place) -> tuple[str, ...]:
    said, said_at = "", 0.0
    while (devices := queue.advance(mine, place)) is None:
        run.check()
        if not said or time.monotonic() - said_at > SAY_EVERY_SECONDS:
            said_at = time.monotonic()
            if (text := _sentence(queue.ahead(mine))) != said:
                said = text
                run.wait(text)
        time.sleep(LOOK_EVERY_SECONDS)
    if said:
        run.go_on()
    return devices


def _sentence(ahead: list[Ticket]) -> str:
    """Say what a run waits for: "Waits behind 'Pretrain · MoCo v2', 62 %, about 40 min left, and 1 more."."""
    if not ahead:
        return "Its turn comes."
    parts = [f"Waits behind '{_title(ahead[0].run)}'"]
    progress = runs.last_progress(ahead[0].run)
    if ahead[0].holds and progress:
        parts.append(f"{100 * progress['fraction']:.0f} %")
        if progress["eta_seconds"] is not None:
            parts.append(f"about {_about(progress['eta_seconds'])} left")
    if len(ahead) > 1:
        parts.append(f"and {len(ahead) - 1} more")
    return ", ".join(parts) + "."


def _title(folder: Path) -> str:
    try:
        return str(runs.read(folder)["title"])
    except UserError:
        return "another run"


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds / 10)) * 10} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
