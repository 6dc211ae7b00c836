# SPDX-License-Identifier: Apache-2.0
"""The model of the CUDA kernels' speed: parsing, path and timing of small SASS programs with known answers."""

import collections
import importlib.machinery
import importlib.util
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "experiments" / "bench" / "gpu"
MODEL = FOLDER / "model"
sys.path.insert(0, str(FOLDER))
import sass  # noqa: E402

NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no nvcc")


def program(*lines):
    """A kernel from lines `[label:] instruction [; stall, write barrier, read barrier, wait mask]`."""
    text, address = "\t.section\t.text.kernel,\"ax\",@progbits\n", 0
    for line in lines:
        if line.endswith(":"):
            text += f"{line}\n"
            continue
        code, _, control = line.partition(";")
        stall, write, read, wait = [*map(int, control.split(",")), *(1, 7, 7, 0)[len(control.split(",")):]] if control else (1, 7, 7, 0)
        bits = stall | 1 << 4 | write << 5 | read << 8 | wait << 11
        text += f"        /*{address:04x}*/                   {code.strip()} ;      /* 0x{0:016x} */\n"
        text += f"                                            /* 0x{bits << 41:016x} */\n"
        address += 16
    return sass.parse(text)["kernel"]


def path_of(kernel, parameters=b"", warp=0, threads=32):
    return sass.Warp(kernel, parameters, threads, warp).run()


def words(*numbers):
    return struct.pack(f"<{len(numbers)}I", *[number & 0xffffffff for number in numbers])


def issue_times(*lines):
    kernel = program(*lines)
    return sass.alone(kernel.code, path_of(kernel).path)


# --- Parsing ----------------------------------------------------------------------------------------------------------


def test_control_bits():
    # As nvdisasm lists them: `LDGDEPBAR` that sets scoreboard 0, and `EXIT` that waits for nothing.
    assert sass.control_fields(0x000e240000000000) == (2, 1, 0, 7, 0)
    assert sass.control_fields(0x000fea0003800000) == (5, 1, 7, 7, 0)
    one = program("LDS R2, [R3]; 4, 2, 5, 33").code[0]
    assert (one.stall, one.yields, one.write_barrier, one.read_barrier, one.wait) == (4, 1, 2, 5, 33)


def test_operands_labels_and_tables():
    kernel = program(".L_x_1:", "@!P0 LDG.E.64 R12, desc[UR8][R12.64+0x10]", "@UP1 BRA `(.L_x_1)",
                     'BRX R60 -0x20    (*"BRANCH_TARGETS .L_x_1,.L_x_2"*)', ".L_x_2:", "EXIT")
    load, branch, indirect, _ = kernel.code
    assert (load.guard, load.opcode, load.operands) == ("!P0", "LDG.E.64", ["R12", "desc[UR8][R12.64+0x10]"])
    assert (branch.guard, kernel.target(branch)) == ("UP1", 0)
    assert indirect.tables == [".L_x_1", ".L_x_2"] and sass.successors(kernel, 2) == [0, 3]


def test_constant_bank_of_jump_tables():
    text = "\t.section\t.nv.constant2.kernel,\"a\",@progbits\n        /*0000*/ \t.byte\t0x40, 0x00, 0x00, 0x00\n"
    text += "\t.section\t.text.kernel,\"ax\"\n        /*0000*/   EXIT ;   /* 0x0000000000000000 */\n   /* 0x0000000000000000 */\n"
    assert sass.parse(text)["kernel"].jump_tables == b"\x40\0\0\0"


# --- Loops and roles --------------------------------------------------------------------------------------------------


NESTED = ("MOV R1, 0x0", ".L_x_1:", "MOV R2, 0x0", ".L_x_2:", "IADD3 R2, R2, 0x1, RZ", "ISETP.LT.AND P0, PT, R2, 0x3, PT",
          "@P0 BRA `(.L_x_2)", "BAR.SYNC.DEFER_BLOCKING 0x1, 0x20", "IADD3 R1, R1, 0x1, RZ",
          "ISETP.LT.AND P0, PT, R1, c[0x0][0x210], PT", "@P0 BRA `(.L_x_1)", "EXIT")


def test_loops():
    found = sass.loops(program(*NESTED))
    assert found == {2: {2, 3, 4}, 1: {1, 2, 3, 4, 5, 6, 7, 8}}
    assert list(sass.outermost(found)) == [1]


