"""The tests that only `make test-deploy` and `make test-upgrade` collect: manifests, alerts, upgrades.

They need tools of their own, and the old release an environment of its own.
"""

import os

collect_ignore_glob = [] if "TEST_DEPLOY" in os.environ else ["test_kubernetes*.py", "test_alerts.py"]
collect_ignore_glob += [] if "TEST_UPGRADE" in os.environ else ["test_upgrade*.py"]
