# SPDX-License-Identifier: Apache-2.0
"""Reads SASS, follows the path of each warp of a block through it, and times that path.

The path. Warp interprets the integer, predicate and control instructions of one warp for all 32 lanes, from the bytes of
the kernel's parameters and the thread and block numbers. So branches, trip counts, divergence (both sides run, one after
the other, until BSYNC) and shared memory addresses are those of the launch. Loaded numbers and floating point results are
unknown (None), and an unknown predicate lets its instruction run. A branch on an unknown value is decided by policy and
counted as undecided: not into a side that calls a subroutine before its next branch (those are the slow paths of division
and square root), else the fall-through. Waits on an mbarrier succeed at once. Opcodes without an interpretation give
unknown results and are listed.

The time. Clock issues the path in order: an instruction issues no earlier than the stall count after the one before it,
when the scoreboards of its wait mask are clear and its execution unit is free. A variable-latency instruction clears its
scoreboard after the latency of its class (LATENCY); units are busy for INTERVAL cycles, shared memory for one cycle per
pass, and bank conflicts add passes. alone() times one warp that never waits for others; together() times all warps of a
block, with four schedulers, shared units and named barriers (mbarriers between warps are not modelled).
"""

import collections
import dataclasses
import heapq
import math
import re
import struct

LANES = 32
FULL = 0xffffffff
SCHEDULERS = 4
STEP_LIMIT = 300_000  # per warp

# Cycles from issue to the result, by class; an instruction of another class has no scoreboard or clears it after
# OTHER_LATENCY. Shared memory, shuffles and MUFU follow published microbenchmarks of the A100 and H100; a global load is
# one that misses the L2 cache of a busy device. They are assumptions, not measurements of these kernels.
LATENCY = {"shared": 30, "ldsm": 33, "local": 40, "global": 600, "async": 600, "mufu": 30, "conversion": 25, "shuffle": 25,
           "constant": 30, "uniform": 12, "barrier": 20}
OTHER_LATENCY = 20
READ_LATENCY = 12  # until a memory instruction has read its registers
BARRIER = 20       # BAR.SYNC, from the last arrival
WGMMA_LATENCY = 18
# Cycles that an instruction keeps a unit of its scheduler busy (shared: of the whole multiprocessor, per pass). From the
# throughputs of the CUDA programming guide for compute capability 9.0: 16 lanes of integer arithmetic per scheduler, in one
# unit for multiplication and one for the rest, which also compares and packs floats.
INTERVAL = {"mufu": 8, "conversion": 8, "integer": 2, "multiply": 2, "float": 1, "matrix": 4, "shuffle": 2, "global": 4, "async": 4,
            "local": 4}
UNIT_OF = {"IMAD": "multiply", "FSETP": "integer", "FSEL": "integer", "FMNMX": "integer", "F2FP": "integer", "I2FP": "integer"}

CLASSES = ("matrix", "shared", "ldsm", "global", "async", "local", "mufu", "shuffle", "conversion", "integer", "float", "constant",
           "uniform", "barrier", "control", "other")
_CLASS_OF = {
    "matrix": "HMMA HGMMA IMMA QGMMA WARPGROUP", "shared": "LDS STS ATOMS", "ldsm": "LDSM STSM MOVM",
    "global": "LDG STG LD ST RED ATOM ATOMG", "async": "LDGSTS LDGDEPBAR UBLKCP UTMALDG UTMASTG UBLKRED SYNCS UTMACMDFLUSH",
    "local": "LDL STL", "mufu": "MUFU", "shuffle": "SHFL VOTE VOTEU REDUX ELECT R2UR MATCH",
    "conversion": "I2F F2I F2F I2I FRND", "constant": "LDC ULDC S2R S2UR CS2R B2R",
    "integer": "IADD3 IMAD LEA LOP3 SHF ISETP SEL PRMT IABS VIADD VIMNMX VIADDMNMX MOV PLOP3 P2R R2P POPC FLO BREV BMSK IMNMX",
    "float": "FADD FMUL FFMA FSETP FSEL FMNMX F2FP HADD2 HMUL2 HFMA2 HSETP2 I2FP F2IP FCHK FSET",
    "barrier": "BAR MEMBAR DEPBAR ERRBAR FENCE CCTL WARPSYNC",
    "control": "BRA BRX EXIT CALL RET BSSY BSYNC BREAK NOP YIELD ENDCOLLECTIVE NANOSLEEP USETMAXREG BPT",
}
CLASS_OF = {name: kind for kind, names in _CLASS_OF.items() for name in names.split()}


def class_of(opcode):
    name = opcode.split(".")[0]
    if name in CLASS_OF:
        return CLASS_OF[name]
    return "uniform" if name.startswith("U") else "other"


# --- Parsing ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Instruction:
    address: int
    guard: str | None     # predicate, as written: P0, !P0, UP1
    opcode: str
    operands: list
    target: str | None    # label of a branch
    stall: int = 1
    yields: int = 0
    write_barrier: int = 7  # scoreboard cleared when the result is there; 7: none
    read_barrier: int = 7   # scoreboard cleared when the operands are read
    wait: int = 0           # mask of scoreboards
    tables: list = dataclasses.field(default_factory=list)  # labels of an indirect branch

    def __post_init__(self):
        self.name = self.opcode.split(".")[0]
        self.modifiers = self.opcode.split(".")[1:]
        self.kind = class_of(self.opcode)


@dataclasses.dataclass
class Kernel:
    name: str
    code: list = dataclasses.field(default_factory=list)
    labels: dict = dataclasses.field(default_factory=dict)  # label -> index of an instruction
    jump_tables: bytes = b""                                # constant bank 2

    def finish(self):
        self.index = {one.address: n for n, one in enumerate(self.code)}

    def target(self, one):
        return self.labels[one.target]


def control_fields(high):
    """The control bits from the upper 64 bits of an instruction: stall, yield, write and read barrier, wait mask."""
    bits = high >> 41  # bit 105 of the instruction
    return bits & 15, bits >> 4 & 1, bits >> 5 & 7, bits >> 8 & 7, bits >> 11 & 63


def split_operands(text):
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    return [part for part in [*parts, current.strip()] if part]


