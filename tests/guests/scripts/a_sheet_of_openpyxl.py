"""A workbook, written and read.

needs: openpyxl
output: {"result": [["Ann", 3]]}
"""

import io
import openpyxl

from user_agent_sdk import user_agent


@user_agent(agent_id="a_sheet_of_openpyxl")
def work():
    book, file = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["Ann", 3])
    book.save(file)
    return list(openpyxl.load_workbook(io.BytesIO(file.getvalue())).active.values)
