"""What `hf-clipselect explore` does: serve a page on which a person looks at a selection and decides about rows."""

import argparse
import os
import socket
import sys
import threading
from ipaddress import ip_address
from pathlib import Path

from ..errors import InputError
from ..hub.space import push_space
from ..results.explorer import DecisionLog, Explored, build_app, check_gradio, launch_options, open_selection
from ..runtime.terminal import printable
from ..runtime.words import cut
from .given_selection import check_repo


def run_command(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C, or push a Space that shows it.

    Args:
        arguments (`argparse.Namespace`): Of the parser of this command, see `command_parsers`.

    Raises:
        InputError: There is no such selection or dataset, the decisions can't be read, the port is taken, Gradio is
            not installed, or the Space can't be pushed.
        PushError: The Hub can't be reached, or fails time after time.
    """
    check_gradio()
    check_repo(arguments.selection)
    if arguments.hub_space_id is not None:
        _push_space(arguments)
        return
    host = arguments.host.strip("[]")
    is_local = _is_this_machine(host)
    explored = open_selection(
        arguments.selection,
        revision=arguments.revision,
        dataset_name=arguments.dataset_name,
        dataset_config_name=arguments.dataset_config_name,
        train_split_name=arguments.train_split_name,
        allow_outside_files=arguments.allow_outside_files,
    )
    log = DecisionLog(
        _decisions_path(explored, arguments.decisions),
        reviewer=arguments.reviewer,
        start=explored.applied_decisions(),
    )
    log.check_writable()
    if arguments.dataset_name and explored.images.missing:
        raise InputError(explored.images.missing)
    app = build_app(explored, log)
    _go_past_proxies(host)
    try:
        _, url, _ = app.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=arguments.port,
            prevent_thread_lock=True,
            **launch_options(own_name=host if is_local else None),
        )
    except OSError as error:
        raise InputError(f"--host {host} --port {arguments.port} can't be served: {error}") from None
    try:
        _tell(f"{printable(explored.place)} is shown at {url} until Ctrl-C; decisions: {printable(log.path)}")
        if not is_local:
            _tell("Anybody on the network who can reach this address can see the images and decide about rows.")
        sys.stdout.flush()
        # After the address, since a large dataset is not loaded soon.
        if explored.images.missing:
            by_name = " Or name the dataset with --dataset_name." if explored.result.source.image_column else ""
            _tell(f"images: {printable(explored.images.missing)}{by_name}")
            sys.stdout.flush()
        threading.Event().wait()
    finally:
        app.close(verbose=False)


def _go_past_proxies(host: str) -> None:
    """Gradio asks its own server whether it is there, which a proxy of the network can't tell."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    hosts = ",".join(filter(None, [known, "localhost", "127.0.0.1", host]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = hosts


def _is_this_machine(host: str) -> bool:
    """Whether an address is reached from this machine alone; raises `InputError` for one that it does not have."""
    reason = "it is no name of a machine"
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: of what can't be a name
        found, reason = [], getattr(error, "strerror", None) or reason
    own = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as served:
                served.bind(address)
            own.append(ip_address(address[0]))
        except OSError as error:
            reason = error.strerror or reason
    if not own:
        raise InputError(
            f"--host {cut(repr(host), 100)} can't be served: {reason}. Give an address of this machine: 127.0.0.1 for "
            "this machine alone, or 0.0.0.0 for all of its addresses."
        )
    return all(address.is_loopback for address in own)


def _push_space(arguments: argparse.Namespace) -> None:
    pushed = push_space(
        arguments.hub_space_id, arguments.selection, revision=arguments.revision, private=arguments.hub_private_repo
    )
    state = "shows" if pushed.is_new else "already shows"
    _tell(f"{pushed.url.partition('/commit/')[0]} {state} {printable(arguments.selection)}, once the Hub has built it")


def _decisions_path(explored: Explored, given: str | None) -> Path:
    if given is not None:
        return Path(given)
    return (explored.folder or Path(".")) / "decisions.parquet"


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