_LINE = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;\s*/\* 0x([0-9a-f]{16}) \*/")
_HIGH = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/\s*$")
_LABEL = re.compile(r"(\.L_\w+|\$\w+):\s*$")
_SECTION = re.compile(r"\s+\.section\s+\.(text|nv\.constant2)\.([^,\s]+)")


def parse(text):
    """The kernels of the output of `nvdisasm -hex`, by mangled name."""
    kernels, kernel, section = {}, None, None
    for line in text.splitlines():
        if match := _SECTION.match(line):
            section = match[1]
            kernel = kernels.setdefault(match[2], Kernel(match[2]))
        elif line.lstrip().startswith(".section"):
            section = None
        elif section == "nv.constant2" and ".byte" in line:
            kernel.jump_tables += bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})\b", line.split(".byte")[1]))
        elif section == "text":
            parse_line(kernel, line)
    kernels = {name: kernel for name, kernel in kernels.items() if kernel.code}
    for kernel in kernels.values():
        kernel.finish()
    return kernels


def parse_line(kernel, line):
    if match := _LINE.match(line):
        address, guard, opcode, operands, _ = match.groups()
        targets = re.findall(r"`\(([^)]+)\)", operands)
        tables = re.search(r'BRANCH_TARGETS ([^"]*)"', operands)
        operands = re.sub(r"\(\*.*?\*\)", "", operands)
        kernel.code.append(Instruction(int(address, 16), guard, opcode, split_operands(operands), targets[0] if targets else None,
                                       tables=tables[1].split(",") if tables else []))
    elif (match := _HIGH.match(line)) and kernel.code:
        one = kernel.code[-1]
        one.stall, one.yields, one.write_barrier, one.read_barrier, one.wait = control_fields(int(match[1], 16))
    elif match := _LABEL.match(line):
        kernel.labels[match[1]] = len(kernel.code)


# --- Loops ------------------------------------------------------------------------------------------------------------


def successors(kernel, n):
    """Indices of the instructions that may follow instruction n. A call is followed by its return."""
    one = kernel.code[n]
    after = [n + 1] if n + 1 < len(kernel.code) else []
    always = one.guard is None and not any(re.fullmatch(r"!?U?P\d", operand) for operand in one.operands)
    if one.name in ("EXIT", "RET", "BPT"):
        return after if one.guard else []
    if one.name == "BRX":
        return sorted({kernel.labels[label.strip()] for label in one.tables})
    if one.name == "BRA" and one.target in kernel.labels:
        if "DIV" in one.modifiers or "ANY" in one.modifiers:
            always = False
        return [kernel.target(one)] + ([] if always else after)
    return after


def loops(kernel):
    """The natural loops: {index of the head: set of indices}. Loops with the same head are one."""
    order, seen, stack = [], {0}, [(0, iter(successors(kernel, 0)))]
    while stack:
        node, following = stack[-1]
        step = next((n for n in following if n not in seen), None)
        if step is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(step)
            stack.append((step, iter(successors(kernel, step))))
    order.reverse()
    position = {node: n for n, node in enumerate(order)}
    before = collections.defaultdict(list)
    for node in order:
        for n in successors(kernel, node):
            before[n].append(node)
    dominator = {0: 0}

    def meet(a, b):
        while a != b:
            while position[a] > position[b]:
                a = dominator[a]
            while position[b] > position[a]:
                b = dominator[b]
        return a

    changed = True
    while changed:
        changed = False
        for node in order[1:]:
            new = None
            for n in before[node]:
                if n in dominator:
                    new = n if new is None else meet(n, new)
            if dominator.get(node) != new:
                dominator[node], changed = new, True
    found = {}
    for tail in order:
        for head in successors(kernel, tail):
            node = tail
            while position[node] > position[head]:
                node = dominator[node]
            if node != head:
                continue
            body, todo = found.setdefault(head, {head}), [tail]
            while todo:
                node = todo.pop()
                if node not in body:
                    body.add(node)
                    todo += before[node]
    return found


def outermost(found):
    return {head: body for head, body in found.items() if not any(head in other for n, other in found.items() if n != head)}


def role_of(names):
    """The role of warps from the opcodes of their chunk loop, whether this warp executes them or not."""
    names = set(names)
    synchronises = any(name.startswith(("BAR", "SYNCS")) for name in names)
    if synchronises and any(name.startswith("MUFU.EX2") for name in names):
        return "producer"
    if synchronises and any(name.startswith(("HMMA", "HGMMA")) for name in names):
        return "consumer"
    return "other"


# --- Values: an int, None (unknown) or a list of these for the lanes --------------------------------------------------


def each(function, *values):
    """function(values), lane by lane where the lanes differ."""
    wide = False
    for value in values:
        if value is None:
            return None
        if value.__class__ is list:
            wide = True
    if not wide:
        return function(*values)
    columns = [value if value.__class__ is list else [value] * LANES for value in values]
    return narrow([None if None in lane else function(*lane) for lane in zip(*columns)])


def narrow(lanes):
    first = lanes[0]
    for value in lanes:
        if value != first:
            return lanes
    return first


def lane_of(value, n):
    return value[n] if value.__class__ is list else value


def merged(old, new, mask):
    if mask == FULL:
        return new
    return narrow([lane_of(new if mask >> n & 1 else old, n) for n in range(LANES)])


def signed(x, bits=32):
    return x - (1 << bits) if x >> (bits - 1) & 1 else x


def lut(a, b, c, table):
    result = 0
    for n in range(8):
        if table >> n & 1:
            result |= (a if n & 4 else ~a) & (b if n & 2 else ~b) & (c if n & 1 else ~c)
    return result & FULL


