"""What the processors of this node can, in the words by which people ask for it with `rq run --need`.

From /proc/cpuinfo, proc(5): the names there are those of the kernel, and too many for a card.
"""

from __future__ import annotations

import os

#: Its first lines are those of the first processor; that of a large machine has megabytes.
_BYTES_MAX = 1 << 14
#: The kernel's names that people ask for as they are.
_AS_IS = frozenset(
    "aes amx_bf16 amx_fp16 amx_int8 amx_tile avx avx2 avx512_bf16 avx512_bitalg avx512_fp16 avx512_vbmi2"
    " avx512_vnni avx512_vpopcntdq avx512bw avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vl avx_vnni"
    " bmi1 bmi2 f16c fma fma4 pclmulqdq popcnt sha_ni sse4_1 sse4_2 sse4a ssse3"
    " asimd asimddp asimdhp atomics bf16 crc32 i8mm sha2 sha3 sve sve2".split()
)
#: Other words, and what they stand for: the levels of the x86-64 psABI, and what is commonly said.
_LEVEL_2 = frozenset("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3".split())
_LEVEL_3 = _LEVEL_2 | frozenset("abm avx avx2 bmi1 bmi2 f16c fma movbe xsave".split())
_MEANING = {
    "amx": frozenset({"amx_tile"}),
    "avx512": frozenset({"avx512f"}),
    "neon": frozenset({"asimd"}),
    "sse4": frozenset({"sse4_1", "sse4_2"}),
    "x86-64-v2": _LEVEL_2,
    "x86-64-v3": _LEVEL_3,
    "x86-64-v4": _LEVEL_3 | frozenset("avx512bw avx512cd avx512dq avx512f avx512vl".split()),
}


def of_processors(root: str = "", machine: str | None = None) -> tuple[str, ...]:
    """The architecture, as uname(2) has it, and what the first processor can; sorted.

    `root` stands before /proc, and `machine` in place of the architecture, for tests.
    """
    found = flags(_cpuinfo(root))
    words = {os.uname().machine if machine is None else machine, *(found & _AS_IS)}
    words |= {word for word, needed in _MEANING.items() if needed <= found}
    return tuple(sorted(words - {""}))


def flags(text: str) -> frozenset[str]:
    """The kernel's names of what the first processor can, none if the text does not tell."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        # Of x86, of ARM, and of s390.
        if name.strip() in ("flags", "Features", "features"):
            return frozenset(value.split())
    return frozenset()


def _cpuinfo(root: str) -> str:
    try:
        with open(f"{root}/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return file.read(_BYTES_MAX)
    except OSError:
        return ""
