#!/usr/bin/env python3
"""What a program that uses docker-py does with a server: docker_client.py SOCKET. Prints one line for each thing that works."""
import io
import struct
import sys
import time

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import Ulimit

client = docker.DockerClient(base_url="unix://" + sys.argv[1], timeout=60)
none = {"network_mode": "none"}


def works(what):
    print(what, flush=True)


def refused(call, status):
    try:
        call()
    except APIError as error:
        assert error.response.status_code == status, error
        return error.explanation
    raise AssertionError(f"it was not refused with {status}")


assert client.ping()
assert client.version()["ApiVersion"] == "1.51"
assert client.info()["Containers"] == 0
works("ping, version, info")

image = client.images.get("busybox")
assert image.tags == ["busybox:latest"], image.tags
assert image.tag("py/copy", "v1")
assert client.images.get("py/copy:v1").id == image.id
assert [i.id for i in client.images.list(name="py/copy")] == [image.id]
archive = b"".join(client.images.get("py/copy:v1").save(named="py/copy:v1"))
client.images.remove("py/copy:v1")
assert client.images.load(archive)[0].id == image.id
client.images.remove("py/copy:v1")
try:
    client.images.get("py/copy:v1")
    raise AssertionError("it is still there")
except ImageNotFound:
    pass
works("images: get, tag, list, save, load, remove")

began = time.time() - 1
container = client.containers.create(
    "busybox", ["sh", "-c", "cat; echo bad >&2; exit 3"], name="fed", stdin_open=True, mem_limit="64m", pids_limit=32,
    nano_cpus=500_000_000, ulimits=[Ulimit(name="nofile", soft=64, hard=128)], environment={"A": "1"}, labels={"by": "py"},
    cap_drop=["ALL"], security_opt=["no-new-privileges"], user="1000:1000", init=True, tmpfs={"/tmp": "size=1m"}, **none)
assert container.status == "created" and len(container.id) == 64
sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
sock._sock.sendall(b"hello")
sock._sock.shutdown(1)
container.start()
out = {1: b"", 2: b""}
while head := sock.read(8):
    kind, length = struct.unpack(">BxxxL", head)
    out[kind] += sock.read(length)
assert out == {1: b"hello", 2: b"bad\n"}, out
assert container.wait()["StatusCode"] == 3
container.reload()
assert container.attrs["HostConfig"]["Memory"] == 64 << 20
assert container.attrs["HostConfig"]["NanoCpus"] == 500_000_000
container.remove()
works("a function: create, attach, input and its end, start, wait, remove")

container = client.containers.run("busybox", ["sleep", "1000"], name="lasts", detach=True, init=True, labels={"by": "py"}, **none)
assert [c.name for c in client.containers.list(filters={"label": "by=py"})] == ["lasts"]
assert "is already in use" in refused(lambda: client.containers.create("busybox", name="lasts", **none), 409)
container.pause()
container.reload()
assert container.status == "paused"
container.unpause()
assert any("sleep 1000" in " ".join(process) for process in container.top()["Processes"])
usage = container.stats(stream=False)
assert usage["memory_stats"]["usage"] > 0 and usage["pids_stats"]["current"] >= 2, usage
container.rename("renamed")
assert client.containers.get("renamed").id == container.id
assert "HOSTNAME" not in container.attrs["Config"]["Env"]
container.restart(timeout=0)
container.reload()
assert container.status == "running"
# Until its init handles signals, the kernel drops them.
while not any("sleep 1000" in " ".join(process) for process in container.top()["Processes"]):
    time.sleep(0.01)
container.kill("TERM")
assert container.wait()["StatusCode"] == 143
container.start()
container.stop(timeout=0)
container.reload()
assert container.status == "exited" and container.attrs["State"]["ExitCode"] in (137, 143), container.attrs["State"]
container.remove()
works("a service: run, list, pause, unpause, top, stats, rename, restart, kill, stop, remove")

gone = client.containers.run("busybox", ["true"], name="gone", detach=True, auto_remove=True, **none)
gone.wait(condition="removed")
try:
    client.containers.get("gone")
    raise AssertionError("it is still there")
except NotFound:
    pass
assert "no-such-image" in refused(lambda: client.containers.create("no-such-image", **none), 404)
assert "Privileged is not served" in refused(lambda: client.containers.create("busybox", privileged=True, **none), 400)
done = client.containers.create("busybox", ["true"], name="done", **none)
done.start()
done.wait()
assert client.containers.prune()["ContainersDeleted"] == [done.id]
works("--rm, refusals, prune")

actions = [event["Action"] for event in client.events(since=began, until=time.time(), decode=True, filters={"type": "container"})]
for action in ["create", "start", "die", "destroy", "pause", "unpause", "rename", "kill"]:
    assert action in actions, (action, actions)
works("events with replay")