def as_float(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def float_bits(x, up=False):
    """The nearest float32; `up`: the next one that is not smaller."""
    try:
        bits = struct.unpack("<I", struct.pack("<f", x))[0]
    except OverflowError:
        return 0x7f800000
    return bits + 1 if up and as_float(bits) < x else bits


def reciprocal(bits):
    x = as_float(bits)
    return 0x7f800000 if x == 0 else float_bits(1 / x)


def truncated(bits, most):
    x = as_float(bits)
    if math.isnan(x):
        return 0
    return min(most, max(0, int(x))) if math.isfinite(x) else most if x > 0 else 0


def permuted(a, selector, c):
    source, result = a | c << 32, 0
    for n in range(4):
        pick = selector >> 4 * n & 15
        byte = source >> 8 * (pick & 7) & 255
        result |= (255 * (byte >> 7) if pick & 8 else byte) << 8 * n
    return result


COMPARE = {"EQ": lambda a, b: a == b, "NE": lambda a, b: a != b, "LT": lambda a, b: a < b, "LE": lambda a, b: a <= b,
           "GT": lambda a, b: a > b, "GE": lambda a, b: a >= b}
JOIN = {"AND": lambda a, b: a and b, "OR": lambda a, b: a or b, "XOR": lambda a, b: a != b}


def both(a, b, join):
    """a join b, where an unknown side need not matter."""
    def one(x, y):
        if x is None or y is None:
            known = y if x is None else x
            if join == "AND" and known is False or join == "OR" and known is True:
                return known
            return None
        return bool(JOIN[join](x, y))
    if a.__class__ is not list and b.__class__ is not list:
        return one(a, b)
    return narrow([one(lane_of(a, n), lane_of(b, n)) for n in range(LANES)])


def passes(addresses, width):
    """How often shared memory works for an access of `width` bytes per lane, and for one without conflicts. Each phase of
    128 bytes (32 lanes x 4, 16 x 8 or 8 x 16) takes the largest number of different words in one of the 32 banks."""
    per_phase = 128 // max(width, 4)
    took = ideal = 0
    for first in range(0, len(addresses), per_phase):
        banks = collections.defaultdict(set)
        for address in addresses[first:first + per_phase]:
            if address is not None:
                for word in range(address // 4, (address + width + 3) // 4):
                    banks[word % 32].add(word)
        if banks:
            took += max(map(len, banks.values()))
            ideal += 1
    return took, ideal


# --- The path of a warp -----------------------------------------------------------------------------------------------

# A step of a path: the instruction's index, whether it ran (or its predicate was false in all lanes), the passes of
# shared memory, those without conflicts, and (number, threads) of a named barrier.
Step = collections.namedtuple("Step", "n ran passes ideal barrier")

_REGISTER = re.compile(r"([-~!|]*)(U?R|U?P)(Z|T|\d+)\|?(\.\w+)*$")
_CONSTANT = re.compile(r"([-~]*)c\[(0x[0-9a-f]+)\]\[(?:(U?R)(Z|\d+)(?:\.\w+)?\+?)?(-?0x[0-9a-f]+)?\]$")
_ADDRESS = re.compile(r"\[(?:(R)(Z|\d+)(?:\.\w+)*)?(?:\+?(UR)(Z|\d+))?\+?(-?0x[0-9a-f]+)?\]$")
_STORE = re.compile(r"\[R(\d+)\.64(\+UR\d+)?(?:\+?(-?0x[0-9a-f]+))?\]$")
_NO_RESULT = {"STS", "STG", "STL", "STSM", "ST", "RED", "BAR", "MEMBAR", "DEPBAR", "LDGDEPBAR", "LDGSTS", "UBLKCP", "UTMALDG", "UTMASTG",
              "NOP", "YIELD", "FENCE", "WARPGROUP", "ERRBAR", "CCTL", "ENDCOLLECTIVE", "BREAK", "UTMACMDFLUSH", "NANOSLEEP", "USETMAXREG",
              "UBLKRED", "BPT", "UTMAPF", "UBLKPF"}
# Opcodes with results that are unknown on purpose.
_UNKNOWN = {"FADD", "FMUL", "FFMA", "FMNMX", "FCHK", "F2FP", "HADD2", "HMUL2", "HFMA2", "HSETP2", "I2FP", "LDS", "LDSM", "LDG", "LD",
            "HMMA", "HGMMA", "ATOMS", "ATOMG", "ATOM", "REDUX", "MOVM", "F2F", "FRND", "FSET", "B2R"}


class Warp:
    """One warp from the kernel's first instruction to its EXIT. `parameters` start at `base` of constant
    bank 0."""

    def __init__(self, kernel, parameters, threads, warp, base=0x210, block=0, blocks=1):
        self.kernel, self.first_thread, self.block = kernel, warp * LANES, block
        bank = bytearray(base + len(parameters) + 64)
        struct.pack_into("<6I", bank, 0, threads, 1, 1, blocks, 1, 1)
        struct.pack_into("<I", bank, 0x28, 0x100000)  # stack pointer
        bank[base:base + len(parameters)] = parameters
        self.bank = bytes(bank)
        # No path depends on what a register holds before it is written, so that may as well be known.
        self.registers = {"R": dict.fromkeys(map(str, range(256)), 0), "UR": dict.fromkeys(map(str, range(64)), 0),
                          "P": dict.fromkeys(map(str, range(8)), False), "UP": dict.fromkeys(map(str, range(8)), False)}
        self.local = {}
        self.barriers = {}         # convergence barrier -> per lane [mask of the lanes that meet, where they go on]
        self.groups = [(0, FULL)]  # lanes that run: (next instruction, mask)
        self.blocked = []          # (instruction to go on with, mask, name of the barrier)
        self.undecided, self.unmodelled = collections.Counter(), collections.Counter()
        self.path = []
        self.stores = []           # (address, bytes) of every number stored to global memory; None: unknown
        self.readers = {}

    # Operands.

    def read(self, text, width=1):
        reader = self.readers.get((text, width))
        if reader is None:
            reader = self.readers[text, width] = self.reader(text, width)
        return reader()

    def reader(self, text, width):
        text = text.replace(".reuse", "")
        if match := _REGISTER.match(text):
            sign, bank, number, suffix = match.groups()
            file = self.registers[bank]
            if "P" in bank:
                if number == "T":
                    return lambda: "!" not in sign
                if "!" in sign:
                    return lambda: each(lambda x: not x, file.get(number, None))
                return lambda: file.get(number, None)
            if suffix and suffix.startswith((".H", ".B")) or "|" in sign:
                return lambda: None
            if number == "Z":
                get = lambda: 0  # noqa: E731
            elif width == 2:
                high = str(int(number) + 1)
                get = lambda: each(lambda a, b: a | b << 32, file.get(number), file.get(high))  # noqa: E731
            else:
                get = lambda: file.get(number)  # noqa: E731
            return self.with_sign(get, sign, width)
        if match := _CONSTANT.match(text):
            sign, bank, file, number, offset = match.groups()
            data = {"0x0": self.bank, "0x2": self.kernel.jump_tables}.get(bank, b"")
            start = int(offset or "0", 16)

            def get():
                at = 0 if file is None or number == "Z" else self.registers[file].get(number)
                return each(lambda x: self.constant(data, signed(x) + start, 4 * width), at)
            return self.with_sign(get, sign, width)
        if re.fullmatch(r"-?0x[0-9a-f]+", text):
            value = int(text, 16) & (FULL if width == 1 else FULL << 32 | FULL)
            return lambda: value
        if re.fullmatch(r"-?\d+", text):  # a decimal number is a float
            value = float_bits(float(text))
            return lambda: value
        return lambda: None

    @staticmethod
    def with_sign(get, sign, width):
        most = (1 << 32 * width) - 1
        if "-" in sign:
            return lambda: each(lambda x: -x & most, get())
        if "~" in sign:
            return lambda: each(lambda x: ~x & most, get())
        return get

    @staticmethod
    def constant(data, at, size):
        return int.from_bytes(data[at:at + size], "little") if 0 <= at and at + size <= len(data) else None

    def write(self, text, value, mask, width=1):
        match = _REGISTER.match(text.replace(".reuse", ""))
        if match is None or match[3] in ("Z", "T"):
            return
        file, number = self.registers[match[2]], match[3]
        if match[2] in ("UR", "UP"):
            mask = FULL
            if value.__class__ is list:
                value = None
        if "P" in match[2]:
            file[number] = merged(file.get(number), value, mask)
            return
        for n in range(width):
            part = each(lambda x, n=n: x >> 32 * n & FULL, value)
            key = str(int(number) + n)
            file[key] = merged(file.get(key), part, mask)

    def address(self, text, mask):
        """The addresses of the lanes, None for those that do not run; None if any is unknown."""
        match = _ADDRESS.match(text.replace(".reuse", ""))
        if match is None:
            return None
        total = int(match[5] or "0", 16)
        values = [self.registers[file].get(number) if number != "Z" else 0
                  for file, number in ((match[1], match[2]), (match[3], match[4])) if file]
        where = each(lambda *x: sum(x) + total & FULL, *values) if values else total & FULL
        lanes = [lane_of(where, n) if mask >> n & 1 else None for n in range(LANES)]
        return None if any(lanes[n] is None and mask >> n & 1 for n in range(LANES)) else lanes

    # Control.

    def active(self, value, mask, unknown):
        """The lanes of `mask` in which a predicate is true; `unknown` stands for an unknown one."""
        if value is True:
            return mask
        if value.__class__ is list:
            return sum(1 << n for n in range(LANES) if mask >> n & 1 and (unknown if value[n] is None else value[n]))
        return mask if (unknown if value is None else value) else 0

    def run(self, stop=lambda warp: False):
        """Follows the warp to its end, or until stop(self) after a step."""
        code = self.kernel.code
        while True:
            if not self.groups and not self.release():
                return self
            pc, mask = self.groups.pop()
            while mask:
                if len(self.path) > STEP_LIMIT:
                    raise RuntimeError(f"{self.kernel.name}: a warp takes more than {STEP_LIMIT} steps")
                following = self.step(pc, code[pc], mask)
                if stop(self):
                    return self
                if following is None:
                    break
                pc, mask = following

    def release(self):
        """Nobody runs: lets those waiting at the innermost barrier go on together."""
        if not self.blocked:
            return False
        pc = self.blocked[-1][0]
        mask = 0
        for at, lanes in self.blocked:
            mask |= lanes if at == pc else 0
        self.blocked = [(at, lanes) for at, lanes in self.blocked if at != pc]
        self.groups.append((pc, mask))
        return True

    def wait(self, pc, mask, members):
        """Lanes arrive at a reconvergence point. They go on when all of `members` are here."""
        here = mask
        for at, lanes in self.blocked:
            here |= lanes if at == pc else 0
        running = sum(lanes for _, lanes in self.groups)
        elsewhere = sum(lanes for at, lanes in self.blocked if at != pc)
        if members & ~here & (running | elsewhere) == 0:
            self.blocked = [(at, lanes) for at, lanes in self.blocked if at != pc]
            return pc, here
        self.blocked.append((pc, mask))
        return None

    def step(self, pc, one, mask):
        """Executes an instruction; returns (next instruction, mask), or None if these lanes stop here."""
        guard = True if one.guard is None else self.read(one.guard)
        branches = one.name in ("BRA", "BRX", "EXIT", "RET", "CALL", "BREAK", "BSYNC")
        if one.name in ("BRA", "EXIT") or branches and guard is not True or one.name == "BREAK" and len(one.operands) > 1:
            return self.branch(pc, one, mask, guard)
        ran = self.active(guard, mask, unknown=True)
        took = ideal = 0
        barrier = None
        if ran:
            if one.name in ("LDS", "STS", "LDSM", "STSM", "ATOMS"):
                took, ideal = self.shared_passes(one, ran)
            elif one.name == "BAR":
                barrier = self.named_barrier(one)
            elif one.name == "STG":
                self.note_store(one, ran)
        self.path.append(Step(pc, bool(ran), took, ideal, barrier))
        if branches:
            return self.jump(pc, one, mask)
        if one.name == "BSSY":
            meeting = [mask, self.kernel.target(one)]
            lanes = self.barriers.setdefault(one.operands[0], [[FULL, None]] * LANES)
            self.barriers[one.operands[0]] = [meeting if mask >> n & 1 else lanes[n] for n in range(LANES)]
        elif one.name == "WARPSYNC" and "COLLECTIVE" not in one.modifiers:
            return self.wait(pc + 1, mask, FULL)
        elif ran:
            self.execute(one, ran, guard)
        return pc + 1, mask

    def jump(self, pc, one, mask):
        first = next(n for n in range(LANES) if mask >> n & 1)
        if one.name == "BSYNC":
            members, target = self.barriers[one.operands[0]][first]
            return self.wait(target, mask, members)
        if one.name == "BREAK":
            self.barriers[one.operands[-1]][first][0] &= ~mask  # a predicate may come before the barrier
            return pc + 1, mask
        if one.name == "CALL":
            return self.kernel.target(one), mask
        to = lane_of(self.read(one.operands[0].split()[0]), first)  # all lanes agree on a subroutine's return and on a table
        if one.name == "BRX" and to is not None:
            offset = one.operands[0].split()[1] if " " in one.operands[0] else "0"
            to = to + int(offset, 16) + one.address + 16 & FULL
        if to in self.kernel.index:
            return self.kernel.index[to], mask
        self.undecided[one.address] += 1
        return (self.kernel.labels[one.tables[0].strip()], mask) if one.tables else None

    def branch(self, pc, one, mask, guard):
        self.path.append(Step(pc, True, 0, 0, None))
        for operand in one.operands:
            if re.fullmatch(r"!?U?P(\d|T)", operand):
                guard = both(guard, self.read(operand), "AND")
        lanes = guard if guard.__class__ is list else [guard]
        if None in lanes:
            self.undecided[one.address] += 1
        taken = self.active(guard, mask, unknown=one.name == "BRA" and self.avoids_call(pc, one))
        if "DIV" in one.modifiers:
            taken = 0  # only for lanes that have diverged
        if "ANY" in one.modifiers and taken:
            taken = mask
        rest = mask & ~taken
        if not taken:
            return pc + 1, mask
        if one.name != "BRA":
            if rest:
                self.groups.append((pc + 1, rest))
            if one.name == "EXIT":
                for lanes in self.barriers.values():
                    for meeting in lanes:
                        meeting[0] &= ~taken
                return None
            return self.jump(pc, one, taken)
        if rest:
            self.groups.append((self.kernel.target(one), taken))
            return pc + 1, rest
        return self.kernel.target(one), taken

    def avoids_call(self, pc, one):
        """Whether a branch on an unknown value is taken: if only the fall-through calls a subroutine."""
        def calls(n):
            while n < len(self.kernel.code) and self.kernel.code[n].name not in ("BRA", "EXIT", "BRX", "RET"):
                if self.kernel.code[n].name == "CALL":
                    return True
                n += 1
            return False
        return calls(pc + 1) and not calls(self.kernel.target(one))

    # Instructions with memory addresses.

    @staticmethod
    def bytes_of(one):
        """What a load or store moves per lane."""
        return {"64": 8, "128": 16, "U8": 1, "S8": 1, "U16": 2, "S16": 2}.get(one.modifiers[-1] if one.modifiers else "", 4)

    def shared_passes(self, one, mask):
        text = next((operand for operand in one.operands if operand.startswith("[")), None)
        lanes = self.address(text, mask) if text else None
        if one.name in ("LDSM", "STSM"):
            count = int(one.modifiers[-1]) if one.modifiers[-1].isdigit() else 1
            return passes(lanes[:8 * count], 16) if lanes else (count, count)
        width = next((int(part[1:] if part[0] == "U" else part) // 8 for part in one.modifiers if part.lstrip("US").isdigit()), 4)
        least = max(1, width // 4)
        return passes(lanes, width) if lanes else (least, least)

    def note_store(self, one, mask):
        match = _STORE.search(one.operands[0].replace(".reuse", ""))
        where = self.read(f"R{match[1]}", 2) if match and not match[2] else None
        size = self.bytes_of(one)
        for n in range(LANES):
            if mask >> n & 1:
                at = lane_of(where, n)
                self.stores.append(None if at is None else (at + int(match[3] or "0", 16), size))

    def named_barrier(self, one):
        number = self.read(one.operands[0])
        number = lane_of(number, 0) if number is not None else None
        if number is None:
            self.undecided[one.address] += 1
            return None
        if len(one.operands) == 1:
            return "SYNC" in one.modifiers, number, None
        if one.operands[0] == one.operands[1]:  # both in one register
            return "SYNC" in one.modifiers, number & 15, number >> 16
        return "SYNC" in one.modifiers, number & 15, lane_of(self.read(one.operands[1]), 0)

    # Instructions with results.

    def execute(self, one, mask, guard):
        if one.name in _NO_RESULT and one.name != "STL":
            return
        function = getattr(self, "do_" + one.name.lower(), None)
        if function is None and one.name[0] == "U":
            function = getattr(self, "do_" + one.name[1:].lower(), None)
        if function is not None:
            if guard.__class__ is list and None in guard or guard is None:
                self.unknown(one, mask)
            else:
                function(one, mask)
            return
        if one.name not in _UNKNOWN:
            self.unmodelled[one.opcode] += 1
        self.unknown(one, mask)

    def unknown(self, one, mask):
        if one.name == "STL":
            self.local.clear()
            return
        width = 2 if any(part in ("64", "WIDE", "U64") for part in one.modifiers) or one.name not in _UNKNOWN else 1
        if "128" in one.modifiers or one.name in ("HMMA", "LDSM"):
            width = 4
        if one.name == "HGMMA":
            width = int(one.modifiers[0].split("x")[1]) // 2
        if one.kind in ("integer", "uniform") and one.name in CLASS_OF and "WIDE" not in one.modifiers:
            width = 1
        for operand in one.operands:
            if re.fullmatch(r"U?P(\d|T)", operand):
                self.write(operand, None, mask)
            else:
                self.write(operand, None, mask, width)
                return

    @staticmethod
    def results(one):
        """Splits the operands: predicates written, register written, sources."""
        operands, predicates = list(one.operands), []
        while operands and re.fullmatch(r"U?P(\d|T)", operands[0]):
            predicates.append(operands.pop(0))
        register = operands.pop(0)
        while operands and re.fullmatch(r"U?P(\d|T)", operands[0]):
            predicates.append(operands.pop(0))
        return predicates, register, operands

    def do_mov(self, one, mask):
        self.write(one.operands[0], self.read(one.operands[1]), mask)

    def summand(self, text):
        """An operand of a sum whose carry matters: a negated one is its complement plus one, without reduction."""
        if text.startswith("-") and not text.startswith("-0x"):
            return each(lambda x: (~x & FULL) + 1, self.read(text[1:]))
        return self.read(text)

    def do_iadd3(self, one, mask):
        carries, register, sources = self.results(one)
        total = each(lambda *x: sum(x), *[self.summand(text) for text in sources[:3]])
        if "X" in one.modifiers:
            total = each(lambda x, *c: x + sum(map(int, c)), total, *[self.read(text) for text in sources[3:]])
        self.put_sum(register, carries, total, mask)

    def put_sum(self, register, carries, total, mask, width=1):
        for n, carry in enumerate(carries):
            self.write(carry, each(lambda x, n=n: x >> 32 * width > n, total), mask)
        self.write(register, each(lambda x: x & (1 << 32 * width) - 1, total), mask, width)

    def do_viadd(self, one, mask):
        _, register, (a, b) = self.results(one)
        self.write(register, each(lambda x, y: x + y & FULL, self.read(a), self.read(b)), mask)

    def do_imad(self, one, mask):
        carries, register, sources = self.results(one)
        a, b = self.read(sources[0]), self.read(sources[1])
        wide, high = "WIDE" in one.modifiers, "HI" in one.modifiers
        c = self.read(sources[2], 2) if wide or high else self.summand(sources[2]) if carries else self.read(sources[2])
        if (wide or high) and "U32" not in one.modifiers:
            a, b = each(signed, a), each(signed, b)
        total = each(lambda x, y, z: x * y + z, a, b, c)
        if "X" in one.modifiers:
            total = each(lambda x, carry: x + int(carry), total, self.read(sources[3]))
        if high:
            total = each(lambda x: x >> 32 & FULL, total)
        if not wide and not carries:
            total = each(lambda x: x & FULL, total)
        self.put_sum(register, carries, total, mask, 2 if wide else 1)

    def do_lea(self, one, mask):
        carries, register, sources = self.results(one)
        if "HI" not in one.modifiers:
            minus = sources[0].startswith("-")  # applies to the shifted operand, and to its carry as in summand()
            total = each(lambda a, b, s: ((~(a << s) & FULL) + 1 if minus else a << s & FULL) + b, self.read(sources[0].lstrip("-")),
                         self.summand(sources[1]), self.read(sources[2]))
            self.put_sum(register, carries, total, mask)
            return
        a, b = self.read(sources[0]), self.summand(sources[1])
        rest = sources[2:]
        high = each(lambda x: FULL * (x >> 31), a) if "SX32" in one.modifiers else self.read(rest.pop(0))
        total = each(lambda x, y, z, s: ((z << 32 | x) << s >> 32 & FULL) + y, a, b, high, self.read(rest[0]))
        if len(rest) > 1:
            total = each(lambda x, carry: x + int(carry), total, self.read(rest[1]))
        self.put_sum(register, carries, total, mask)

    def do_lop3(self, one, mask):
        predicates, register, sources = self.results(one)
        value = each(lut, *[self.read(text) for text in sources[:4]])
        self.write(register, value, mask)
        for predicate in predicates:
            self.write(predicate, each(lambda x: x != 0, value), mask)

    def do_plop3(self, one, mask):
        inputs = [each(lambda x: FULL if x else 0, self.read(text)) for text in one.operands[2:5]]
        for result, table in zip(one.operands[:2], one.operands[5:]):
            self.write(result, self.lut_of_predicates(inputs, int(table, 16)), mask)

    @staticmethod
    def lut_of_predicates(inputs, table):
        def one(*given):  # known if all values of the unknown inputs agree
            found = {table >> sum(bit << 2 - n for n, bit in enumerate(bits)) & 1 for bits in choices(given)}
            return bool(found.pop()) if len(found) == 1 else None

        def choices(given):
            if not given:
                return [()]
            first = (0, 1) if given[0] is None else (1 if given[0] else 0,)
            return [(bit, *rest) for bit in first for rest in choices(given[1:])]
        if not any(value.__class__ is list for value in inputs):
            return one(*inputs)
        return narrow([one(*[lane_of(value, n) for value in inputs]) for n in range(LANES)])

    def do_shf(self, one, mask):
        _, register, sources = self.results(one)
        left, kind, high = one.modifiers[0] == "L", one.modifiers[1], "HI" in one.modifiers
        wraps = "W" in one.modifiers

        def shift(a, s, c):
            s = s & (63 if "64" in kind else 31) if wraps else min(s, 63 if "64" in kind else 32)
            whole = c << 32 | a
            if left:
                whole = whole << s
            elif kind[0] == "S":
                whole = signed(whole, 64) >> s
            else:
                whole = whole >> s
            return whole >> 32 & FULL if high else whole & FULL
        self.write(register, each(shift, *[self.read(text) for text in sources[:3]]), mask)

    def do_sel(self, one, mask):
        _, register, (a, b, which) = self.results(one)
        a, b, which = self.read(a), self.read(b), self.read(which)
        if which.__class__ is not list:
            self.write(register, None if which is None else a if which else b, mask)
            return
        self.write(register, narrow([None if which[n] is None else lane_of(a if which[n] else b, n) for n in range(LANES)]), mask)

    do_fsel = do_sel

    def do_prmt(self, one, mask):
        _, register, sources = self.results(one)
        self.write(register, each(permuted, *[self.read(text) for text in sources]), mask)

    def do_iabs(self, one, mask):
        self.write(one.operands[0], each(lambda x: abs(signed(x)), self.read(one.operands[1])), mask)

    def do_vimnmx(self, one, mask):
        _, register, sources = self.results(one)
        *values, least = [self.read(text) for text in sources]
        if one.name == "VIADDMNMX":
            values = [each(lambda x, y: x + y & FULL, *values[:2]), values[2]]
        of = (lambda x: x) if "U32" in one.modifiers else signed
        self.write(register, each(lambda a, b, low: (min if low else max)(a, b, key=of), *values[:2], least), mask)

    do_viaddmnmx = do_imnmx = do_vimnmx

    def do_isetp(self, one, mask):
        compare, join = COMPARE[one.modifiers[0]], next(part for part in one.modifiers if part in JOIN)
        first, second, a, b, given, *low = one.operands
        a, b = self.read(a), self.read(b)
        if "U32" not in one.modifiers:
            a, b = each(signed, a), each(signed, b)
        if "EX" in one.modifiers:
            strict = COMPARE[{"GE": "GT", "LE": "LT"}.get(one.modifiers[0], one.modifiers[0])]
            if one.modifiers[0] == "NE":
                result = each(lambda x, y, z: x != y or z, a, b, self.read(low[0]))
            elif one.modifiers[0] == "EQ":
                result = each(lambda x, y, z: x == y and z, a, b, self.read(low[0]))
            else:
                result = each(lambda x, y, z: strict(x, y) or x == y and z, a, b, self.read(low[0]))
        else:
            result = each(compare, a, b)
        given = self.read(given)
        self.write(first, both(result, given, join), mask)
        self.write(second, both(each(lambda x: not x, result), given, join), mask)

    def do_fsetp(self, one, mask):
        first, second, a, b, given = one.operands[:5]
        name, join = one.modifiers[0], next(part for part in one.modifiers if part in JOIN)
        a, b = self.read(a), self.read(b)
        result = None
        if name.rstrip("U") in COMPARE:
            result = each(lambda x, y: COMPARE[name.rstrip("U")](as_float(x), as_float(y)), a, b)
        given = self.read(given)
        self.write(first, both(result, given, join), mask)
        self.write(second, both(each(lambda x: not x, result), given, join), mask)

    def do_i2f(self, one, mask):
        source = one.operands[1]
        value = self.read(source, 2 if "U64" in one.modifiers else 1)
        if not any(part in ("U32", "U64") for part in one.modifiers):
            value = each(signed, value)
        self.write(one.operands[0], each(lambda x: float_bits(float(x), "RP" in one.modifiers), value), mask)

    def do_f2i(self, one, mask):
        width = 2 if "U64" in one.modifiers else 1
        value = self.read(one.operands[1]) if {"U32", "U64"} & set(one.modifiers) else None
        self.write(one.operands[0], each(lambda x: truncated(x, (1 << 32 * width) - 1), value), mask, width)

    def do_mufu(self, one, mask):
        value = self.read(one.operands[1]) if one.modifiers == ["RCP"] else None
        self.write(one.operands[0], each(reciprocal, value), mask)

    def do_s2r(self, one, mask):
        name = one.operands[1]
        value = {"SR_TID.X": [self.first_thread + n for n in range(LANES)], "SR_LANEID": list(range(LANES)), "SR_CTAID.X": self.block,
                 "SRZ": 0}.get(name)
        if name.startswith(("SR_TID.", "SR_CTAID.", "SR_CgaCta", "SR_SWINHI", "SR_VIRTCFG")) and value is None:
            value = 0
        self.write(one.operands[0], value, mask, 2 if one.name == "CS2R" and "32" not in one.modifiers else 1)

    do_s2ur = do_cs2r = do_s2r

    def do_ldc(self, one, mask):
        size = self.bytes_of(one)
        value = self.read(one.operands[1], max(1, size // 4))
        if size < 4:
            value = each(lambda x: x & (1 << 8 * size) - 1, value)
            if one.modifiers[-1][0] == "S":
                value = each(lambda x: signed(x, 8 * size) & FULL, value)
        self.write(one.operands[0], value, mask, max(1, size // 4))

    def do_r2p(self, one, mask):
        value, chosen = self.read(one.operands[1]), int(one.operands[2], 16)
        shift = 8 * int(one.operands[1][-1]) if ".B" in one.operands[1] else 0
        for n in range(7):
            if chosen >> n & 1:
                self.write(f"P{n}", each(lambda x, n=n: bool(x >> n + shift & 1), value), mask)

    def do_p2r(self, one, mask):
        _, register, sources = self.results(one)
        chosen = self.read(sources[-1])
        value = each(lambda x: x & ~chosen & FULL, self.read(sources[1]))
        for n in range(7):
            if chosen >> n & 1:
                value = each(lambda x, bit, n=n: x | bit << n, value, each(int, self.read(f"P{n}")))
        self.write(register, value if "B" not in "".join(one.modifiers) else None, mask)

    def do_vote(self, one, mask):
        predicates = [text for text in one.operands if re.fullmatch(r"!?U?P(\d|T)", text)]
        register = [text for text in one.operands if re.fullmatch(r"U?R(\d+|Z)", text)]
        value = self.read(predicates[-1])
        lanes = [lane_of(value, n) for n in range(LANES) if mask >> n & 1]
        known = None not in lanes
        result = (all if "ALL" in one.modifiers else any)(lanes) if known else None
        for text in predicates[:-1]:
            self.write(text, result, mask)
        for text in register:
            self.write(text, self.active(value, mask, unknown=False) if known else None, mask)

    do_voteu = do_vote

    def do_elect(self, one, mask):
        first = mask & -mask
        self.write(one.operands[0], narrow([bool(first >> n & 1) for n in range(LANES)]), mask)
        self.write(one.operands[1], first.bit_length() - 1, mask)

    def do_r2ur(self, one, mask):
        predicates, register, sources = self.results(one)
        value = self.read(sources[0])
        first = next(n for n in range(LANES) if mask >> n & 1)
        chosen = lane_of(value, first)
        self.write(register, chosen, mask)
        for predicate in predicates:  # the lanes that still have to be served
            self.write(predicate, each(lambda x: x != chosen, value) if chosen is not None else None, mask)

    def do_syncs(self, one, mask):
        for operand in one.operands:
            if re.fullmatch(r"U?P\d", operand):
                self.write(operand, True if "TRYWAIT" in one.modifiers else None, mask)

    def do_shfl(self, one, mask):
        predicate, register, a, b, _ = one.operands
        value, index = self.read(a), self.read(b)
        self.write(predicate, True, mask)
        move = {"IDX": lambda n, i: i, "BFLY": lambda n, i: n ^ i}.get(one.modifiers[0])
        if value is None or index is None or move is None:
            self.write(register, None, mask)
            return
        picked = [lane_of(index, n) for n in range(LANES)]
        self.write(register, narrow([None if i is None else lane_of(value, move(n, i) % LANES) for n, i in enumerate(picked)]), mask)

    def local_address(self, text):
        lanes = self.address(text, FULL)
        return lanes[0] if lanes else None

    def do_stl(self, one, mask):
        """Local memory is kept by bytes, so that numbers of any size can overlap."""
        where, number = self.local_address(one.operands[0]), one.operands[1].replace(".reuse", "")[1:]
        if where is None:
            self.local.clear()
            return
        for n in range(self.bytes_of(one)):
            value = self.read("RZ" if number == "Z" else f"R{int(number) + n // 4}")
            byte = each(lambda x, n=n: x >> 8 * (n % 4) & 255, value)
            self.local[where + n] = merged(self.local.get(where + n), byte, mask)

    def do_ldl(self, one, mask):
        where, number = self.local_address(one.operands[1]), one.operands[0][1:]
        size = self.bytes_of(one)
        for n in range(0, size, 4):
            part = [None if where is None else self.local.get(where + n + i) for i in range(min(4, size))]
            value = each(lambda *x: int.from_bytes(x, "little"), *part)
            if one.modifiers and one.modifiers[-1] in ("S8", "S16"):
                value = each(lambda x: signed(x, 8 * size) & FULL, value)
            self.write("RZ" if number == "Z" else f"R{int(number) + n // 4}", value, mask)


# --- Time -------------------------------------------------------------------------------------------------------------


class Clock:
    """When the instructions of one warp's path issue."""

    def __init__(self, code):
        self.code = code
        self.next = 0                # earliest issue of the next instruction
        self.ready = [0] * 6         # when each scoreboard is clear
        self.cause = [None] * 6      # class of the instruction that set it
        self.copies = self.products = 0
        self.global_waits = 0
        self.stalled = collections.Counter()

    def earliest(self, step):
        """When the instruction can issue, as far as this warp decides, and what it waits for."""
        one = self.code[step.n]
        when, cause = self.next, None
        wait = one.wait
        if one.name == "DEPBAR" and step.ran:
            wait |= 1 << int(one.operands[0][2:]) if one.operands[0].startswith("SB") else 0
        for n in range(6):
            if wait >> n & 1 and self.ready[n] > when:
                when, cause = self.ready[n], self.cause[n]
        if one.opcode.startswith("WARPGROUP.DEPBAR") and self.products > when:
            when, cause = self.products, "matrix"
        return when, cause

    @staticmethod
    def unit(one, step):
        """The unit that an instruction needs, and for how long."""
        if not step.ran:
            return None, 0
        if one.kind in ("shared", "ldsm"):
            return "shared", max(1, step.passes)
        if one.name == "HGMMA":
            return "matrix", int(one.modifiers[0].split("x")[1]) // 2
        unit = UNIT_OF.get(one.name, one.kind)
        if unit in INTERVAL and one.name not in ("WARPGROUP", "LDGDEPBAR", "SYNCS"):
            return unit, INTERVAL[unit]
        return None, 0

    def issue(self, step, when, cause=None):
        """Issues at `when`; returns when the instruction has completed."""
        one = self.code[step.n]
        for n in range(6):
            if one.wait >> n & 1 and self.cause[n] == "global":
                self.global_waits += 1
                self.cause[n] = None
        self.stalled[cause or "unit"] += when - self.next
        self.next = when + max(1, one.stall)
        if not step.ran:
            return when
        _, busy = self.unit(one, step)
        done = when + LATENCY.get(one.kind, OTHER_LATENCY)
        if one.kind in ("shared", "ldsm"):
            done += busy - 1
        if one.name in ("LDGSTS", "UBLKCP", "UTMALDG"):
            self.copies = max(self.copies, done)
            done = when + READ_LATENCY
        elif one.name == "LDGDEPBAR":
            done = max(when, self.copies)
        elif one.name == "SYNCS":
            done = max(when + 20, self.copies if "TRYWAIT" in one.modifiers else 0)
        elif one.name == "HGMMA":
            self.products = max(self.products, when + WGMMA_LATENCY + busy)
            done = self.products
        elif one.name in ("STS", "STG", "STL"):
            done = when + READ_LATENCY
        for barrier, at in ((one.write_barrier, done), (one.read_barrier, when + READ_LATENCY)):
            if barrier < 6:
                self.ready[barrier] = max(self.ready[barrier], at)
                self.cause[barrier] = one.kind if one.name not in ("STS", "STG", "STL") else "store"
        return done


def alone(code, path):
    """Times a warp for which every barrier is complete when it arrives. Returns the clock and the times of issue."""
    clock, times = Clock(code), []
    free = {}
    for step in path:
        one = code[step.n]
        when, cause = clock.earliest(step)
        unit, busy = clock.unit(one, step)
        if unit and free.get(unit, 0) > when:
            when, cause = free[unit], "unit"
        clock.issue(step, when, cause)
        if unit:
            free[unit] = when + busy
        if step.barrier and step.barrier[0]:
            clock.stalled["barrier"] += max(0, when + BARRIER - clock.next)
            clock.next = max(clock.next, when + BARRIER)
        times.append(when)
    return clock, times


class Deadlock(RuntimeError):
    pass


def together(code, paths):
    """Times all warps of a block. Returns per warp the times of issue."""
    clocks = [Clock(code) for _ in paths]
    times = [[] for _ in paths]
    free = collections.defaultdict(int)
    arrived, waiting = collections.Counter(), collections.defaultdict(list)
    queue = [(0, n) for n in range(len(paths))]
    heapq.heapify(queue)
    left = len(paths)
    while queue:
        asked, n = heapq.heappop(queue)
        step = paths[n][len(times[n])]
        one, clock = code[step.n], clocks[n]
        when, cause = clock.earliest(step)
        unit, busy = clock.unit(one, step)
        key = (unit, "all" if unit == "shared" else n % SCHEDULERS)
        when = max(when, free["issue", n % SCHEDULERS], free[key] if unit else 0)
        if when > asked:
            heapq.heappush(queue, (when, n))
            continue
        clock.issue(step, when, cause)
        times[n].append(when)
        free["issue", n % SCHEDULERS] = when + 1
        if unit:
            free[key] = when + busy
        ended = len(times[n]) == len(paths[n])
        blocked = False
        if step.barrier and step.ran:
            waits, number, threads = step.barrier
            threads = threads or LANES * len(paths)
            arrived[number] += LANES
            if waits:
                waiting[number].append(n)
                blocked = True
            if arrived[number] >= threads:
                for other in waiting.pop(number, []):
                    clocks[other].next = max(clocks[other].next, when + BARRIER)
                    if len(times[other]) < len(paths[other]):
                        heapq.heappush(queue, (clocks[other].next, other))
                arrived[number] = 0
        left -= ended
        if not blocked and not ended:
            heapq.heappush(queue, (clock.next, n))
    if left:
        raise Deadlock(f"{left} warps wait at a barrier for ever: the paths do not fit together")
    return times
