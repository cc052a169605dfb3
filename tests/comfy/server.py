"""A running ComfyUI server: prompts through its real interface, and every message of it."""

import contextlib
import ctypes
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import websocket

from tests.comfy.installation import Installation, child_environment
from tests.ports import free_port
from tools.comfyui import DIRECT, START_SECONDS, server_command, wait_until_ready

PROMPT_SECONDS = 300
PR_SET_PDEATHSIG = 1  # linux/prctl.h
IMAGE_EVENT, IMAGE_WITH_METADATA_EVENT = 1, 4
COLOURS = re.compile("\\x1b\\[[0-9;]*m")
ENDS = ("execution_success", "execution_error", "execution_interrupted")


class PromptError(AssertionError):
    """A prompt that was refused, failed or was interrupted; the fields are ComfyUI's own.

    `kind` is "refused", "execution_error" or "execution_interrupted". A refused prompt has
    `node_errors`; one that failed has the node's id and type, the exception and its traceback.
    """

    def __init__(self, kind: str, details: dict[str, Any]):
        self.kind = kind
        self.details = details
        self.node_errors = details.get("node_errors") or {}
        self.node_id = details.get("node_id")
        self.node_type = details.get("node_type")
        self.exception_type = details.get("exception_type")
        self.message = details.get("exception_message", "")
        self.traceback = "".join(details.get("traceback") or [])
        if kind == "refused":
            said = json.dumps(details, indent=1, ensure_ascii=False)
        else:
            said = (
                f"node {self.node_id} ({self.node_type}): {self.exception_type}: {self.message}\n"
                f"{self.traceback}"
            )
        super().__init__(f"{kind}: {said}")


@dataclass(frozen=True)
class Preview:
    """A picture that a node sent while it worked: JPEG or PNG bytes, and whose it is."""

    image: bytes
    metadata: dict[str, Any]


