# SPDX-License-Identifier: Apache-2.0
"""``python -m user_agent_sdk``, and ``python path/to/this/folder``: the same program as ``useragent``. A child that
multiprocessing spawns runs this too, as ``__mp_main__``."""

# No "from __future__" here and in __init__.py: it is an import, and the current folder is still first on the path.

import os
import sys

if sys.version_info < (3, 9):  # noqa: UP036 - the syntax here is one that such a Python can parse: no annotations
    message = "user_agent_sdk needs Python 3.9 or newer; this is Python {}, {}"
    sys.exit(message.format(sys.version.split()[0], sys.executable))

from importlib import import_module, util

package = __package__
if not package:  # Python was given this folder: it is no package yet, and first on the path
    package = "user_agent_sdk"
    if __name__ == "__main__":
        del sys.path[0]
    init = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__init__.py")
    spec = util.spec_from_file_location(package, init)
    assert spec is not None and spec.loader is not None
    sys.modules[package] = util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[package])
elif sys.path and not getattr(sys.flags, "safe_path", False):
    try:
        if sys.path[0] == os.getcwd():
            del sys.path[0]  # a file that others planted in the current folder must not be imported
    except OSError:  # the current folder was removed
        pass

if __name__ == "__main__":
    sys.exit(import_module(package + ".cli").program())
import_module(package + ".spawned")
