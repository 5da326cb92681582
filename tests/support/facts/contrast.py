"""WCAG's contrast of two colours. Pure."""

from __future__ import annotations

AA = 4.5
"""What text must have at least (WCAG 2.2, 1.4.3)."""


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)`, `#rgb` or `#rrggbb`."""
    digits = colour.removeprefix("#")
    if digits == colour:
        numbers = [int(p) for p in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    else:
        whole = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
        numbers = list(bytes.fromhex(whole))
    parts = [number / 255 for number in numbers]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    """From 1 to 21."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