def test_loop_with_two_ways_back_and_an_exit():
    kernel = program(".L_x_1:", "@P0 BRA `(.L_x_2)", "@P1 EXIT", "@P2 BRA `(.L_x_1)", ".L_x_2:", "@P3 BRA `(.L_x_1)", "EXIT")
    assert sass.loops(kernel) == {0: {0, 1, 2, 3}}


def test_a_jump_into_the_middle_is_no_loop():
    kernel = program("@P0 BRA `(.L_x_2)", ".L_x_1:", "NOP", ".L_x_2:", "NOP", "@P1 BRA `(.L_x_1)", "EXIT")
    assert sass.loops(kernel) == {2: {1, 2, 3}} or sass.loops(kernel) == {}


def test_roles():
    assert sass.role_of(iter(["HMMA.16816.F32.BF16", "MUFU.EX2", "BAR.ARV"])) == "producer"
    assert sass.role_of(iter(["HGMMA.64x32x16.F32.BF16", "MUFU.RCP", "BAR.SYNC.DEFER_BLOCKING"])) == "consumer"
    assert sass.role_of(["SYNCS.PHASECHK.TRANS64.TRYWAIT", "HMMA.16816.F32.BF16"]) == "consumer"
    assert sass.role_of(["FADD", "BAR.SYNC.DEFER_BLOCKING"]) == "other"
    assert sass.role_of(["HMMA.16816.F32.BF16", "MUFU.EX2"]) == "other"


# --- Paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trips", [1, 2, 5])
def test_trip_counts_from_parameters(trips):
    done = path_of(program(*NESTED), words(trips))
    passed = collections.Counter(step.n for step in done.path)
    assert passed[1] == trips and passed[2] == 3 * trips and passed[9] == 1
    assert not done.undecided and not done.unmodelled


def test_lanes_that_diverge_run_one_after_the_other():
    kernel = program("S2R R0, SR_TID.X", "ISETP.GE.AND P0, PT, R0, 0x10, PT", "BSSY B0, `(.L_x_2)", "@P0 BRA `(.L_x_1)",
                     "MOV R1, 0x1", "BSYNC B0", ".L_x_1:", "MOV R1, 0x2", "BSYNC B0", ".L_x_2:", "IADD3 R2, R1, R0, RZ", "EXIT")
    done = path_of(kernel)
    passed = collections.Counter(step.n for step in done.path)
    assert [passed[n] for n in range(10)] == [1] * 10
    assert done.registers["R"]["2"] == [n + (2 if n >= 16 else 1) for n in range(32)]
    # Warp 1 has no lane below 16 and takes one side.
    assert 4 not in {step.n for step in path_of(kernel, warp=1, threads=64).path}


def test_a_predicate_that_is_false_in_all_lanes_runs_nothing():
    done = path_of(program("ISETP.NE.AND P0, PT, RZ, RZ, PT", "@P0 STS [R0], R1", "@!P0 STS [R0], R1", "EXIT"))
    assert [step.ran for step in done.path[1:3]] == [False, True]


def test_data_is_unknown_and_branches_on_it_avoid_subroutines():
    kernel = program("LDS R1, [R0]", "FSETP.GT.AND P0, PT, R1, RZ, PT", "@P0 BRA `(.L_x_1)", "CALL.REL.NOINC `(.L_x_2)", ".L_x_1:",
                     "EXIT", ".L_x_2:", "RET.REL.NODEC R4 `(kernel)")
    done = path_of(kernel)
    assert [step.n for step in done.path] == [0, 1, 2, 4] and done.undecided == {0x20: 1}


def test_calls_return():
    kernel = program("MOV R4, 0x30", "MOV R5, 0x0", "CALL.REL.NOINC `(.L_x_1)", "EXIT", ".L_x_1:", "RET.REL.NODEC R4 `(kernel)")
    assert [step.n for step in path_of(kernel).path] == [0, 1, 2, 4, 3]


def test_indirect_branches():
    kernel = program("LDC R60, c[0x2][0x4]", "BRX R60 -0x20   (*\"BRANCH_TARGETS .L_x_1,.L_x_2\"*)", ".L_x_1:", "EXIT", ".L_x_2:", "EXIT")
    kernel.jump_tables = words(0x20, 0x30)
    assert [step.n for step in path_of(kernel).path] == [0, 1, 3]


def test_spilled_numbers_come_back():
    done = path_of(program("LDC R1, c[0x0][0x28]", "MOV R2, 0x70605", "MOV R3, 0x1", "STL.64 [R1+0x8], R2", "STL.U8 [R1+0x9], R3",
                           "LDL R4, [R1+0x8]", "LDL.U16 R5, [R1+0xa]", "LDL.64 R6, [R1+0x8]", "LDL R8, [R1]", "EXIT"))
    assert [done.registers["R"][n] for n in "45678"] == [0x70105, 7, 0x70105, 1, None]


