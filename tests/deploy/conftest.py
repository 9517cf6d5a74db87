"""The manifests of deploy/, upgrades and restores. Only `make test-deploy` and `make test-upgrade` collect their tests.

They need tools of their own, and the old release an environment of its own.
"""

import os

collect_ignore_glob = [] if "TEST_DEPLOY" in os.environ else ["test_kubernetes*.py"]
collect_ignore_glob += [] if "TEST_UPGRADE" in os.environ else ["test_upgrade*.py"]
