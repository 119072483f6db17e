#!/usr/bin/env python3
"""Measures what a functions host does with a Docker API socket, side by side.

usage: docker_times.py NAME=SOCKET... [--runs N] [--image IMAGE] [--network none|bridge]

The sockets take turns in every round, so that a busy host is equally busy for all. Prints medians in milliseconds; after those of
the second and later sockets, how many times as long as the first one's they are.
"""
import argparse
import http.client
import json
import socket
import statistics
import time


class Docker(http.client.HTTPConnection):
    """One connection to a socket."""

    def __init__(self, path):
        super().__init__("docker", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)

    def ask(self, method, page, body=None, expected=(200, 201, 204)):
        text = None if body is None else json.dumps(body)
        self.request(method, "/v1.41" + page, text, {} if text is None else {"Content-Type": "application/json"})
        answer = self.getresponse()
        said = answer.read()
        assert answer.status in expected, (method, page, answer.status, said)
        return json.loads(said) if said else None

    def attach(self, container):
        """The output of a container, whose connection is its own."""
        own = Docker(self.path)
        own.connect()
        page = f"/v1.41/containers/{container}/attach?stream=1&stdout=1&stderr=1"
        own.sock.sendall(f"POST {page} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = own.sock.recv(1)
            assert byte, head
            head += byte
        assert head.startswith(b"HTTP/1.1 101"), head
        return own.sock


def life(docker, args, took):
    """From the create until it is removed."""
    def step(name, call):
        began = time.perf_counter()
        said = call()
        took.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
        return said

    host = {"Init": True, "Memory": 128 << 20, "NetworkMode": args.network, "LogConfig": {"Type": "none"}}
    body = {"Image": args.image, "Cmd": ["echo", "hello"], "AttachStdout": True, "AttachStderr": True, "HostConfig": host}
    began = time.perf_counter()
    container = step("create", lambda: docker.ask("POST", "/containers/create", body))["Id"]
    output = step("attach", lambda: docker.attach(container))
    step("start", lambda: docker.ask("POST", f"/containers/{container}/start"))
    said = step("wait", lambda: docker.ask("POST", f"/containers/{container}/wait"))
    assert said["StatusCode"] == 0, said
    text = b""
    while part := output.recv(4096):
        text += part
    assert text.endswith(b"hello\n"), text
    step("remove", lambda: docker.ask("DELETE", f"/containers/{container}?force=1"))
    took.setdefault("whole life", []).append((time.perf_counter() - began) * 1e3)


def idle(docker, container, took):
    """What a container that waits for its next call costs."""
    for name, method, page in [
        ("pause", "POST", f"/containers/{container}/pause"),
        ("unpause", "POST", f"/containers/{container}/unpause"),
        ("inspect", "GET", f"/containers/{container}/json"),
        ("list", "GET", "/containers/json?all=1"),
    ]:
        began = time.perf_counter()
        docker.ask(method, page)
        took.setdefault(name, []).append((time.perf_counter() - began) * 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sockets", nargs="+", metavar="NAME=SOCKET")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--image", default="busybox")
    parser.add_argument("--network", default="none")
    args = parser.parse_args()
    sides = []
    for pair in args.sockets:
        name, path = pair.split("=", 1)
        docker = Docker(path)
        host = {"NetworkMode": "none", "LogConfig": {"Type": "none"}}
        body = {"Image": args.image, "Cmd": ["sleep", "100000"], "HostConfig": host}
        lasting = docker.ask("POST", "/containers/create", body)["Id"]
        docker.ask("POST", f"/containers/{lasting}/start")
        sides.append((name, docker, lasting, {}))
    try:
        for turn in range(args.runs + 1):
            for _, docker, lasting, took in sides:
                # The first round warms up.
                into = took if turn else {}
                life(docker, args, into)
                idle(docker, lasting, into)
    finally:
        for _, docker, lasting, _ in sides:
            docker.ask("DELETE", f"/containers/{lasting}?force=1", expected=(204, 404))
    print(f"{'median of ' + str(args.runs) + ', ms':18s}" + "".join(f"{name:>24s}" for name, *_ in sides))
    for step in sides[0][3]:
        medians = [statistics.median(took[step]) for _, _, _, took in sides]
        columns = [f"{medians[0]:24.2f}"]
        columns += [f"{median:8.2f} ({median / medians[0]:4.1f}x)".rjust(24) for median in medians[1:]]
        print(f"{step:18s}" + "".join(columns))


if __name__ == "__main__":
    main()
