# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps a session in a capture while it runs, by a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from kleaktrace.core.capture.recording_log import Flush, RecordingLog
from kleaktrace.core.rates.rate_table import MachineHistory
from kleaktrace.core.recording import Recording
from kleaktrace.edge.capture.capture_files import CaptureFiles, require_nanoarrow
from kleaktrace.edge.capture.event_queue import EventQueue
from kleaktrace.edge.capture.pack import pack
from kleaktrace.edge.machine.meminfo import memory_in_use
from kleaktrace.errors import UsageError

_LOG = logging.getLogger(__name__)

_SAMPLES_S, _MOST_SAMPLES_S = 60.0, 600.0
"""Between two times that samples of what was freed are kept, at first and later: older ones are samples as good."""

_EVERY_S = 0.8
"""Between two flushes: with the time that they take themselves, no more than a second is ever not kept (FLUSH_NS)."""

_NICENESS = -10
"""Of the thread: it needs little, but in time. On a busy machine more than a second would be lost."""

Look = Callable[[], AbstractContextManager[Recording]]
"""Gives the recording of a session; nothing is added to it meanwhile."""


def write_capture(path: Path, look: Look, observed: Callable[[Recording], Recording]) -> None:
    """A capture of what is known by now, as one file. Nobody else may be keeping the same session.

    observed: adds to the recording what was learned beside the events. Raises `UsageError` if there can be none.
    """
    require_nanoarrow()
    if path.exists():
        raise UsageError(f"{path} exists", "give the capture another name")
    used = memory_in_use()
    with look() as resting:
        recording = observed(resting)
        log = RecordingLog(recording.ledger)
        looked = log.look(recording, with_samples=True, machine=used)
    files = CaptureFiles(path, log.last_flush(looked))
    try:
        files.close()
        pack(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "make room; what there is may be incomplete") from error
    finally:
        files.release()


class CaptureWriter:
    """A new capture at `path`, a directory until `finish` makes one file of it. Raises as `CaptureFiles` does.

    A context manager: if it is left without `finish`, the capture breaks off there.
    """

    def __init__(self, path: Path, look: Look, events: EventQueue | None = None) -> None:
        """Begin. `events`: the session's observer, from its start, if each event is to be kept."""
        self.path = path
        self.failure: OSError | None = None
        """Why nothing more could be written, if so."""
        self.unpacked: OSError | None = None
        """Why no one file could be made of the directory, if so."""
        require_nanoarrow()
        self._look, self._events = look, events or EventQueue()
        with look() as recording:
            self._log = RecordingLog(recording.ledger)
        self._sampled, self._sample_again_s = time.monotonic(), _SAMPLES_S
        self._outstanding = 0
        self._machine = MachineHistory()
        self._due = time.monotonic() + _EVERY_S
        self._files = CaptureFiles(path, self._new(anew=False))
        self._ending = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def finish(self, recording: Recording) -> None:
        """Add what is new, all that was learned beside the events, and end. Nothing feeds the session any more.

        What could not be written is told by `failure`; the capture breaks off there.
        """
        self._stop()
        if self._fault is not None:
            raise self._fault
        if self.failure is not None:
            return
        try:
            look = self._log.look(recording, with_samples=True)
            self._files.add(self._log.last_flush(look, self._events.take()))
            self._files.close()
        except OSError as error:
            self.failure = error
            return
        try:
            pack(self.path)
        except OSError as error:
            self.unpacked = error

    def _run(self) -> None:
        with suppress(OSError):  # not everywhere is root allowed to
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            while not self._ending.wait(max(self._due - time.monotonic(), 0)):
                self._due = time.monotonic() + _EVERY_S
                before, begun_s = self._files.bytes, time.thread_time()
                self._files.add(self._new(self._files.worth_telling_anew(self._outstanding)))
                took_s = time.thread_time() - begun_s
                _LOG.debug("%d bytes kept, which took %.1f ms", self._files.bytes - before, 1e3 * took_s)
        except OSError as error:
            self.failure = error
        except BaseException as fault:
            self._fault = fault

    def _new(self, anew: bool) -> Flush:
        """What has come since the last time. anew: of what is outstanding, all that there is."""
        begun = time.monotonic()
        with_samples = begun - self._sampled > self._sample_again_s
        used = memory_in_use() if self._machine.due(time.monotonic_ns()) else {}
        with self._look() as recording:
            look = self._log.look(recording, with_samples, used, anew)
            self._outstanding = recording.ledger.outstanding_count
            events = self._events.take()
        if used:
            self._machine.sample(recording.clock.end.time_ns, used)
        if with_samples:
            self._sampled, self._sample_again_s = begun, min(2 * self._sample_again_s, _MOST_SAMPLES_S)
        return self._log.flush(look, events)

    def _stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._files.release()
