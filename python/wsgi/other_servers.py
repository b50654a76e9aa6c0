"""The options of other servers, and what does the same here.

A row has names and texts that complete "unknown option '--timeout': …". The first text counts whose flags all are
options of this server, so that a row stays right while options come. A name that ends with `*` stands for a family of
names; it counts only if neither a row nor an option of this server has a similar name.
"""

from __future__ import annotations

import re
from collections.abc import Container

__all__ = ["COUNTERPARTS", "FAMILIES", "counterpart", "family"]

_TLS = "--certfile names the certificate, --keyfile its key"
_LOGGING = "messages go to the logger 'wsgi.server', or to standard error if no logging is configured"
_PROXIES = "--trusted-proxies names the trusted proxies, --forwarded-fields the fields they set"
_LIMITS = "--max-connections limits open connections, --queue-limit limits waiting requests"
_WORKERS = "--workers N starts worker processes, and a supervisor that restarts them"
_CHEAPER = "the number of workers is that of --workers; SIGTTIN and SIGTTOU change it"
_KINDS = "there are no worker classes; --threads sets the threads for WSGI, --loop the event loop for ASGI"
_RELOAD = (
    "--reload restarts the workers when a file changes",
    "files are not watched; with --workers, SIGHUP reloads the application",
)
_FILES = "the server has no static files; serve them by the application or a proxy"
_HTTP = "HTTP/1.1 is the only supported version"
_METRICS = "metrics are not supported"
_NOT_NEEDED = "not needed here: leave it out"
_SYSTEM = "not supported; the service manager prepares the system for the server"
_BROKERS = "not supported: caches, queues and locks of the server; use a service such as Redis"
_ROUTES = "not supported: rules for requests and responses; use the application or a proxy"
_BACKGROUND = "not supported: background jobs and timers; use a task queue or the system's timers"
_ROUTERS = "not supported: the command serves one application; a proxy routes between several"
_HOOKS = "a table [hooks] in the file of --config names functions to call"
_FILE = "--config names a TOML file with options; it has no includes and no conditions"
_PLUGINS = "there are no plugins; install the package and use it in the application"
_BUFFERS = "socket and output buffers are not configurable"
_PYTHON = "run the command of the virtual environment, or python -m wsgi with that interpreter's flags"
_PREFIX = (
    "--root-path sets the path prefix of the application",
    "the prefix comes from a trusted proxy: --forwarded-fields x-forwarded-prefix",
)
_REQUESTS = (
    "--max-requests replaces a worker after a number of requests",
    "workers are not replaced by age or number of requests; they run until they are stopped",
)
_REQUESTS_JITTER = ("--max-requests-jitter spreads the number of requests", *_REQUESTS)
_AGE = ("--max-age replaces a worker after a time", _REQUESTS[1])
_MEMORY = (
    "--max-memory replaces a worker above an amount of memory",
    "workers are not replaced by memory; they run until they are stopped",
)
_TIMEOUT = (
    "--request-timeout limits the time of a request, --queue-timeout and --body-timeout limit waits",
    "running requests have no time limit; waits have --queue-timeout, --body-timeout and --write-timeout",
)
_PRELOAD = (
    "--preload imports the application once, before the workers are forked",
    "each worker imports the application itself, after the fork",
)
_DIRECTORY = ("--chdir sets the working directory, --app-dir the directory to import from",
    "--app-dir sets the directory to import from")  # fmt: skip
_ENVIRON = ("--env-file sets environment variables from a file", "set environment variables before the command starts")
_PID_FILE = (
    "--pidfile PATH writes a PID file",
    "PID files are not supported; a service manager tracks the process",
)
_USER = (
    "--user and --group set the user of the workers, --umask their file mode mask",
    "the server does not change user, group and umask; set them in the service manager",
)
_NAME = ("--process-name sets the name of the processes", "the process name cannot be set")

