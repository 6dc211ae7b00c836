# SPDX-License-Identifier: Apache-2.0
"""Times functions alternately, so that slow phases of the machine affect all of them, and reports medians."""

import gc
import statistics
import time

import torch


class Race:
    """A set of named functions without arguments, which are timed alternately."""

    def __init__(self, rounds, slow_seconds=1.0, slow_rounds=3):
        self.rounds, self.slow_seconds, self.slow_rounds = rounds, slow_seconds, slow_rounds
        self.contestants = {}

    def add(self, name, function):
        self.contestants[name] = function

    def run(self):
        """{name: median milliseconds}, after one warm-up each. Functions slower than slow_seconds run slow_rounds times."""
        first = {name: _seconds(function) for name, function in self.contestants.items()}
        slow = {name for name, seconds in first.items() if seconds > self.slow_seconds}
        times = {name: [] for name in self.contestants}
        gc.disable()
        for turn in range(self.rounds):
            for name, function in self.contestants.items():
                if turn < (self.slow_rounds if name in slow else self.rounds):
                    times[name].append(_seconds(function))
        gc.enable()
        return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Ceilings:
    """The machine's ceilings, timed in the same race: two matrix products and two memory streams."""

    SGEMM = "SGEMM [4096,128]x[128,128]"
    SQUARE = "SGEMM 1024^3"
    COPY = "memory copy"
    UPDATE = "memory read-modify-write"

    def __init__(self, megabytes=640):
        self.flops = {self.SGEMM: 2 * 4096 * 128 * 128, self.SQUARE: 2 * 1024**3}
        self.repeats = {self.SGEMM: 50, self.SQUARE: 4}
        self.operands = {self.SGEMM: (torch.randn(4096, 128), torch.randn(128, 128), torch.empty(4096, 128)),
                         self.SQUARE: (torch.randn(1024, 1024), torch.randn(1024, 1024), torch.empty(1024, 1024))}
        self.source, self.target = torch.ones(megabytes * 2**18), torch.ones(megabytes * 2**18)
        self.bytes = 2 * self.source.nbytes  # read and written

    def join(self, race):
        for name in self.operands:
            race.add(name, lambda name=name: self._multiply(name))
        race.add(self.COPY, lambda: self.target.copy_(self.source))
        race.add(self.UPDATE, lambda: self.target.mul_(0.9999))

    def _multiply(self, name):
        a, b, out = self.operands[name]
        for _ in range(self.repeats[name]):
            torch.mm(a, b, out=out)

    def gflops(self, name, medians):
        return self.flops[name] * self.repeats[name] / medians[name] / 1e6
