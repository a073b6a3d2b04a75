"""Reads an invoice's CSV and returns its totals: what a bot does between "mail arrived" and "post to ERP".

    python -m user_agent_sdk invoke examples/invoice_agent.py -i examples/invoice.json

The input names a file (``path``) or carries the text itself (``csv_text``). An invoice that can't be read
will not be readable on the next try either, so that fails for good.
"""

import csv
from decimal import Decimal, InvalidOperation
from pathlib import Path

from user_agent_sdk import user_agent
from user_agent_sdk.utils.exception import NonRetryableException


@user_agent()
def read_invoice(logger, path=None, csv_text=None, currency="EUR"):
    if csv_text is None:
        if path is None:
            raise NonRetryableException("the input needs 'path' or 'csv_text'")
        csv_text = Path(path).read_text(encoding="utf-8-sig")
    net = tax = Decimal(0)
    lines = 0
    for number, row in enumerate(csv.DictReader(csv_text.splitlines()), start=2):
        try:
            amount = Decimal(row["quantity"]) * Decimal(row["unit_price"])
            rate = Decimal(row["tax_percent"])
        except (KeyError, TypeError, InvalidOperation):
            raise NonRetryableException(f"line {number} of the invoice can't be read: {row}") from None
        net += amount
        tax += (amount * rate / 100).quantize(Decimal("0.01"))
        lines += 1
    logger.info("%d lines, %s %s net", lines, net, currency)
    return {"lines": lines, "net": net, "tax": tax, "gross": net + tax, "currency": currency}
