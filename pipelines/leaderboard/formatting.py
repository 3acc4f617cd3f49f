"""How the page and the tables write numbers: a dash when not measured, a real minus, an interval in brackets."""

from collections.abc import Callable

NOT_MEASURED, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def num(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, never fewer than its integer part; a dash when not measured."""
    if value is None:
        return NOT_MEASURED
    if value != 0 and abs(value) < 10.0**-digits:
        shown = f"{value:.{digits - 1}e}"
    elif abs(value) >= 10 ** (digits - 1):
        shown = f"{value:,.0f}"
    else:
        shown = f"{value:.{digits}g}"
    return shown.replace("-", MINUS)


def percent(value: float | None) -> str:
    """A fraction as whole percent."""
    return NOT_MEASURED if value is None else f"{100 * value:,.0f}%".replace("-", MINUS)


def whole(value: float | None) -> str:
    """A count with thousands separators."""
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """Megabytes with two decimals; what is there but rounds to nothing is "< 0.01"."""
    if value is None:
        return NOT_MEASURED
    return "< 0.01" if 0 < value < 0.005 else f"{value:,.2f}"


def clock(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return NOT_MEASURED
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def fixed(value: float | None) -> str:
    """A normalised score: three decimals, as papers print them."""
    return NOT_MEASURED if value is None else f"{value:,.3f}".replace("-", MINUS)


def ranged(value: float | None, low: float | None, high: float | None, write: Callable[[float | None], str]) -> str:
    """A value with its interval in brackets, "0.847 [0.790, 0.908]"; the value alone where there is none."""
    if value is None or low is None or high is None:
        return write(value)
    return f"{write(value)} [{write(low)}, {write(high)}]"


def ranking(rank: tuple[int, int] | None) -> str:
    """ "2", or "1 to 3" where intervals overlap; empty without a rank."""
    if rank is None:
        return ""
    best, worst = rank
    return str(best) if best == worst else f"{best} to {worst}"


def span(ends: tuple[int, int] | None) -> str:
    """ "16", or "8 to 16"; "unknown" without a count."""
    if ends is None:
        return "unknown"
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
