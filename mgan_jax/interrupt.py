"""Ctrl-C: one line and the end of the process, whatever its threads are doing."""

import os
import signal
import sys
import threading

STATUS = 130
LINE = b"interrupted; run the same command again to continue\n"
SECONDS = 1.0
"""How long an end waits for a standard output that nobody reads."""
_ended = threading.Lock()


def end() -> None:
    """Says that the program was interrupted, and ends it with status 130; does not return.

    Nothing is unwound. KeyboardInterrupt reaches the main thread only when XLA has compiled, may be swallowed in a callback on
    its way up, and lets the interpreter be taken apart under threads of XLA's that still compile, which then crash. Nothing is
    lost, as by a kill: files get their names when they are whole.
    """
    _ended.acquire()
    flush = threading.Thread(target=_flush, daemon=True)
    flush.start()
    flush.join(SECONDS)
    _write(1, b"\x1b[?25h\n" if _on_terminal() else b"")
    _write(2, LINE)
    os._exit(STATUS)


def watch() -> None:
    """Lets SIGINT end this process from now on, by `end`, in a thread that needs the main one for nothing.

    The interpreter's own handler, in C, tells the thread through a pipe: whatever thread of the process the signal meets,
    whatever library has set another handler since, and also where a shell's & has let the signal be ignored.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading,), daemon=True).start()
    signal.signal(signal.SIGINT, lambda *_: None)


def _wait(reading: int) -> None:
    while signal.SIGINT not in os.read(reading, 1):
        pass
    end()


def _flush() -> None:
    try:
        sys.__stdout__.flush()
    except (AttributeError, OSError, ValueError):
        pass


def _on_terminal() -> bool:
    """Whether a progress display may have hidden the cursor."""
    try:
        return os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"
    except OSError:
        return False


def _write(file: int, data: bytes) -> None:
    try:
        os.write(file, data)
    except OSError:
        pass