_ROWS: tuple[tuple[str, ...], ...] = (
    # Processes and threads.
    ("--processes --worker-processes --master --respawn-failed-workers", _WORKERS),
    ("--cheap --cheaper --cheaper-* --idle --die-on-idle", _CHEAPER),
    ("--workers-kill-timeout", "--graceful-timeout limits the time of a stop"),
    ("--timeout-worker-healthcheck", "--boot-timeout limits the time until a worker serves"),
    ("--respawn-interval --forkbomb-delay --no-respawn-failed-workers",
        "workers that end are restarted, after a delay that doubles with each failure"),
    ("-k --worker-class --runtime-mode --runtime-threads --gevent* --asyncio --greenlet --async --ugreen* "
        "--loop-list --loops-list --task-impl --runtime-blocking-threads", _KINDS),
    ("--asgi-loop", "--loop selects the event loop"),
    ("--asgi-lifespan", "--lifespan selects whether lifespan events are sent"),
    ("-T --enable-threads --blocking-threads --backpressure", "--threads sets the number of threads"),
    ("-R --max-requests --limit-max-requests", *_REQUESTS),
    ("--max-requests-jitter --limit-max-requests-jitter --max-requests-delta", *_REQUESTS_JITTER),
    ("--workers-lifetime --max-worker-lifetime --max-worker-lifetime-delta --min-worker-lifetime", *_AGE),
    ("--workers-max-rss --rss-samples --rss-sample-interval --reload-on-rss --evil-reload-on-rss "
        "--reload-on-as --evil-reload-on-as --mem-collector-freq", *_MEMORY),
    ("-r --reload-on-fd --brutal-reload-on-fd --reload-on-exception* --exception-handler --catch-exceptions "
        "--reaper --refork* --re-fork* --cpu-affinity --prio --worker-exec* --never-swap --ksm --thread*-stack*",
        "not supported; workers that end are restarted"),
    ("--preload --preload-app --lazy --lazy-apps", *_PRELOAD),
    ("--dirty-timeout --dirty-graceful-timeout --dirty-*", _BACKGROUND),
    # Where to listen.
    ("--listen --insecure-bind --http-socket --http11-socket -s --socket",
        "--bind HOST:PORT or --bind unix:PATH sets the address"),
    ("--uds --unix-socket", "--bind unix:PATH sets a Unix socket"),
    ("--uds-permissions --unix-socket-perms -C --chmod-socket --chmod",
        "--socket-mode sets the permissions of a Unix socket"),
    ("--chown-socket", "--socket-mode sets the permissions of a Unix socket; its owner is the user of the server"),
    ("--fd --sockets --shared-socket --undeferred-shared-socket", "--bind fd://N takes an inherited socket"),
    ("-l --listen-backlog", "--backlog sets the length of the kernel's queue"),
    ("--ipv4 --no-ipv4 --ipv6 --no-ipv6", "--bind 0.0.0.0:PORT listens on IPv4, --bind [::]:PORT on both"),
    ("-p",
        f"--port sets the port, --workers the number of processes; {_PID_FILE[0]}",
        "--port sets the port, --workers the number of processes; PID files are not supported"),
    ("--http", f"{_HTTP}; --bind HOST:PORT sets the address"),
    ("--http-parser --http-protocols --http2 --http2-* --http2-max-headers-size --http1-buffer-size "
        "--http1-pipeline-flush --no-http1-pipeline-flush --no-http2-adaptive-window "
        "--http2-max-concurrent-streams --permit-unconventional-http-* --casefold-http-method "
        "--strip-header-spaces --permit-obsolete-folding --header-map", _HTTP),
    ("--quic-bind", "HTTP/3 is not supported; --bind HOST:PORT sets the address for HTTP/1.1"),
    ("--uwsgi-* --fastcgi-* --scgi-* --raw-* --puwsgi-socket --protocol --socket-protocol --udp --multicast* "
        "--http-socket-modifier*", "HTTP/1.1 is the only supported protocol; --bind HOST:PORT sets the address"),
    # The application.
    ("--factory --no-factory --call --app --callable",
        "write the call of a factory into the name of the application: 'hello:create_app()'"),
    ("--wsgi-file --file --module --wsgi -a --application --eval --mount --worker-mount --web3 --pump "
        "--wsgi-lite --pecan --pyrun --symcall --python-worker-override --manage-script-name",
        "the first argument names the application: MODULE:APP"),
    ("--chdir --chdir2 --force-cwd --pythonpath --python-path --pp --working-dir", *_DIRECTORY),
    ("-e --env --env-file --env-files --envdir --early-envdir --unenv --reload-os-env", *_ENVIRON),
    ("-x -S -y -j --paste --paster --paste-* --raw-paste-global-conf --ini --ini-paste* --yaml --yml --json "
        "--js --xml --xmlconfig --config-py --fallback-config --inherit --include --inject-* --set --set-* --get "
        "--declare-option* --resolve --for --for-* --endfor --end-for --if-reload "
        "--if-not-reload --if-* --ifenv --ifexists --ifplugin "
        "--ifdir --endif --end-if --blacklist --end-blacklist --whitelist --end-whitelist --strict", _FILE),
    ("--reload --no-reload --reload-* --no-reload-* --use-reloader --py-auto* --python-auto*", *_RELOAD),
    ("--touch-* --fs-reload --fs-*", "files are not watched; with --workers, SIGHUP reloads the application"),
    ("--debug --dev --spew --profiler --expose-tracebacks --no-expose-tracebacks --py-tracebacker "
        "--backtrace-depth", "the server has no debug mode; --log-level debug logs more"),
    ("-J --check --test --print-config --show-config --dump-options --print --iprint --need-app --no-server",
        "--check-config imports the application and prints every option"),
    ("-H --home --virtualenv --venv --pyhome --py-programname --py-program-name --no-site --optimize -O "
        "--py-executable --py-sys-executable --pyshell* --python --py --pyargv --python-version", _PYTHON),
    ("--import --pyimport --py-import --python-import --shared-* --pymodule-alias --post-pymodule-alias",
        "import it in the application's module, or by a function of [hooks] in the file of --config"),
    # Time.
    ("-t --timeout --harakiri --harakiri-graceful-timeout --harakiri-* --no-harakiri-*", *_TIMEOUT),
    ("-z --socket-timeout --so-send-timeout --socket-send-timeout --so-write-timeout --socket-write-timeout",
        "--write-timeout limits the wait for a client that takes no bytes, --body-timeout for one that sends none"),
    ("--http1-header-read-timeout --http-headers-timeout --read-timeout",
        "--header-timeout limits the time to receive a request's header section, --body-timeout that of its body"),
    ("--keepalive --timeout-keep-alive --keep-alive-timeout --channel-timeout --http1-keep-alive "
        "--no-http1-keep-alive --so-keepalive --add-keepalive --http-keepalive --cleanup-interval",
        "--keep-alive limits the idle time of a connection"),
    ("--timeout-graceful-shutdown --shutdown-timeout --worker-reload-mercy --reload-mercy "
        "--asgi-disconnect-grace-period", "--graceful-timeout limits the time of a stop"),
    ("--chunked-input-timeout", "--body-timeout limits the wait for bytes of a body"),
    # Limits.
    ("--limit-concurrency --connection-limit --worker-connections --max-concurrency --max-fd", _LIMITS),
    ("--limit-request-line", "--max-request-line limits the request line"),
    ("--limit-request-fields --max-vars", "--max-header-fields limits the number of header fields"),
    ("--limit-request-field-size --h11-max-incomplete-event-size --h11-max-incomplete-size --buffer-size "
        "--max-request-header-size", "--max-header-size limits the header section"),
    ("--max-request-body-size --limit-post --chunked-input-limit", "--max-body-size limits the request body"),
    ("--inbuf-overflow --post-buffering --post-buffering-bufsize", "--body-buffer limits the memory of a request body"),
    ("--limit-as --limit-nproc --cgroup --cgroup* --max-apps", "set limits of the process in the service manager"),
    ("--outbuf-* --recv-bytes --send-bytes --socket-sndbuf --socket-rcvbuf --tcp-* --no-defer-accept --so-* "
        "--socket-*", _BUFFERS),
    # Proxies.
    ("--forwarded-allow-ips --proxy-allow-ips --proxy-allow-from --proxy-headers --no-proxy-headers "
        "--proxy-mode --trusted-proxy --trusted-proxy-headers --clear-untrusted-proxy-headers "
        "--no-clear-untrusted-proxy-headers --forwarder-headers --secure-scheme-headers "
        "--log-untrusted-proxy-headers --no-log-untrusted-proxy-headers --log-x-forwarded-for", _PROXIES),
    ("--enable-proxy-protocol --http-enable-proxy-protocol", "--proxy-protocol selects the version of the header"),
    ("--trusted-proxy-count", "--forwarded-hops sets the number of proxies"),
    ("--root-path --url-prefix --url-path-prefix", *_PREFIX),
    ("--url-scheme", "the scheme comes from a trusted proxy: --forwarded-fields x-forwarded-proto"),
    # TLS.
    ("--ssl-certfile --ssl-certificate --ssl-keyfile --https --https-socket --ssl-* --no-ssl-*", _TLS),
    ("--keyfile-password --ssl-keyfile-password", "--key-password-file names a file with the password of the key"),
    ("--ca-certs --ssl-ca --ssl-ca-certs", "--client-ca names the authorities of client certificates"),
    ("--cert-reqs --verify-mode --ssl-cert-reqs --ssl-client-verify --no-ssl-client-verify",
        "--client-verify asks clients for a certificate"),
    ("--ssl-version --ssl-protocol-min --ssl-min-version", "--tls-min sets the minimum version of TLS"),
    ("--ciphers --ssl-ciphers --do-handshake-on-connect --suppress-ragged-eofs",
        "the server chooses the cipher suites; --tls-min sets the minimum version of TLS"),
    # WebSockets.
    ("--ws --no-ws --http-websockets", "WebSockets are always available"),
    ("--ws-max-size --websocket-max-size --websockets-max-size --websocket-max-message-size",
        "--websocket-max-message limits the message size"),
    ("--ws-max-queue", "--websocket-queue-size limits the size of waiting messages"),
    ("--ws-ping-interval --websocket-ping-freq --websockets-ping-freq",
        "--websocket-ping-interval sets the time between pings"),
    ("--ws-ping-timeout --websocket-pong-tolerance --websockets-pong-tolerance",
        "--websocket-ping-timeout limits the wait for the answer to a ping"),
    ("--ws-per-message-deflate", "--websocket-compression sets compression"),
    # Logging.
    ("--access-logfile --accesslog --req-logger --logger-req --log-req-*", "--access-log PATH sets the access log"),
    ("--access-logformat --access-log-fmt --log-format --logformat --logformat-strftime --log-format-strftime "
        "--log-micros --log-date --logdate", "--access-log-format sets the format of the access log"),
    ("--no-access-log --disable-access-log --disable-logging -L --log-4xx --log-5xx --log-slow --log-big "
        "--log-sendfile --log-zero --log-ioerror", "the access log is off without --access-log PATH"),
    ("--log-reopen --log-truncate --log-maxsize --log-backupname", "rotate the file, then send SIGUSR1 to reopen it"),
    ("--error-log --error-logfile --errorlog --log-file --logto --logto2 --logger --log --no-log "
        "--capture-output --log-syslog --syslog* --use-colors --no-use-colors --log-* --logger-* --loggers-list "
        "--logfile-* --threaded-logger --rsyslog-* --log-socket-errors --no-log-socket-errors "
        "--enable-stdio-inheritance --disable-redirect-access-to-syslog", _LOGGING),
    ("--log-config --log-config-json --log-config-dict --logger-class --logconfig --logconfig-json",
        f"{_LOGGING}; the application configures it"),
    ("--statsd-* --stats --stats-min --stats-* --metrics --metrics-* --no-metrics --metric --metric-* --enable-metrics "
        "--dogstatsd-tags --enable-backlog-metric --carbon --carbon-timeout --carbon-* --snmp* --nagios "
        "--rrdtool* --memory-report", _METRICS),
    ("--alarm* --*-alarm --not-alarm-* --alarm-*", "alarms are not supported; watch the log"),
    # The process.
    ("-d -D --daemon --daemonize --daemonize2 --daemonise", "there is no background mode; use a service manager"),
    ("--pid --pidfile --pid-file --pidfile2 --safe-pidfile --safe-pidfile2", *_PID_FILE),
    ("-u -g -m --user --group --umask --uid --gid --initgroups --no-initgroups --add-gid --immediate-uid "
        "--immediate-gid --drop-after-*", *_USER),
    ("-n --name --proc-name --process-name --procname --procname-* --auto-procname", *_NAME),
    ("-v -V", "--version prints the version"),
    ("-q --quiet --no-quiet", "--log-level sets the minimum level of messages"),
    ("--stop", "send SIGTERM to the process"),
    ("--control-socket --control-socket-mode --no-control-socket --master-fifo",
        "there is no control socket; signals control the server (docs/deployment.md)"),
    ("--hook-* --exec-* --call-* --after-request-*", _HOOKS),
    ("--mount-* --umount-* --wait-interface --wait-iface-timeout --wait-* --chroot --pivot-root --pivot_root "
        "--unshare* --setns* --jailed --namespace* --ns --ns-net --flock* --file-write --attach-* "
        "--smart-attach-* --daemons-honour-stdin --check-mount* --mount-check --mountpoint-check --master-as-root "
        "--privileged-* --unprivileged-*", _SYSTEM),
    ("--spooler* --mule* --mules --farm --cron* --unique-cron --timer --rbtimer --signal* --signals-* -Q "
        "--spooler", _BACKGROUND),
    ("--cache* --cache2 --queue* --sharedarea -A --locks --lock-engine --ftok --persistent-ipcsem --rpc-max "
        "--add-cache-item --load-file-in-cache* --check-cache --py-sharedarea --upload-progress", _BROKERS),
    ("--emperor* --early-emperor --imperial-* --vassal* --zerg* --subscri* --unsubscribe* --st "
        "--start-unsubscribed --fastrouter* --rawrouter-timeout --rawrouter* --http-timeout --http-* --httprouter "
        "--notify-socket --heartbeat --weight --auto-weight --vhost --vhost-* --force-gateway --no-fd-passing "
        "--map-socket", _ROUTERS),
    ("--route* --final-route* --error-route* --response-route* --error-page-* --router-list --routers-list", _ROUTES),
    ("--plugin* --need-plugin* --autoload --dlopen --allowed-modifiers --remap-modifier --symcall-* "
        "--build-plugin --cflags --dot-h --cgi-mode", _PLUGINS),
    ("--server-name", "SERVER_NAME is the host of --bind; check the Host field in the application or a proxy"),
    # Responses.
    ("--header --server-header --no-server-header --date-header --no-date-header --ident --add-header "
        "--rem-header --del-header --collect-header --response-header* --pull-header --response-headers-limit",
        "the application sets the headers of its responses"),
    ("--static* --check-static* --mimefile --mime-file --honour-range --file-serve-mode --fileserve-mode", _FILES),
    # What the server does anyway, or what does not come up.
    ("-M -i --no-sendfile --disable-sendfile --offload-thread* --vacuum --die-on-term --no-orphans "
        "--thunder-lock --single-interpreter --skip-* --exit-on-reload --ignore-sigpipe --ignore-write-errors "
        "--write-errors-* --disable-write-exception --worker-tmp-dir --no-threads-wait --abstract-socket "
        "--freebind --honour-stdin --safe-fd --fd-safe --pcre-jit --no-default-app --ignore-script-name "
        "--use-abort --clock* --close-on-exec* --mode --wsgi-* --start-response-nodelay --py-call-* --python-raw "
        "--binary-* --check-interval --print-sym* --usage --extract --connect-and-read --pause --suspend --resume "
        "--ping* --command-mode --shutdown-sockets --body-read-warning --propagate-touch --exit --binsh "
        "--asyncore-* --no-asyncore-* --channel-request-lookahead --blocking-threads-idle-timeout "
        "--reset-contextvars", _NOT_NEEDED),
)  # fmt: skip