@dataclass(frozen=True)
class History:
    """What became of a prompt.

    `outputs` are ComfyUI's, by node id; `messages` are the websocket's, in order; `cached` and
    `executed` are node ids.
    """

    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    messages: list[dict[str, Any]]
    previews: list[Preview]
    seconds: float
    base: Path

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The data of the messages of one type, such as "progress"."""
        return [message["data"] for message in self.messages if message["type"] == kind]

    @property
    def cached(self) -> set[str]:
        return {node for data in self.of_type("execution_cached") for node in data["nodes"]}

    @property
    def executed(self) -> list[str]:
        return [data["node"] for data in self.of_type("executing") if data["node"]]

    @property
    def progress(self) -> list[tuple[str, int, int]]:
        """(node, value, maximum) of every step that was reported."""
        return [(data["node"], data["value"], data["max"]) for data in self.of_type("progress")]

    def files(self, node: str | None = None) -> list[Path]:
        """The files that output nodes (or one of them) wrote, on disk."""
        chosen = self.outputs if node is None else {node: self.outputs.get(str(node), {})}
        return [
            self.base / entry["type"] / entry.get("subfolder", "") / entry["filename"]
            for output in chosen.values()
            for entries in output.values()
            if isinstance(entries, list)
            for entry in entries
            if isinstance(entry, dict) and "filename" in entry
        ]


@dataclass
class Run:
    """A prompt on its way; made by `Server.submit`."""

    server: "Server"
    prompt_id: str
    socket: websocket.WebSocket
    started: float
    messages: list[dict[str, Any]] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)

    def until(self, *kinds: str, timeout: float = PROMPT_SECONDS) -> dict[str, Any]:
        """Read messages up to the next one of these types (its end in any case), and return it."""
        end = time.monotonic() + timeout
        while True:
            received = self._receive(end)
            if isinstance(received, bytes):
                self._keep_preview(received)
                continue
            message = json.loads(received)
            data = message.get("data")
            if isinstance(data, dict) and data.get("prompt_id", self.prompt_id) != self.prompt_id:
                continue
            self.messages.append(message)
            if message["type"] in (*kinds, *ENDS):
                return message

    def finish(self, timeout: float = PROMPT_SECONDS) -> History:
        """Wait for the end; PromptError unless it succeeded."""
        try:
            end = self.until(timeout=timeout)
        finally:
            self.socket.close()
        if end["type"] != "execution_success":
            raise PromptError(end["type"], end["data"])
        return History(
            self.prompt_id,
            self._outputs(),
            self.messages,
            self.previews,
            time.monotonic() - self.started,
            self.server.base,
        )

    def _receive(self, end: float) -> str | bytes:
        while True:
            assert self.server.is_running, f"the server ended:\n{self.server.log_text()[-4000:]}"
            left = end - time.monotonic()
            assert left > 0, (
                f"prompt {self.prompt_id} is not done in time; the last messages are "
                f"{self.messages[-5:]} and the log ends\n{self.server.log_text()[-4000:]}"
            )
            self.socket.settimeout(min(left, 5))
            try:
                return self.socket.recv()
            except websocket.WebSocketTimeoutException:
                continue

    def _keep_preview(self, received: bytes) -> None:
        (event,) = struct.unpack(">I", received[:4])
        if event == IMAGE_EVENT:  # four bytes more say JPEG or PNG
            self.previews.append(Preview(received[8:], {}))
        elif event == IMAGE_WITH_METADATA_EVENT:
            (length,) = struct.unpack(">I", received[4:8])
            metadata = json.loads(received[8 : 8 + length])
            self.previews.append(Preview(received[8 + length :], metadata))

    def _outputs(self) -> dict[str, dict[str, Any]]:
        """The history is written a moment after the last message."""
        for _ in range(100):
            found = self.server.get_json(f"/history/{self.prompt_id}")
            if self.prompt_id in found:
                return found[self.prompt_id]["outputs"]
            time.sleep(0.05)
        raise AssertionError(f"prompt {self.prompt_id} has ended and is not in the history")


class Server:
    """A server of one installation, in a process of its own, with more in its `environment`."""

    def __init__(self, installation: Installation, **environment: str):
        self.installation = installation
        self.environment = environment
        self.base = installation.base
        self.version = installation.version
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.base / "server.log"
        self.start_seconds = 0.0

    def start(self) -> None:
        """Start it and wait until it answers."""
        frontend = self.installation.frontend
        command = server_command(
            self.installation.comfyui,
            self.installation.python,
            self.base,
            port=self.port,
            extra=[
                "--disable-api-nodes",
                *(["--front-end-root", str(frontend)] if frontend else []),
            ],
        )
        began = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.base,
                env={**child_environment(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_the_tests if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        if not wait_until_ready(self.url, lambda: self.is_running, START_SECONDS):
            self.stop()
            raise AssertionError(f"the server did not start:\n{self.log_text()[-8000:]}")
        self.start_seconds = time.monotonic() - began

    def stop(self) -> None:
        """End it and whatever it started: its own group, by its id."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def log_text(self) -> str:
        """All that the server said so far, without colours."""
        return COLOURS.sub("", self.log.read_text(encoding="utf-8", errors="replace"))

    def rss_bytes(self) -> int:
        """Memory of the process that is in RAM now."""
        return psutil.Process(self.process.pid).memory_info().rss

    def get_json(self, path: str) -> Any:
        with DIRECT.open(self.url + path, timeout=60) as response:
            return json.load(response)

    def post_json(self, path: str, body: Any) -> Any:
        """The answer, or None where it is empty."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with DIRECT.open(request, timeout=60) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """What the server says about every node type, or about one."""
        if node is None:
            return self.get_json("/object_info")
        return self.get_json(f"/object_info/{node}")[node]

    def submit(self, prompt: dict[str, Any], workflow: dict[str, Any] | None = None) -> Run:
        """Queue an API prompt and return at once; PromptError where it is refused.

        `workflow` is what the browser sends along, to be stored in the files that are written.
        """
        client = uuid.uuid4().hex
        connection = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=60
        )
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        connection.send(json.dumps(flags))
        body: dict[str, Any] = {"prompt": prompt, "client_id": client}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        started = time.monotonic()
        try:
            answer = self.post_json("/prompt", body)
        except urllib.error.HTTPError as error:
            connection.close()
            said = error.read().decode("utf-8", errors="replace")
            assert error.code == 400, f"/prompt answers {error.code}: {said}"
            raise PromptError("refused", json.loads(said)) from None
        run = Run(self, answer["prompt_id"], connection, started)
        if answer.get("node_errors"):  # another output node of the prompt is valid and is run
            self.interrupt()
            run.until()
            connection.close()
            raise PromptError("refused", answer)
        return run

    def run_prompt(
        self,
        prompt: dict[str, Any],
        *,
        timeout: float = PROMPT_SECONDS,
        workflow: dict[str, Any] | None = None,
    ) -> History:
        """Run an API prompt to its end; PromptError (an AssertionError) unless it succeeds."""
        return self.submit(prompt, workflow).finish(timeout)

    def interrupt(self) -> None:
        """What the stop button does."""
        self.post_json("/interrupt", {})

    def queue_state(self) -> dict[str, list[Any]]:
        """`queue_running` and `queue_pending`."""
        return self.get_json("/queue")

    def wait_until_idle(self, timeout: float = 60) -> None:
        """Wait until nothing runs and nothing is queued."""
        end = time.monotonic() + timeout
        while any(self.queue_state().values()):
            assert time.monotonic() < end, f"still busy: {self.queue_state()}"
            time.sleep(0.05)

    def free_memory(self, *, unload_models: bool = True, free_cache: bool = True) -> None:
        """What "unload models and clear the cache" does; it happens when the server is idle."""
        self.post_json("/free", {"unload_models": unload_models, "free_memory": free_cache})

    def upload_image(self, file: Path, name: str | None = None) -> str:
        """Put a file into the input folder through the server; the name to give to LoadImage."""
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
            f'filename="{name or file.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        overwrite = (
            f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue'
            f"\r\n--{boundary}--\r\n"
        )
        request = urllib.request.Request(
            f"{self.url}/upload/image",
            head.encode() + file.read_bytes() + overwrite.encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        with DIRECT.open(request, timeout=60) as response:
            answer = json.load(response)
        return "/".join(filter(None, (answer.get("subfolder"), answer["name"])))


def _end_with_the_tests() -> None:
    """Linux ends the server with this process, whatever ends that."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
