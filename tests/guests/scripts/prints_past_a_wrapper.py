r"""The UTF-8 idiom of Windows, basicConfig to stdout, and --capture-output: each line once.

alone: run
options: --capture-output
output: {"result": "done"}
log: \Aprinted ü\nINFO root: logged\nINFO a.library: so is this\nto stderr\Z
out: ^printed ü\nINFO:root:logged\nINFO:a.library:so is this$
err: to stderr
"""

import io
import logging
import sys

from user_agent_sdk import user_agent

sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)
logging.basicConfig(stream=sys.stdout, level="INFO")


@user_agent(agent_id="prints_past_a_wrapper")
def work():
    print("printed ü")
    logging.info("logged")
    logging.getLogger("a.library").info("so is this")
    print("to stderr", file=sys.stderr)
    return "done"
