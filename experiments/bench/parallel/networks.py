# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: network namespaces (Linux, root) joined by a link of limited bandwidth, which may lose packets."""

import contextlib
import os
import shutil
import subprocess

PORT = 29400
LINK = "eth0"  # the name of its end of the link on each host


def missing():
    """What two hosts would need and this machine does not have, or None."""
    if os.geteuid() != 0:
        return "root"
    for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"{program} (Debian: {package})"
    tried = subprocess.run(["ip", "netns", "add", f"klab-try-{os.getpid()}"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"network namespaces ({tried.stderr.strip()})"
    call("ip", "netns", "del", f"klab-try-{os.getpid()}")
    return None


def call(*words):
    subprocess.run(words, check=True, capture_output=True, text=True)


class Hosts:
    """Runs a command as rank 0 on the first and as rank 1 on the second host."""

    def __init__(self, names):
        self.names = names

    def start(self, command, rank, environment=None, **options):
        ranks = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "10.83.0.1", "MASTER_PORT": str(PORT)}
        return subprocess.Popen(["ip", "netns", "exec", self.names[rank], *map(str, command)], text=True,
                                env={**(os.environ if environment is None else environment), **ranks}, **options)

    def run(self, command, seconds=600):
        """Standard output of rank 0; fails if a rank does."""
        ranks = [self.start(command, rank, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in range(2)]
        outputs = [rank.communicate(timeout=seconds) for rank in ranks]
        for rank, (process, (_, err)) in enumerate(zip(ranks, outputs)):
            if process.returncode != 0:
                raise RuntimeError(f"rank {rank} ended with {process.returncode}: {err}")
        return outputs[0][0]


@contextlib.contextmanager
def two_hosts(megabits=None, loss_percent=0):
    """Hosts whose link has this bandwidth in each direction (None: that of memory) and loses this share of packets."""
    names = [f"klab-{os.getpid()}-{rank}" for rank in range(2)]
    made = []
    try:
        for name in names:
            call("ip", "netns", "add", name)
            made.append(name)
        call("ip", "link", "add", LINK, "netns", names[0], "type", "veth", "peer", "name", LINK, "netns", names[1])
        for rank, name in enumerate(names):
            call("ip", "-n", name, "addr", "add", f"10.83.0.{rank + 1}/24", "dev", LINK)
            for device in ("lo", LINK):
                call("ip", "-n", name, "link", "set", device, "up")
            if megabits:
                call("tc", "-n", name, "qdisc", "add", "dev", LINK, "root", "tbf", "rate", f"{megabits}mbit", "burst", "256kb",
                     "latency", "50ms")
            if loss_percent:
                inside = ["ip", "netns", "exec", name, "nft"]
                call(*inside, "add table ip loss")
                call(*inside, "add chain ip loss arriving { type filter hook input priority 0; }")
                call(*inside, f"add rule ip loss arriving iifname {LINK} numgen random mod 1000 < {round(10 * loss_percent)} drop")
        yield Hosts(names)
    finally:
        for name in made:
            call("ip", "netns", "del", name)
