"""A connection to a Ray cluster: one that is there, or one of our own on this host that is gone afterwards.

Ray is loaded when a connection is made. What it prints goes into its log files, its usage reports and dashboard are
off, and a cluster of our own listens on the loopback interface alone.
"""

import contextlib
import io
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenhead.errors import FleetError, UsageError
from frozenhead.fleet.cores import usable_cores
from frozenhead.fleet.station import import_path

# Seconds: an address that does not answer is told of within 30, Ray's import on a busy machine included.
_KNOCK_SECONDS = 5.0
_TRY_SECONDS = 20.0
# Unix sockets, which Ray makes in its folder, have names of at most 107 bytes.
_LONGEST_FOLDER = 40
_LONGEST_NOTE = 200
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it Ray warns of a change to come
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
# Ray's word for systems where it binds to the loopback interface alone; it is heeded on all.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_WANTS_TOKEN = b"InvalidAuthToken"
_TRY = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where and with what Ray computes.

    Parameters
    ----------
    address : str, optional
        `auto`, or HOST:PORT of a cluster; default RAY_ADDRESS where it is set, else a cluster of our own on this host.
    workers : int, optional
        Default one for each GPU, or where there is none one for each host.
    gpus_per_worker : float, optional
        Default 1 where the cluster has GPUs, else 0.
    cpus_per_worker : int, optional
        Default 1 beside a GPU, else the cores of a host divided by its workers.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    cpus_per_worker: int | None = None

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--workers", self.workers, 1),
            ("--gpus-per-worker", self.gpus_per_worker, 0),
            ("--cpus-per-worker", self.cpus_per_worker, 1),
        ):
            if value is not None and not (least <= value < math.inf):
                raise UsageError(f"{option} is {value}; it takes a number from {least}.")
        if self.address is not None:
            _check_address(self.address, "--address")

    @property
    def cluster(self) -> str | None:
        """The address of the cluster to connect to; None starts one. Raises `UsageError` for what RAY_ADDRESS holds."""
        if self.address is None and (found := os.environ.get("RAY_ADDRESS")):
            _check_address(found, "RAY_ADDRESS")
            return found
        return self.address


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The workers that a cluster has room for: how many now, how many asked for, and what each takes."""

    now: int
    asked: int
    gpus: float
    cpus: int


def _check_address(address: str, option: str) -> None:
    host, _, port = address.rpartition(":")
    if address == "auto" or (host and "/" not in host and port.isdecimal() and 0 < int(port) < 2**16):
        return
    if address.startswith("ray://"):
        raise UsageError(
            f"{option} {address} is that of a Ray client, which sees no shared cache. Run frozenhead on a host of the "
            "cluster with --address auto, or hand it in with `ray job submit`."
        )
    raise UsageError(f"{option} is {address!r}; give auto, or HOST:PORT of the cluster's head, such as 10.0.0.1:6379.")


def check_installed() -> None:
    """Raise `UsageError` where Ray is not installed."""
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise UsageError("Engine ray is not installed. Run: pip install 'frozenhead[ray]'")


@contextlib.contextmanager
def connected(options: RayOptions, note: Callable[[str], None] = lambda line: None) -> Iterator[Any]:  # noqa: ARG005
    """The module `ray`, connected; the connection ends with the block, and so does a cluster of our own.

    What Ray prints meanwhile, such as that a worker was killed and its task is tried again, goes to `note`.

    Raises
    ------
    UsageError
        Ray is not installed.
    FleetError
        The cluster cannot be reached, or is of another version; within 30 s.
    """
    check_installed()
    address = options.cluster
    with contextlib.ExitStack() as stack:
        _set_where_unset(_QUIET)
        given: dict[str, Any] = {"address": address}
        if address is None:
            _set_where_unset(_LOOPBACK)
            stack.enter_context(_environment(import_path()))
            given = {"address": "local", "include_dashboard": False, "_temp_dir": stack.enter_context(_short_folder())}
            given["num_cpus"] = max(len(usable_cores()), (options.workers or 1) * (options.cpus_per_worker or 1))
            if options.gpus_per_worker == 0:
                given["num_gpus"] = 0
        else:
            if _has_token():  # `ray start` asks for it where there is one; a cluster that does not ask takes it, too
                _set_where_unset({"RAY_AUTH_MODE": "token"})
            _try_address(address)
        import ray

        try:
            with _own_signals(), _hushed():
                ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
        except (Exception, SystemExit) as error:  # Ray raises Exception itself, and its own SIGTERM when it gives up
            raise FleetError(_unreachable(address, str(error))) from error
        stack.enter_context(contextlib.redirect_stdout(_Notes(note)))
        stack.callback(ray.shutdown)  # before standard output is given back: Ray prints to the last
        yield ray


class _Notes(io.TextIOBase):
    """Takes what Ray prints on standard output, which is for results, and passes on the beginning of each message."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def write(self, text: str, /) -> int:
        line = _COLOURS.sub("", text).strip().partition("\n")[0]
        if line:
            self._note(f"ray: {line:.{_LONGEST_NOTE}}")
        return len(text)


