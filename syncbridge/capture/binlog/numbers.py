"""Numbers as the server prints them: FLOAT and DOUBLE texts, DECIMAL from its packed bytes. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

#: Decimal exponents for which the server prints a FLOAT or DOUBLE without an exponent.
_FIXED = range(-15, 15)


def float_text(value: float) -> str:
    """A FLOAT (given as the double it widens to): at most 6 significant digits."""
    text = f"{value:.6g}"
    return text if "e" not in text else _expand(text)


def double_text(value: float, width: int = 1000) -> str:
    """A DOUBLE: the shortest digits that read back as the same number, without exponent if that fits `width`."""
    text = repr(value)
    if 1e-4 <= value < 1e15 or -1e15 < value <= -1e-4:  # repr() and the server agree on the form
        return text[:-2] if text.endswith(".0") else text
    return _expand(text, width)


def _expand(text: str, width: int = 1000) -> str:
    """Rewrite a number's text in the server's choice between fixed and exponent form."""
    sign = "-" if text.startswith("-") else ""
    mantissa, _, exponent_text = text.removeprefix("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    exponent = int(exponent_text or 0) + len(whole) - 1
    digits = whole + fraction
    leading = len(digits) - len(digits.lstrip("0"))
    exponent -= leading
    digits = digits.strip("0") or "0"
    if digits == "0":
        return f"{sign}0"
    if exponent in _FIXED or 0 < exponent < len(digits) - 1:
        fixed = sign + _fixed(digits, exponent)
        if len(fixed) <= width:
            return fixed
    return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{exponent}"


def _fixed(digits: str, exponent: int) -> str:
    if exponent < 0:
        return f"0.{'0' * (-exponent - 1)}{digits}"
    digits = digits.ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return f"{digits[: exponent + 1]}{'.' if fraction else ''}{fraction}"


#: Bytes that hold 0..9 decimal digits.
_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def decimal_size(precision: int, scale: int) -> int:
    """Bytes of a packed DECIMAL(precision, scale)."""
    whole, fraction = decimal_groups(precision, scale)
    return sum(size for size, _ in (*whole, *fraction))


def decimal_groups(precision: int, scale: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(bytes, digits) of each group of a packed DECIMAL(precision, scale): before the point, and behind it."""
    whole, part = divmod(precision - scale, 9)
    fraction, rest = divmod(scale, 9)
    return (
        ([(_BYTES[part], part)] if part else []) + [(4, 9)] * whole,
        [(4, 9)] * fraction + ([(_BYTES[rest], rest)] if rest else []),
    )


def decimal_source(precision: int, scale: int) -> tuple[int, int, str]:
    """(sign bit, all bits, f-string body) for DECIMAL(precision, scale), for generated code.

    Packed: groups of 9 digits in 4 big-endian bytes, shorter groups first (integer) and last (fraction); the sign bit
    inverted, all bits inverted when negative. The body prints the magnitude of `t`, the packed bytes as one big-endian
    number with the sign bit flipped back, and all bits when that leaves it set.
    """
    size = decimal_size(precision, scale)
    whole, fraction = decimal_groups(precision, scale)
    body = f"{{{_combined(_groups(whole, from_bit=8 * size))}}}"
    if scale:
        groups = _groups(fraction, from_bit=8 * sum(width for width, _ in fraction))
        body += f".{{{_combined(groups)}:0{scale}d}}"
    return 1 << (8 * size - 1), (1 << 8 * size) - 1, body


@lru_cache(1024)
def decimal_reader(precision: int, scale: int) -> Callable[[bytes], str]:
    """A function from the packed bytes of DECIMAL(precision, scale) to its text."""
    sign_bit, ones, body = decimal_source(precision, scale)
    magnitude: Callable[[int], str] = eval(f"lambda t: f'{body}'")  # noqa: S307 - numbers only

    def text(packed: bytes) -> str:
        value = int.from_bytes(packed, "big") ^ sign_bit
        return magnitude(value) if value < sign_bit else "-" + magnitude(value ^ ones)

    return text


def _combined(groups: list[tuple[int, int, int]]) -> str:
    """Source of the number that digit groups of `t` make together."""
    source = "0"
    for shift, mask, power in groups:
        group = f"(t >> {shift} & {mask})" if shift else f"(t & {mask})"
        source = group if source == "0" else f"({source} * {power} + {group})"
    return source


def _groups(widths: list[tuple[int, int]], from_bit: int) -> list[tuple[int, int, int]]:
    """(shift, mask, power of ten) of each digit group, the first one starting at bit `from_bit`."""
    groups = []
    for width, digits in widths:
        from_bit -= 8 * width
        groups.append((from_bit, (1 << 8 * width) - 1, 10**digits))
    return groups
