"""The options of other servers, and what does the same here.

The table has their flags, and a line that completes "unknown option '--timeout': …". A test checks that each flag in
a line is an option of this server.
"""

from __future__ import annotations

__all__ = ["COUNTERPARTS", "counterpart"]

_TLS = "TLS is not supported; use a proxy in front of the server (docs/proxies.md)"
_LOGGING = "messages go to the logger 'wsgi.server', or to standard error if no logging is configured"
_PROXIES = "--trusted-proxies names the trusted proxies, --forwarded-fields the fields they set"
_LIMITS = "--max-connections limits open connections, --queue-limit limits waiting requests"
_USER = "the server does not change user, group and umask; set them in the service manager"
_WORKERS = "--workers N starts worker processes, and a supervisor that restarts them"
_KINDS = "there are no worker classes; --threads sets the threads for WSGI, --loop the event loop for ASGI"
_FILES = "the server has no static files; serve them by the application or a proxy"

_GROUPS = (
    # Processes and threads.
    ("-w --processes --worker-processes --cheaper", _WORKERS),
    ("--master --respawn-failed-workers", _WORKERS),
    ("--workers-kill-timeout", "--graceful-timeout limits the time of a stop"),
    ("--timeout-worker-healthcheck", "--boot-timeout limits the time until a worker serves"),
    ("-k --worker-class --runtime-mode --runtime-threads --gevent --asyncio --greenlet", _KINDS),
    ("--enable-threads --blocking-threads --backpressure", "--threads sets the number of threads"),
    ("--max-requests --max-requests-jitter --limit-max-requests --limit-max-requests-jitter --workers-lifetime",
        "workers are not replaced by age or number of requests; they run until they are stopped"),
    ("--preload --preload-app --lazy --lazy-apps",
        "each worker imports the application itself, after the fork"),
    # Where to listen.
    ("-b --listen --insecure-bind --http-socket --socket -s", "--bind HOST:PORT or --bind unix:PATH sets the address"),
    ("--uds --unix-socket", "--bind unix:PATH sets a Unix socket"),
    ("--unix-socket-perms --chmod-socket", "--socket-mode sets the permissions of a Unix socket"),
    ("--fd", "--bind fd://N takes an inherited socket"),
    ("-p", "--port sets the port; PID files are not supported"),
    ("--http --http1-buffer-size --http2-max-concurrent-streams", "HTTP/1.1 is the only supported version"),
    ("--quic-bind", "HTTP/3 is not supported; --bind HOST:PORT sets the address for HTTP/1.1"),
    # The application.
    ("--factory --call --app", "write the call of a factory into the name of the application: 'hello:create_app()'"),
    ("--wsgi-file --module --wsgi -a --application", "the first argument names the application: MODULE:APP"),
    ("--chdir --pythonpath --python-path --pp --working-dir", "--app-dir sets the directory to import from"),
    ("-e --env --env-file", "set environment variables before the command starts"),
    ("--paste --paster --ini --yaml --json", "--config names a TOML file with options"),
    ("-c", "--config names a TOML file with options"),
    ("--reload --reload-dir --reload-dirs --reload-include --reload-exclude --reload-engine --reload-extra-file "
        "--use-reloader --py-autoreload", "files are not watched; with --workers, SIGHUP reloads the application"),
    ("--debug --dev --spew", "the server has no debug mode; --log-level debug logs more"),
    ("--check", "--check-config imports the application and prints every option"),
    # Time.
    ("-t --timeout --harakiri --socket-timeout --read-timeout",
        "running requests have no time limit; waits have --queue-timeout, --body-timeout and --write-timeout"),
    ("--keepalive --timeout-keep-alive --keep-alive-timeout --channel-timeout",
        "--keep-alive limits the idle time of a connection"),
    ("--timeout-graceful-shutdown --shutdown-timeout --worker-reload-mercy",
        "--graceful-timeout limits the time of a stop"),
    # Limits.
    ("--limit-concurrency --connection-limit --worker-connections --listen-backlog --max-concurrency", _LIMITS),
    ("--limit-request-line", "--max-request-line limits the request line"),
    ("--limit-request-fields", "--max-header-fields limits the number of header fields"),
    ("--limit-request-field-size --h11-max-incomplete-event-size --h11-max-incomplete-size --buffer-size "
        "--max-request-header-size", "--max-header-size limits the header section"),
    ("--max-request-body-size --limit-post", "--max-body-size limits the request body"),
    ("--inbuf-overflow", "--body-buffer limits the memory of a request body"),
    # Proxies.
    ("--forwarded-allow-ips --proxy-allow-ips --proxy-headers --no-proxy-headers --proxy-mode --trusted-proxy "
        "--trusted-proxy-headers --clear-untrusted-proxy-headers --forwarder-headers --secure-scheme-headers",
        _PROXIES),
    ("--trusted-proxy-count", "--forwarded-hops sets the number of proxies"),
    ("--root-path --url-prefix --url-path-prefix --mount",
        "the prefix comes from a trusted proxy: --forwarded-fields x-forwarded-prefix"),
    ("--url-scheme", "the scheme comes from a trusted proxy: --forwarded-fields x-forwarded-proto"),
    # TLS.
    ("--certfile --keyfile --ca-certs --cert-reqs --ciphers --do-handshake-on-connect --suppress-ragged-eofs "
        "--keyfile-password --verify-mode --https --https-socket", _TLS),
    # WebSockets.
    ("--ws --no-ws", "WebSockets are always available"),
    ("--ws-max-size --websocket-max-size", "--websocket-max-message limits the message size"),
    ("--ws-max-queue", "--websocket-queue-size limits the size of waiting messages"),
    ("--ws-ping-interval", "--websocket-ping-interval sets the time between pings"),
    ("--ws-ping-timeout", "--websocket-ping-timeout limits the wait for the answer to a ping"),
    ("--ws-per-message-deflate", "--websocket-compression sets compression"),
    # Logging.
    ("--access-logfile --accesslog --req-logger", "--access-log PATH sets the access log"),
    ("--access-logformat --access-log-fmt --log-format", "--access-log-format sets the format of the access log"),
    ("--no-access-log --disable-access-log --disable-logging -L", "the access log is off without --access-log PATH"),
    ("--error-logfile --errorlog --log-file --logto --logger --log --no-log --capture-output --log-syslog "
        "--use-colors --no-use-colors", _LOGGING),
    ("--log-config --log-config-json --log-config-dict --logger-class", f"{_LOGGING}; the application configures it"),
    ("--statsd-host --statsd-prefix --statsd-bind --stats --metrics", "metrics are not supported"),
    # The process.
    ("-d --daemon --daemonize --daemonise", "there is no background mode; use a service manager"),
    ("--pid --pidfile --pid-file", "PID files are not supported; a service manager tracks the process"),
    ("-u -g -m --user --group --umask --uid --gid --initgroups", _USER),
    ("-n --name --proc-name --process-name --procname", "the process name cannot be set"),
    ("-v -V", "--version prints the version"),
    ("-q --quiet --no-quiet", "--log-level sets the minimum level of messages"),
    # Responses.
    ("--header --server-header --no-server-header --date-header --no-date-header --ident --no-sendfile",
        "the application sets the headers of its responses"),
    ("--static-map --static-path-mount --static-path-route --check-static", _FILES),
)  # fmt: skip

COUNTERPARTS = {name: text for names, text in _GROUPS for name in names.split()}
"""The line for each flag of another server."""


def counterpart(flag: str) -> str:
    """Returns `: --threads sets the number of threads` for a flag of another server, "" for any other.

    Parameters:
        flag: the flag as given, such as `-w4` or `--worker_class`.
    """
    name = flag.lower().replace("_", "-") if flag.startswith("--") else flag[:2]
    text = COUNTERPARTS.get(name)
    if text is None and name.startswith("--ssl"):
        text = _TLS
    return f": {text}" if text else ""