def _set_where_unset(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it connects; give it back."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Ray's C++ part writes to the descriptor of stderr until it has read how little it shall write."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder with a name short enough for what Ray makes in it."""
    folder = tempfile.gettempdir()
    place = folder if len(folder) <= _LONGEST_FOLDER or not Path("/tmp").is_dir() else "/tmp"  # noqa: S108
    return tempfile.TemporaryDirectory(prefix="fh-ray-", dir=place, ignore_cleanup_errors=True)


def _try_address(address: str) -> None:
    """Connect in a process of its own first: one that gets no answer is held for minutes, and then ended, by Ray."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
        except (OSError, ValueError) as error:
            raise FleetError(_unreachable(address, str(error))) from error
    try:
        tried = subprocess.run(  # noqa: S603 (our own words)
            [sys.executable, "-c", _TRY, address],
            check=False,
            capture_output=True,
            text=True,
            timeout=_TRY_SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        if _WANTS_TOKEN in (error.stderr or b""):
            raise FleetError(
                f"The Ray cluster at {address} asks for a token, and this host has none, or another.\n"
                "Copy ~/.ray/auth_token from the host of its head to every other, or set RAY_AUTH_TOKEN."
            ) from error
        raise FleetError(_unreachable(address, f"no answer within {_TRY_SECONDS:.0f} s")) from error
    if tried.returncode:
        lines = tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"]
        raise FleetError(_unreachable(address, lines[-1].partition("Error: ")[2] or lines[-1]))


def _has_token() -> bool:
    """Whether this user has a token for Ray, in one of the three places where Ray looks."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser().is_file()


def _unreachable(address: str | None, reason: str) -> str:
    if address is None:
        return f"Ray cannot start a cluster on this host: {reason}"
    return (
        f"The Ray cluster at {address} cannot be reached: {reason}\n"
        "Start it with `ray start --head` and name its HOST:PORT with --address; docs/cluster.md shows how. "
        "Without --address frozenhead starts one on this host."
    )


def crew_of(ray: Any, options: RayOptions) -> Crew:
    """How many workers, and with what, the cluster shall have.

    Raises
    ------
    FleetError
        No host has room for a single one.
    """
    hosts = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not hosts:
        raise FleetError("The Ray cluster has no host with CPUs. Start one with `ray start --address HOST:PORT`.")
    all_gpus = sum(int(host.get("GPU", 0)) for host in hosts)
    gpus = options.gpus_per_worker if options.gpus_per_worker is not None else float(all_gpus > 0)
    workers = options.workers or (max(1, int(all_gpus / gpus)) if gpus else len(hosts))
    cpus = options.cpus_per_worker
    if cpus is None:
        on_host = math.ceil(workers / len(hosts))
        cpus = 1 if gpus else max(1, int(min(host["CPU"] for host in hosts)) // on_host)
    room = sum(int(min(host["CPU"] / cpus, host.get("GPU", 0) / gpus if gpus else math.inf)) for host in hosts)
    if not room:
        most = max(hosts, key=lambda host: (host.get("GPU", 0), host["CPU"]))
        raise FleetError(
            f"No host of the Ray cluster has room for a worker of {cpus} CPUs and {gpus:g} GPUs; the largest has "
            f"{most['CPU']:g} and {most.get('GPU', 0):g}.\nLower --cpus-per-worker or --gpus-per-worker."
        )
    return Crew(now=min(room, workers), asked=workers, gpus=gpus, cpus=cpus)
