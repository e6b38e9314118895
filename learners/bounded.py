"""Numbers with both ends, for settings: none may be infinite, or so large that no clock or file could hold it."""

from typing import Annotated

from msgspec import Meta

MOST, LONGEST = 10**12, 1e9
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Share = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=MOST)]
Amount = Annotated[float, Meta(ge=0, le=MOST)]
Gain = Annotated[float, Meta(ge=-1, le=1)]
#: as long as a clock can be asked to wait, which is about 30 years
Seconds = Annotated[float, Meta(gt=0, le=LONGEST)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=LONGEST)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
Several = Annotated[int, Meta(ge=1, le=MOST)]
