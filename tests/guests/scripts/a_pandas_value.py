"""pandas' values of a frame, and its NaT.

needs: pandas
output: {"total": 3, "none": null}
"""

import pandas

from user_agent_sdk import user_agent


@user_agent(agent_id="a_pandas_value")
def work():
    frame = pandas.DataFrame({"a": [1, 2]})
    return {"total": frame["a"].sum(), "none": pandas.NaT}
