"""`python -m tests.servers`: pulls Docker images or prints the Debian packages that are missing."""

import os
import shutil

from tests.servers import chromium, docker, mongodb, proxies, rabbitmq


def pull_images() -> None:
    for url, server in (("TEST_BUS_URL", rabbitmq), ("TEST_STORE_URL", mongodb)):
        if not os.environ.get(url):
            docker.pull(server.image())


def missing_packages() -> list[str]:
    missing = []
    if rabbitmq.source() is None:
        missing.append("rabbitmq-server")
    if chromium.find() is None:
        missing.append("chromium")
    missing += [package for name, package in proxies.PACKAGES.items() if proxies.find(name) is None]
    if shutil.which("zsh") is None:
        missing.append("zsh")
    return missing


if __name__ == "__main__":
    if docker.answers():
        pull_images()
    for package in missing_packages():
        print(package)
