"""Write ``examples/payments.csv.gz``: two thousand card payments of the demo as a table, for the README.

python scripts/sample_table.py
"""

import csv
import gzip
import io
from datetime import UTC, datetime
from pathlib import Path

from stream.tables.payments import payment

ROWS = 2000
#: behind the payments that the folder of ``holdfast init`` has already
_FIRST = 100_000
_BEGINNING = 1_735_689_600


def main() -> None:
    """Write the table; the same bytes every time."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["payment_id", "time", "amount", "country", "device", "merchant", "night", "age", "cards", "fraud"])
    for number in range(_FIRST, _FIRST + ROWS):
        event = payment(number, _BEGINNING + 60 * (number - _FIRST))
        x, user = event["x"], event["x"]["user"]
        moment = datetime.fromtimestamp(event["ts"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        writer.writerow([
            event["id"], moment, x["amount"], x["country"], x["device"], x["merchant"], int(x["night"]), user["age"],
            user["cards"], "yes" if event["y"] else "no",
        ])  # fmt: skip
    target = Path(__file__).parent.parent / "examples" / "payments.csv.gz"
    target.write_bytes(gzip.compress(out.getvalue().encode(), mtime=0))


if __name__ == "__main__":
    main()