def result(*lines, parameters=b""):
    done = path_of(program(*lines, "EXIT"), parameters)
    assert not done.unmodelled
    return done.registers["R"]["9"]


@pytest.mark.parametrize("a, b", [(0, 0), (5, 3), (3, 5), (1 << 32, 1), (0xfffffffff, 1), (7 << 40, 9 << 33)])
def test_64_bit_differences(a, b):
    given = words(a, a >> 32, b, b >> 32)
    code = ("LDC.64 R2, c[0x0][0x210]", "LDC.64 R4, c[0x0][0x218]", "IADD3 R6, P0, R2, -R4, RZ", "IADD3.X R9, R3, ~R5, RZ, P0, !PT")
    assert result(*code, parameters=given) == (a - b >> 32) & 0xffffffff
    code = ("LDC.64 R2, c[0x0][0x210]", "LDC.64 R4, c[0x0][0x218]", "SHF.L.U64.HI R7, R4, 0x4, R5", "LEA R6, P0, -R4, R2, 0x4",
            "IADD3.X R9, R3, ~R7, RZ, P0, !PT")
    assert result(*code, parameters=given) == (a - 16 * b >> 32) & 0xffffffff


@pytest.mark.parametrize("x, y", [(100, 7), (0xffffffff, 3), (5, 9), (0x80000000, 0x10001), (12345678, 1)])
def test_division(x, y):
    """The sequence by which the compiler divides unsigned numbers."""
    assert result("LDC R5, c[0x0][0x210]", "LDC R4, c[0x0][0x214]", "I2F.U32.RP R0, R4", "MUFU.RCP R0, R0", "IADD3 R2, R0, 0xffffffe, RZ",
                  "F2I.FTZ.U32.TRUNC.NTZ R3, R2", "IMAD.MOV R7, RZ, RZ, -R3", "MOV R2, RZ", "IMAD R7, R7, R4, RZ",
                  "IMAD.HI.U32 R3, R3, R7, R2", "IMAD.HI.U32 R9, R3, R5, RZ", "IMAD.MOV R7, RZ, RZ, -R9", "IMAD R6, R4, R7, R5",
                  "ISETP.GE.U32.AND P0, PT, R6, R4, PT", "@P0 IADD3 R6, R6, -R4, RZ", "@P0 IADD3 R9, R9, 0x1, RZ",
                  "ISETP.GE.U32.AND P0, PT, R6, R4, PT", "@P0 VIADD R9, R9, 0x1", parameters=words(x, y)) == x // y


@pytest.mark.parametrize("code, value", [
    ("LOP3.LUT R9, R2, R3, RZ, 0xf8, !PT", 0xf5), ("LOP3.LUT R9, R2, 0xf, R3, 0x48, !PT", 0x0a), ("PRMT R9, R2, 0x5410, R3", 0x000f00f5),
    ("SHF.R.S32.HI R9, RZ, 0x4, R4", 0xfffffffe), ("SHF.R.U32.HI R9, RZ, 0x1c, R4", 15), ("SEL R9, R2, R3, !PT", 0x0f),
    ("VIMNMX R9, R2, R4, !PT", 0xf5), ("VIMNMX.U32 R9, R2, R4, !PT", 0xffffffe0), ("IABS R9, R4", 32),
    ("LEA R9, R2, R3, 0x2", 0x3e3), ("LEA.HI.X.SX32 R9, R4, R3, 0x1c, PT", 0x0e), ("LEA.HI R9, R4, R3, RZ, 0x4", 0x1e)])
def test_integer_instructions(code, value):
    assert result("MOV R2, 0xf5", "MOV R3, 0xf", "MOV R4, -0x20", code) == value


def test_copies_lane_by_lane():
    """The loop in which one lane after the other starts a bulk copy."""
    done = path_of(program("S2R R0, SR_TID.X", "ISETP.LT.AND P0, PT, R0, 0x4, PT", "ISETP.NE.AND P1, PT, RZ, RZ, PT", ".L_x_1:",
                           "@P0 ELECT P1, URZ, PT", "@P1 R2UR UR4, R0", "@P1 PLOP3.LUT P0, PT, P1, PT, PT, 0x8, 0x0",
                           "PLOP3.LUT P1, PT, PT, PT, PT, 0x8, 0x0", "UBLKCP.S.G [UR4], [UR6], UR8", "@P0 BRA.U.ANY `(.L_x_1)", "EXIT"))
    assert sum(step.n == 7 for step in done.path) == 4


