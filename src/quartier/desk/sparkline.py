"""A small picture of a series around a finding, as SVG without scripts or inline styles.

The picture says where the flagged run lies; the table beside it says the same in numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from math import isfinite

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from quartier.twin.flags import is_bad

_EDGE = 4.0
# A pause longer than this many usual distances is drawn as a gap.
_GAP = 4.0


def draw(
    values: Sequence[tuple[datetime, float | None, int]],
    first: datetime,
    last: datetime,
    *,
    width: int = 224,
    height: int = 56,
) -> SafeString:
    """Line, flagged points as diamonds, the finding's period shaded; empty where nothing can be drawn."""
    points = [(time, value, flags) for time, value, flags in values if value is not None and isfinite(value)]
    if not points:
        return SafeString("")
    start, end = points[0][0], points[-1][0]
    span_s = (end - start).total_seconds() or 1.0
    lowest = min(value for _time, value, _flags in points)
    highest = max(value for _time, value, _flags in points)
    room = (highest - lowest) or 1.0

    def x(time: datetime) -> float:
        share = (time - start).total_seconds() / span_s
        return round(_EDGE + min(1.0, max(0.0, share)) * (width - 2 * _EDGE), 1)

    def y(value: float) -> float:
        # Halved before it is subtracted: the range of two doubles may be no double.
        share = (value / 2 - lowest / 2) / (room / 2) if isfinite(room) else 0.5
        return round(height - _EDGE - share * (height - 2 * _EDGE), 1)

    steps = sorted((b[0] - a[0]).total_seconds() for a, b in pairwise(points))
    usual_s = steps[len(steps) // 2] if steps else 0.0
    path: list[str] = []
    before: datetime | None = None
    for time, value, _flags in points:
        new = before is None or (usual_s > 0 and (time - before).total_seconds() > _GAP * usual_s)
        path.append(f"{'M' if new else 'L'}{x(time)} {y(value)}")
        before = time
    flagged = [(x(time), y(value)) for time, value, flags in points if is_bad(flags)]
    left, right = x(first), x(last)
    return format_html(
        '<svg class="desk-spark{}" viewBox="0 0 {} {}" role="img" aria-label="{}"'
        ' focusable="false"><rect class="desk-spark__finding" x="{}" y="0" width="{}" height="{}"/>'
        '<path class="desk-spark__line" d="{}"/>{}</svg>',
        " desk-spark--large" if width > 400 else "",
        width,
        height,
        _("Verlauf um den Befund, auffällige Werte als Rauten"),
        left,
        max(2.0, round(right - left, 1)),
        height,
        "".join(path),
        format_html_join(
            "",
            '<path class="desk-spark__flagged" d="M{} {}l3 3l-3 3l-3-3z"/>',
            ((px, round(py - 3, 1)) for px, py in flagged[:200]),
        ),
    )
