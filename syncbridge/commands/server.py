"""`server`: the job server alone, from a sync.yaml or from options only. gearmand's place, durably."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from syncbridge.commands.logs import log_to_stderr
from syncbridge.commands.options import DEFAULT_CONFIG
from syncbridge.config import Address, HttpConfig, QueueConfig, load_config, queue_from_options
from syncbridge.dispatch.service import ServerSettings
from syncbridge.dispatch.target import private_socket
from syncbridge.errors import ConfigError

#: The setting in sync.yaml's queue section -> the option that stands for it.
OPTIONS = {
    "listen": "--listen",
    "store": "--store",
    "durability": "--durability",
    "max_bytes": "--max-bytes",
    "max_packet": "--max-packet",
    "shutdown": "--timeout-shutdown",
    "tls.cert": "--tls-cert",
    "tls.key": "--tls-key",
    "tls.client_ca": "--tls-ca",
    "http.listen": "--http",
    "http.token": "--http-token-file",
    "admin.listen": "--admin",
    "admin.token": "--admin-token-file",
}
#: The pipeline's name where there is no sync.yaml.
NAME = "syncbridge"


def _option(metavar: str, text: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=text)


_ADDRESS = "HOST:PORT"
_STORES = (
    "Where jobs are kept: sqlite:///queue.db (relative), sqlite:////var/lib/queue.db (absolute), mysql://…,"
    " postgresql://…, redis://…, memcached://…, memory:"
)
Text = str | None
File = Path | None
ConfigFile = Annotated[File, _option("FILE", "Take its queue section; options win over it.", "--config", "-c")]
Listen = Annotated[
    list[str] | None, _option(f"{_ADDRESS}|unix:/PATH", "Where to listen; may be repeated. Default: 127.0.0.1:4730.")
]
Store = Annotated[Text, _option("URL", _STORES)]
Durability = Annotated[
    Text, _option("full|batch|memory", "What an acknowledged job survives: a power cut, a crash, or nothing.")
]
TlsCert = Annotated[File, _option("PEM", "Certificate; every TCP port then speaks TLS only.")]
TlsKey = Annotated[File, _option("PEM", "Its key.")]
TlsCa = Annotated[File, _option("PEM", "Clients must show a certificate of this authority.")]
Http = Annotated[Text, _option(_ADDRESS, "Take jobs over HTTP: POST /function.")]
HttpToken = Annotated[File, _option("FILE", "HTTP requests must carry the token in it.")]
Admin = Annotated[Text, _option(_ADDRESS, "The JSON interface behind `syncbridge queue`.")]
AdminToken = Annotated[File, _option("FILE", "Holds its token.")]
Metrics = Annotated[Text, _option(_ADDRESS, "/metrics and /healthz. Default: http.listen of --config, else off.")]
MaxBytes = Annotated[Text, _option("SIZE", "Stored payloads at which submits are refused. Default: 4GiB.")]
MaxPacket = Annotated[Text, _option("SIZE", "Largest packet anybody may send. Default: 64MiB.")]
Shutdown = Annotated[Text, _option("DURATION", "How long running jobs may go on after SIGTERM. Default: 5s.")]


def register(app: typer.Typer) -> None:
    app.command()(server)


def server(
    config: ConfigFile = None,
    listen: Listen = None,
    store: Store = None,
    durability: Durability = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
    http: Http = None,
    http_token_file: HttpToken = None,
    admin: Admin = None,
    admin_token_file: AdminToken = None,
    metrics: Metrics = None,
    max_bytes: MaxBytes = None,
    max_packet: MaxPacket = None,
    timeout_shutdown: Shutdown = None,
) -> None:
    """Run the job server alone: a gearmand that keeps its jobs.

    Without --config and with --store no file is read. SIGTERM lets running jobs finish, a second one does not; SIGHUP
    reads certificates, and with --config the policies of functions, again.
    """
    log_to_stderr("server")
    options: dict[str, Any] = {
        "listen": listen,
        "store": store,
        "durability": durability,
        "max_bytes": max_bytes,
        "max_packet": max_packet,
        "shutdown": timeout_shutdown,
        "tls": _given(cert=tls_cert, key=tls_key, client_ca=tls_ca),
        "http": _given(listen=http, token=_secret(http_token_file, "--http-token-file")),
        "admin": _given(listen=admin, token=_secret(admin_token_file, "--admin-token-file")),
    }
    given = {setting: value for setting, value in options.items() if value}
    from syncbridge import pipeline

    pipeline.run_server(server_settings(config, given, metrics))


def server_settings(config: Path | None, options: dict[str, Any], metrics: str | None) -> ServerSettings:
    """What the command line asks for. Raises ConfigError."""
    http = HttpConfig(listen=_address(metrics, "--metrics")) if metrics else None
    if config is None and "store" in options:
        queue = queue_from_options(options, QueueConfig(), OPTIONS)
        return ServerSettings(NAME, queue, http or HttpConfig.model_validate({"listen": "off"}), lambda: queue)
    path = config or DEFAULT_CONFIG
    if config is None and not path.exists():
        raise ConfigError(
            "it is not said where jobs are kept",
            hint="syncbridge server --store sqlite:///queue.db, or --config sync.yaml",
        )
    whole = load_config(path)

    def read_again() -> QueueConfig:
        return queue_from_options(options, load_config(path).queue, OPTIONS)

    queue = queue_from_options(options, whole.queue, OPTIONS)
    private = private_socket(whole.model_copy(update={"queue": queue}))
    return ServerSettings(whole.name, queue, http or whole.http, read_again, private)


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _secret(path: Path | None, option: str) -> str | None:
    if path is None:
        return None
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option}: cannot read {path}", hint="check its path and permissions") from error
    if not secret:
        raise ConfigError(f"{option}: {path} is empty", hint=f"openssl rand -hex 32 > {path}")
    return secret


def _address(text: str, option: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} is not possible", hint=str(error)) from None
