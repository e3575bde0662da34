"""The text of PTX: what is cut off it, what is added, and when it is refused."""

import pytest

from kernels.launching.errors import KernelError
from kernels.plugins import ptx as surgery
from tests.kernels.plugins.plugin_stand_ins import text


def test_scratch_parameters_are_stripped_when_unused() -> None:
    ptx = text("mix", "ppip", 128, "ld.param.b64 %rd1, [mix_param_3];")
    stripped = surgery.strip_scratch(ptx, 4)
    assert [line.split()[-1] for line in surgery.parameters(stripped)] == [f"mix_param_{n}" for n in range(4)]
    assert stripped.partition(")")[2] == ptx.partition(")")[2]
    assert surgery.strip_scratch(stripped, 4) == stripped
    with pytest.raises(KernelError, match="mix uses its parameter mix_param_3"):
        surgery.strip_scratch(ptx, 3)
    with pytest.raises(KernelError, match="mix has 6 parameters in PTX, its launch 7"):
        surgery.strip_scratch(ptx, 7)
    # A name that only begins alike is another name.
    alike = text("mix", "p", 128, "call mix_param_1_helper;")
    assert len(surgery.parameters(surgery.strip_scratch(alike, 1))) == 1
    with pytest.raises(KernelError, match="mix_param_2"):
        surgery.strip_scratch(text("mix", "pp", 128, "ld.param.b64 %rd1, [mix_param_2];"), 2)
    with pytest.raises(KernelError, match=r"has one \.visible \.entry"):
        surgery.strip_scratch(ptx + ptx, 4)


def test_threads_are_those_of_the_ptx() -> None:
    assert surgery.block_threads(text("mix", "p", 128), 4) == 128
    with pytest.raises(KernelError, match=r"demands \['256'\] threads a block; 4 warps have 128"):
        surgery.block_threads(text("mix", "p", 256), 4)
    with pytest.raises(KernelError, match="in clusters"):
        surgery.block_threads(text("mix", "p", 128).replace("{", ".reqnctapercluster 2\n{"), 4)


def test_an_entry_gets_another_name_and_its_parameters_keep_theirs() -> None:
    ptx = text("mix", "pi", 128, "ld.param.b64 %rd1, [mix_param_0];")
    renamed = surgery.rename_entry(ptx, "mix_1a2b")
    assert ".visible .entry mix_1a2b(" in renamed
    assert ".entry mix(" not in renamed
    assert surgery.parameters(renamed) == surgery.parameters(ptx)
    assert renamed.partition(")")[2] == ptx.partition(")")[2]


@pytest.mark.parametrize(
    ("target", "plain"), [("sm_90a", "sm_90"), ("sm_120a", "sm_120"), ("sm_100f", "sm_100"), ("sm_89", "sm_89")]
)
def test_a_target_of_one_card_alone_becomes_that_of_its_capability(target: str, plain: str) -> None:
    ptx = text("mix", "p", 128).replace("sm_80", target)
    assert surgery.widen_target(ptx) == text("mix", "p", 128).replace("sm_80", plain)