_ALL = {name: tuple(texts) for names, *texts in _ROWS for name in names.split()}
COUNTERPARTS = {name: texts for name, texts in _ALL.items() if "*" not in name}
"""The texts for each flag of another server; the first whose flags exist counts."""
FAMILIES = {name: texts for name, texts in _ALL.items() if "*" in name}
"""The same for each family of flags."""


def counterpart(flag: str, options: Container[str]) -> str:
    """Returns `: --threads sets the number of threads` for a flag of another server, "" for any other.

    Parameters:
        flag: the flag as given, such as `-w4` or `--worker_class`.
        options: the names of this server's options, such as `max_body_size`.
    """
    texts = COUNTERPARTS.get(_normal(flag))
    return _first(texts, options) if texts else ""


def family(flag: str, options: Container[str]) -> str:
    """The same for a flag of which only the family is known; for use after a search for similar names."""
    import fnmatch  # only an error needs it

    name = _normal(flag)
    texts = next((texts for pattern, texts in FAMILIES.items() if fnmatch.fnmatchcase(name, pattern)), None)
    return _first(texts, options) if texts else ""


def _normal(flag: str) -> str:
    return flag.lower().replace("_", "-") if flag.startswith("--") else flag[:2]


def _first(texts: tuple[str, ...], options: Container[str]) -> str:
    for text in texts:
        flags = re.findall(r"--([a-z][a-z-]+)", text)
        if all(flag == "version" or flag.replace("-", "_") in options for flag in flags):
            return f": {text}"
    return f": {texts[-1]}"
