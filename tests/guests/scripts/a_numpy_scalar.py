"""numpy's numbers and arrays.

needs: numpy
output: {"sum": 6, "mean": 2.0, "all": [1, 2, 3]}
"""

import numpy

from user_agent_sdk import user_agent


@user_agent(agent_id="a_numpy_scalar")
def work():
    values = numpy.array([1, 2, 3])
    return {"sum": values.sum(), "mean": values.mean(), "all": values}
