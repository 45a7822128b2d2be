"""How much of the computer's memory a training on a GPU may lock."""

from pathlib import Path

import pytest

from tenbin import device as device_module
from tenbin.device import Device
from tenbin.errors import BudgetError
from tenbin.memory import MIB

GPU, CPU = Device("cuda", "a GPU", 80 * 2**30), Device("cpu", "a CPU", None)
LINUX = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system says it elsewhere")
NEW, OLD = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_half_of_what_is_free_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(device_module, "_free_bytes", lambda: 1000 * MIB)
    assert GPU.host_room(None) == 500 * MIB
    assert GPU.host_room(900) == 900 * MIB
    assert GPU.host_room(0) == 0
    assert CPU.host_room(None) == CPU.host_room(900) == 0


def test_more_than_is_free_is_an_error_before_anything_is_locked(monkeypatch):
    monkeypatch.setattr(device_module, "_free_bytes", lambda: 1000 * MIB)
    with pytest.raises(BudgetError, match=r"budget\.host_mib") as caught:
        GPU.host_room(1001)
    assert "1000 MiB of the computer's memory are free" in str(caught.value)


@LINUX
def test_what_is_free_is_less_than_there_is():
    total = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]) * 1024
    assert 0 < device_module._free_bytes() < total


def group(folder, names, most, used, stat):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip((*names, "memory.stat"), (most, used, stat), strict=True):
        folder.joinpath(name).write_text(f"{value}\n", encoding="ascii")


@LINUX
@pytest.mark.parametrize(
    ("own", "place", "names", "stat"),
    [
        ("0::/", "", NEW, "anon 7\nactive_file 10\ninactive_file 20"),
        ("0::/jobs/17/step", "jobs/17", NEW, "anon 7\nactive_file 10\ninactive_file 20"),
        ("9:cpuset:/\n4:cpu,memory:/docker/x\n0::/", "memory", OLD, "inactive_file 1\nactive_file 2\n"
         "total_inactive_file 25\ntotal_active_file 5"),
        ("4:memory:/slurm/job_3", "memory/slurm/job_3", OLD, "active_file 30"),
    ],
)  # fmt: skip
def test_a_container_or_a_batch_job_bounds_what_is_free(own, place, names, stat, monkeypatch, tmp_path):
    """Files that are kept in case they are read again count as used there, and are free all the same."""
    monkeypatch.setattr(device_module, "CGROUPS", tmp_path)
    monkeypatch.setattr(device_module, "OWN_CGROUPS", tmp_path / "own")
    tmp_path.joinpath("own").write_text(own + "\n", encoding="utf-8")
    unbound = device_module._free_bytes()
    assert unbound > 5 * MIB
    group(tmp_path / place, names, 3 * MIB, 2 * MIB, stat)
    assert device_module._free_bytes() == MIB + 30
    group(tmp_path / place, names, MIB, 2 * MIB, stat)
    assert device_module._free_bytes() == 0
    unlimited = "max" if names == NEW else 2**63 - 4096
    group(tmp_path / place, names, unlimited, 2 * MIB, stat)
    assert device_module._free_bytes() > 5 * MIB


@LINUX
def test_where_no_group_says_anything_the_system_does(monkeypatch, tmp_path):
    monkeypatch.setattr(device_module, "CGROUPS", tmp_path)
    assert device_module._free_bytes() > 5 * MIB
    monkeypatch.setattr(device_module, "OWN_CGROUPS", tmp_path / "nowhere")
    assert device_module._free_bytes() > 5 * MIB
