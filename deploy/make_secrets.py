"""Make all secrets of deploy/compose.yaml in deploy/secrets/: passwords, addresses, keys, certificates.

Run it once: `.venv/bin/python deploy/make_secrets.py`. The folder is open to its owner alone, its files to
all, since a container, which gets them one by one, runs as a user of its own. Nothing of them is printed.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from course_lib.deployment import make_key

SERVERS = ("redis", "postgres", "rabbitmq", "jaeger", "localhost")
CA = "/run/secrets/ca.pem"
DAYS = 90
_NEW = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
_RABBITMQ = """\
default_user = desk
default_pass = {password}
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = /run/secrets/ca.pem
ssl_options.certfile = /run/secrets/server.pem
ssl_options.keyfile = /run/secrets/server.key
"""


def certificates(folder: Path) -> None:
    """Write a certificate for all servers, its key, and the authority that signed it; its key is not kept."""
    names = "subjectAltName=" + ",".join(f"DNS:{name}" for name in SERVERS)
    _openssl(folder, *_NEW, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=desk's own authority")
    _openssl(
        folder,
        *(*_NEW, "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem"),
        *("-subj", "/CN=desk", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"),
    )
    (folder / "ca.key").unlink()


def _openssl(folder: Path, *words: str) -> None:
    command = ["openssl", "req", *words, "-days", str(DAYS)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603  (words of this file)


def texts() -> dict[str, str]:
    """Return what is in each file that holds a password, a key or an address."""
    password = {name: secrets.token_hex(24) for name in ("redis", "postgres", "rabbitmq", "grafana")}
    key, caller = make_key("caller", "lantern", ["ask"])
    metrics_key, prometheus = make_key("prometheus", "monitoring", ["operate"])
    entries = [entry.model_dump(mode="json") for entry in (caller, prometheus)]
    return {
        "COURSE_SERVICE_JWT_SECRET": secrets.token_urlsafe(32),
        "COURSE_SERVICE_SIGNING_KEY": secrets.token_urlsafe(32),
        "COURSE_SERVICE_API_KEYS": json.dumps(entries),
        "REDIS_URL": f"rediss://:{password['redis']}@redis:6379/0?ssl_ca_certs={CA}",
        "DATABASE_URL": f"postgresql://desk:{password['postgres']}@postgres/desk?sslmode=verify-full&sslrootcert={CA}",
        "AMQP_URL": f"amqps://desk:{password['rabbitmq']}@rabbitmq:5671/?cafile={CA}",
        "redis.conf": f"requirepass {password['redis']}\n",
        "rabbitmq.conf": _RABBITMQ.format(password=password["rabbitmq"]),
        "postgres-password": password["postgres"],
        "grafana-password": password["grafana"],
        "prometheus-token": metrics_key,
        "oncall-token": secrets.token_urlsafe(32),
        "caller-key": key,
    }


def main(folder: Path) -> None:
    """Fill a folder that does not exist yet."""
    if folder.exists():
        sys.exit(f"{folder} exists; delete it to make new secrets, and the volumes that know the old ones")
    folder.mkdir(mode=0o700)
    certificates(folder)
    for name, text in texts().items():
        (folder / name).write_text(text)
    for path in folder.iterdir():
        path.chmod(0o444)
    print(f"Made {folder}, good for {DAYS} days. Send what is in {folder}/caller-key as X-API-Key.")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "secrets")