# --- Shared memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step, width, expected", [(4, 4, (1, 1)), (8, 4, (2, 1)), (128, 4, (32, 1)), (0, 4, (1, 1)), (2, 2, (1, 1)),
                                                   (8, 8, (2, 2)), (16, 16, (4, 4)), (128, 16, (32, 4)), (272, 16, (4, 4))])
def test_passes(step, width, expected):
    assert sass.passes([step * lane for lane in range(32)], width) == expected


def test_conflicts_of_a_path():
    done = path_of(program("S2R R0, SR_TID.X", "IMAD.SHL.U32 R1, R0, 0x80, RZ", "STS [R1+0x4], R2", "LDSM.16.M88.4 R4, [R1]", "EXIT"))
    assert [(step.passes, step.ideal) for step in done.path[2:4]] == [(32, 1), (32, 4)]


# --- Time -------------------------------------------------------------------------------------------------------------


def test_stall_counts():
    assert issue_times("FADD R1, R2, R3; 4", "FADD R4, R1, R1; 9", "EXIT")[1] == [0, 4, 13]


def test_scoreboards():
    clock, times = issue_times("LDG.E R1, desc[UR8][R2.64]; 2, 3", "LDS R4, [R5]; 2, 1", "FADD R6, R4, R4; 1, 7, 7, 2",
                               "FADD R7, R1, R6; 1, 7, 7, 8", "FADD R8, R1, R6; 1, 7, 7, 8", "EXIT")
    shared, loaded = 2 + sass.LATENCY["shared"], sass.LATENCY["global"]
    assert times == [0, 2, shared, loaded, loaded + 1, loaded + 2]
    assert clock.global_waits == 1 and clock.stalled["global"] == loaded - shared - 1 and clock.stalled["shared"] == shared - 4


def test_a_false_predicate_sets_no_scoreboard():
    assert issue_times("@!PT LDG.E R1, desc[UR8][R2.64]; 2, 3", "FADD R7, R1, R6; 1, 7, 7, 8", "EXIT")[1] == [0, 2, 3]


def test_asynchronous_copies_are_waited_for_at_the_barrier():
    _, times = issue_times("LDGSTS.E.BYPASS.128 [R11], desc[UR8][R12.64]; 2", "LDGDEPBAR; 2, 0", "FADD R1, R2, R3; 5",
                           "DEPBAR.LE SB0, 0x0; 1, 7, 7, 0", "EXIT")
    assert times[2] == 4 and times[3] == sass.LATENCY["async"]


def test_units_are_busy():
    assert issue_times("MUFU.EX2 R1, R2", "MUFU.EX2 R3, R2", "FADD R4, R4, R4", "IMAD R5, R5, R5, R5", "LOP3.LUT R6, R6, R6, RZ, 0xc0, !PT",
                       "LOP3.LUT R7, R7, R7, RZ, 0xc0, !PT", "EXIT")[1] == [0, 8, 9, 10, 11, 13, 14]


def test_conflicts_take_time():
    _, times = issue_times("S2R R0, SR_TID.X", "IMAD.SHL.U32 R1, R0, 0x80, RZ", "LDS R2, [R1]; 1, 0", "LDS R3, [R1]; 1, 1", "EXIT; 1, 7, 7, 1")
    assert times == [0, 1, 2, 34, 2 + sass.LATENCY["shared"] + 31]


def test_warpgroup_products():
    _, times = issue_times("HGMMA.64x128x16.F32.BF16 R24, R112, gdesc[UR20], R24, gsb0", "HGMMA.64x16x16.F32.BF16 R8, R112, gdesc[UR20], R8, gsb0",
                           "WARPGROUP.DEPBAR.LE gsb0, 0x0", "EXIT")
    assert times[1] == 64 and times[2] == 64 + sass.WGMMA_LATENCY + 8


PAIR = ("S2R R0, SR_TID.X", "ISETP.LT.AND P0, PT, R0, 0x20, PT", "@P0 BRA `(.L_x_1)", "FADD R1, R1, R1; 15", "FADD R1, R1, R1; 15",
        ".L_x_1:", "BAR.SYNC.DEFER_BLOCKING 0x1, 0x40", "EXIT")


