"""The table that compares a feature pyramid with dilation."""

import fpn_efficiency
import pytest


def test_table_has_counts_ratios_and_what_was_measured():
    counts = {
        (name, 64): (index * 10**9, index * 2**20)
        for index, name in enumerate(fpn_efficiency.NETWORKS, start=1)
    }
    measured = {
        ("dilated, stride 8", 64): {"error": "out of memory"},
        ("FPN", 64): {"seconds": 1.234, "peak_bytes": 2**30},
    }
    rows = {}
    for line in fpn_efficiency.table(counts, measured).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[1]] = cells
    assert rows["FPN"] == ["64 x 64", "FPN", "2", "1.00", "2", "1.00", "1.23", "1024"]
    assert rows["semantic FPN"][2:] == ["3", "1.50", "3", "1.50", "", ""]
    assert rows["dilated, stride 8"][2:] == ["5", "2.50", "5", "2.50", "out of memory", ""]


@pytest.mark.slow
def test_dilation_costs_more_than_the_pyramid():
    counts = fpn_efficiency.count([64])
    assert {name for name, _ in counts} == set(fpn_efficiency.NETWORKS)
    macs = {name: count for (name, _), (count, _) in counts.items()}
    assert macs["trunk, stride 32"] == trunk_macs(64, (16, 8, 4, 2))
    assert macs["dilated, stride 16"] == trunk_macs(64, (16, 8, 4, 4))
    assert macs["dilated, stride 8"] == trunk_macs(64, (16, 8, 8, 8))
    assert macs["FPN"] < macs["semantic FPN"] < macs["dilated, stride 8"]


def trunk_macs(size, sides):
    """Products of ResNeXt-152 32x8d whose four stages' maps have these sides."""
    total = (size // 2) ** 2 * 49 * 3 * 64
    channels, before = 64, size // 4
    for stage, (side, blocks) in enumerate(zip(sides, (3, 8, 36, 3), strict=True)):
        inner, out = 256 * 2**stage, 256 * 2**stage
        for block in range(blocks):
            first_side = before if block == 0 else side
            total += first_side**2 * channels * inner
            total += side**2 * (9 * inner * inner // 32 + inner * out)
            if block == 0:
                total += side**2 * channels * out
            channels = out
        before = side
    return total
