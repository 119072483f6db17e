#!/usr/bin/env python3
"""Measures a Docker API socket under many clients.

usage: docker_crowd.py lives NAME=SOCKET... [--clients 100] [--count 2000]     lives of containers, many at once
       docker_crowd.py open SOCKET [--count 500]          the server's memory for each connection that stays open
       docker_crowd.py half-close SOCKET [--count 2000]   attaches whose client closes its side at once
"""
import argparse
import socket
import statistics
import struct
import threading
import time

from docker_times import Docker, life


def server_of(path):
    """The pid of the process that listens on a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        return struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def memory(pid):
    """The resident memory of a process, in KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def lives(args):
    print(f"{args.count} lives of {args.clients} clients at once")
    for pair in args.sockets:
        name, path = pair.split("=", 1)
        life(Docker(path), args, {})
        before, errors, whole, lock, left = memory(server_of(path)), [], [], threading.Lock(), iter(range(args.count))

        def client():
            docker = Docker(path)
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                took = {}
                try:
                    life(docker, args, took)
                    whole.extend(took["whole life"])
                except Exception as error:
                    errors.append(error)
                    docker.close()

        began = time.perf_counter()
        clients = [threading.Thread(target=client) for _ in range(args.clients)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        seconds = time.perf_counter() - began
        whole.sort()
        p50, p99 = whole[len(whole) // 2], whole[int(len(whole) * 0.99)]
        print(f"{name:16s} {len(whole) / seconds:8.1f} lives/s  p50 {p50:8.1f} ms  p99 {p99:8.1f} ms ({p99 / p50:.1f}x)  "
              f"{len(errors)} errors  memory {before} -> {memory(server_of(path))} KiB")
        for error in errors[:3]:
            print("  ", repr(error))


def opened(args):
    path = args.sockets[0]
    docker, pid = Docker(path), server_of(path)
    host = {"NetworkMode": "none", "LogConfig": {"Type": "none"}}
    body = {"Image": args.image, "Cmd": ["sleep", "100000"], "HostConfig": host}
    container = docker.ask("POST", "/containers/create", body)["Id"]
    docker.ask("POST", f"/containers/{container}/start")
    for name, method, page in [
        ("attach", "POST", f"/containers/{container}/attach?stream=1&stdout=1&stderr=1"),
        ("wait", "POST", f"/containers/{container}/wait"),
        ("stats", "GET", f"/containers/{container}/stats"),
        ("events", "GET", "/events"),
    ]:
        before, all_of_them = memory(pid), []
        for _ in range(args.count):
            client = Docker(path)
            client.connect()
            client.sock.sendall(f"{method} /v1.41{page} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode())
            assert client.sock.recv(4096).startswith(b"HTTP/1.1"), name
            all_of_them.append(client)
        time.sleep(3)
        after = memory(pid)
        for client in all_of_them:
            client.sock.close()
        time.sleep(2)
        print(f"{name:8s} {args.count} open: {before} -> {after} KiB, {(after - before) / args.count:.1f} KiB each; {memory(pid)} KiB when they are closed")
    docker.ask("DELETE", f"/containers/{container}?force=1")


def half_close(args):
    path, docker = args.sockets[0], Docker(args.sockets[0])
    host = {"NetworkMode": "none", "LogConfig": {"Type": "none"}}
    script = "cat; head -c 100000 /dev/zero"
    body = {"Image": args.image, "Cmd": ["sh", "-c", script], "OpenStdin": True, "StdinOnce": True, "HostConfig": host}
    right, sizes = 0, []
    for number in range(args.count):
        container = docker.ask("POST", "/containers/create", body)["Id"]
        client = Docker(path)
        client.connect()
        page = f"/v1.41/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
        client.sock.sendall(f"POST {page} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode())
        client.sock.shutdown(socket.SHUT_WR)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.sock.recv(1)
        docker.ask("POST", f"/containers/{container}/start")
        size = 0
        while head := client.sock.recv(8, socket.MSG_WAITALL):
            length = struct.unpack(">BxxxL", head)[1]
            while length:
                part = client.sock.recv(length)
                length -= len(part)
                size += len(part)
        right += size == 100000
        sizes.append(size)
        docker.ask("DELETE", f"/containers/{container}?force=1")
    print(f"{right} of {args.count} right; the output had {statistics.median(sizes)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lives", "open", "half-close"])
    parser.add_argument("sockets", nargs="+")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--count", type=int)
    parser.add_argument("--image", default="busybox")
    parser.add_argument("--network", default="none")
    args = parser.parse_args()
    args.count = args.count or {"lives": 2000, "open": 500, "half-close": 2000}[args.what]
    {"lives": lives, "open": opened, "half-close": half_close}[args.what](args)


if __name__ == "__main__":
    main()