def test_warps_wait_for_each_other():
    kernel = program(*PAIR)
    paths = [path_of(kernel, warp=warp, threads=64).path for warp in range(2)]
    assert sass.alone(kernel.code, paths[0])[1][-1] == 3 + sass.BARRIER
    first, second = sass.together(kernel.code, paths)
    assert second[-2] == 33 and first[-1] == second[-1] == 33 + sass.BARRIER


def test_a_barrier_without_partner_is_reported():
    kernel = program(*PAIR)
    with pytest.raises(sass.Deadlock):
        sass.together(kernel.code, [path_of(kernel).path])


def test_four_warps_issue_at_once_and_a_fifth_waits():
    kernel = program(*["FADD R1, R1, R1"] * 10, "EXIT")
    paths = [path_of(kernel).path] * 8
    assert {times[-1] for times in sass.together(kernel.code, paths[:4])} == {10}
    assert max(times[-1] for times in sass.together(kernel.code, paths)) == 21


# --- The command ------------------------------------------------------------------------------------------------------


def model(*options):
    return subprocess.run([sys.executable, MODEL, *options], capture_output=True, text=True, check=False)


def test_a_missing_compiler_is_one_line():
    done = model("--nvcc", "/nowhere/nvcc")
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"model: no /nowhere/nvcc: install the CUDA toolkit .* --nvcc\n", done.stderr)
    assert model("--arch", "gfx90a").returncode == 2


@pytest.fixture(name="command", scope="module")
def load_command():
    loader = importlib.machinery.SourceFileLoader("gpu_model", str(MODEL))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_model", loader))
    loader.exec_module(module)
    return module


def test_output_of_the_assembler(command):
    facts = command.ptxas_facts("""\
ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized in the function '_Zab'
ptxas info    : Compiling entry function '_Zab' for 'sm_90a'
ptxas info    : Function properties for _Zab
    128 bytes stack frame, 144 bytes spill stores, 172 bytes spill loads
ptxas info    : Used 255 registers, used 2 barriers, 64 bytes smem
""")
    assert facts == {"_Zab": {"registers": 255, "spills": 144, "static_shared": 64,
                              "warnings": ["C7511: Potential Performance Loss: wgmma.mma_async instructions are serialized"]}}


@pytest.mark.parametrize("registers, threads, shared, blocks", [(255, 128, 99328, 2), (255, 256, 156416, 1), (128, 128, 1000, 4),
                                                                (32, 1024, 1000, 2), (168, 384, 100000, 1)])
def test_blocks_per_multiprocessor(command, registers, threads, shared, blocks):
    assert command.blocks_per_sm(registers, threads, shared) == blocks


@pytest.mark.slow
@needs_nvcc
def test_the_report_is_complete(tmp_path):
    done = model("--json", tmp_path / "report.json", "--kernel", "kda_forward", "--kernel", "kda_gradient")
    if done.returncode == 2:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"command", "commit", "arch", "clock_ghz", "kernels", "modelled_ms", "instances", "patterns"} <= set(report)
    forward, gradient = report["kernels"]
    for kernel in (forward, gradient):
        assert {"name", "registers", "spills", "shared_memory", "blocks_per_sm", "roles", "issue_slots_per_chunk", "warnings",
                "modelled_ms", "undecided_branches", "unmodelled_opcodes"} <= set(kernel)
        assert kernel["unmodelled_opcodes"] == {} and kernel["registers"] > 32 and kernel["name"] in done.stdout
        for role in kernel["roles"].values():
            assert {"instructions_per_chunk", "by_class", "matrix_instructions", "cycles_per_chunk", "global_load_waits"} <= set(role)
            assert sum(role["by_class"].values()) == role["instructions_per_chunk"] <= role["cycles_per_chunk"]
    assert set(forward["roles"]) == {"producer", "consumer"} and set(gradient["roles"]) == {"body"}
    # Products of a consumer: of 8 x 16 channels with two kinds of rows and with the columns, of u, and of o; 2 x 16 tokens.
    assert forward["roles"]["consumer"]["matrix_instructions"] == 2 * (8 + 8 + 8) + 2 + 2
    assert report["modelled_ms"]["kda_forward_8k"]["H100_bound"] > 0.2
    # The followed block stores each element of its outputs once: o and the final state for 64 columns; gradients of a chunk.
    assert forward["stores"] == {"unknown": 0, "repeated": 0, "bytes": forward["chunks"] * 16 * 64 * 2 + 128 * 64 * 4}
    assert gradient["stores"] == {"unknown": 0, "repeated": 0, "bytes": 4 * 16 * 128 * 2 + 16 * 2}
